//! How a client's connection ends, and the orderly way of saying so.
//!
//! Owns: the close code and reason of every ending, what the worker hears of it, and the last exchange on the stream.

use std::future::poll_fn;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use flotilla_shared::link;
use flotilla_shared::protocol::codes::DisconnectCode;
use flotilla_shared::websocket::close_frame;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::error::{CapacityError, Error, ProtocolError};

use super::outbox::{Fate, Outbox};
use crate::relay::{GOING_AWAY, Initiator, NO_STATUS, Outcome, Reason, going_away, worker_lost};

/// Why a connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The worker says so, with this code and reason; code 0: without a Close.
    ByWorker(u16, String),
    /// No worker takes the session any more.
    WorkerLost,
    /// The gateway leaves.
    GoingAway,
    /// More was queued for the client than its outbox may hold.
    Slow,
    /// The stream took nothing for too long.
    Stalled,
    /// The client did not answer, for which its worker has this code and reason.
    Silent(u16, String),
    /// A message beyond the limit (RFC 6455 §7.4.1: 1009).
    TooBig,
    /// Not the WebSocket's protocol (1002).
    Violation,
    /// A text frame that is not UTF-8 (1007).
    NotText,
    /// Bytes where only text is taken (1003).
    Binary,
    /// The client sent a Close, with this code.
    ByClient(Option<u16>),
    /// The stream ended without a Close.
    Gone,
}

impl Ending {
    /// What the library's error means, given what has become of the outbox.
    pub(super) fn of(error: &Error, outbox: Fate) -> Self {
        match error {
            Error::Capacity(CapacityError::MessageTooLong { .. }) => Self::TooBig,
            // The library's name for a stream that ended without a Close, which breaks no rule.
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Self::Gone,
            Error::Protocol(_) => Self::Violation,
            Error::Utf8(_) => Self::NotText,
            // The library's own frames find no room in an outbox that has overflowed.
            _ if outbox == Fate::Overflowed => Self::Slow,
            _ => Self::Gone,
        }
    }

    /// The Close that the client gets; `None` where it sent its own, cannot read one, or is to get none.
    fn goodbye(&self) -> Option<Bytes> {
        let by = |code: DisconnectCode| close_frame(code.code(), code.text());
        match self {
            Self::ByWorker(0, _) | Self::ByClient(_) | Self::Gone => None,
            Self::ByWorker(code, reason) | Self::Silent(code, reason) => {
                Some(close_frame(*code, reason))
            }
            Self::WorkerLost => Some(worker_lost()),
            Self::GoingAway => Some(going_away()),
            Self::Slow => Some(by(DisconnectCode::Slow)),
            Self::Stalled => Some(by(DisconnectCode::WriteError)),
            Self::TooBig => Some(close_frame(1009, "message too big")),
            Self::Violation => Some(close_frame(1002, "protocol error")),
            Self::NotText => Some(close_frame(1007, "invalid text")),
            Self::Binary => Some(close_frame(1003, "text expected")),
        }
    }

    /// What the worker hears.
    pub(super) fn told(&self, session: u64) -> link::Closed {
        let code = match self {
            Self::ByWorker(code, _) | Self::Silent(code, _) => *code,
            Self::WorkerLost | Self::Gone => 0,
            Self::GoingAway => GOING_AWAY,
            Self::Slow => DisconnectCode::Slow.code(),
            Self::Stalled => DisconnectCode::WriteError.code(),
            Self::TooBig => 1009,
            Self::Violation => 1002,
            Self::NotText => 1007,
            Self::Binary => 1003,
            Self::ByClient(code) => code.unwrap_or(NO_STATUS),
        };
        link::Closed {
            session,
            code: u32::from(code),
            is_slow: matches!(self, Self::Slow | Self::Stalled),
        }
    }

    /// What it is counted as.
    pub(super) fn outcome(&self) -> Outcome {
        let gateway = |reason| Outcome::new(Initiator::Gateway, reason);
        match self {
            Self::ByWorker(0, _) => Outcome::new(Initiator::Worker, Reason::Abnormal),
            Self::ByWorker(code, _) => Outcome::closed(Initiator::Worker, *code),
            Self::WorkerLost => Outcome::new(Initiator::Worker, Reason::WorkerLost),
            Self::GoingAway => gateway(Reason::Drain),
            Self::Slow | Self::Stalled => gateway(Reason::SlowConsumer),
            Self::Silent(code, _) => Outcome::closed(Initiator::Gateway, *code),
            Self::TooBig => gateway(Reason::TooBig),
            Self::Violation | Self::NotText | Self::Binary => gateway(Reason::ProtocolError),
            Self::ByClient(code) => Outcome::closed(Initiator::Client, code.unwrap_or(NO_STATUS)),
            Self::Gone => Outcome::new(Initiator::Client, Reason::Abnormal),
        }
    }
}

