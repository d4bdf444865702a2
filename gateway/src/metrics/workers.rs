//! What is measured of the workers: how they are chosen, how connecting to them goes, and how many
//! there are, which is read from the pool at the moment of a scrape.

use std::sync::Arc;

use flotilla_shared::metrics::Register;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Histogram, IntCounterVec, IntGaugeVec, Opts};
use tokio::time::Instant;

use super::HANDSHAKE_BUCKETS;
use crate::route::{Decision, Pool, WorkerState};
use crate::upstream::FailureKind;

/// The way to the workers.
#[derive(Clone)]
pub(crate) struct WorkerMetrics {
    routing_decisions: IntCounterVec,
    connect_duration: Histogram,
    connect_errors: IntCounterVec,
}

impl WorkerMetrics {
    pub(super) fn register(register: Register<'_>, pool: Arc<Pool>) -> prometheus::Result<Self> {
        let metrics = Self {
            routing_decisions: register.counters(
                "flotilla_gateway_routing_decisions_total",
                "How workers came to be chosen.",
                &["outcome"],
            )?,
            connect_duration: register.histogram(
                "flotilla_gateway_upstream_connect_duration_seconds",
                "From the choice of a worker to its 101.",
                HANDSHAKE_BUCKETS,
            )?,
            connect_errors: register.counters(
                "flotilla_gateway_upstream_connect_errors_total",
                "Workers that did not take a connection.",
                &["reason"],
            )?,
        };
        for decision in Decision::ALL {
            let _ = metrics
                .routing_decisions
                .with_label_values(&[decision.label()]);
        }
        for kind in FailureKind::ALL {
            let _ = metrics.connect_errors.with_label_values(&[kind.label()]);
        }
        register.collector(WorkerCollector::new(pool)?)?;
        Ok(metrics)
    }

    pub(crate) fn routed(&self, decision: Decision) {
        self.routing_decisions
            .with_label_values(&[decision.label()])
            .inc();
    }

    pub(crate) fn connected(&self, since: Instant) {
        self.connect_duration.observe(since.elapsed().as_secs_f64());
    }

    pub(crate) fn failed(&self, kind: FailureKind) {
        self.connect_errors.with_label_values(&[kind.label()]).inc();
    }
}

/// What the pool knows at the moment of a scrape.
struct WorkerCollector {
    pool: Arc<Pool>,
    workers: IntGaugeVec,
    connections: IntGaugeVec,
    states: IntGaugeVec,
}

impl WorkerCollector {
    fn new(pool: Arc<Pool>) -> prometheus::Result<Self> {
        Ok(Self {
            pool,
            workers: IntGaugeVec::new(
                Opts::new(
                    "flotilla_gateway_workers",
                    "Workers as this gateway sees them.",
                ),
                &["state"],
            )?,
            connections: IntGaugeVec::new(
                Opts::new(
                    "flotilla_gateway_worker_connections",
                    "Connections that this gateway holds to a worker.",
                ),
                &["worker"],
            )?,
            states: IntGaugeVec::new(
                Opts::new(
                    "flotilla_gateway_worker_state",
                    "1 for the state that a worker is in, else 0.",
                ),
                &["worker", "state"],
            )?,
        })
    }
}

impl Collector for WorkerCollector {
    fn desc(&self) -> Vec<&Desc> {
        [
            self.workers.desc(),
            self.connections.desc(),
            self.states.desc(),
        ]
        .concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let workers = self.pool.workers();
        self.connections.reset();
        self.states.reset();
        for state in WorkerState::ALL {
            let count = workers
                .iter()
                .filter(|worker| worker.state() == state)
                .count();
            self.workers
                .with_label_values(&[state.label()])
                .set(count as i64);
            for worker in workers.iter() {
                let labels = [worker.label(), state.label()];
                let is_current = i64::from(worker.state() == state);
                self.states.with_label_values(&labels).set(is_current);
            }
        }
        for worker in workers.iter() {
            let gauge = self.connections.with_label_values(&[worker.label()]);
            gauge.set(worker.connections() as i64);
        }
        [
            self.workers.collect(),
            self.connections.collect(),
            self.states.collect(),
        ]
        .concat()
    }
}
