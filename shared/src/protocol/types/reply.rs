//! What the server sends: a reply, and the results it may carry.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{ClientInfo, Publication, Push, is_default, payload};
use crate::protocol::codes::ErrorCode;

/// One message of the server: the answer to a command (with its id), a push, or, if all is
/// empty, a ping.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct Reply {
    /// The command answered; 0 for pushes and pings.
    #[prost(uint32, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub id: u32,
    /// Why the command was refused.
    #[prost(message, optional, tag = "2")]
    #[serde(skip_serializing_if = "is_default")]
    pub error: Option<Error>,
    /// See [`Push`].
    #[prost(message, optional, tag = "4")]
    #[serde(skip_serializing_if = "is_default")]
    pub push: Option<Push>,
    /// See [`ConnectResult`].
    #[prost(message, optional, tag = "5")]
    #[serde(skip_serializing_if = "is_default")]
    pub connect: Option<ConnectResult>,
    /// See [`SubscribeResult`].
    #[prost(message, optional, tag = "6")]
    #[serde(skip_serializing_if = "is_default")]
    pub subscribe: Option<SubscribeResult>,
    /// See [`UnsubscribeResult`].
    #[prost(message, optional, tag = "7")]
    #[serde(skip_serializing_if = "is_default")]
    pub unsubscribe: Option<UnsubscribeResult>,
    /// See [`PublishResult`].
    #[prost(message, optional, tag = "8")]
    #[serde(skip_serializing_if = "is_default")]
    pub publish: Option<PublishResult>,
    /// See [`PresenceResult`].
    #[prost(message, optional, tag = "9")]
    #[serde(skip_serializing_if = "is_default")]
    pub presence: Option<PresenceResult>,
    /// See [`PresenceStatsResult`].
    #[prost(message, optional, tag = "10")]
    #[serde(skip_serializing_if = "is_default")]
    pub presence_stats: Option<PresenceStatsResult>,
    /// See [`HistoryResult`].
    #[prost(message, optional, tag = "11")]
    #[serde(skip_serializing_if = "is_default")]
    pub history: Option<HistoryResult>,
    /// See [`PingResult`].
    #[prost(message, optional, tag = "12")]
    #[serde(skip_serializing_if = "is_default")]
    pub ping: Option<PingResult>,
    /// See [`RpcResult`].
    #[prost(message, optional, tag = "13")]
    #[serde(skip_serializing_if = "is_default")]
    pub rpc: Option<RpcResult>,
    /// See [`RefreshResult`].
    #[prost(message, optional, tag = "14")]
    #[serde(skip_serializing_if = "is_default")]
    pub refresh: Option<RefreshResult>,
    /// See [`SubRefreshResult`].
    #[prost(message, optional, tag = "15")]
    #[serde(skip_serializing_if = "is_default")]
    pub sub_refresh: Option<SubRefreshResult>,
}

impl Reply {
    /// A message that no command asked for.
    pub fn push(push: Push) -> Self {
        Self {
            push: Some(push),
            ..Self::default()
        }
    }

    /// Refuses the command `id`.
    pub fn error(id: u32, error: impl Into<Error>) -> Self {
        Self {
            id,
            error: Some(error.into()),
            ..Self::default()
        }
    }

    /// Answers a connect command.
    pub fn connect(id: u32, result: ConnectResult) -> Self {
        Self {
            id,
            connect: Some(result),
            ..Self::default()
        }
    }

    /// Answers a subscribe command.
    pub fn subscribe(id: u32, result: SubscribeResult) -> Self {
        Self {
            id,
            subscribe: Some(result),
            ..Self::default()
        }
    }

    /// Answers an unsubscribe command. SDKs need the result although it is empty.
    pub fn unsubscribe(id: u32) -> Self {
        Self {
            id,
            unsubscribe: Some(UnsubscribeResult {}),
            ..Self::default()
        }
    }

    /// Answers a publish command. SDKs need the result although it is empty.
    pub fn publish(id: u32) -> Self {
        Self {
            id,
            publish: Some(PublishResult {}),
            ..Self::default()
        }
    }

