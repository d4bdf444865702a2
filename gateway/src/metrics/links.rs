//! What is measured of links: what they carry, and how sessions move between workers.

use std::time::Duration;

use flotilla_shared::metrics::Register;
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::Gauged;

/// From a session that is opened elsewhere at once to one that nobody took for long.
const MOVE_BUCKETS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// Why a session was opened at another worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MoveReason {
    /// The link to its worker is gone.
    WorkerLost,
    /// Its worker wanted to be rid of it.
    Released,
    /// Another worker has less to do.
    Rebalanced,
    /// Its worker has lost its broker, and another one has not.
    CutOff,
}

impl MoveReason {
    const ALL: [Self; 4] = [
        Self::WorkerLost,
        Self::Released,
        Self::Rebalanced,
        Self::CutOff,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::WorkerLost => "worker_lost",
            Self::Released => "released",
            Self::Rebalanced => "rebalanced",
            Self::CutOff => "cut_off",
        }
    }
}

/// Links and what they carry.
#[derive(Clone)]
pub(crate) struct LinkMetrics {
    sessions: IntGauge,
    moving: IntGauge,
    links: IntGaugeVec,
    bytes: IntCounterVec,
    pub(crate) casts: IntCounter,
    pub(crate) cast_deliveries: IntCounter,
    moves: IntCounterVec,
    move_duration: Histogram,
    resent: IntCounter,
}

impl LinkMetrics {
    pub(super) fn register(register: Register<'_>) -> prometheus::Result<Self> {
        let metrics = Self {
            sessions: register.gauge(
                "flotilla_gateway_link_sessions",
                "Clients whose sessions are carried by links.",
            )?,
            moving: register.gauge(
                "flotilla_gateway_link_sessions_moving",
                "Those of them whose sessions are at no worker at the moment.",
            )?,
            links: register.gauges(
                "flotilla_gateway_links",
                "Links to workers by their state.",
                &["state"],
            )?,
            bytes: register.counters(
                "flotilla_gateway_link_bytes_total",
                "Bytes on links: in from workers, out to workers.",
                &["direction"],
            )?,
            casts: register.counter(
                "flotilla_gateway_link_casts_total",
                "Messages from workers for whoever is in a topic.",
            )?,
            cast_deliveries: register.counter(
                "flotilla_gateway_link_cast_deliveries_total",
                "Clients that these were for.",
            )?,
            moves: register.counters(
                "flotilla_gateway_link_moves_total",
                "Sessions that were opened at another worker, by why.",
                &["reason"],
            )?,
            move_duration: register.histogram(
                "flotilla_gateway_link_move_duration_seconds",
                "How long sessions were nowhere that were opened at another worker.",
                MOVE_BUCKETS,
            )?,
            resent: register.counter(
                "flotilla_gateway_link_messages_resent_total",
                "Messages of clients that another worker was given again, because none had acknowledged them.",
            )?,
        };
        for state in [CONNECTING, UP] {
            let _ = metrics.links.with_label_values(&[state]);
        }
        for reason in MoveReason::ALL {
            let _ = metrics.moves.with_label_values(&[reason.label()]);
        }
        let _ = metrics.traffic();
        Ok(metrics)
    }

    /// A client's session is carried; over when the guard is dropped.
    pub(crate) fn session(&self) -> Gauged {
        Gauged::up(&self.sessions)
    }

    /// A session is at no worker; over when the guard is dropped.
    pub(crate) fn moving(&self) -> Gauged {
        Gauged::up(&self.moving)
    }

    /// A link is being opened; over when the guard is dropped.
    pub(crate) fn link_connecting(&self) -> Gauged {
        Gauged::up(&self.links.with_label_values(&[CONNECTING]))
    }

    /// A link is there; over when the guard is dropped.
    pub(crate) fn link_up(&self) -> Gauged {
        Gauged::up(&self.links.with_label_values(&[UP]))
    }

    /// Where bytes from workers, and to them, are counted.
    pub(crate) fn traffic(&self) -> (IntCounter, IntCounter) {
        let counter = |direction| self.bytes.with_label_values(&[direction]);
        (counter("in"), counter("out"))
    }

    /// A session was opened at another worker, after it was nowhere for so long.
    pub(crate) fn moved(&self, reason: MoveReason, nowhere: Duration) {
        self.moves.with_label_values(&[reason.label()]).inc();
        self.move_duration.observe(nowhere.as_secs_f64());
    }

    /// A worker was given so many messages again.
    pub(crate) fn resent(&self, messages: usize) {
        self.resent.inc_by(messages as u64);
    }
}

const CONNECTING: &str = "connecting";
const UP: &str = "up";
