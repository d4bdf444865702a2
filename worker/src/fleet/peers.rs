//! Which other workers there are.
//!
//! Owns: the roster as this worker hears it, and since when it can be relied on. Whoever has just come, or was away from
//! the broker, asks who is there, and knows it a moment later.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flotilla_shared::roster::{LEASE, Roster, RosterMessage};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// How long the others have to say that they are there, once they are asked. They do so at once.
const SETTLE: Duration = Duration::from_millis(300);

/// See the module's documentation.
pub(super) struct Peers {
    own: String,
    roster: Mutex<Roster>,
    /// When the others were asked who is there; `None`: the broker is away, or was never there.
    asked: watch::Sender<Option<Instant>>,
}

impl Peers {
    /// Of the worker whose id is `own`.
    pub(super) fn new(own: String) -> Self {
        Self {
            own,
            roster: Mutex::new(Roster::new(LEASE)),
            asked: watch::Sender::new(None),
        }
    }

    /// Takes in what a worker says; returns who has left by it.
    pub(super) fn heard(&self, message: RosterMessage, now: Instant) -> Option<String> {
        let leaver = match &message {
            RosterMessage::Leave { id } => Some(id.clone()),
            _ => None,
        };
        self.roster().apply(message, now.into_std());
        leaver
    }

    /// Who has not been heard of for too long.
    pub(super) fn expired(&self, now: Instant) -> Vec<String> {
        let lapsed = self.roster().expire(now.into_std());
        lapsed.into_iter().map(|entry| entry.id).collect()
    }

    /// The broker is away: nobody can be heard.
    pub(super) fn lost_touch(&self) {
        self.asked.send_replace(None);
    }

    /// The others have just been asked who is there.
    pub(super) fn asked(&self, now: Instant) {
        self.roster().renew_all(now.into_std());
        self.asked.send_replace(Some(now));
    }

    /// Waits until it is known who is there, for as long as it takes.
    pub(super) async fn known(&self) {
        let mut asked = self.asked.subscribe();
        // The sender lives as long as `self`.
        if let Ok(at) = asked.wait_for(Option::is_some).await.map(|at| *at)
            && let Some(at) = at
        {
            sleep_until(at + SETTLE).await;
        }
    }

    /// Notices each time the others are asked who is there.
    pub(super) fn watch(&self) -> watch::Receiver<Option<Instant>> {
        self.asked.subscribe()
    }

    /// The ids of the other workers.
    pub(super) fn others(&self) -> Vec<String> {
        let roster = self.roster();
        let ids = roster.entries().map(|entry| &entry.id);
        ids.filter(|id| **id != self.own).cloned().collect()
    }

    /// A panic while the table is held leaves it usable.
    fn roster(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
