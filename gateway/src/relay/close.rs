//! How a connection ended, in the few words that metrics and logs use, and the Close frames that
//! the gateway itself sends.

use bytes::Bytes;
use flotilla_shared::websocket::close_frame;

use super::tracker::NO_STATUS;

/// The gateway is leaving (RFC 6455 §7.4.1).
pub(crate) const GOING_AWAY: u16 = 1001;
/// The worker was lost; the client may connect again at once. Registered with IANA as "service
/// restart".
pub(super) const SERVICE_RESTART: u16 = 1012;

/// Who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Initiator {
    Client,
    Worker,
    Gateway,
}

impl Initiator {
    pub(crate) const ALL: [Self; 3] = [Self::Client, Self::Worker, Self::Gateway];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Worker => "worker",
            Self::Gateway => "gateway",
        }
    }
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Close 1000 or without a code.
    Normal,
    /// Close 1001 from one of the sides.
    GoingAway,
    /// Close 1008.
    Policy,
    /// Close 1009.
    TooBig,
    /// Close 1002, 1003 or 1007.
    ProtocolError,
    /// A code of the application's own, 3000 to 4999.
    Application,
    /// Any other code.
    Other,
    /// No Close frame, the connection just ended.
    Abnormal,
    /// The gateway is leaving.
    Drain,
    /// The client took no bytes for too long.
    SlowConsumer,
    /// The worker's connection ended without a Close frame.
    WorkerLost,
    /// The worker took no bytes for too long.
    Timeout,
}

impl Reason {
    pub(crate) const ALL: [Self; 12] = [
        Self::Normal,
        Self::GoingAway,
        Self::Policy,
        Self::TooBig,
        Self::ProtocolError,
        Self::Application,
        Self::Other,
        Self::Abnormal,
        Self::Drain,
        Self::SlowConsumer,
        Self::WorkerLost,
        Self::Timeout,
    ];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::GoingAway => "going_away",
            Self::Policy => "policy",
            Self::TooBig => "too_big",
            Self::ProtocolError => "protocol_error",
            Self::Application => "application",
            Self::Other => "other",
            Self::Abnormal => "abnormal",
            Self::Drain => "drain",
            Self::SlowConsumer => "slow_consumer",
            Self::WorkerLost => "worker_lost",
            Self::Timeout => "timeout",
        }
    }

    /// What a side meant that closed with this code.
    fn of(code: u16) -> Self {
        match code {
            1000 | NO_STATUS => Self::Normal,
            GOING_AWAY => Self::GoingAway,
            1002 | 1003 | 1007 => Self::ProtocolError,
            1008 => Self::Policy,
            1009 => Self::TooBig,
            3000..=4999 => Self::Application,
            _ => Self::Other,
        }
    }
}

/// Who ended a connection, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) initiator: Initiator,
    pub(crate) reason: Reason,
}

impl Outcome {
    pub(crate) fn new(initiator: Initiator, reason: Reason) -> Self {
        Self { initiator, reason }
    }

    /// `initiator` sent the first Close frame, with this code.
    pub(crate) fn closed(initiator: Initiator, code: u16) -> Self {
        Self::new(initiator, Reason::of(code))
    }
}

/// Tells a client that the gateway is leaving.
pub(crate) fn going_away() -> Bytes {
    close_frame(GOING_AWAY, "gateway is shutting down")
}

/// Tells a client that its worker is gone.
pub(crate) fn worker_lost() -> Bytes {
    close_frame(SERVICE_RESTART, "worker lost")
}

/// The Close frame that a client sends: masked (RFC 6455 §5.3).
pub(super) fn masked_close(code: u16) -> [u8; 8] {
    let mask: [u8; 4] = rand::random();
    let [high, low] = code.to_be_bytes();
    [
        0x88,
        0x82,
        mask[0],
        mask[1],
        mask[2],
        mask[3],
        high ^ mask[0],
        low ^ mask[1],
    ]
}
