//! What travels on channels: publications, and who sent them.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{is_default, payload};

/// One message in a channel. `prev_data` (tag 15) is for brokers of other implementations and
/// never goes to a client, so it does not exist here.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct Publication {
    /// The payload. JSON for JSON clients; a JSON string if the subscription negotiated delta.
    #[prost(bytes = "bytes", tag = "4")]
    #[serde(with = "payload", skip_serializing_if = "Bytes::is_empty")]
    pub data: Bytes,
    /// The publisher, if it was a client.
    #[prost(message, optional, tag = "5")]
    #[serde(skip_serializing_if = "is_default")]
    pub info: Option<ClientInfo>,
    /// Position in the channel's stream, from 1; 0 if the channel has no history.
    #[prost(uint64, tag = "6")]
    #[serde(skip_serializing_if = "is_default")]
    pub offset: u64,
    /// Key-value pairs that subscribers may filter by.
    #[prost(btree_map = "string, string", tag = "7")]
    #[serde(skip_serializing_if = "is_default")]
    pub tags: BTreeMap<String, String>,
    /// Whether `data` is a delta against the publication before.
    #[prost(bool, tag = "8")]
    #[serde(skip_serializing_if = "is_default")]
    pub delta: bool,
    /// When it was published, in milliseconds since the Unix epoch; 0 if not told.
    #[prost(int64, tag = "9")]
    #[serde(skip_serializing_if = "is_default")]
    pub time: i64,
    /// The concrete channel, if the subscription is to a pattern.
    #[prost(string, tag = "10")]
    #[serde(skip_serializing_if = "is_default")]
    pub channel: String,
    /// The stream's epoch, with the first publication of a stream.
    #[prost(string, tag = "14")]
    #[serde(skip_serializing_if = "is_default")]
    pub epoch: String,
    /// The publisher's version of the document that the channel carries; 0 if not told.
    #[prost(uint64, tag = "16")]
    #[serde(skip_serializing_if = "is_default")]
    pub version: u64,
}

/// One client connection, as others see it.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientInfo {
    /// The user; empty if anonymous.
    #[prost(string, tag = "1")]
    pub user: String,
    /// The connection's id.
    #[prost(string, tag = "2")]
    pub client: String,
    /// What the connection token says about the user.
    #[prost(bytes = "bytes", tag = "3")]
    #[serde(with = "payload", skip_serializing_if = "Bytes::is_empty")]
    pub conn_info: Bytes,
    /// What the subscription token says about the user in this channel.
    #[prost(bytes = "bytes", tag = "4")]
    #[serde(with = "payload", skip_serializing_if = "Bytes::is_empty")]
    pub chan_info: Bytes,
}
