//! How many calls of a hook a worker makes at a time.
//!
//! Owns: the bounds, which the worker's shards share, and how often a failure is told to operators. Each hook has its
//! own: a back end that is slow with one question does not keep clients from the others.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::{Hook, HookOptions};

/// Time between two warnings about the same hook.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);

/// A worker's hooks, each with its gate. Clones have the same gates.
#[derive(Clone, Debug)]
pub(crate) struct Gates {
    options: Arc<HookOptions>,
    gates: HashMap<Hook, Arc<Gate>>,
}

impl Gates {
    /// A gate for each hook that can be asked.
    pub(crate) fn new(options: &HookOptions) -> Self {
        let gate = |hook: &Hook| (*hook, Arc::new(Gate::new(options)));
        Self {
            options: Arc::new(options.clone()),
            gates: options.endpoints.keys().map(gate).collect(),
        }
    }

    pub(super) fn options(&self) -> &HookOptions {
        &self.options
    }

    pub(super) fn of(&self, hook: Hook) -> Option<&Gate> {
        self.gates.get(&hook).map(Arc::as_ref)
    }
}

/// One hook's bounds.
#[derive(Debug)]
pub(super) struct Gate {
    /// For calls that run, and for those that wait.
    admitted: Semaphore,
    /// For calls that run.
    running: Semaphore,
    made: Instant,
    /// Milliseconds after `made` before which nobody is warned.
    silent_until_millis: AtomicU64,
}

/// A call's right to run.
pub(super) struct Turn<'a> {
    _admitted: SemaphorePermit<'a>,
    _running: SemaphorePermit<'a>,
}

impl Gate {
    fn new(options: &HookOptions) -> Self {
        let running = options.in_flight_max.min(Semaphore::MAX_PERMITS);
        let admitted = options.waiting_max.saturating_add(running);
        Self {
            admitted: Semaphore::new(admitted.min(Semaphore::MAX_PERMITS)),
            running: Semaphore::new(running),
            made: Instant::now(),
            silent_until_millis: AtomicU64::new(0),
        }
    }

    /// Waits for a turn, first come, first served; `None` at once when too many wait already.
    pub(super) async fn turn(&self) -> Option<Turn<'_>> {
        let admitted = self.admitted.try_acquire().ok()?;
        // It is never closed.
        let running = self.running.acquire().await.ok()?;
        Some(Turn {
            _admitted: admitted,
            _running: running,
        })
    }

    /// Whether operators are to be told of a failure: not of each one, while a back end is down.
    pub(super) fn may_warn(&self) -> bool {
        let now = u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX);
        let next = now.saturating_add(WARNING_INTERVAL.as_millis() as u64);
        let silent = self.silent_until_millis.load(Ordering::Relaxed);
        silent <= now
            && self
                .silent_until_millis
                .compare_exchange(silent, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}
