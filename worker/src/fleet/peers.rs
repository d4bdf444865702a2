//! Which other workers there are.
//!
//! Owns: the roster as this worker hears it, and since when it can be relied on. Whoever has just come, or was away from
//! the broker, asks who is there, and knows it a moment later.
//!
//! A worker that hears nobody, not even itself, is the one that is away. So leases do not run by the clock, but from what
//! was heard of a worker to what was heard last of anyone; and whoever has heard nobody for a lease begins anew.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flotilla_shared::roster::{GatewayEntry, LEASE, Life, Roster, RosterMessage};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::roll::{Lives, Peer};

/// How long the others have to say that they are there, once they are asked. They do so at once.
const SETTLE: Duration = Duration::from_millis(300);

/// See the module's documentation.
pub(super) struct Peers {
    own: String,
    heard: Mutex<Heard>,
    lives: watch::Sender<Lives>,
    /// When the others were asked who is there; `None`: the broker is away, or was never there.
    asked: watch::Sender<Option<Instant>>,
}

struct Heard {
    roster: Roster,
    /// Of whomever.
    last: Instant,
}

impl Peers {
    /// Of the worker whose id is `own`.
    pub(super) fn new(own: String) -> Self {
        Self {
            own,
            heard: Mutex::new(Heard {
                roster: Roster::new(LEASE),
                last: Instant::now(),
            }),
            lives: watch::Sender::default(),
            asked: watch::Sender::new(None),
        }
    }

    /// Takes in what a worker says; returns who has left by it.
    pub(super) fn heard(&self, message: RosterMessage, now: Instant) -> Option<String> {
        let leaver = match &message {
            RosterMessage::Leave { id, .. } => Some(id.clone()),
            _ => None,
        };
        let mut heard = self.heard_so_far();
        if now - heard.last >= LEASE {
            heard.roster.renew_all(now.into_std());
        }
        heard.last = now;
        if heard.roster.apply(message, now.into_std()) {
            self.show(&heard.roster);
        }
        leaver.filter(|id| heard.roster.entries().all(|entry| entry.id != *id))
    }

    /// Who has not been heard of for too long.
    pub(super) fn expired(&self) -> Vec<String> {
        let mut heard = self.heard_so_far();
        let until = heard.last.into_std();
        let lapsed = heard.roster.expire(until);
        if !lapsed.is_empty() {
            self.show(&heard.roster);
        }
        lapsed.into_iter().map(|entry| entry.id).collect()
    }

    /// The broker is away: nobody can be heard.
    pub(super) fn lost_touch(&self) {
        self.asked.send_replace(None);
    }

    /// The others have just been asked who is there.
    pub(super) fn asked(&self, now: Instant) {
        let mut heard = self.heard_so_far();
        heard.roster.renew_all(now.into_std());
        heard.last = now;
        drop(heard);
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

    /// The gateways that are there.
    pub(super) fn gateways(&self) -> Vec<GatewayEntry> {
        self.heard_so_far().roster.gateways().cloned().collect()
    }

    /// Who is there, as far as they say which life of them it is.
    pub(super) fn lives(&self) -> watch::Receiver<Lives> {
        self.lives.subscribe()
    }

    fn show(&self, roster: &Roster) {
        let known = roster.entries().filter(|entry| entry.life != Life::UNKNOWN);
        let lives: BTreeMap<Life, Peer> = known
            .map(|entry| {
                let peer = Peer {
                    worker: entry.id.clone(),
                    missed: entry.missed,
                };
                (entry.life, peer)
            })
            .collect();
        self.lives.send_if_modified(|before| {
            let is_news = **before != lives;
            if is_news {
                *before = Arc::new(lives);
            }
            is_news
        });
    }

    /// The ids of the other workers.
    pub(super) fn others(&self) -> Vec<String> {
        let heard = self.heard_so_far();
        let ids = heard.roster.entries().map(|entry| &entry.id);
        ids.filter(|id| **id != self.own).cloned().collect()
    }

    /// A panic while the table is held leaves it usable.
    fn heard_so_far(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use flotilla_shared::lifecycle::Phase;
    use flotilla_shared::roster::WorkerEntry;

    use super::*;

    fn announce(id: &str, life: u64) -> RosterMessage {
        RosterMessage::Announce(WorkerEntry {
            id: id.to_owned(),
            life: Life(life),
            address: String::new(),
            phase: Phase::Serving,
            connections: 0,
            connections_limit: 1,
            version: String::new(),
            missed: 0,
        })
    }

    fn lives(peers: &Peers) -> Vec<Life> {
        peers.lives().borrow().keys().copied().collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_is_cut_off_takes_nobody_for_dead() {
        let peers = Peers::new("a".to_owned());
        let start = Instant::now();
        for (id, life) in [("a", 1), ("b", 2)] {
            peers.heard(announce(id, life), start);
        }
        assert_eq!(peers.expired(), Vec::<String>::new(), "nobody is heard");
        let back = start + 10 * LEASE;
        peers.heard(announce("a", 1), back);
        assert_eq!(peers.expired(), Vec::<String>::new(), "nor could they be");
        peers.heard(announce("a", 1), back + LEASE / 2);
        peers.heard(announce("a", 1), back + LEASE);
        assert_eq!(peers.expired(), ["b"], "now it could");
        assert_eq!(lives(&peers), [Life(1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_was_started_again_is_another_life() {
        let peers = Peers::new("a".to_owned());
        let now = Instant::now();
        peers.heard(announce("b", 2), now);
        peers.heard(announce("b", 3), now);
        assert_eq!(lives(&peers), [Life(3)]);
        let leave = |life| RosterMessage::Leave {
            id: "b".to_owned(),
            life: Life(life),
        };
        assert_eq!(peers.heard(leave(2), now), None);
        assert_eq!(peers.heard(leave(3), now), Some("b".to_owned()));
        assert_eq!(lives(&peers), []);
    }

    #[tokio::test(start_paused = true)]
    async fn lives_are_shown_when_they_change_and_not_when_they_are_announced_again() {
        let peers = Peers::new("a".to_owned());
        let mut shown = peers.lives();
        peers.heard(announce("b", 2), Instant::now());
        assert!(shown.has_changed().unwrap());
        shown.mark_unchanged();
        let RosterMessage::Announce(entry) = announce("b", 2) else {
            unreachable!()
        };
        let busier = WorkerEntry {
            connections: 9,
            ..entry.clone()
        };
        peers.heard(RosterMessage::Announce(busier), Instant::now());
        assert!(!shown.has_changed().unwrap());
        let missed = WorkerEntry { missed: 1, ..entry };
        peers.heard(RosterMessage::Announce(missed), Instant::now());
        assert!(shown.has_changed().unwrap());
        let of_an_older_version = announce("c", 0);
        peers.heard(of_an_older_version, Instant::now());
        assert_eq!(lives(&peers), [Life(2)]);
    }
}
