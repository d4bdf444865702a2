//! How payloads of any kind are written in answers, which are JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;

/// A payload as `data` if it is JSON, else as `b64data`.
#[derive(Debug, Serialize)]
pub(in crate::api) struct Payload {
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b64data: Option<String>,
}

impl Payload {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let data = json_or_none(bytes);
        Self {
            b64data: data.is_none().then(|| STANDARD.encode(bytes)),
            data,
        }
    }
}

/// The JSON that `bytes` are, if they are.
pub(super) fn json_or_none(bytes: &[u8]) -> Option<Box<RawValue>> {
    serde_json::from_slice(bytes).ok()
}
