//! What a process tells about its broker connections. One set per process, shared by all its connections.
//!
//! Every series exists from the start, at zero. Nothing here depends on a topic's name.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, Registry, exponential_buckets};

use super::{Appended, BrokerError, HistoryPage};
use crate::metrics::Register;

/// Round trips of 50 µs (same machine) to 1.6 s (about to be given up).
const RTT_BUCKETS: (f64, f64, usize) = (0.000_05, 2.0, 16);

/// The `flotilla_broker_*` series.
#[derive(Debug, Clone)]
pub struct BrokerMetrics {
    connections: IntGauge,
    connected: IntGauge,
    subscriptions: IntGauge,
    reconnects: IntCounter,
    disconnects: IntCounterVec,
    messages: Traffic,
    bytes: Traffic,
    dropped: IntCounter,
    errors: IntCounterVec,
    rtt: Histogram,
    appends: Appends,
    history_reads: IntCounter,
    history_publications: IntCounter,
    history_evicted: IntCounter,
}

/// The series of `flotilla_broker_appends_total`, by what came of an append.
#[derive(Debug, Clone)]
struct Appends {
    published: IntCounter,
    repeated: IntCounter,
    outdated: IntCounter,
}

/// The two series of a counter by direction, kept at hand: the data path looks nothing up.
#[derive(Debug, Clone)]
struct Traffic {
    incoming: IntCounter,
    outgoing: IntCounter,
}

/// Why a connection was lost: the label of `flotilla_broker_disconnects_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DisconnectReason {
    /// The connection broke or went silent.
    Lost,
    /// The server had announced that it would leave.
    LameDuck,
}

/// What went wrong: the label of `flotilla_broker_errors_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorKind {
    /// The server does not allow a subject.
    Permission,
    /// A queue was full.
    SlowConsumer,
    /// A payload was too large.
    Payload,
    /// No answer, or no room to send, in time.
    Timeout,
    /// Anything else.
    Other,
}

impl DisconnectReason {
    const ALL: [Self; 2] = [Self::Lost, Self::LameDuck];

    fn label(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::LameDuck => "lame_duck",
        }
    }
}

impl ErrorKind {
    const ALL: [Self; 5] = [
        Self::Permission,
        Self::SlowConsumer,
        Self::Payload,
        Self::Timeout,
        Self::Other,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Permission => "permission",
            Self::SlowConsumer => "slow_consumer",
            Self::Payload => "payload",
            Self::Timeout => "timeout",
            Self::Other => "other",
        }
    }
}

impl Traffic {
    fn register(register: Register<'_>, name: &str, help: &str) -> prometheus::Result<Self> {
        let family = register.counters(name, help, &["direction"])?;
        Ok(Self {
            incoming: family.with_label_values(&["in"]),
            outgoing: family.with_label_values(&["out"]),
        })
    }
}

impl Appends {
    fn register(register: Register<'_>) -> prometheus::Result<Self> {
        let family = register.counters(
            "flotilla_broker_appends_total",
            "Appends to channels' streams, by what came of them.",
            &["result"],
        )?;
        Ok(Self {
            published: family.with_label_values(&["published"]),
            repeated: family.with_label_values(&["repeated"]),
            outdated: family.with_label_values(&["outdated"]),
        })
    }
}

