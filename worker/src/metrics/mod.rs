//! What a worker counts.
//!
//! Owns: every `flotilla_worker_*` metric. The data path counts in plain numbers of its own shard ([`ShardMetrics`]),
//! which the shard's timer adds to the registry's atomics a few times a second, so that shards never write to the
//! same cache line while they deliver. Labels are closed sets; every series starts at zero.

mod api;
mod connections;
mod drain;
mod fleet;
mod hooks;
mod losses;
mod messages;
mod shard;

use flotilla_shared::lifecycle::Phase;
use flotilla_shared::metrics::Register;
use prometheus::{Error, IntGaugeVec, Registry};

use crate::namespace::Namespaces;

pub(crate) use api::ApiCalls;
pub(crate) use connections::{Connections, Rejected};
pub(crate) use drain::Drain;
pub(crate) use fleet::{Asked, FleetMetrics};
pub(crate) use hooks::{HookCalls, HookResult};
pub(crate) use losses::{Dropped, Losses, Unpublished};
pub(crate) use messages::{Messages, SentType};
pub(crate) use shard::ShardMetrics;

/// The process' metrics. Cheap to clone: all clones are the same series.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) connections: Connections,
    pub(crate) messages: Messages,
    pub(crate) losses: Losses,
    pub(crate) drain: Drain,
    pub(crate) api: ApiCalls,
    pub(crate) fleet: FleetMetrics,
    pub(crate) hooks: HookCalls,
    state: IntGaugeVec,
}

impl Metrics {
    /// Registers every series of the worker, at zero but for those of namespaces; see [`Metrics::begin`].
    ///
    /// # Errors
    /// When the registry has one of the names already: two workers must not share one.
    pub(crate) fn register(registry: &Registry) -> Result<Self, Error> {
        let register = Register(registry);
        let help = "1 for the phase of its life in which the worker is.";
        let metrics = Self {
            connections: Connections::register(register)?,
            messages: Messages::register(register)?,
            losses: Losses::register(register)?,
            drain: Drain::register(register)?,
            api: ApiCalls::register(register)?,
            fleet: FleetMetrics::register(register)?,
            hooks: HookCalls::register(register)?,
            state: register.gauges("flotilla_worker_state", help, &["state"])?,
        };
        metrics.phase(Phase::Starting);
        Ok(metrics)
    }

    /// Starts the series of every namespace at zero, so that what happens first in one is seen.
    pub(crate) fn begin(&self, namespaces: &Namespaces) {
        for name in namespaces.names() {
            self.losses.begin(name);
        }
        for (name, _) in namespaces.histories() {
            self.messages.streams.begin(&name);
        }
    }

    /// The process' phase, as a state set.
    pub(crate) fn phase(&self, now: Phase) {
        for phase in Phase::ALL {
            self.state
                .with_label_values(&[phase.label()])
                .set(i64::from(phase == now));
        }
    }
}
