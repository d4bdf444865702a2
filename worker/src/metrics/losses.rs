//! What did not arrive, by the namespace of its channel: refused publications and dropped messages.
//!
//! Only namespaces that are configured are labels, so that clients cannot add any: whoever counts has found the channel's
//! namespace before.

use flotilla_shared::channel::Channel;
use flotilla_shared::metrics::Register;
use flotilla_shared::protocol::codes::ErrorCode;
use prometheus::{Error, IntCounterVec};

/// Why a publication, or a copy of it, did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// The client's outbox was full or its socket gone.
    QueueFull,
    /// The broker's queue towards this shard was full.
    BrokerOverflow,
    /// The broker did not take it, and nobody waits to be told: who comes and goes.
    BrokerDown,
    /// What the broker delivered is no publication of ours.
    Malformed,
}

impl Dropped {
    const ALL: [Self; 4] = [
        Self::QueueFull,
        Self::BrokerOverflow,
        Self::BrokerDown,
        Self::Malformed,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::BrokerOverflow => "broker_overflow",
            Self::BrokerDown => "broker_down",
            Self::Malformed => "malformed",
        }
    }
}

/// Why something was not published. Its publisher was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unpublished {
    /// The broker did not take it; the publisher may try again.
    BrokerDown,
    /// It is larger than the broker takes.
    TooLarge,
    /// The publisher may not publish there.
    PermissionDenied,
    /// The namespace does not have what it asks for.
    NotAvailable,
    /// It is not what the namespace's publications have to be.
    BadRequest,
    /// The publisher is too fast.
    RateLimited,
    /// The back end refused it, or did not answer.
    BackEnd,
}

impl Unpublished {
    const ALL: [Self; 7] = [
        Self::BrokerDown,
        Self::TooLarge,
        Self::PermissionDenied,
        Self::NotAvailable,
        Self::BadRequest,
        Self::RateLimited,
        Self::BackEnd,
    ];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::BrokerDown => "broker_down",
            Self::TooLarge => "too_large",
            Self::PermissionDenied => "permission_denied",
            Self::NotAvailable => "not_available",
            Self::BadRequest => "bad_request",
            Self::RateLimited => "rate_limited",
            Self::BackEnd => "back_end",
        }
    }
}

/// What a publisher was told, where that was not the back end's word.
impl From<ErrorCode> for Unpublished {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::PermissionDenied => Self::PermissionDenied,
            ErrorCode::LimitExceeded => Self::TooLarge,
            ErrorCode::BadRequest => Self::BadRequest,
            ErrorCode::TooManyRequests => Self::RateLimited,
            ErrorCode::Internal => Self::BrokerDown,
            _ => Self::NotAvailable,
        }
    }
}

/// See the module's documentation. Cheap to clone: all clones are the same series.
#[derive(Clone, Debug)]
pub(crate) struct Losses {
    dropped: IntCounterVec,
    unpublished: IntCounterVec,
}

impl Losses {
    pub(super) fn register(register: Register<'_>) -> Result<Self, Error> {
        Ok(Self {
            dropped: register.counters(
                "flotilla_worker_messages_dropped_total",
                "Publications, or copies of them, that were not delivered.",
                &["namespace", "reason"],
            )?,
            unpublished: register.counters(
                "flotilla_worker_publications_refused_total",
                "Publications that were not accepted; whoever wanted to publish them was told.",
                &["namespace", "reason"],
            )?,
        })
    }

    /// Starts the series of a namespace at zero, so that its first loss is seen as one.
    pub(super) fn begin(&self, namespace: &str) {
        for reason in Dropped::ALL {
            self.dropped.with_label_values(&[namespace, reason.label()]);
        }
        for reason in Unpublished::ALL {
            self.unpublished
                .with_label_values(&[namespace, reason.label()]);
        }
    }

    pub(crate) fn dropped(&self, channel: &Channel, reason: Dropped, count: u64) {
        self.dropped
            .with_label_values(&[channel.namespace(), reason.label()])
            .inc_by(count);
    }

    /// Counts a publication of which its publisher was told that it is refused.
    pub(crate) fn unpublished(&self, channel: &Channel, reason: Unpublished) {
        self.unpublished
            .with_label_values(&[channel.namespace(), reason.label()])
            .inc();
    }
}