    /// Answers a presence command.
    pub fn presence(id: u32, result: PresenceResult) -> Self {
        Self {
            id,
            presence: Some(result),
            ..Self::default()
        }
    }

    /// Answers a presence_stats command.
    pub fn presence_stats(id: u32, result: PresenceStatsResult) -> Self {
        Self {
            id,
            presence_stats: Some(result),
            ..Self::default()
        }
    }

    /// Answers a history command.
    pub fn history(id: u32, result: HistoryResult) -> Self {
        Self {
            id,
            history: Some(result),
            ..Self::default()
        }
    }

    /// Answers an rpc command.
    pub fn rpc(id: u32, result: RpcResult) -> Self {
        Self {
            id,
            rpc: Some(result),
            ..Self::default()
        }
    }

    /// Answers a refresh command.
    pub fn refresh(id: u32, result: RefreshResult) -> Self {
        Self {
            id,
            refresh: Some(result),
            ..Self::default()
        }
    }

    /// Answers a sub_refresh command.
    pub fn sub_refresh(id: u32, result: SubRefreshResult) -> Self {
        Self {
            id,
            sub_refresh: Some(result),
            ..Self::default()
        }
    }

    /// Whether it is a ping, which the client answers with a pong.
    pub fn is_ping(&self) -> bool {
        *self == Self::default()
    }
}

/// Why a command was refused.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct Error {
    /// An [`ErrorCode`], or the application's own from 400.
    #[prost(uint32, tag = "1")]
    pub code: u32,
    /// For people.
    #[prost(string, tag = "2")]
    pub message: String,
    /// Whether the same command may succeed later.
    #[prost(bool, tag = "3")]
    #[serde(skip_serializing_if = "is_default")]
    pub temporary: bool,
}

impl From<ErrorCode> for Error {
    fn from(code: ErrorCode) -> Self {
        Self {
            code: code.code(),
            message: code.text().to_owned(),
            temporary: code.temporary(),
        }
    }
}

/// The session is open.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct ConnectResult {
    /// The connection's unique id.
    #[prost(string, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub client: String,
    /// The server's version; free text.
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "is_default")]
    pub version: String,
    /// Whether the *client* must refresh its token within `ttl`.
    #[prost(bool, tag = "3")]
    #[serde(skip_serializing_if = "is_default")]
    pub expires: bool,
    /// Seconds; at least 1 if `expires`, because SDKs read it then without checking.
    #[prost(uint32, tag = "4")]
    #[serde(skip_serializing_if = "is_default")]
    pub ttl: u32,
    /// From the application's connect hook.
    #[prost(bytes = "bytes", tag = "5")]
    #[serde(with = "payload", skip_serializing_if = "Bytes::is_empty")]
    pub data: Bytes,
    /// Server-side subscriptions, by channel.
    #[prost(btree_map = "string, message", tag = "6")]
    #[serde(skip_serializing_if = "is_default")]
    pub subs: BTreeMap<String, SubscribeResult>,
    /// Seconds between the server's pings; 0 if it sends none.
    #[prost(uint32, tag = "7")]
    #[serde(skip_serializing_if = "is_default")]
    pub ping: u32,
    /// Whether the client must answer pings.
    #[prost(bool, tag = "8")]
    #[serde(skip_serializing_if = "is_default")]
    pub pong: bool,
    /// The session's secret, for transports that send commands on connections of their own.
    #[prost(string, tag = "9")]
    #[serde(skip_serializing_if = "is_default")]
    pub session: String,
    /// The worker that holds the session.
    #[prost(string, tag = "10")]
    #[serde(skip_serializing_if = "is_default")]
    pub node: String,
    /// The server's clock, in milliseconds since the Unix epoch; 0 if not told.
    #[prost(int64, tag = "11")]
    #[serde(skip_serializing_if = "is_default")]
    pub time: i64,
}

