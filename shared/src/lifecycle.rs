//! The life of a process: `Starting → Serving → Draining → Stopped`, forward only.
//!
//! Owns the phase, the deadline of a drain, and the mapping from signals to both. It does not know
//! what a process does in a phase: listeners, sessions and health endpoints watch it and act.

use std::{fmt, io, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::Instant,
};

/// The longest drain that is kept track of; anything longer is shortened to it, so that adding a
/// configured timeout to the clock cannot overflow.
const DRAIN_TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Where a process is in its life. Ordered: a later phase is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Not yet able to take clients.
    Starting,
    /// Takes clients; the only phase in which a process is ready.
    Serving,
    /// Takes no new clients and lets those it has go, until the deadline.
    Draining,
    /// Cuts whatever is left and exits.
    Stopped,
}

impl Phase {
    /// Every phase, in order: for metrics that keep one series for each.
    pub const ALL: [Self; 4] = [Self::Starting, Self::Serving, Self::Draining, Self::Stopped];

    /// The name used in logs, metrics and the roster.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// A phase together with the deadline that belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// The current phase.
    pub phase: Phase,
    /// When the drain has to be over. Set once a drain has begun, and kept after it.
    pub deadline: Option<Instant>,
}

/// A handle on the life of a process. Clones share it.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    status: Arc<watch::Sender<Status>>,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self::new()
    }
}

impl Lifecycle {
    /// A process that is starting.
    #[must_use]
    pub fn new() -> Self {
        let status = Status {
            phase: Phase::Starting,
            deadline: None,
        };
        Self {
            status: Arc::new(watch::Sender::new(status)),
        }
    }

    /// The current phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.status.borrow().phase
    }

    /// When the drain has to be over; `None` before a drain, and after a stop without one.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.status.borrow().deadline
    }

    /// The process is ready for clients. Ignored once it is serving or beyond.
    pub fn serving(&self) {
        self.advance(Phase::Serving, None);
    }

    /// Begins a drain that has to be over after `timeout` (at most a year). Ignored once it is
    /// draining or beyond: the deadline of the first call stands.
    pub fn drain(&self, timeout: Duration) {
        self.advance(
            Phase::Draining,
            Some(Instant::now() + timeout.min(DRAIN_TIMEOUT_MAX)),
        );
    }

    /// Ends the process at once, whatever is left to do.
    pub fn stop(&self) {
        self.advance(Phase::Stopped, None);
    }

    /// A receiver that sees each change. The current status counts as seen.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Waits until the process is in `phase` or beyond. Cancel-safe.
    pub async fn wait_for(&self, phase: Phase) {
        // An error means that the sender is gone, which `self` rules out.
        let _ = self
            .subscribe()
            .wait_for(|status| status.phase >= phase)
            .await;
    }

    fn advance(&self, phase: Phase, deadline: Option<Instant>) {
        let moved = self.status.send_if_modified(|status| {
            if phase <= status.phase {
                return false;
            }
            *status = Status {
                phase,
                deadline: deadline.or(status.deadline),
            };
            true
        });
        if moved {
            tracing::info!(phase = phase.label(), "phase");
        }
    }
}

/// From now on the first SIGTERM or SIGINT drains within `drain_timeout`, and the second stops at
/// once. The handlers are in place when this returns; a task on the current runtime serves them.
///
/// # Errors
/// When the handlers cannot be installed.
///
/// # Panics
/// Outside a tokio runtime with I/O enabled.
pub fn drain_on_signals(lifecycle: &Lifecycle, drain_timeout: Duration) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let lifecycle = lifecycle.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                () = lifecycle.wait_for(Phase::Stopped) => return,
            }
            if lifecycle.phase() < Phase::Draining {
                tracing::info!(timeout = ?drain_timeout, "signal: draining; a second one stops");
                lifecycle.drain(drain_timeout);
            } else {
                tracing::warn!("signal while draining: stopping at once");
                lifecycle.stop();
            }
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_only_move_forward() {
        let lifecycle = Lifecycle::new();
        assert_eq!(lifecycle.phase(), Phase::Starting);
        lifecycle.serving();
        assert_eq!(lifecycle.phase(), Phase::Serving);
        lifecycle.stop();
        assert_eq!(lifecycle.phase(), Phase::Stopped);
        lifecycle.drain(Duration::from_secs(1));
        lifecycle.serving();
        assert_eq!(lifecycle.phase(), Phase::Stopped);
        assert_eq!(lifecycle.deadline(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_drain_sets_the_deadline() {
        let lifecycle = Lifecycle::new();
        let start = Instant::now();
        lifecycle.drain(Duration::from_secs(30));
        lifecycle.drain(Duration::from_secs(300));
        assert_eq!(lifecycle.deadline(), Some(start + Duration::from_secs(30)));
        lifecycle.stop();
        assert_eq!(lifecycle.deadline(), Some(start + Duration::from_secs(30)));
    }

    #[test]
    fn an_endless_drain_timeout_does_not_overflow_the_clock() {
        let lifecycle = Lifecycle::new();
        lifecycle.drain(Duration::MAX);
        assert_eq!(lifecycle.phase(), Phase::Draining);
        assert!(lifecycle.deadline().is_some());
    }

    #[tokio::test]
    async fn waiting_for_a_phase_ends_when_it_is_passed_over() {
        let lifecycle = Lifecycle::new();
        let waiter = tokio::spawn({
            let lifecycle = lifecycle.clone();
            async move { lifecycle.wait_for(Phase::Draining).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        lifecycle.stop();
        tokio::time::timeout(Duration::from_secs(5), waiter)
            .await
            .expect("the waiter wakes")
            .expect("the waiter does not panic");
    }

    #[test]
    fn a_phase_is_written_as_its_label() {
        for phase in Phase::ALL {
            let json = serde_json::to_string(&phase).expect("serialises");
            assert_eq!(json, format!("\"{}\"", phase.label()));
            assert_eq!(
                serde_json::from_str::<Phase>(&json).expect("reads back"),
                phase
            );
        }
    }

    // Both signals in one test: handlers are process-wide, and two tests would see each other's.
    #[tokio::test]
    async fn the_first_signal_drains_and_the_second_stops() {
        use nix::sys::signal::{Signal, raise};

        let lifecycle = Lifecycle::new();
        lifecycle.serving();
        drain_on_signals(&lifecycle, Duration::from_secs(10)).expect("handlers install");

        raise(Signal::SIGTERM).expect("signals itself");
        let drained = lifecycle.wait_for(Phase::Draining);
        tokio::time::timeout(Duration::from_secs(5), drained)
            .await
            .expect("drains");
        assert_eq!(lifecycle.phase(), Phase::Draining);

        raise(Signal::SIGINT).expect("signals itself");
        let stopped = lifecycle.wait_for(Phase::Stopped);
        tokio::time::timeout(Duration::from_secs(5), stopped)
            .await
            .expect("stops");
    }
}
