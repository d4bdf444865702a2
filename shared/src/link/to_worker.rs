//! What a gateway says to a worker.

use std::fmt;

use bytes::Bytes;

use crate::secret::REDACTED;

/// One message. Empty: a heartbeat.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ToWorker {
    /// What it says; `None`: a heartbeat, or something that a newer version says and this one passes over.
    #[prost(oneof = "ForWorker", tags = "1, 2, 3, 4, 5")]
    pub body: Option<ForWorker>,
}

/// What one message says.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum ForWorker {
    /// See [`Hello`].
    #[prost(message, tag = "1")]
    Hello(Hello),
    /// See [`Open`].
    #[prost(message, tag = "2")]
    Open(Open),
    /// See [`Message`].
    #[prost(message, tag = "3")]
    Message(Message),
    /// See [`Closed`].
    #[prost(message, tag = "4")]
    Closed(Closed),
    /// See [`Detach`].
    #[prost(message, tag = "5")]
    Detach(Detach),
}

/// The first message of a link.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Hello {
    /// The lowest version that the gateway speaks.
    #[prost(uint32, tag = "1")]
    pub version_min: u32,
    /// The highest one.
    #[prost(uint32, tag = "2")]
    pub version_max: u32,
    /// The gateway's id in the roster, for logs.
    #[prost(string, tag = "3")]
    pub gateway: String,
    /// Which of the worker's shards is to serve this link, modulo their number.
    #[prost(uint32, tag = "4")]
    pub shard: u32,
}

/// A client has come, or a session is attached again. Answered by `Opened` or `Refused`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Open {
    /// The session's number, chosen by the gateway: unique on the link until the session has ended there.
    #[prost(uint64, tag = "1")]
    pub session: u64,
    /// How often the session has been attached, this time included. The highest one is where it lives.
    #[prost(uint32, tag = "2")]
    pub generation: u32,
    /// The request's target as the client gave it, without what the gateway keeps to itself.
    #[prost(string, tag = "3")]
    pub path: String,
    /// The request's headers that workers get, the passport among them.
    #[prost(message, repeated, tag = "4")]
    pub headers: Vec<Header>,
    /// Subprotocols that the client offers.
    #[prost(string, repeated, tag = "5")]
    pub protocols: Vec<String>,
    /// What the session was, if it is attached again.
    #[prost(message, optional, tag = "6")]
    pub restore: Option<Restore>,
}

/// A header of the client's request. Its value may be a passport or a cookie, and does not show in logs.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Header {
    /// In lower case.
    #[prost(string, tag = "1")]
    pub name: String,
    /// As it came.
    #[prost(string, tag = "2")]
    pub value: String,
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Header")
            .field("name", &self.name)
            .field("value", &REDACTED)
            .finish()
    }
}

/// What a session was when its worker was left.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Restore {
    /// The last `State` of the session: opaque, and signed by a worker.
    #[prost(bytes = "bytes", tag = "1")]
    pub state: Bytes,
    /// How far the client has come in each topic that it is in and that has positions.
    #[prost(message, repeated, tag = "2")]
    pub positions: Vec<Position>,
    /// What the client has said and no worker has acknowledged, in its order.
    #[prost(message, repeated, tag = "3")]
    pub messages: Vec<Message>,
}

/// How far a client has come.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Position {
    /// The topic's name as the worker gave it.
    #[prost(bytes = "bytes", tag = "1")]
    pub topic: Bytes,
    /// Everything up to this offset has been queued for the client.
    #[prost(uint64, tag = "2")]
    pub offset: u64,
}

/// A whole message of a client, unmasked.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Message {
    /// The session. In a [`Restore`] it is 0: the session is that of the [`Open`].
    #[prost(uint64, tag = "1")]
    pub session: u64,
    /// The message's number, from 1 on, one more than that of the client's message before.
    #[prost(uint64, tag = "2")]
    pub number: u64,
    /// Its payload.
    #[prost(bytes = "bytes", tag = "3")]
    pub payload: Bytes,
}

/// The client is gone, and its session is over.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Closed {
    /// The session.
    #[prost(uint64, tag = "1")]
    pub session: u64,
    /// The code of the client's Close (RFC 6455 §7.4), or the one that the gateway closed with; 0: none.
    #[prost(uint32, tag = "2")]
    pub code: u32,
    /// Whether the gateway closed the client, because it did not take what was sent to it.
    #[prost(bool, tag = "3")]
    pub is_slow: bool,
}

/// The session is taken elsewhere. Answered by `Detached`, behind everything that the worker still has for it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Detach {
    /// The session.
    #[prost(uint64, tag = "1")]
    pub session: u64,
}

impl From<ForWorker> for ToWorker {
    fn from(body: ForWorker) -> Self {
        Self { body: Some(body) }
    }
}
