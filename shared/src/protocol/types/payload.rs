//! Payloads inside JSON messages: a `bytes` field is embedded as the JSON value it holds, byte
//! for byte, so that key order, number precision and duplicate keys survive.

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Error, Serialize, Serializer};
use serde_json::value::RawValue;

/// Copies the value's text out of the frame, without surrounding white space.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    let raw: Box<str> = Box::<RawValue>::deserialize(deserializer)?.into();
    Ok(Bytes::from(raw.into_boxed_bytes()))
}

/// Embeds the payload as it is; fails if it is not exactly one JSON value.
pub(super) fn serialize<S: Serializer>(payload: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    match serde_json::from_slice::<&RawValue>(payload) {
        Ok(raw) => raw.serialize(serializer),
        Err(_) => Err(S::Error::custom("payload is not JSON")),
    }
}
