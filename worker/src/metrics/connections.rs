//! Connections that came, went and were refused.

use flotilla_shared::metrics::Register;
use flotilla_shared::protocol::codes::DisconnectCode;
use prometheus::{Error, IntCounter, IntCounterVec, IntGauge};

use crate::closing::Ending;

/// The close codes that have a series of their own besides those of [`DisconnectCode`].
const RFC_CODES: [u16; 10] = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1012, 1013];

/// The code of those that have not ended for their clients.
const MOVED: &str = "moved";

/// Why a client's request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejected {
    BadRequest,
    NotFound,
    Origin,
    Passport,
    Capacity,
    Draining,
    Starting,
    Timeout,
}

impl Rejected {
    const ALL: [Self; 8] = [
        Self::BadRequest,
        Self::NotFound,
        Self::Origin,
        Self::Passport,
        Self::Capacity,
        Self::Draining,
        Self::Starting,
        Self::Timeout,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::NotFound => "not_found",
            Self::Origin => "origin",
            Self::Passport => "passport",
            Self::Capacity => "capacity",
            Self::Draining => "draining",
            Self::Starting => "starting",
            Self::Timeout => "timeout",
        }
    }
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    pub(crate) open: IntGauge,
    pub(crate) limit: IntGauge,
    pub(crate) links: IntGauge,
    pub(crate) send_queue_bytes: IntGauge,
    pub(crate) opened: IntCounter,
    pub(crate) panics: IntCounter,
    slow_consumers: IntCounter,
    closed: IntCounterVec,
    rejected: IntCounterVec,
}

impl Connections {
    pub(super) fn register(register: Register<'_>) -> Result<Self, Error> {
        let connections = Self {
            open: register.gauge("flotilla_worker_connections", "Open client connections.")?,
            limit: register.gauge(
                "flotilla_worker_connections_limit",
                "Most client connections that the worker takes.",
            )?,
            links: register.gauge(
                "flotilla_worker_links",
                "Open links of gateways, which carry many connections each.",
            )?,
            send_queue_bytes: register.gauge(
                "flotilla_worker_send_queue_bytes",
                "Bytes that wait for clients' sockets, sampled every second.",
            )?,
            opened: register.counter(
                "flotilla_worker_connections_opened_total",
                "Client connections that were accepted.",
            )?,
            panics: register.counter(
                "flotilla_worker_panics_total",
                "Connections that ended because of a bug in the worker.",
            )?,
            slow_consumers: register.counter(
                "flotilla_worker_slow_consumers_total",
                "Clients disconnected because they read too slowly.",
            )?,
            closed: register.counters(
                "flotilla_worker_connections_closed_total",
                "Client connections that ended, by close code and by who ended them; `moved`: they go on at another worker.",
                &["code", "initiator"],
            )?,
            rejected: register.counters(
                "flotilla_worker_handshakes_rejected_total",
                "Requests of clients that were refused.",
                &["reason"],
            )?,
        };
        connections.initialise();
        Ok(connections)
    }

    fn initialise(&self) {
        for code in DisconnectCode::ALL {
            self.closed
                .with_label_values(&[&*code.code().to_string(), "worker"]);
        }
        let codes = RFC_CODES.map(|code| code.to_string());
        for code in codes.iter().map(String::as_str).chain(["none", "other"]) {
            for initiator in ["client", "worker"] {
                self.closed.with_label_values(&[code, initiator]);
            }
        }
        self.closed.with_label_values(&[MOVED, "worker"]);
        for reason in Rejected::ALL {
            self.rejected.with_label_values(&[reason.label()]);
        }
    }

    pub(crate) fn rejected(&self, reason: Rejected) {
        self.rejected.with_label_values(&[reason.label()]).inc();
    }

    /// Counts a connection's end.
    pub(crate) fn closed(&self, ending: &Ending) {
        let (code, initiator) = match ending {
            Ending::ByClient(code) => (*code, "client"),
            Ending::Gone => (None, "client"),
            other => (other.close().map(|(code, _)| code), "worker"),
        };
        let label = match code {
            _ if *ending == Ending::Moved => MOVED.to_owned(),
            None => "none".to_owned(),
            Some(code) if is_known(code, initiator) => code.to_string(),
            Some(_) => "other".to_owned(),
        };
        self.closed.with_label_values(&[&*label, initiator]).inc();
        if matches!(ending, Ending::Slow | Ending::Stalled) {
            self.slow_consumers.inc();
        }
    }
}

/// A client may send any code; only known ones get a series.
fn is_known(code: u16, initiator: &str) -> bool {
    let ours = || DisconnectCode::ALL.iter().any(|known| known.code() == code);
    RFC_CODES.contains(&code) || initiator == "worker" && ours()
}
