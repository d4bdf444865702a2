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
    ///
    /// What is begun is done to its end, though whoever asked may lose patience: connections must not stay although the
    /// others take this worker for one that knows, and two must not write the file at once.
    pub(super) async fn take_in(&self, revocations: Vec<Revocation>) -> Answer {
        let fleet = self.clone();
        let done = tokio::spawn(async move { fleet.take_in_wholly(revocations).await });
        done.await.unwrap_or_else(|_| Answer::refused())
    }

    async fn take_in_wholly(&self, revocations: Vec<Revocation>) -> Answer {
        let (news, result) = self.0.revocations.take_in(revocations).await;
        if !news.is_empty() {
            // The shards look at the set itself.
            let question = Question::Revoke(Revocations::default());
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

    /// Asks another worker, if there is one, for what this one does not know.
    async fn ask_somebody(&self) {
        let Some(other) = self.any_other() else {
            return;
        };
        match self.ask_one(&other, self.known_revocations()).await {
            Ok(gathered) => self.learn(gathered).await,
            Err(error) => tracing::debug!(%error, "revocations of another worker"),
        }
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
        // What one knows, most know: after that the others have little to add.
        fleet.ask_somebody().await;
        match fleet.ask(fleet.known_revocations()).await {
            Ok(gathered) => fleet.learn(gathered).await,
            Err(error) => tracing::warn!(%error, "revocations of the other workers"),
        }
        loop {
            tokio::select! {
                _ = asked.changed() => break,
                () = tokio::time::sleep(CHECK_INTERVAL) => {}
            }
            fleet.ask_somebody().await;
        }
    }
}
