//! How often a client may do what, and how often it has.
//!
//! Owns: what there is to be limited, the configured rates, and a connection's buckets. What follows when one is empty
//! is `session`'s.

use std::time::Instant;

use flotilla_shared::protocol::types::Request;

use crate::bucket::{Bucket, Rate};

/// What has a rate of its own on each connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metered {
    /// Messages of any kind, those of the transport included.
    Messages,
    /// Bytes of these messages.
    Bytes,
    /// Subscribe commands.
    Subscribe,
    /// Publish commands.
    Publish,
    /// Commands that ask who is there: presence and its statistics.
    Presence,
    /// History commands.
    History,
    /// Calls of the back end.
    Rpc,
    /// Commands that bring new tokens, for the connection or for a subscription.
    Refresh,
    /// Answers that are errors, whatever they are about.
    Errors,
}

impl Metered {
    pub(crate) const ALL: [Self; 9] = [
        Self::Messages,
        Self::Bytes,
        Self::Subscribe,
        Self::Publish,
        Self::Presence,
        Self::History,
        Self::Rpc,
        Self::Refresh,
        Self::Errors,
    ];

    /// What a command counts as, besides being a message. An unsubscribe has no rate: a client that is refused one
    /// gives its connection up, and there are never more than subscribes.
    pub(crate) fn of(request: &Request) -> Option<Self> {
        match request {
            Request::Subscribe(_) => Some(Self::Subscribe),
            Request::Publish(_) => Some(Self::Publish),
            Request::Presence(_) | Request::PresenceStats(_) => Some(Self::Presence),
            Request::History(_) => Some(Self::History),
            Request::Rpc(_) => Some(Self::Rpc),
            Request::Refresh(_) | Request::SubRefresh(_) => Some(Self::Refresh),
            // Once per connection, or never without its end.
            Request::Connect(_) | Request::Ping(_) | Request::Send(_) | Request::Unsubscribe(_) => {
                None
            }
        }
    }

    /// The option that says its rate, in `client.rate_limits`, and the metric label.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Bytes => "bytes",
            Self::Subscribe => "subscribe",
            Self::Publish => "publish",
            Self::Presence => "presence",
            Self::History => "history",
            Self::Rpc => "rpc",
            Self::Refresh => "refresh",
            Self::Errors => "errors",
        }
    }
}

/// What a client has come up against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// One of its connection's rates.
    Rate(Metered),
    /// How many of its questions may be open at the same time.
    InFlight,
    /// How many connections its user may have.
    UserConnections,
}

impl Limit {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let rates = Metered::ALL.into_iter().map(Self::Rate);
        rates.chain([Self::InFlight, Self::UserConnections])
    }

    /// The metric labels `scope`, which is whose limit it is, and `limit`.
    pub(crate) fn labels(self) -> [&'static str; 2] {
        match self {
            Self::Rate(metered) => ["connection", metered.label()],
            Self::InFlight => ["connection", "in_flight"],
            Self::UserConnections => ["user", "connections"],
        }
    }
}

/// The rates of every connection; `None`: no limit.
#[derive(Clone, Debug, Default)]
pub(crate) struct RateLimits([Option<Rate>; Metered::ALL.len()]);

impl RateLimits {
    /// The rates that `rate` says.
    pub(crate) fn new(rate: impl FnMut(Metered) -> Option<Rate>) -> Self {
        Self(Metered::ALL.map(rate))
    }

    fn of(&self, metered: Metered) -> Option<Rate> {
        self.0[metered as usize]
    }
}

/// One connection's buckets. They take no memory before the first time that something limited happens.
#[derive(Debug, Default)]
pub(crate) struct Buckets(Option<Box<[Bucket; Metered::ALL.len()]>>);

impl Buckets {
    /// Counts what has happened once more; whether it was within the rate.
    pub(crate) fn take(&mut self, metered: Metered, limits: &RateLimits, now: Instant) -> bool {
        match limits.of(metered) {
            Some(rate) => self.bucket(metered).take(rate, now),
            None => true,
        }
    }

    /// Counts what has happened so many times; until when that is more than the rate allows, if it is.
    pub(crate) fn draw(
        &mut self,
        metered: Metered,
        count: usize,
        limits: &RateLimits,
        now: Instant,
    ) -> Option<Instant> {
        let rate = limits.of(metered)?;
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.bucket(metered).draw(count, rate, now)
    }

    fn bucket(&mut self, metered: Metered) -> &mut Bucket {
        &mut self.0.get_or_insert_default()[metered as usize]
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_limited_is_counted_apart_and_the_rest_not_at_all() {
        let limits = RateLimits::new(|metered| {
            let wanted = matches!(metered, Metered::Publish | Metered::Bytes | Metered::Errors);
            let (per_second, burst) = (NonZeroU32::MIN, NonZeroU32::MIN);
            wanted.then_some(Rate { per_second, burst })
        });
        let now = Instant::now();
        let mut buckets = Buckets::default();
        for _ in 0..100 {
            assert!(buckets.take(Metered::Subscribe, &limits, now));
            assert_eq!(buckets.draw(Metered::Messages, 1, &limits, now), None);
        }
        assert!(buckets.0.is_none(), "memory for what is not limited");

        assert!(buckets.take(Metered::Publish, &limits, now));
        assert!(!buckets.take(Metered::Publish, &limits, now));
        let paid = buckets.draw(Metered::Bytes, 3, &limits, now);
        assert_eq!(paid, Some(now + Duration::from_secs(2)));
        assert!(buckets.take(Metered::Errors, &limits, now));
    }
}
