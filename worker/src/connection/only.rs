//! One connection per user, where that is wanted: whoever connects ends the connections that its user had before, on
//! whatever worker they are.

use flotilla_shared::clock::unix_millis;
use flotilla_shared::protocol::codes::DisconnectCode;

use super::Connection;
use crate::fleet::{Disconnect, Newcomer, Question, Target};

/// Two connections that came within this time, in milliseconds, may have come on two workers whose clocks differ.
const AT_ONCE_MS: u64 = 5_000;

impl Connection {
    /// Ends the user's other connections. Nobody waits for that.
    pub(super) fn stay_alone(&self) {
        let question = {
            let session = self.session.borrow();
            if session.user().is_empty() {
                return;
            }
            let code = DisconnectCode::ConnectionLimit;
            Question::Disconnect(Disconnect {
                target: Target {
                    user: session.user().to_owned(),
                    ..Target::default()
                },
                whitelist: Vec::new(),
                code: u32::from(code.code()),
                reason: code.text().to_owned(),
                newcomer: Some(Newcomer {
                    client: session.client().to_string(),
                    connected_at_ms: self.connected_at_ms.get(),
                }),
            })
        };
        let fleet = self.shard.fleet().clone();
        tokio::task::spawn_local(async move {
            match fleet.ask(question).await {
                Ok(gathered) if gathered.silent.is_empty() => {}
                Ok(gathered) => {
                    let silent = gathered.silent;
                    tracing::warn!(?silent, "a user may have other connections there");
                }
                Err(error) => tracing::warn!(%error, "a user may have other connections"),
            }
        });
    }

    /// Whether this connection has to give way to `newcomer`.
    pub(crate) fn gives_way_to(&self, newcomer: &Newcomer) -> bool {
        let client = self.session.borrow().client().to_string();
        is_before(
            (self.connected_at_ms.get(), &client),
            (newcomer.connected_at_ms, &newcomer.client),
            unix_millis(),
        )
    }
}

/// Whether a connection was there before a newcomer: if both have just come, by their times and then their ids, so that
/// whichever is asked about the other, the same one stays.
fn is_before(own: (u64, &str), newcomer: (u64, &str), now_ms: u64) -> bool {
    let has_just_come = own.0.saturating_add(AT_ONCE_MS) > now_ms;
    own.1 != newcomer.1 && (!has_just_come || own < newcomer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    #[test]
    fn of_two_that_come_at_once_exactly_one_stays() {
        let times = [NOW - AT_ONCE_MS + 1, NOW - 1, NOW, NOW + 3_000];
        for one in times.map(|time| (time, "a")) {
            for other in times.map(|time| (time, "b")) {
                let gives_way = is_before(one, other, NOW);
                assert_ne!(gives_way, is_before(other, one, NOW), "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn an_old_connection_gives_way_even_to_a_newcomer_whose_clock_is_slow() {
        let old = (NOW - 60_000, "b");
        assert!(is_before(old, (NOW, "a"), NOW));
        assert!(is_before(old, (NOW - 120_000, "a"), NOW));
    }

    #[test]
    fn nobody_gives_way_to_itself() {
        assert!(!is_before((NOW, "a"), (NOW, "a"), NOW));
        assert!(!is_before((NOW, "a"), (NOW, "a"), NOW + 60_000));
    }
}