/// The client is in the channel.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct SubscribeResult {
    /// Whether the *client* must refresh its subscription token within `ttl`.
    #[prost(bool, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub expires: bool,
    /// Seconds; at least 1 if `expires`, because SDKs read it then without checking.
    #[prost(uint32, tag = "2")]
    #[serde(skip_serializing_if = "is_default")]
    pub ttl: u32,
    /// Whether the client may recover what it misses.
    #[prost(bool, tag = "3")]
    #[serde(skip_serializing_if = "is_default")]
    pub recoverable: bool,
    /// The stream's epoch, if positioned or recoverable.
    #[prost(string, tag = "6")]
    #[serde(skip_serializing_if = "is_default")]
    pub epoch: String,
    /// What the client missed, if `recovered`.
    #[prost(message, repeated, tag = "7")]
    #[serde(skip_serializing_if = "is_default")]
    pub publications: Vec<Publication>,
    /// Whether nothing was lost since the position in the request.
    #[prost(bool, tag = "8")]
    #[serde(skip_serializing_if = "is_default")]
    pub recovered: bool,
    /// The position before the first of `publications`.
    #[prost(uint64, tag = "9")]
    #[serde(skip_serializing_if = "is_default")]
    pub offset: u64,
    /// Whether gaps are detected.
    #[prost(bool, tag = "10")]
    #[serde(skip_serializing_if = "is_default")]
    pub positioned: bool,
    /// From the application's subscribe hook or the token.
    #[prost(bytes = "bytes", tag = "11")]
    #[serde(with = "payload", skip_serializing_if = "Bytes::is_empty")]
    pub data: Bytes,
    /// Whether the request asked for recovery.
    #[prost(bool, tag = "12")]
    #[serde(skip_serializing_if = "is_default")]
    pub was_recovering: bool,
    /// Whether publications may come as deltas.
    #[prost(bool, tag = "13")]
    #[serde(skip_serializing_if = "is_default")]
    pub delta: bool,
    /// The number that stands for the channel in pushes; 0 if its name is used.
    #[prost(int64, tag = "14")]
    #[serde(skip_serializing_if = "is_default")]
    pub id: i64,
}

/// The client is not in the channel (any more).
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct UnsubscribeResult {}

/// The message is on its way.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct PublishResult {}

/// Who is in a channel.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct PresenceResult {
    /// By connection id.
    #[prost(btree_map = "string, message", tag = "1")]
    pub presence: BTreeMap<String, ClientInfo>,
}

/// How many are in a channel.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct PresenceStatsResult {
    /// Connections.
    #[prost(uint32, tag = "1")]
    pub num_clients: u32,
    /// Different users among them.
    #[prost(uint32, tag = "2")]
    pub num_users: u32,
}

/// Past publications and the stream's position.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct HistoryResult {
    /// In the order asked for.
    #[prost(message, repeated, tag = "1")]
    pub publications: Vec<Publication>,
    /// The stream's epoch.
    #[prost(string, tag = "2")]
    pub epoch: String,
    /// Number of the newest publication in the stream.
    #[prost(uint64, tag = "3")]
    pub offset: u64,
}

/// Answers a [`PingRequest`](super::PingRequest).
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct PingResult {}

/// What the application answered to a call.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct RpcResult {
    /// The payload.
    #[prost(bytes = "bytes", tag = "1")]
    #[serde(with = "payload", skip_serializing_if = "Bytes::is_empty")]
    pub data: Bytes,
}

/// The connection's token is accepted.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct RefreshResult {
    /// The connection's id.
    #[prost(string, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub client: String,
    /// The server's version; free text.
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "is_default")]
    pub version: String,
    /// Whether the client must refresh again, within `ttl`.
    #[prost(bool, tag = "3")]
    #[serde(skip_serializing_if = "is_default")]
    pub expires: bool,
    /// Seconds; at least 1 if `expires`.
    #[prost(uint32, tag = "4")]
    #[serde(skip_serializing_if = "is_default")]
    pub ttl: u32,
}

/// The subscription's token is accepted.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct SubRefreshResult {
    /// Whether the client must refresh again, within `ttl`.
    #[prost(bool, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub expires: bool,
    /// Seconds; at least 1 if `expires`.
    #[prost(uint32, tag = "2")]
    #[serde(skip_serializing_if = "is_default")]
    pub ttl: u32,
}
