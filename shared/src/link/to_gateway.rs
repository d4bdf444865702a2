//! What a worker says to a gateway.

use bytes::Bytes;

/// One message. Empty: a heartbeat.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ToGateway {
    /// What it says; `None`: a heartbeat, or something that a newer version says and this one passes over.
    #[prost(
        oneof = "ForGateway",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15"
    )]
    pub body: Option<ForGateway>,
}

/// What one message says.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum ForGateway {
    /// See [`Welcome`].
    #[prost(message, tag = "1")]
    Welcome(Welcome),
    /// See [`Opened`].
    #[prost(message, tag = "2")]
    Opened(Opened),
    /// See [`Refused`].
    #[prost(message, tag = "3")]
    Refused(Refused),
    /// See [`Send`].
    #[prost(message, tag = "4")]
    Send(Send),
    /// See [`Ack`].
    #[prost(message, tag = "5")]
    Ack(Ack),
    /// See [`Topic`].
    #[prost(message, tag = "6")]
    Topic(Topic),
    /// See [`Join`].
    #[prost(message, tag = "7")]
    Join(Join),
    /// See [`Leave`].
    #[prost(message, tag = "8")]
    Leave(Leave),
    /// See [`Cast`].
    #[prost(message, tag = "9")]
    Cast(Cast),
    /// See [`State`].
    #[prost(message, tag = "10")]
    State(State),
    /// See [`KeepAlive`].
    #[prost(message, tag = "11")]
    KeepAlive(KeepAlive),
    /// See [`Close`].
    #[prost(message, tag = "12")]
    Close(Close),
    /// See [`Release`].
    #[prost(message, tag = "13")]
    Release(Release),
    /// See [`Detached`].
    #[prost(message, tag = "14")]
    Detached(Detached),
    /// See [`Condition`].
    #[prost(message, tag = "15")]
    Condition(Condition),
}

/// The first message of a worker on a link.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Welcome {
    /// The version that is spoken from now on; 0: there is none that both speak, and the link ends.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// The worker's id in the roster.
    #[prost(string, tag = "2")]
    pub worker: String,
    /// Which of that name it is.
    #[prost(fixed64, tag = "3")]
    pub life: u64,
    /// The shard that serves this link.
    #[prost(uint32, tag = "4")]
    pub shard: u32,
    /// How many shards the worker has.
    #[prost(uint32, tag = "5")]
    pub shards: u32,
    /// Longest message of a client, in bytes.
    #[prost(uint64, tag = "6")]
    pub message_max_bytes: u64,
    /// Most bytes that may wait for a client.
    #[prost(uint64, tag = "7")]
    pub outbox_max_bytes: u64,
    /// How long a client may take nothing although something waits for it, in milliseconds.
    #[prost(uint64, tag = "8")]
    pub write_timeout_ms: u64,
}

/// The session is here. What the client has said before is being handled, if there was something.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Opened {
    /// The session.
    #[prost(uint64, tag = "1")]
    pub session: u64,
    /// The subprotocol, if one was chosen.
    #[prost(string, optional, tag = "2")]
    pub protocol: Option<String>,
    /// Whether the client's messages have to be text; otherwise they may be either.
    #[prost(bool, tag = "3")]
    pub is_text: bool,
}

/// The session is not here.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Refused {
    /// The session.
    #[prost(uint64, tag = "1")]
    pub session: u64,
    /// The HTTP status that says why.
    #[prost(uint32, tag = "2")]
    pub status: u32,
    /// Whether another worker may take it.
    #[prost(bool, tag = "3")]
    pub elsewhere: bool,
    /// What a client is told that is being refused, as a whole HTTP answer.
    #[prost(bytes = "bytes", tag = "4")]
    pub answer: Bytes,
}

/// Whole WebSocket frames for one client.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Send {
    /// The session.
    #[prost(uint64, tag = "1")]
    pub session: u64,
    /// Ready to be written.
    #[prost(bytes = "bytes", tag = "2")]
    pub frames: Bytes,
    /// With these frames the client has come this far in a topic.
    #[prost(message, optional, tag = "3")]
    pub placed: Option<Placed>,
    /// The client has asked for this, however much it is.
    #[prost(bool, tag = "4")]
    pub is_answer: bool,
}

