//! The worker's limit of connections, shared by its shards.
//!
//! Owns: the count. It is touched when a connection comes or goes, never while it lives.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(crate) struct Capacity {
    used: Arc<AtomicUsize>,
    limit: usize,
}

/// One connection's place; dropping it frees the place.
#[derive(Debug)]
pub(crate) struct Permit(Arc<AtomicUsize>);

impl Capacity {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            used: Arc::default(),
            limit,
        }
    }

    /// A place, if there is one.
    pub(crate) fn take(&self) -> Option<Permit> {
        let taken = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                (used < self.limit).then_some(used + 1)
            });
        taken.ok().map(|_| Permit(self.used.clone()))
    }

    /// Places taken.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_worker_takes_one_more_when_one_has_gone() {
        let capacity = Capacity::new(2);
        let first = capacity.take().unwrap();
        let _second = capacity.take().unwrap();
        assert!(capacity.take().is_none());
        drop(first);
        assert!(capacity.take().is_some());
    }
}
