//! What one connection's parts tell each other about the connection itself: up, down, closed.
//!
//! async-nats reports through a callback. Its reports may get lost when many come at once, so they only say "look
//! again"; what counts is read from the client's own state.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_nats::{Event, ServerError};
use tokio::sync::Notify;

use super::history::NatsHistory;
use super::table::Table;
use crate::broker::BrokerMetrics;
use crate::broker::metrics::{ConnectionGauge, DisconnectReason, ErrorKind};

/// Shared by both halves, the keeper and the callback.
pub(super) struct Link {
    pub(super) table: Table,
    metrics: BrokerMetrics,
    gauge: ConnectionGauge,
    closed: AtomicBool,
    /// Wakes the keeper.
    changed: Notify,
    /// The server said that it would leave.
    lame_duck: AtomicBool,
    /// The server refused a subject.
    denied: AtomicBool,
}

impl Link {
    pub(super) fn new(metrics: &BrokerMetrics, history: &NatsHistory) -> Self {
        Self {
            table: Table::new(metrics, Arc::clone(&history.lives)),
            metrics: metrics.clone(),
            gauge: ConnectionGauge::new(metrics),
            closed: AtomicBool::new(false),
            changed: Notify::new(),
            lame_duck: AtomicBool::new(false),
            denied: AtomicBool::new(false),
        }
    }

    /// The callback of async-nats. Subjects name channels, which users made up: they are not logged.
    pub(super) fn note(&self, event: Event) {
        match event {
            Event::SlowConsumer(sid) => self.table.note_drop(sid),
            Event::LameDuckMode => self.lame_duck.store(true, Ordering::Relaxed),
            Event::ServerError(ServerError::Other(text)) if is_permission_error(&text) => {
                self.denied.store(true, Ordering::Relaxed);
                self.metrics.error(ErrorKind::Permission);
                tracing::warn!("NATS permissions do not allow a subject");
            }
            Event::ServerError(_) => {
                self.metrics.error(ErrorKind::Other);
                tracing::warn!("NATS server reported an error");
            }
            Event::ClientError(error) => {
                self.metrics.error(ErrorKind::Other);
                tracing::warn!(%error, "cannot reach NATS yet");
            }
            Event::Connected | Event::Disconnected | Event::Draining | Event::Closed => {}
        }
        self.changed.notify_one();
    }

    /// Completes when there is a reason to look at the connection again. For the keeper alone.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Whether the server ever refused a subject.
    pub(super) fn is_denied(&self) -> bool {
        self.denied.load(Ordering::Relaxed)
    }

    /// Whether the last barrier still holds, as far as the keeper knows.
    pub(super) fn is_up(&self) -> bool {
        self.gauge.is_up() && !self.is_closed()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn go_down(&self) {
        let leaving = self.lame_duck.swap(false, Ordering::Relaxed);
        let reason = if leaving {
            DisconnectReason::LameDuck
        } else {
            DisconnectReason::Lost
        };
        self.gauge.lost(reason);
        self.table.tell_disconnected();
        tracing::warn!("NATS connection lost");
    }

    pub(super) fn go_up(&self) {
        self.gauge.restored();
        self.table.tell_reconnected();
        tracing::info!("NATS connection restored");
    }

    /// Ends the connection, from whichever half goes first.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.table.close();
        self.changed.notify_one();
    }
}

/// The server's words for it: `Permissions Violation for Publish to "..."`.
fn is_permission_error(text: &str) -> bool {
    let words = "permissions violation";
    text.get(..words.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(words))
}