/// How far a session has come in a topic.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Placed {
    /// The topic's number.
    #[prost(uint32, tag = "1")]
    pub topic: u32,
    /// Everything up to this offset has been sent.
    #[prost(uint64, tag = "2")]
    pub offset: u64,
}

/// This message of the client has been handled and answered: it need not be said again. What it changed was in a
/// [`State`] before.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Ack {
    /// The session.
    #[prost(uint64, tag = "1")]
    pub session: u64,
    /// The message's number.
    #[prost(uint64, tag = "2")]
    pub number: u64,
}

/// A topic has this name from now on. A number is given once on a link.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Topic {
    /// The topic's number.
    #[prost(uint32, tag = "1")]
    pub topic: u32,
    /// What a position in it is told by to another worker.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: Bytes,
}

/// The session is in the topic from now on.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Join {
    /// The session.
    #[prost(uint64, tag = "1")]
    pub session: u64,
    /// The topic's number.
    #[prost(uint32, tag = "2")]
    pub topic: u32,
    /// How far it has come; `None`: the topic has no positions.
    #[prost(uint64, optional, tag = "3")]
    pub offset: Option<u64>,
    /// Whether it gets casts. If not, it has a position there, and what it gets comes to it alone.
    #[prost(bool, tag = "4")]
    pub takes_casts: bool,
}

/// The session is in the topic no longer.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Leave {
    /// The session.
    #[prost(uint64, tag = "1")]
    pub session: u64,
    /// The topic's number.
    #[prost(uint32, tag = "2")]
    pub topic: u32,
}

/// Whole WebSocket frames for everyone in a topic.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Cast {
    /// The topic's number.
    #[prost(uint32, tag = "1")]
    pub topic: u32,
    /// How far it brings whoever gets it; `None`: as far as they were.
    #[prost(uint64, optional, tag = "2")]
    pub offset: Option<u64>,
    /// Ready to be written.
    #[prost(bytes = "bytes", tag = "3")]
    pub frames: Bytes,
}

/// What another worker needs to go on with the session.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct State {
    /// The session.
    #[prost(uint64, tag = "1")]
    pub session: u64,
    /// Signed, and nobody's business but the workers'.
    #[prost(bytes = "bytes", tag = "2")]
    pub state: Bytes,
}

/// The gateway looks after the client's liveness from now on.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct KeepAlive {
    /// The session.
    #[prost(uint64, tag = "1")]
    pub session: u64,
    /// How often the client is pinged, in milliseconds. 0: never.
    #[prost(uint64, tag = "2")]
    pub interval_ms: u64,
    /// How long it may take to answer, in milliseconds. 0: it need not.
    #[prost(uint64, tag = "3")]
    pub timeout_ms: u64,
    /// A ready frame that asks.
    #[prost(bytes = "bytes", tag = "4")]
    pub ping: Bytes,
    /// The message that answers; empty: a Pong of the WebSocket.
    #[prost(bytes = "bytes", tag = "5")]
    pub pong: Bytes,
    /// The close code for a client that does not answer.
    #[prost(uint32, tag = "6")]
    pub code: u32,
    /// The reason that goes with it.
    #[prost(string, tag = "7")]
    pub reason: String,
}

/// The session is over; the client is to be told so behind everything that waits for it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Close {
    /// The session.
    #[prost(uint64, tag = "1")]
    pub session: u64,
    /// The close code; 0: the connection ends without a Close.
    #[prost(uint32, tag = "2")]
    pub code: u32,
    /// The reason.
    #[prost(string, tag = "3")]
    pub reason: String,
}

/// These sessions are to be taken elsewhere.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Release {
    /// The sessions.
    #[prost(uint64, repeated, tag = "1")]
    pub sessions: Vec<u64>,
}

/// Nothing more comes from here for this session.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Detached {
    /// The session.
    #[prost(uint64, tag = "1")]
    pub session: u64,
}

/// Whether the shard behind this link can do anything for its sessions. Said when that changes, and right behind the
/// [`Welcome`] of a link that begins while it cannot.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Condition {
    /// Its broker is away: what its clients publish is refused, and nothing reaches them. It may be that this is so
    /// of every worker, and nobody could do better.
    #[prost(bool, tag = "1")]
    pub is_cut_off: bool,
}

impl From<ForGateway> for ToGateway {
    fn from(body: ForGateway) -> Self {
        Self { body: Some(body) }
    }
}
