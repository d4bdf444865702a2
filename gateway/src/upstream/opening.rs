//! Opening a connection with a worker: a WebSocket, or an answer that goes on.
//!
//! Whatever the worker sends right behind its answer is kept and relayed: a worker may well speak
//! first, in the same segment.

use std::net::SocketAddr;

use flotilla_shared::websocket::{Upgrade, accept_key};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::answer::AnswerHead;
use super::{FailureKind, Forward, UpstreamLimits, connect};
use crate::identify::is_bearer;

/// Most bytes of a worker's refusal that are passed on.
const REFUSAL_MAX_BYTES: usize = 64 * 1024;

/// Client headers that belong to a stream: the type of its body, and of the answer. The last event's
/// id is what a browser repeats by itself when it resumes a stream.
const STREAM_HEADERS: [&str; 3] = ["Content-Type", "Accept", "Last-Event-ID"];

/// A worker that has agreed.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) stream: TcpStream,
    /// What the client has to get first: what came behind a 101, or a stream's answer from its head
    /// on.
    pub(crate) early: Vec<u8>,
    /// The subprotocol of a WebSocket that it selected.
    pub(crate) protocol: Option<String>,
}

/// Why a worker did not agree.
#[derive(Debug)]
pub(crate) enum UpstreamError {
    /// Another worker may do better.
    Failed(FailureKind),
    /// The client's fault (4xx): the worker's answer as it came.
    Refused(Vec<u8>),
}

/// A request for a connection that can be made to any worker.
#[derive(Debug)]
pub(crate) struct Opening {
    bytes: Vec<u8>,
    wanted: Wanted,
}

/// The answer that agrees.
#[derive(Debug)]
enum Wanted {
    /// A 101 that fits this handshake.
    Upgrade {
        accept: String,
        protocols: Vec<String>,
    },
    /// A 200, whose body is the stream.
    Stream,
}

impl Opening {
    /// Asks for a WebSocket. Of what the client offers, the worker gets the subprotocols without
    /// the token.
    pub(crate) fn websocket(forward: &Forward<'_>, upgrade: &Upgrade) -> Self {
        let key = random_key();
        let offered = upgrade
            .protocols
            .iter()
            .filter(|protocol| !is_bearer(protocol));
        let protocols: Vec<String> = offered.cloned().collect();
        let list = protocols.join(", ");
        let mut own = vec![
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", &key),
        ];
        if !list.is_empty() {
            own.push(("Sec-WebSocket-Protocol", &list));
        }
        Self {
            bytes: forward.request("GET", &own, &[]).into_bytes(),
            wanted: Wanted::Upgrade {
                accept: accept_key(&key),
                protocols,
            },
        }
    }

    /// Asks for a stream, with the body that the client has sent.
    pub(crate) fn stream(forward: &Forward<'_>, body: &[u8]) -> Self {
        Self {
            bytes: forward.request_with_body(&STREAM_HEADERS, body),
            wanted: Wanted::Stream,
        }
    }

    /// Opens it with the worker at `address`.
    pub(crate) async fn with(
        &self,
        address: SocketAddr,
        limits: UpstreamLimits,
    ) -> Result<Upstream, UpstreamError> {
        let stream = connect(address, limits)
            .await
            .map_err(UpstreamError::Failed)?;
        match timeout(limits.handshake_timeout, self.exchange(stream)).await {
            Ok(result) => result,
            Err(_) => Err(UpstreamError::Failed(FailureKind::AnswerTimeout)),
        }
    }

    async fn exchange(&self, mut stream: TcpStream) -> Result<Upstream, UpstreamError> {
        let broken = |_| UpstreamError::Failed(FailureKind::Broken);
        stream.write_all(&self.bytes).await.map_err(broken)?;
        let mut buffer = Vec::new();
        let head = AnswerHead::read(&mut stream, &mut buffer)
            .await
            .map_err(UpstreamError::Failed)?;
        match (&self.wanted, head.status) {
            (Wanted::Upgrade { accept, protocols }, 101) => {
                let protocol = upgraded(&head, accept, protocols).map_err(UpstreamError::Failed)?;
                Ok(Upstream {
                    stream,
                    early: buffer.split_off(head.length),
                    protocol,
                })
            }
            (Wanted::Stream, 200) => Ok(Upstream {
                stream,
                early: buffer,
                protocol: None,
            }),
            (_, 400..=499) => {
                let length = head.body_length();
                let whole = length.map_or(REFUSAL_MAX_BYTES, |body| {
                    head.length.saturating_add(body).min(REFUSAL_MAX_BYTES)
                });
                let rest = whole.saturating_sub(buffer.len()) as u64;
                // What has arrived when the worker breaks off is passed on.
                let _ = stream.take(rest).read_to_end(&mut buffer).await;
                buffer.truncate(whole);
                Err(UpstreamError::Refused(buffer))
            }
            _ => Err(UpstreamError::Failed(FailureKind::Rejected)),
        }
    }
}

/// The selected subprotocol of a valid 101.
fn upgraded(
    head: &AnswerHead,
    accept: &str,
    protocols: &[String],
) -> Result<Option<String>, FailureKind> {
    let to = head.header("Upgrade");
    let is_upgraded = to.is_some_and(|to| to.eq_ignore_ascii_case("websocket"))
        && head.header("Sec-WebSocket-Accept") == Some(accept)
        // Frames that are compressed, or changed in another way, were not asked for.
        && head.header("Sec-WebSocket-Extensions").is_none();
    let protocol = head.header("Sec-WebSocket-Protocol").map(str::to_owned);
    let is_offered = protocol.as_ref().is_none_or(|one| protocols.contains(one));
    if is_upgraded && is_offered {
        Ok(protocol)
    } else {
        Err(FailureKind::Invalid)
    }
}

/// 16 random bytes in base64 (RFC 6455 §4.1), which are 22 characters and padding. The last one
/// carries only four bits: `A` is as good as any.
fn random_key() -> String {
    use rand::distr::{Alphanumeric, SampleString};
    let mut key = Alphanumeric.sample_string(&mut rand::rng(), 21);
    key.push_str("A==");
    key
}

#[cfg(test)]
mod tests;
