//! What clients send: a command, and the requests it may carry.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{is_default, nullable, payload};

/// One message of a client. It carries one request; of several the first in this order counts.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct Command {
    /// Chosen by the client and repeated in the reply; 0 for `send` and pongs, which have none.
    #[prost(uint32, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub id: u32,
    /// See [`ConnectRequest`].
    #[prost(message, optional, tag = "4")]
    #[serde(skip_serializing_if = "is_default")]
    pub connect: Option<ConnectRequest>,
    /// See [`SubscribeRequest`].
    #[prost(message, optional, tag = "5")]
    #[serde(skip_serializing_if = "is_default")]
    pub subscribe: Option<SubscribeRequest>,
    /// See [`UnsubscribeRequest`].
    #[prost(message, optional, tag = "6")]
    #[serde(skip_serializing_if = "is_default")]
    pub unsubscribe: Option<UnsubscribeRequest>,
    /// See [`PublishRequest`].
    #[prost(message, optional, tag = "7")]
    #[serde(skip_serializing_if = "is_default")]
    pub publish: Option<PublishRequest>,
    /// See [`PresenceRequest`].
    #[prost(message, optional, tag = "8")]
    #[serde(skip_serializing_if = "is_default")]
    pub presence: Option<PresenceRequest>,
    /// See [`PresenceStatsRequest`].
    #[prost(message, optional, tag = "9")]
    #[serde(skip_serializing_if = "is_default")]
    pub presence_stats: Option<PresenceStatsRequest>,
    /// See [`HistoryRequest`].
    #[prost(message, optional, tag = "10")]
    #[serde(skip_serializing_if = "is_default")]
    pub history: Option<HistoryRequest>,
    /// See [`PingRequest`].
    #[prost(message, optional, tag = "11")]
    #[serde(skip_serializing_if = "is_default")]
    pub ping: Option<PingRequest>,
    /// See [`SendRequest`].
    #[prost(message, optional, tag = "12")]
    #[serde(skip_serializing_if = "is_default")]
    pub send: Option<SendRequest>,
    /// See [`RpcRequest`].
    #[prost(message, optional, tag = "13")]
    #[serde(skip_serializing_if = "is_default")]
    pub rpc: Option<RpcRequest>,
    /// See [`RefreshRequest`].
    #[prost(message, optional, tag = "14")]
    #[serde(skip_serializing_if = "is_default")]
    pub refresh: Option<RefreshRequest>,
    /// See [`SubRefreshRequest`].
    #[prost(message, optional, tag = "15")]
    #[serde(skip_serializing_if = "is_default")]
    pub sub_refresh: Option<SubRefreshRequest>,
}

/// Opens the session; the first command of a connection and never repeated.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct ConnectRequest {
    /// Connection token (JWT), or empty.
    #[prost(string, tag = "1")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub token: String,
    /// For the application's connect hook.
    #[prost(bytes = "bytes", tag = "2")]
    #[serde(with = "payload", skip_serializing_if = "Bytes::is_empty")]
    pub data: Bytes,
    /// Positions of server-side subscriptions from the session before, by channel; and channels
    /// the client would like to be subscribed to.
    #[prost(btree_map = "string, message", tag = "3")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub subs: BTreeMap<String, SubscribeRequest>,
    /// The client library's name; free text.
    #[prost(string, tag = "4")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub name: String,
    /// The client's version; free text.
    #[prost(string, tag = "5")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub version: String,
    /// Stand-ins for HTTP headers that browsers cannot set.
    #[prost(btree_map = "string, string", tag = "6")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub headers: BTreeMap<String, String>,
}

/// Joins a channel.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct SubscribeRequest {
    /// The channel; empty only inside [`ConnectRequest::subs`], where the key says it.
    #[prost(string, tag = "1")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub channel: String,
    /// Subscription token (JWT), or empty.
    #[prost(string, tag = "2")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub token: String,
    /// Whether the client wants what it missed since `epoch` and `offset`.
    #[prost(bool, tag = "3")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub recover: bool,
    /// The stream's epoch that `offset` belongs to; empty if the client never had one.
    #[prost(string, tag = "6")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub epoch: String,
    /// The last publication the client has seen.
    #[prost(uint64, tag = "7")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub offset: u64,
    /// For the application's subscribe hook.
    #[prost(bytes = "bytes", tag = "8")]
    #[serde(with = "payload", skip_serializing_if = "Bytes::is_empty")]
    pub data: Bytes,
    /// Whether the client asks for gap detection.
    #[prost(bool, tag = "9")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub positioned: bool,
    /// Whether the client asks to be able to recover.
    #[prost(bool, tag = "10")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub recoverable: bool,
    /// Whether the client asks for join and leave pushes.
    #[prost(bool, tag = "11")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub join_leave: bool,
    /// The delta encoding that the client asks for, or empty.
    #[prost(string, tag = "12")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub delta: String,
    /// Which publications the client wants; absent means all.
    #[prost(message, optional, boxed, tag = "13")]
    #[serde(skip_serializing_if = "is_default")]
    pub tf: Option<Box<FilterNode>>,
    /// Bit mask of what the client can do: [`Self::COMPACTION`], [`Self::REJECT_UNRECOVERED`].
    #[prost(int64, tag = "14")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub flag: i64,
    /// The sort of subscription; anything but 0 (a stream) is experimental.
    #[prost(int32, tag = "15")]
    #[serde(
        rename = "type",
        deserialize_with = "nullable",
        skip_serializing_if = "is_default"
    )]
    pub kind: i32,
}

