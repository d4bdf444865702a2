//! How a connection ends, and the orderly way of saying so.
//!
//! Owns: the close code and reason of every ending, and the last exchange on the socket. Knows nothing of sessions.

use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use flotilla_shared::protocol::codes::DisconnectCode;
use socket2::SockRef;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error, ProtocolError};

use crate::outbox::{Fate, Outbox};

/// How long a client may take to read its Close and to end its side.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest reason of a Close frame, in bytes (RFC 6455 §5.5: 125 with the code).
const REASON_MAX_BYTES: usize = 123;

/// A disconnect in the application's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Goodbye {
    code: u16,
    reason: String,
}

impl Goodbye {
    /// A reason that clients would misread (an empty one, or one that is JSON) or that does not fit is mended.
    pub(crate) fn new(code: u16, reason: &str) -> Self {
        let mut end = reason.len().min(REASON_MAX_BYTES);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let reason = reason.get(..end).unwrap_or_default();
        let is_misread = reason.is_empty() || flotilla_shared::protocol::is_json(reason.as_bytes());
        Self {
            code,
            reason: if is_misread { "disconnect" } else { reason }.to_owned(),
        }
    }
}

impl From<DisconnectCode> for Goodbye {
    fn from(code: DisconnectCode) -> Self {
        Self {
            code: code.code(),
            reason: code.text().to_owned(),
        }
    }
}

/// Why a connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The session, or the drain, decided so.
    Disconnect(DisconnectCode),
    /// The application decided so.
    Dismissed(Rc<Goodbye>),
    /// More was queued for the client than its outbox may hold.
    Slow,
    /// The socket took nothing for too long.
    Stalled,
    /// A message beyond the limit (RFC 6455 §7.4.1: 1009).
    TooBig,
    /// Not the transport's protocol (1002).
    Violation,
    /// A text frame that is not UTF-8 (1007).
    NotText,
    /// The client sent a Close, with this code.
    ByClient(Option<u16>),
    /// The socket ended without a Close.
    Gone,
    /// The session goes on at another worker. Neither the client nor anybody in its channels is told.
    Moved,
}

impl Ending {
    /// What the library's error means, given what has become of the outbox.
    pub(crate) fn of(error: &Error, outbox: Fate) -> Self {
        match error {
            Error::Capacity(CapacityError::MessageTooLong { .. }) => Self::TooBig,
            // The library's name for a socket that ended without a Close, which breaks no rule.
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Self::Gone,
            Error::Protocol(_) => Self::Violation,
            Error::Utf8(_) => Self::NotText,
            // The library's own frames find no room in an outbox that has overflowed.
            _ if outbox == Fate::Overflowed => Self::Slow,
            _ => Self::Gone,
        }
    }

    /// Code and reason that the client is told; `None` where it said its own, cannot read one, or stays connected. A
    /// reason is never empty: a client may take a code without one for something else.
    pub(crate) fn close(&self) -> Option<(u16, &str)> {
        match self {
            Self::Dismissed(goodbye) => Some((goodbye.code, &goodbye.reason)),
            Self::Disconnect(code) => Some((code.code(), code.text())),
            Self::Slow => Some((DisconnectCode::Slow.code(), DisconnectCode::Slow.text())),
            Self::Stalled => Some((
                DisconnectCode::WriteError.code(),
                DisconnectCode::WriteError.text(),
            )),
            Self::TooBig => Some((1009, "message too big")),
            Self::Violation => Some((1002, "protocol error")),
            Self::NotText => Some((1007, "invalid text")),
            Self::ByClient(_) | Self::Gone | Self::Moved => None,
        }
    }
}

/// Says why, as `goodbye` puts it, lets the client read it, and waits for the client's end, all within [`CLOSE_TIMEOUT`].
///
/// What the client still sends is read and thrown away: a socket that is closed with unread input is reset, and the
/// reset would overtake the Close.
pub(crate) async fn close(
    outbox: &Outbox,
    ending: &Ending,
    goodbye: impl FnOnce(u16, &str) -> Bytes,
) {
    if let Some(seat) = outbox.seat() {
        return seat.end(ending);
    }
    let has_gone = matches!(ending, Ending::Gone | Ending::Moved);
    let Some(socket) = outbox.socket().filter(|_| !has_gone) else {
        return;
    };
    if let Some((code, reason)) = ending.close() {
        outbox.close_with(
            goodbye(code, reason),
            matches!(ending, Ending::Slow | Ending::Stalled),
        );
    }
    let exchange = async {
        while outbox.fate() != Fate::Broken && !matches!(outbox.flush(), Ok(true)) {
            if socket.writable().await.is_err() {
                return;
            }
        }
        let _ = SockRef::from(socket).shutdown(Shutdown::Write);
        let mut discarded = [0_u8; 512];
        while socket.readable().await.is_ok() {
            match socket.try_read(&mut discarded) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    };
    // Past the limit there is nobody left to be told.
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, exchange).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_that_clients_read_as_a_reason() {
        let reason = |text: &str| Goodbye::new(4000, text).reason;
        assert_eq!(reason("too many tabs"), "too many tabs");
        for misread in ["", "1", "true", r#"{"reconnect":true}"#] {
            assert_eq!(reason(misread), "disconnect", "{misread}");
        }
        assert_eq!(reason(&"é".repeat(100)), "é".repeat(61));
    }
}
