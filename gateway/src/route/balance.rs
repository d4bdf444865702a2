//! Which sessions would better live at another worker, once one has joined.
//!
//! Only a session's home is a reason to move it there, and only as long as that has clearly less than its even share: so every
//! session moves once at most, and who has joined fills up instead of being flooded.

use super::pool::{Pool, Worker, WorkerState};
use super::rendezvous::{hash, score};
use crate::route::Placement;

/// A worker below this share of its even load takes sessions from others.
const UNDER: f64 = 0.9;

/// The loads at one moment, in which somebody has clearly less than its even share.
#[derive(Debug)]
pub(crate) struct Imbalance {
    workers: Vec<Load>,
}

#[derive(Clone, Copy, Debug)]
struct Load {
    worker: u64,
    is_under: bool,
    is_over: bool,
}

impl Pool {
    /// `None`: nobody has clearly less than its even share, so that nothing is to be moved.
    pub(crate) fn imbalance(&self) -> Option<Imbalance> {
        let workers = self.workers();
        let available: Vec<&Worker> = workers
            .iter()
            .filter(|worker| worker.state() == WorkerState::Active && self.is_trusted(worker))
            .filter(|worker| !worker.is_cut_off())
            .collect();
        let total: u64 = available.iter().map(|worker| worker.load()).sum();
        let even = total as f64 / available.len().max(1) as f64;
        let loads = available.iter().map(|worker| Load {
            worker: worker.hash(),
            is_under: (worker.load() as f64) < UNDER * even && !worker.is_full(),
            is_over: worker.load() as f64 > even,
        });
        let workers: Vec<Load> = loads.collect();
        let is_uneven = workers.iter().any(|load| load.is_under);
        is_uneven.then_some(Imbalance { workers })
    }
}

impl Imbalance {
    /// Whether a session at that place would better move to its home. One without a sticky key has one by its number.
    pub(crate) fn moves(&self, at: &Placement, key: Option<&str>, number: u64) -> bool {
        let key = key.map_or(number, hash);
        let mut loads = self.workers.iter();
        let home = loads.clone().max_by_key(|load| score(key, load.worker));
        let current = loads.find(|load| load.worker == at.hash());
        match (home, current) {
            (Some(home), Some(current)) => home.is_under && current.is_over,
            _ => false,
        }
    }
}