impl SubscribeRequest {
    /// Bit of `flag`: pushes may name the channel by a number.
    pub const COMPACTION: i64 = 1;
    /// Bit of `flag`: a failed recovery is an error rather than a fresh start.
    pub const REJECT_UNRECOVERED: i64 = 2;
}

/// A tags filter: a tree of conditions on [`Publication::tags`](super::Publication::tags).
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct FilterNode {
    /// `and`, `or`, `not`, or empty for a comparison.
    #[prost(string, tag = "1")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub op: String,
    /// The tag compared.
    #[prost(string, tag = "2")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub key: String,
    /// The comparison.
    #[prost(string, tag = "3")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub cmp: String,
    /// What the tag is compared with.
    #[prost(string, tag = "4")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub val: String,
    /// What the tag is compared with, for comparisons with a set.
    #[prost(string, repeated, tag = "5")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub vals: Vec<String>,
    /// The operands of `op`.
    #[prost(message, repeated, tag = "6")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub nodes: Vec<FilterNode>,
}

/// Leaves a channel.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct UnsubscribeRequest {
    /// The channel.
    #[prost(string, tag = "1")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub channel: String,
}

/// Sends a message to everyone in a channel.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct PublishRequest {
    /// The channel.
    #[prost(string, tag = "1")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub channel: String,
    /// The payload.
    #[prost(bytes = "bytes", tag = "2")]
    #[serde(with = "payload", skip_serializing_if = "Bytes::is_empty")]
    pub data: Bytes,
    /// The sort of channel; anything but 0 (a stream) is experimental.
    #[prost(int32, tag = "3")]
    #[serde(
        rename = "type",
        deserialize_with = "nullable",
        skip_serializing_if = "is_default"
    )]
    pub kind: i32,
}

/// Asks who is in a channel.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct PresenceRequest {
    /// The channel.
    #[prost(string, tag = "1")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub channel: String,
}

/// Asks how many are in a channel.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct PresenceStatsRequest {
    /// The channel.
    #[prost(string, tag = "1")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub channel: String,
}

/// Asks for past publications, or only for the stream's position.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct HistoryRequest {
    /// The channel.
    #[prost(string, tag = "1")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub channel: String,
    /// How many publications at most; 0 for the position only, -1 for no limit.
    #[prost(int32, tag = "7")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub limit: i32,
    /// Where to start; not included itself.
    #[prost(message, optional, tag = "8")]
    #[serde(skip_serializing_if = "is_default")]
    pub since: Option<StreamPosition>,
    /// Newest first.
    #[prost(bool, tag = "9")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub reverse: bool,
}

/// A place in a channel's stream.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamPosition {
    /// Number of a publication, from 1.
    #[prost(uint64, tag = "1")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub offset: u64,
    /// Which numbering `offset` belongs to.
    #[prost(string, tag = "2")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub epoch: String,
}

/// A ping *command*, which no current SDK sends. Not the ping and pong that keep a connection
/// alive, which are an empty reply and an empty command.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct PingRequest {}

/// A message to the application that has no reply, not even an error.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct SendRequest {
    /// The payload.
    #[prost(bytes = "bytes", tag = "1")]
    #[serde(with = "payload", skip_serializing_if = "Bytes::is_empty")]
    pub data: Bytes,
}

/// A call to the application.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct RpcRequest {
    /// The arguments.
    #[prost(bytes = "bytes", tag = "1")]
    #[serde(with = "payload", skip_serializing_if = "Bytes::is_empty")]
    pub data: Bytes,
    /// The method, or empty.
    #[prost(string, tag = "2")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub method: String,
}

/// Hands over a new connection token.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct RefreshRequest {
    /// The token (JWT).
    #[prost(string, tag = "1")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub token: String,
}

/// Hands over a new subscription token.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct SubRefreshRequest {
    /// The channel; old SDKs leave it out, then the token's claim counts.
    #[prost(string, tag = "1")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub channel: String,
    /// The token (JWT).
    #[prost(string, tag = "2")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub token: String,
    /// What is refreshed; anything but 0 (a subscription) is experimental.
    #[prost(int32, tag = "3")]
    #[serde(
        rename = "type",
        deserialize_with = "nullable",
        skip_serializing_if = "is_default"
    )]
    pub kind: i32,
}
