//! How a drain goes.

use flotilla_shared::metrics::Register;
use prometheus::{Error, IntCounter, IntGauge};

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(crate) struct Drain {
    pub(crate) started: IntGauge,
    pub(crate) remaining: IntGauge,
    pub(crate) closed: IntCounter,
}

impl Drain {
    pub(super) fn register(register: Register<'_>) -> Result<Self, Error> {
        Ok(Self {
            started: register.gauge(
                "flotilla_worker_drain_started_timestamp_seconds",
                "When the drain began; 0 before that.",
            )?,
            remaining: register.gauge(
                "flotilla_worker_drain_remaining_connections",
                "Connections that a drain has still to close.",
            )?,
            closed: register.counter(
                "flotilla_worker_drain_closed_total",
                "Connections closed by a drain.",
            )?,
        })
    }
}
