//! What the gateway measures, under the names that dashboards and alerts use.
//!
//! Every series of a closed set of labels exists from the start, at zero. Gauges move through
//! guards, so that they cannot miss a way out. What is known of the workers is read from the pool
//! at the moment of a scrape: a worker that has left takes its series along.

mod links;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use flotilla_shared::metrics::Register;
use prometheus::{
    Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
};
use tokio::time::Instant;

pub(crate) use self::links::{LinkMetrics, MoveReason};
use self::workers::WorkerMetrics;
use crate::endpoint::{Errand, Transport};
use crate::error::RefusalKind;
use crate::identify::Verdict;
use crate::relay::{Initiator, Outcome, Reason, Traffic};
use crate::route::Pool;

/// From a handshake on the same host to one that waits for its last worker.
const HANDSHAKE_BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// From a page that is closed at once to one that stays open for a day.
const CONNECTION_BUCKETS: &[f64] = &[
    1.0, 10.0, 60.0, 300.0, 1800.0, 3600.0, 10_800.0, 28_800.0, 86_400.0,
];

/// The metrics of one gateway.
#[derive(Clone)]
pub(crate) struct Metrics {
    connections: IntGaugeVec,
    connections_limit: IntGauge,
    handshakes_in_flight: IntGauge,
    connections_opened: IntCounter,
    connections_closed: IntCounterVec,
    handshakes_rejected: IntCounterVec,
    handshake_duration: HistogramVec,
    connection_duration: Histogram,
    request_duration: HistogramVec,
    jwt_verifications: IntCounterVec,
    bytes: IntCounterVec,
    pub(crate) workers: WorkerMetrics,
    pub(crate) links: LinkMetrics,
    draining: IntGauge,
    drain_remaining: IntGauge,
}

impl Metrics {
    /// Registers all of them.
    pub(crate) fn register(registry: &Registry, pool: Arc<Pool>) -> prometheus::Result<Self> {
        let register = Register(registry);
        let metrics = Self {
            connections: register.gauges(
                "flotilla_gateway_connections",
                "Client connections that are relayed, or kept alive between short requests.",
                &["listener", "tls", "transport"],
            )?,
            connections_limit: register.gauge(
                "flotilla_gateway_connections_limit",
                "Most connections that are relayed at the same time.",
            )?,
            handshakes_in_flight: register.gauge(
                "flotilla_gateway_handshakes_in_flight",
                "Clients that are connected and have not been answered yet.",
            )?,
            connections_opened: register.counter(
                "flotilla_gateway_connections_opened_total",
                "Connections that were opened.",
            )?,
            connections_closed: register.counters(
                "flotilla_gateway_connections_closed_total",
                "Connections that ended, by who ended them and why.",
                &["initiator", "reason"],
            )?,
            handshakes_rejected: register.counters(
                "flotilla_gateway_handshakes_rejected_total",
                "Requests that were refused.",
                &["reason"],
            )?,
            handshake_duration: register.histograms(
                "flotilla_gateway_handshake_duration_seconds",
                "From the first byte expected to the answer.",
                HANDSHAKE_BUCKETS,
                &["result"],
            )?,
            connection_duration: register.histogram(
                "flotilla_gateway_connection_duration_seconds",
                "How long connections lasted.",
                CONNECTION_BUCKETS,
            )?,
            request_duration: register.histograms(
                "flotilla_gateway_request_duration_seconds",
                "Short requests that a worker has answered, from the first byte expected to the end.",
                HANDSHAKE_BUCKETS,
                &["endpoint"],
            )?,
            jwt_verifications: register.counters(
                "flotilla_gateway_jwt_verifications_total",
                "Tokens verified at the edge.",
                &["result"],
            )?,
            bytes: register.counters(
                "flotilla_gateway_bytes_total",
                "Bytes relayed: in from clients, out to clients.",
                &["direction"],
            )?,
            workers: WorkerMetrics::register(register, pool)?,
            links: LinkMetrics::register(register)?,
            draining: register.gauge(
                "flotilla_gateway_draining",
                "1 while the gateway drains, else 0.",
            )?,
            drain_remaining: register.gauge(
                "flotilla_gateway_drain_remaining_connections",
                "Connections that a drain still has to end.",
            )?,
        };
        metrics.create_series();
        Ok(metrics)
    }

