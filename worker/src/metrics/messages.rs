//! Messages that were received, sent and delivered.

use flotilla_shared::metrics::Register;
use flotilla_shared::protocol::codes::ErrorCode;
use flotilla_shared::protocol::types::Request;
use prometheus::{Error, Histogram, IntCounter, IntCounterVec, IntGauge, exponential_buckets};

use crate::hub::Gap;
use crate::rates::Limit;

/// Labels of received messages besides the commands' own.
pub(super) const RECEIVED_EXTRA: [&str; 2] = ["pong", "malformed"];

/// Replies and pushes by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SentType {
    /// A publication pushed to a subscriber; counted by the fan-out.
    Message,
    /// A reply with a result.
    Reply,
    /// A reply with an error.
    Error,
    /// A push other than a publication.
    Push,
    /// A ping.
    Ping,
}

impl SentType {
    pub(super) const ALL: [Self; 5] = [
        Self::Message,
        Self::Reply,
        Self::Error,
        Self::Push,
        Self::Ping,
    ];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Reply => "reply",
            Self::Error => "error",
            Self::Push => "push",
            Self::Ping => "ping",
        }
    }
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(crate) struct Messages {
    pub(super) channels: IntGauge,
    pub(super) subscriptions: IntGauge,
    pub(super) received: IntCounterVec,
    pub(super) sent: IntCounterVec,
    pub(super) received_bytes: IntCounter,
    pub(super) sent_bytes: IntCounter,
    pub(crate) delivered: IntCounter,
    pub(super) command_errors: IntCounterVec,
    pub(super) limited: IntCounterVec,
    pub(super) streams: Streams,
    pub(super) fanout_recipients: Histogram,
    pub(super) ping_rtt: Histogram,
}

/// What became of the streams of channels with history.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    pub(super) repeated: IntCounter,
    pub(super) gaps: IntCounterVec,
    pub(super) recoveries: IntCounterVec,
}

/// Results of a recovery.
pub(super) const RECOVERED: &str = "recovered";
pub(super) const UNRECOVERABLE: &str = "unrecoverable";

impl Streams {
    /// Starts the series of a namespace with history at zero.
    pub(super) fn begin(&self, namespace: &str) {
        for gap in Gap::ALL {
            self.gaps.with_label_values(&[namespace, gap.label()]);
        }
        for result in [RECOVERED, UNRECOVERABLE] {
            self.recoveries.with_label_values(&[namespace, result]);
        }
    }

    fn register(register: Register<'_>) -> Result<Self, Error> {
        Ok(Self {
            repeated: register.counter(
                "flotilla_worker_publications_repeated_total",
                "Publications that the broker had delivered to the shard before; nobody gets them again.",
            )?,
            gaps: register.counters(
                "flotilla_worker_publication_gaps_total",
                "Times that publications of a channel with history did not reach a shard, by what came of it: they were read from the history, or its subscribers are told.",
                &["namespace", "result"],
            )?,
            recoveries: register.counters(
                "flotilla_worker_recoveries_total",
                "Subscriptions that asked for what was missed, by what came of it.",
                &["namespace", "result"],
            )?,
        })
    }
}

impl Messages {
    pub(super) fn register(register: Register<'_>) -> Result<Self, Error> {
        let messages = Self {
            channels: register.gauge(
                "flotilla_worker_channels",
                "Channels subscribed at the broker, summed over the shards.",
            )?,
            subscriptions: register.gauge(
                "flotilla_worker_subscriptions",
                "Memberships of clients in channels.",
            )?,
            received: register.counters(
                "flotilla_worker_messages_received_total",
                "Commands received from clients.",
                &["type"],
            )?,
            sent: register.counters(
                "flotilla_worker_messages_sent_total",
                "Replies and pushes sent to clients.",
                &["type"],
            )?,
            received_bytes: register.counter(
                "flotilla_worker_received_bytes_total",
                "Payload bytes of the messages received from clients.",
            )?,
            sent_bytes: register.counter(
                "flotilla_worker_sent_bytes_total",
                "Bytes of frames handed to clients' sockets or outboxes.",
            )?,
            delivered: register.counter(
                "flotilla_worker_messages_delivered_total",
                "Copies of publications put into clients' sockets or outboxes.",
            )?,
            command_errors: register.counters(
                "flotilla_worker_command_errors_total",
                "Error replies.",
                &["code"],
            )?,
            limited: register.counters(
                "flotilla_worker_rate_limited_total",
                "What was held back or refused because there was too much of it, by what is limited and whose it is.",
                &["scope", "limit"],
            )?,
            streams: Streams::register(register)?,
            fanout_recipients: register.histogram(
                "flotilla_worker_fanout_recipients",
                "Recipients of one publication in one shard.",
                &exponential_buckets(1.0, 10.0, 6)?,
            )?,
            ping_rtt: register.histogram(
                "flotilla_worker_ping_rtt_seconds",
                "Time between a ping and its answer.",
                &exponential_buckets(0.001, 4.0, 8)?,
            )?,
        };
        messages.initialise();
        Ok(messages)
    }

    fn initialise(&self) {
        for label in Request::LABELS.iter().chain(&RECEIVED_EXTRA) {
            self.received.with_label_values(&[*label]);
        }
        for sent in SentType::ALL {
            self.sent.with_label_values(&[sent.label()]);
        }
        for limit in Limit::all() {
            self.limited.with_label_values(&limit.labels());
        }
        for code in ErrorCode::ALL {
            self.command_errors.with_label_values(&[code.label()]);
        }
    }
}
