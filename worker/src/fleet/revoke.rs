//! How the workers come to have the same revocations.
//!
//! Owns: what is done with one that is news, and how a worker catches up on those that it missed: it asks everyone when
//! it has just come or was away from the broker, and somebody now and then.

use std::time::Duration;

use super::request::{KnownRevocations, Revocations};
use super::{Answer, Fleet, Gathered, Question};
use crate::revocation::Revocation;

/// Time between two questions to somebody.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

impl Fleet {
    /// Takes revocations in and ends the connections that they are about. Refused if they might not outlast a restart of
    /// this worker, or found no room.
    pub(super) async fn take_in(&self, revocations: Vec<Revocation>) -> Answer {
        let (news, result) = self.0.revocations.take_in(revocations).await;
        if !news.is_empty() {
            let question = Question::Revoke(Revocations { revocations: news });
            self.0.shards.answer(question).await;
        }
        match result {
            Ok(()) => Answer::done(),
            Err(error) => {
                tracing::error!(%error, "revocations");
                Answer::refused()
            }
        }
    }

    fn known_revocations(&self) -> Question {
        Question::Revocations(KnownRevocations {
            digest: self.0.revocations.digest(),
        })
    }

    async fn learn(&self, gathered: Gathered) {
        for (worker, answer) in gathered.answers {
            if let Answer::Revocations(Revocations { revocations }) = answer
                && !revocations.is_empty()
                && worker != self.0.id
            {
                self.take_in(revocations).await;
            }
        }
    }
}

/// Catches up with the others, for ever.
pub(crate) async fn keep_in_step(fleet: Fleet) {
    let mut asked = fleet.watch_peers();
    loop {
        // At the start, and after each time without the broker.
        fleet.0.peers.known().await;
        asked.mark_unchanged();
        if let Ok(gathered) = fleet.ask(fleet.known_revocations()).await {
            fleet.learn(gathered).await;
        }
        loop {
            tokio::select! {
                _ = asked.changed() => break,
                () = tokio::time::sleep(CHECK_INTERVAL) => {}
            }
            if let Some(other) = fleet.any_other()
                && let Ok(gathered) = fleet.ask_one(&other, fleet.known_revocations()).await
            {
                fleet.learn(gathered).await;
            }
        }
    }
}