    fn create_series(&self) {
        for is_tls in [false, true] {
            let _ = self.connected(is_tls, KEPT_ALIVE);
            for transport in Transport::ALL {
                let _ = self.connected(is_tls, transport.label());
            }
        }
        for errand in Errand::ALL {
            let _ = self.request_duration.with_label_values(&[errand.label()]);
        }
        for initiator in Initiator::ALL {
            for reason in Reason::ALL {
                let labels = [initiator.label(), reason.label()];
                let _ = self.connections_closed.with_label_values(&labels);
            }
        }
        for kind in RefusalKind::ALL {
            let _ = self.handshakes_rejected.with_label_values(&[kind.label()]);
        }
        for result in [ACCEPTED, REJECTED] {
            let _ = self.handshake_duration.with_label_values(&[result]);
        }
        for verdict in Verdict::ALL {
            let _ = self.jwt_verifications.with_label_values(&[verdict.label()]);
        }
        let _ = self.traffic();
    }

    /// Where relayed bytes are counted.
    pub(crate) fn traffic(&self) -> Traffic {
        Traffic {
            inbound: self.bytes.with_label_values(&["in"]),
            outbound: self.bytes.with_label_values(&["out"]),
        }
    }

    pub(crate) fn limit_connections(&self, limit: u64) {
        self.connections_limit
            .set(limit.try_into().unwrap_or(i64::MAX));
    }

    /// A client is connected; over when the guard is dropped.
    pub(crate) fn handshake(&self) -> Gauged {
        Gauged::up(&self.handshakes_in_flight)
    }

    /// A connection is relayed; over when the guard is dropped.
    pub(crate) fn connection(&self, is_tls: bool, transport: Transport) -> Gauged {
        self.connections_opened.inc();
        Gauged::up(&self.connected(is_tls, transport.label()))
    }

    /// A connection is kept alive between short requests; over when the guard is dropped.
    pub(crate) fn kept_alive(&self, is_tls: bool) -> Gauged {
        Gauged::up(&self.connected(is_tls, KEPT_ALIVE))
    }

    fn connected(&self, is_tls: bool, transport: &str) -> IntGauge {
        let (listener, tls) = if is_tls {
            (TLS, "true")
        } else {
            (PLAIN, "false")
        };
        self.connections
            .with_label_values(&[listener, tls, transport])
    }

    /// A worker has answered a short request.
    pub(crate) fn answered(&self, errand: Errand, since: Instant) {
        self.request_duration
            .with_label_values(&[errand.label()])
            .observe(since.elapsed().as_secs_f64());
    }

    pub(crate) fn closed(&self, outcome: Outcome, lasted: Duration) {
        let labels = [outcome.initiator.label(), outcome.reason.label()];
        self.connections_closed.with_label_values(&labels).inc();
        self.connection_duration.observe(lasted.as_secs_f64());
    }

    pub(crate) fn accepted(&self, since: Instant) {
        let seconds = since.elapsed().as_secs_f64();
        self.handshake_duration
            .with_label_values(&[ACCEPTED])
            .observe(seconds);
    }

    pub(crate) fn rejected(&self, kind: RefusalKind, since: Instant) {
        let seconds = since.elapsed().as_secs_f64();
        self.handshakes_rejected
            .with_label_values(&[kind.label()])
            .inc();
        self.handshake_duration
            .with_label_values(&[REJECTED])
            .observe(seconds);
    }

    pub(crate) fn verified(&self, verdict: Verdict) {
        self.jwt_verifications
            .with_label_values(&[verdict.label()])
            .inc();
    }

    pub(crate) fn draining(&self, remaining: usize) {
        self.draining.set(1);
        self.drain_remaining
            .set(remaining.try_into().unwrap_or(i64::MAX));
    }
}

const PLAIN: &str = "plain";
const TLS: &str = "tls";
/// Where another connection has its transport.
const KEPT_ALIVE: &str = "keep_alive";
const ACCEPTED: &str = "accepted";
const REJECTED: &str = "rejected";

/// Raises a gauge by one until it is dropped.
pub(crate) struct Gauged(IntGauge);

impl Gauged {
    fn up(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Gauged {
    fn drop(&mut self) {
        self.0.dec();
    }
}