impl BrokerMetrics {
    /// Creates the series and registers them.
    ///
    /// # Errors
    /// If the registry already holds one of these names.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let register = Register(registry);
        let (start, factor, count) = RTT_BUCKETS;
        let metrics = Self {
            connections: register.gauge(
                "flotilla_broker_connections",
                "Broker connections that this process holds, up or not.",
            )?,
            connected: register.gauge(
                "flotilla_broker_connected",
                "Broker connections that are up, with every topic subscribed.",
            )?,
            subscriptions: register.gauge(
                "flotilla_broker_subscriptions",
                "Topics subscribed to, over all connections.",
            )?,
            reconnects: register.counter(
                "flotilla_broker_reconnects_total",
                "Lost broker connections that were restored.",
            )?,
            disconnects: register.counters(
                "flotilla_broker_disconnects_total",
                "Broker connections lost.",
                &["reason"],
            )?,
            messages: Traffic::register(
                register,
                "flotilla_broker_messages_total",
                "Messages exchanged with the broker.",
            )?,
            bytes: Traffic::register(
                register,
                "flotilla_broker_bytes_total",
                "Payload bytes exchanged with the broker.",
            )?,
            dropped: register.counter(
                "flotilla_broker_messages_dropped_total",
                "Messages dropped because a subscription's queue was full; a lower bound.",
            )?,
            errors: register.counters(
                "flotilla_broker_errors_total",
                "Broker errors.",
                &["kind"],
            )?,
            rtt: register.histogram(
                "flotilla_broker_rtt_seconds",
                "Time from a barrier's publish to its return from the broker.",
                &exponential_buckets(start, factor, count)?,
            )?,
            appends: Appends::register(register)?,
            history_reads: register.counter(
                "flotilla_broker_history_reads_total",
                "Reads of channels' streams.",
            )?,
            history_publications: register.counter(
                "flotilla_broker_history_publications_total",
                "Publications that reads of channels' streams found.",
            )?,
            history_evicted: register.counter(
                "flotilla_broker_history_evicted_total",
                "Publications that the memory broker dropped before their time, to make room for others.",
            )?,
        };
        for reason in DisconnectReason::ALL {
            metrics.disconnects.with_label_values(&[reason.label()]);
        }
        for kind in ErrorKind::ALL {
            metrics.errors.with_label_values(&[kind.label()]);
        }
        Ok(metrics)
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.messages.outgoing.inc();
        self.bytes.outgoing.inc_by(bytes as u64);
    }

    pub(super) fn received(&self, messages: usize, bytes: usize) {
        self.messages.incoming.inc_by(messages as u64);
        self.bytes.incoming.inc_by(bytes as u64);
    }

    pub(super) fn dropped(&self, messages: u64) {
        self.dropped.inc_by(messages);
        self.errors
            .with_label_values(&[ErrorKind::SlowConsumer.label()])
            .inc_by(messages);
    }

    /// Counts an append of `bytes`, which was a message only if it was published.
    pub(super) fn appended(&self, appended: &Appended, bytes: usize) {
        match appended {
            Appended::Published(_) => {
                self.sent(bytes);
                self.appends.published.inc();
            }
            Appended::Repeated(_) => self.appends.repeated.inc(),
            Appended::Outdated(_) => self.appends.outdated.inc(),
        }
    }

    pub(super) fn read(&self, page: &HistoryPage) {
        self.history_reads.inc();
        let publications = page.publications.len();
        self.history_publications.inc_by(publications as u64);
    }

    pub(super) fn evicted(&self, publications: u64) {
        self.history_evicted.inc_by(publications);
    }

    /// Counts what a caller was told.
    pub(super) fn failed(&self, error: &BrokerError) {
        self.error(match error {
            BrokerError::TooLarge { .. } => ErrorKind::Payload,
            BrokerError::Timeout => ErrorKind::Timeout,
            _ => ErrorKind::Other,
        });
    }

    pub(super) fn error(&self, kind: ErrorKind) {
        self.errors.with_label_values(&[kind.label()]).inc();
    }

    pub(super) fn round_trip(&self, time: Duration) {
        self.rtt.observe(time.as_secs_f64());
    }

    /// The gauge that every connection's table of subscriptions moves.
    pub(super) fn subscriptions(&self) -> &IntGauge {
        &self.subscriptions
    }
}

/// Whether one connection is up, and its share of the gauges that say so; dropped with the connection.
#[derive(Debug)]
pub(super) struct ConnectionGauge {
    metrics: BrokerMetrics,
    up: AtomicBool,
}

impl ConnectionGauge {
    /// Counts a new connection, which is up.
    pub(super) fn new(metrics: &BrokerMetrics) -> Self {
        metrics.connections.inc();
        metrics.connected.inc();
        Self {
            metrics: metrics.clone(),
            up: AtomicBool::new(true),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// The connection went down. Alternates with [`restored`](Self::restored).
    pub(super) fn lost(&self, reason: DisconnectReason) {
        self.up.store(false, Ordering::Release);
        self.metrics.connected.dec();
        self.metrics
            .disconnects
            .with_label_values(&[reason.label()])
            .inc();
    }

    /// The connection is up again.
    pub(super) fn restored(&self) {
        self.up.store(true, Ordering::Release);
        self.metrics.connected.inc();
        self.metrics.reconnects.inc();
    }
}

impl Drop for ConnectionGauge {
    fn drop(&mut self) {
        self.metrics.connections.dec();
        if self.is_up() {
            self.metrics.connected.dec();
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{Encoder, TextEncoder};

    use super::*;

    #[test]
    fn every_series_exists_before_anything_happened() {
        let registry = Registry::new();
        let _metrics = BrokerMetrics::register(&registry).unwrap();
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&registry.gather(), &mut text)
            .unwrap();
        let text = String::from_utf8(text).unwrap();
        let series = [
            "flotilla_broker_connected",
            "flotilla_broker_connections",
            "flotilla_broker_subscriptions",
            "flotilla_broker_reconnects_total",
            "flotilla_broker_messages_dropped_total",
            "flotilla_broker_messages_total{direction=\"in\"}",
            "flotilla_broker_bytes_total{direction=\"out\"}",
            "flotilla_broker_disconnects_total{reason=\"lame_duck\"}",
            "flotilla_broker_errors_total{kind=\"permission\"}",
            "flotilla_broker_rtt_seconds_count",
            "flotilla_broker_appends_total{result=\"outdated\"}",
            "flotilla_broker_history_reads_total",
            "flotilla_broker_history_publications_total",
            "flotilla_broker_history_evicted_total",
        ];
        for series in series {
            let line = format!("{series} 0");
            assert!(
                text.lines().any(|other| other == line),
                "no {line} in\n{text}"
            );
        }
    }

    #[test]
    fn a_connection_moves_the_gauges_and_takes_its_share_away_again() {
        let metrics = BrokerMetrics::register(&Registry::new()).unwrap();
        let gauges = || (metrics.connections.get(), metrics.connected.get());
        let (one, other) = (
            ConnectionGauge::new(&metrics),
            ConnectionGauge::new(&metrics),
        );
        assert_eq!(gauges(), (2, 2));
        one.lost(DisconnectReason::Lost);
        assert_eq!(gauges(), (2, 1));
        drop(one);
        assert_eq!(gauges(), (1, 1));
        other.lost(DisconnectReason::LameDuck);
        other.restored();
        drop(other);
        assert_eq!(gauges(), (0, 0));
    }
}
