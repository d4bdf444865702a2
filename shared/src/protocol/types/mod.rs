//! The messages of the client protocol, version 2, one struct each, for both encodings.
//!
//! Protobuf: the numbers in `tag` are the wire format and never change. JSON: fields carry their
//! Protobuf names; zero, empty and false are left out, with the exceptions marked by the absence
//! of `skip_serializing_if`, which SDKs read without checking; unknown fields are ignored, and in
//! what clients send null means absent, except for a payload, which may be null.
//!
//! What belongs to experimental features we do not speak (maps, shared polling, compression
//! dictionaries) is not here: such fields are skipped like any unknown field and use no memory.
//! The fields by which a client asks for them (`kind`) are, so that it can be refused.
//!
//! `Debug` shows tokens and payloads. It is for tests; never log a message with it.

mod command;
mod emulation;
mod payload;
mod publication;
mod push;
mod reply;
mod request;

pub use command::{
    Command, ConnectRequest, FilterNode, HistoryRequest, PingRequest, PresenceRequest,
    PresenceStatsRequest, PublishRequest, RefreshRequest, RpcRequest, SendRequest, StreamPosition,
    SubRefreshRequest, SubscribeRequest, UnsubscribeRequest,
};
pub use emulation::EmulationRequest;
pub use publication::{ClientInfo, Publication};
pub use push::{Connect, Disconnect, Join, Leave, Message, Push, Refresh, Subscribe, Unsubscribe};
pub use reply::{
    ConnectResult, Error, HistoryResult, PingResult, PresenceResult, PresenceStatsResult,
    PublishResult, RefreshResult, Reply, RpcResult, SubRefreshResult, SubscribeResult,
    UnsubscribeResult,
};
pub use request::Request;

use serde::{Deserialize, Deserializer};

/// The rule for what JSON leaves out.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Reads null like an absent field.
fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
