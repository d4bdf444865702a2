//! Which workers can do nothing for their clients, because their broker is away.
//!
//! They say so themselves, on links. What they say holds for as long as the link does.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::pool::{Member, Pool, Worker, WorkerState};

/// A worker has said on a link that it is cut off; until this is dropped.
#[derive(Debug)]
pub(crate) struct CutOff(Arc<Member>);

impl CutOff {
    pub(crate) fn of(worker: &Worker) -> Self {
        worker.member.cut_off.fetch_add(1, Ordering::Relaxed);
        Self(worker.member.clone())
    }
}

impl Drop for CutOff {
    fn drop(&mut self) {
        self.0.cut_off.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Worker {
    /// Whether it is known that it can do nothing for its clients at the moment, or not for all of them.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.member.cut_off.load(Ordering::Relaxed) > 0
    }
}

impl Pool {
    /// Whether those who are at a worker that is cut off have somewhere to go.
    pub(crate) fn has_refuge(&self) -> bool {
        self.workers().iter().any(|worker| {
            let is_available = worker.state() == WorkerState::Active && !worker.is_full();
            is_available && !worker.is_cut_off() && self.is_trusted(worker)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Decision;
    use crate::route::pool::tests::{pool, route};

    #[test]
    fn a_worker_that_is_cut_off_comes_last_and_is_no_refuge() {
        let pool = pool(2);
        let (home, other) = (route(&pool, "user")[0].0.clone(), pool.workers());
        let home = other.iter().find(|worker| worker.label == home).unwrap();
        let other = other
            .iter()
            .find(|worker| worker.label != home.label)
            .unwrap();
        let links = [CutOff::of(home), CutOff::of(home)];
        let expected = (other.label.clone(), Decision::Rehash);
        assert_eq!(route(&pool, "user")[0], expected);
        assert!(pool.has_refuge());
        let last = CutOff::of(other);
        assert_eq!(route(&pool, "user")[0].0, home.label, "all are alike");
        assert!(!pool.has_refuge());
        drop(last);
        pool.eject(other);
        assert_eq!(route(&pool, "user")[0].0, other.label);
        assert!(!pool.has_refuge(), "it may not be there");
        drop(links);
        assert_eq!(
            route(&pool, "user")[0],
            (home.label.clone(), Decision::Sticky)
        );
    }
}