/// Says goodbye behind everything that waits, lets the client read it, and waits for the client's end; all within `limit`.
pub(super) async fn say<S>(outbox: &Outbox<S>, ending: &Ending, limit: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if *ending == Ending::Gone {
        return;
    }
    if let Some(goodbye) = ending.goodbye() {
        outbox.close_with(goodbye, matches!(ending, Ending::Slow | Ending::Stalled));
    }
    see_off(outbox, limit).await;
}

/// Writes what waits, ends our side and waits for the other one to end, all within `limit`.
///
/// What the client still sends is read and thrown away: a socket that is closed with unread input is reset, and the reset
/// would overtake what was written last.
pub(super) async fn see_off<S>(outbox: &Outbox<S>, limit: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut is_shut = false;
    let exchange = poll_fn(|cx| {
        // Also before everything is written: a client that waits for room to write does not read.
        let mut is_over = false;
        let mut discarded = [0; 512];
        loop {
            let mut buffer = ReadBuf::new(&mut discarded);
            match outbox.poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(_) => {
                    is_over = true;
                    break;
                }
                Poll::Pending => break,
            }
        }
        if !is_shut {
            // What cannot be written any more needs no waiting.
            if ready!(outbox.poll_shutdown(cx)).is_err() {
                return Poll::Ready(());
            }
            is_shut = true;
        }
        if is_over {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    });
    // Past the limit there is nobody left to be told.
    let _ = tokio::time::timeout(limit, exchange).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the client is told, what the worker is told, and what it is counted as.
    fn cases() -> Vec<(Ending, Option<u16>, u32, Initiator, Reason)> {
        use Initiator::{Client, Gateway, Worker};
        let by_worker = |code| Ending::ByWorker(code, "x".to_owned());
        let silent = Ending::Silent(3012, "x".to_owned());
        vec![
            (
                by_worker(3501),
                Some(3501),
                3501,
                Worker,
                Reason::Application,
            ),
            (by_worker(0), None, 0, Worker, Reason::Abnormal),
            (
                Ending::WorkerLost,
                Some(1012),
                0,
                Worker,
                Reason::WorkerLost,
            ),
            (Ending::GoingAway, Some(1001), 1001, Gateway, Reason::Drain),
            (
                Ending::Slow,
                Some(3008),
                3008,
                Gateway,
                Reason::SlowConsumer,
            ),
            (
                Ending::Stalled,
                Some(3009),
                3009,
                Gateway,
                Reason::SlowConsumer,
            ),
            (silent, Some(3012), 3012, Gateway, Reason::Application),
            (Ending::TooBig, Some(1009), 1009, Gateway, Reason::TooBig),
            (
                Ending::Violation,
                Some(1002),
                1002,
                Gateway,
                Reason::ProtocolError,
            ),
            (
                Ending::NotText,
                Some(1007),
                1007,
                Gateway,
                Reason::ProtocolError,
            ),
            (
                Ending::Binary,
                Some(1003),
                1003,
                Gateway,
                Reason::ProtocolError,
            ),
            (
                Ending::ByClient(Some(1000)),
                None,
                1000,
                Client,
                Reason::Normal,
            ),
            (Ending::ByClient(None), None, 1005, Client, Reason::Normal),
            (Ending::Gone, None, 0, Client, Reason::Abnormal),
        ]
    }

    #[test]
    fn every_ending_is_told_to_all_who_have_to_know() {
        for (ending, to_client, to_worker, initiator, reason) in cases() {
            let goodbye = ending.goodbye();
            let code = goodbye.map(|frame| u16::from_be_bytes([frame[2], frame[3]]));
            assert_eq!(code, to_client, "{ending:?}");
            assert_eq!(ending.told(1).code, to_worker, "{ending:?}");
            assert_eq!(
                ending.outcome(),
                Outcome::new(initiator, reason),
                "{ending:?}"
            );
        }
    }
}
