//! The gateway's side towards workers, as their client: connections that are opened
//! ([`Opening`]), and short requests ([`Call`]).

mod answer;
mod call;
mod forward;
mod opening;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use flotilla_shared::tcp;
use tokio::net::TcpStream;
use tokio::time::timeout;

pub(crate) use answer::AnswerHead;
pub(crate) use call::{Call, CallError, Reply};
pub(crate) use forward::Forward;
pub(crate) use opening::{Opening, Upstream, UpstreamError};

/// How long a worker may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UpstreamLimits {
    /// To accept the connection.
    pub(crate) connect_timeout: Duration,
    /// To answer the handshake.
    pub(crate) handshake_timeout: Duration,
    /// To answer a short request.
    pub(crate) request_timeout: Duration,
}

/// How a worker failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// No connection: refused, or no route.
    Unreachable,
    /// No connection in time.
    ConnectTimeout,
    /// No answer in time.
    AnswerTimeout,
    /// The connection ended before the answer.
    Broken,
    /// It said no: 5xx, or a status that makes no sense here.
    Rejected,
    /// Its answer is not valid.
    Invalid,
}

impl FailureKind {
    pub(crate) const ALL: [Self; 6] = [
        Self::Unreachable,
        Self::ConnectTimeout,
        Self::AnswerTimeout,
        Self::Broken,
        Self::Rejected,
        Self::Invalid,
    ];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::ConnectTimeout => "connect_timeout",
            Self::AnswerTimeout => "answer_timeout",
            Self::Broken => "broken",
            Self::Rejected => "rejected",
            Self::Invalid => "invalid",
        }
    }

    /// Whether the worker itself is in trouble, so that it is better left alone for a while. Not
    /// when it answered: then it may be this client's request that it cannot take.
    pub(crate) fn is_ejecting(self) -> bool {
        matches!(
            self,
            Self::Unreachable | Self::ConnectTimeout | Self::AnswerTimeout
        )
    }
}

/// A connection to the worker at `address`.
pub(crate) async fn connect(
    address: SocketAddr,
    limits: UpstreamLimits,
) -> Result<TcpStream, FailureKind> {
    let connect = async {
        let stream = TcpStream::connect(address).await?;
        tcp::prepare(&stream)?;
        io::Result::Ok(stream)
    };
    match timeout(limits.connect_timeout, connect).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(_)) => Err(FailureKind::Unreachable),
        Err(_) => Err(FailureKind::ConnectTimeout),
    }
}
