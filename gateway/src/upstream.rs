//! The handshake with a worker: the gateway's side as a client.
//!
//! Whatever the worker sends right behind its answer is kept and relayed: a worker may well speak
//! first, in the same segment.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use flotilla_shared::auth::passport::PASSPORT_HEADER;
use flotilla_shared::http::RequestHead;
use flotilla_shared::tcp;
use flotilla_shared::websocket::{PATH, Upgrade, accept_key};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::fields;
use crate::identify::is_bearer;

/// Longest head of a worker's answer.
const ANSWER_HEAD_MAX_BYTES: usize = 8192;
/// Most headers of a worker's answer.
const ANSWER_HEADERS_MAX: usize = 64;
/// Most bytes of a worker's refusal that are passed on.
const REFUSAL_MAX_BYTES: usize = 64 * 1024;
const READ_BYTES: usize = 1024;

/// Client headers that every worker gets, besides the subprotocols.
const FORWARDED: [&str; 3] = ["Host", "Origin", "User-Agent"];

/// How long a worker may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UpstreamLimits {
    /// To accept the connection.
    pub(crate) connect_timeout: Duration,
    /// To answer the handshake.
    pub(crate) handshake_timeout: Duration,
}

/// A worker that has agreed to speak WebSocket.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) stream: TcpStream,
    /// What the worker sent behind its answer.
    pub(crate) early: Vec<u8>,
    /// The subprotocol that it selected.
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
    /// Its answer is not a valid 101.
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

/// A handshake that can be made with any worker.
#[derive(Debug)]
pub(crate) struct Handshake {
    bytes: Vec<u8>,
    accept: String,
    protocols: Vec<String>,
}

impl Handshake {
    /// Takes over of the client's request what is meant for the worker: the query (without the
    /// parameter that carries the token), the offered subprotocols (without the token), and the
    /// headers of `FORWARDED` and `forward_headers`. Everything else stays at the edge.
    pub(crate) fn new(
        head: &RequestHead,
        upgrade: &Upgrade,
        forward_headers: &[String],
        token_parameter: Option<&str>,
        passport: Option<&str>,
    ) -> Self {
        let key = random_key();
        let query = head
            .query
            .as_deref()
            .and_then(|query| match token_parameter {
                Some(name) => fields::without_parameter(query, name),
                None => Some(query.to_owned()),
            });
        let offered = upgrade
            .protocols
            .iter()
            .filter(|protocol| !is_bearer(protocol));
        let protocols: Vec<String> = offered.cloned().collect();
        let mut request = format!("GET {PATH}");
        if let Some(query) = query {
            request.push('?');
            request.push_str(&query);
        }
        request.push_str(" HTTP/1.1\r\n");
        let mut header = |name: &str, value: &str| {
            for part in [name, ": ", value, "\r\n"] {
                request.push_str(part);
            }
        };
        header("Connection", "Upgrade");
        header("Upgrade", "websocket");
        header("Sec-WebSocket-Version", "13");
        header("Sec-WebSocket-Key", &key);
        for name in FORWARDED
            .into_iter()
            .chain(forward_headers.iter().map(String::as_str))
        {
            head.all(name).for_each(|value| header(name, value));
        }
        if !protocols.is_empty() {
            header("Sec-WebSocket-Protocol", &protocols.join(", "));
        }
        if let Some(passport) = passport {
            header(PASSPORT_HEADER, passport);
        }
        request.push_str("\r\n");
        Self {
            bytes: request.into_bytes(),
            accept: accept_key(&key),
            protocols,
        }
    }

    /// Makes the handshake with the worker at `address`.
    pub(crate) async fn with(
        &self,
        address: SocketAddr,
        limits: UpstreamLimits,
    ) -> Result<Upstream, UpstreamError> {
        use FailureKind::{AnswerTimeout, ConnectTimeout, Unreachable};
        let connect = async {
            let stream = TcpStream::connect(address).await?;
            tcp::prepare(&stream)?;
            io::Result::Ok(stream)
        };
        let stream = match timeout(limits.connect_timeout, connect).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(_)) => return Err(UpstreamError::Failed(Unreachable)),
            Err(_) => return Err(UpstreamError::Failed(ConnectTimeout)),
        };
        match timeout(limits.handshake_timeout, self.exchange(stream)).await {
            Ok(result) => result,
            Err(_) => Err(UpstreamError::Failed(AnswerTimeout)),
        }
    }

    async fn exchange(&self, mut stream: TcpStream) -> Result<Upstream, UpstreamError> {
        let broken = |_| UpstreamError::Failed(FailureKind::Broken);
        stream.write_all(&self.bytes).await.map_err(broken)?;
        let mut buffer = Vec::with_capacity(READ_BYTES);
        let answer = loop {
            if stream.read_buf(&mut buffer).await.map_err(broken)? == 0 {
                return Err(UpstreamError::Failed(FailureKind::Broken));
            }
            if let Some(answer) = self.parse(&buffer).map_err(UpstreamError::Failed)? {
                break answer;
            }
        };
        match answer {
            Answer::Agreed { head, protocol } => {
                let early = buffer.split_off(head);
                Ok(Upstream {
                    stream,
                    early,
                    protocol,
                })
            }
            Answer::Refused { length } => {
                let whole = length.unwrap_or(REFUSAL_MAX_BYTES).min(REFUSAL_MAX_BYTES);
                let rest = whole.saturating_sub(buffer.len()) as u64;
                // What has arrived when the worker breaks off is passed on.
                let _ = stream.take(rest).read_to_end(&mut buffer).await;
                buffer.truncate(whole);
                Err(UpstreamError::Refused(buffer))
            }
        }
    }

    fn parse(&self, bytes: &[u8]) -> Result<Option<Answer>, FailureKind> {
        let mut headers = [httparse::EMPTY_HEADER; ANSWER_HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let head = match response.parse(bytes) {
            Ok(httparse::Status::Complete(head)) => head,
            Ok(httparse::Status::Partial) if bytes.len() < ANSWER_HEAD_MAX_BYTES => {
                return Ok(None);
            }
            _ => return Err(FailureKind::Invalid),
        };
        let value = |name: &str| {
            let found = response
                .headers
                .iter()
                .find(|h| h.name.eq_ignore_ascii_case(name));
            found.and_then(|header| std::str::from_utf8(header.value).ok())
        };
        match response.code {
            Some(101) => {
                let is_upgraded = value("Upgrade").is_some_and(|to| to.eq_ignore_ascii_case("websocket"))
                    && value("Sec-WebSocket-Accept") == Some(self.accept.as_str())
                    // Frames that are compressed, or changed in another way, were not asked for.
                    && value("Sec-WebSocket-Extensions").is_none();
                let protocol = value("Sec-WebSocket-Protocol").map(str::to_owned);
                let is_offered = protocol
                    .as_ref()
                    .is_none_or(|one| self.protocols.contains(one));
                if is_upgraded && is_offered {
                    Ok(Some(Answer::Agreed { head, protocol }))
                } else {
                    Err(FailureKind::Invalid)
                }
            }
            Some(400..=499) => {
                let length =
                    value("Content-Length").and_then(|length| length.parse::<usize>().ok());
                Ok(Some(Answer::Refused {
                    length: length.map(|body| head.saturating_add(body)),
                }))
            }
            _ => Err(FailureKind::Rejected),
        }
    }
}

/// A complete answer's head.
enum Answer {
    /// A valid 101, whose head is this long.
    Agreed {
        head: usize,
        protocol: Option<String>,
    },
    /// A 4xx, whose head and body together are this long, or go on to the end of the connection.
    Refused { length: Option<usize> },
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
