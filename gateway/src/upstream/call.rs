//! A short request to a worker, and its answer.
//!
//! A connection of its own for each: within a fleet that costs a fraction of a millisecond, and
//! spares the question of what to do with a request on a connection that turned out to be dead.

use std::net::SocketAddr;

use flotilla_shared::http::Header;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::answer::AnswerHead;
use super::{FailureKind, Forward, UpstreamLimits, connect};

/// Client headers that belong to a short request: the types of body and answer, and where the server
/// API looks for a key.
const EMULATION_HEADERS: [&str; 2] = ["Content-Type", "Accept"];
const API_HEADERS: [&str; 4] = ["Content-Type", "Accept", "Authorization", "X-API-Key"];

/// Headers of the answer that the client gets.
const PASSED_ON: [&str; 3] = ["Content-Type", "Retry-After", "Allow"];

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum CallError {
    /// Nothing was sent: another worker may be asked.
    NotSent(FailureKind),
    /// The worker may or may not have done what was asked, so nobody else may be asked.
    Lost(FailureKind),
}

/// A request that can be made to any worker.
#[derive(Debug)]
pub(crate) struct Call {
    bytes: Vec<u8>,
}

/// A worker's answer, up to its body.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<Header>,
    /// How long the body is.
    pub(crate) length: usize,
    /// The beginning of the body.
    pub(crate) early: Vec<u8>,
    /// Where the rest of the body comes from.
    pub(crate) stream: TcpStream,
}

impl Call {
    /// Commands of a client whose replies go another way.
    pub(crate) fn emulation(forward: &Forward<'_>, body: &[u8]) -> Self {
        let bytes = forward.request_with_body(&EMULATION_HEADERS, body);
        Self { bytes }
    }

    /// A call of the server API.
    pub(crate) fn api(forward: &Forward<'_>, body: &[u8]) -> Self {
        let bytes = forward.request_with_body(&API_HEADERS, body);
        Self { bytes }
    }

    /// Asks the worker at `address`.
    pub(crate) async fn with(
        &self,
        address: SocketAddr,
        limits: UpstreamLimits,
    ) -> Result<Reply, CallError> {
        let stream = connect(address, limits).await.map_err(CallError::NotSent)?;
        match timeout(limits.request_timeout, self.exchange(stream)).await {
            Ok(result) => result.map_err(CallError::Lost),
            Err(_) => Err(CallError::Lost(FailureKind::AnswerTimeout)),
        }
    }

    async fn exchange(&self, mut stream: TcpStream) -> Result<Reply, FailureKind> {
        let sent = stream.write_all(&self.bytes).await;
        sent.map_err(|_| FailureKind::Broken)?;
        let mut buffer = Vec::new();
        let head = AnswerHead::read(&mut stream, &mut buffer).await?;
        let length = match (head.status, head.body_length()) {
            (204, None) => 0,
            // The client is told how long the answer is, so the worker has to say it.
            (200..=599, Some(length)) if head.header("Transfer-Encoding").is_none() => length,
            _ => return Err(FailureKind::Invalid),
        };
        let mut early = buffer.split_off(head.length);
        early.truncate(length);
        let passed_on = PASSED_ON.into_iter().filter_map(|name| {
            let value = head.header(name)?;
            Some((name, value.to_owned()))
        });
        Ok(Reply {
            status: head.status,
            headers: passed_on.collect(),
            length,
            early,
            stream,
        })
    }
}
