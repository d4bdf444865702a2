//! Why a connection could not be made, or ended.
//!
//! What a failure prints is its kind, under which failures are counted: no addresses, no texts that
//! differ from case to case.

use std::io;

use tokio_tungstenite::tungstenite::{self, protocol::CloseFrame};

/// What a client was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Opening the TCP connection.
    Tcp,
    /// Upgrading it to a WebSocket.
    Upgrade,
    /// Waiting for the answer to `connect`.
    Connect,
    /// Waiting for the answer to `subscribe`.
    Subscribe,
}

impl Step {
    /// The step's name.
    pub fn label(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Upgrade => "upgrade",
            Self::Connect => "connect",
            Self::Subscribe => "subscribe",
        }
    }
}

/// See the module's documentation.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// TCP refused, or the connection broke.
    #[error("{}", .0.kind())]
    Io(#[source] io::Error),
    /// A step took too long.
    #[error("{} timed out", .0.label())]
    Timeout(Step),
    /// The upgrade was answered with this HTTP status.
    #[error("http {0}")]
    Upgrade(u16),
    /// The server closed with this code.
    #[error("closed {0}")]
    Closed(u16),
    /// The connection ended without a Close frame.
    #[error("closed without a code")]
    Cut,
    /// A command was answered with this error.
    #[error("{} refused with {code}", .step.label())]
    Refused {
        /// Which command it was.
        step: Step,
        /// The error's code.
        code: u32,
    },
    /// The server does not keep to WebSocket or to the protocol above it.
    #[error("protocol violation")]
    Protocol,
    /// The server has not read for so long that no more commands are kept for it.
    #[error("server stopped reading")]
    Stuck,
    /// Something went wrong on this side.
    #[error("load generator: {0}")]
    Local(&'static str),
}

impl From<tungstenite::Error> for Failure {
    fn from(error: tungstenite::Error) -> Self {
        use tungstenite::Error;
        match error {
            Error::Io(error) => Self::Io(error),
            Error::Http(response) => Self::Upgrade(response.status().as_u16()),
            Error::ConnectionClosed | Error::AlreadyClosed => Self::Cut,
            // A server that goes away in the middle of something sends no Close frame either.
            Error::Protocol(
                tungstenite::error::ProtocolError::ResetWithoutClosingHandshake
                | tungstenite::error::ProtocolError::HandshakeIncomplete,
            ) => Self::Cut,
            _ => Self::Protocol,
        }
    }
}

impl From<Option<CloseFrame>> for Failure {
    fn from(frame: Option<CloseFrame>) -> Self {
        frame.map_or(Self::Cut, |frame| Self::Closed(frame.code.into()))
    }
}
