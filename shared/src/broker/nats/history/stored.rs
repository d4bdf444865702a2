//! One stored message, however it was read.

use std::time::SystemTime;

use async_nats::header::{NATS_SEQUENCE, NATS_TIME_STAMP};
use async_nats::{HeaderMap, Message};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;

use super::api::{RawMessage, Refusal};
use super::format::{REMOVED, VERSION, VERSION_EPOCH};
use crate::broker::BrokerError;

/// A message of a stream: a publication, or the removal of all before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) sequence: u64,
    pub(super) time: SystemTime,
    pub(super) payload: Bytes,
    /// It is a removal, and what was before it ended here.
    pub(super) removed: Option<u64>,
    /// 0: none.
    pub(super) version: u64,
    /// As it stands in the header.
    pub(super) version_epoch: String,
}

impl Stored {
    /// Of a direct get.
    pub(super) fn direct(message: Message) -> Result<Self, Refusal> {
        let headers = message.headers.ok_or_else(nonsense)?;
        let text = |name| headers.get(name).map(|value| value.as_str());
        let sequence = text(NATS_SEQUENCE).and_then(|text| text.parse().ok());
        let time = headers.get(NATS_TIME_STAMP).map(|value| value.as_str());
        let found = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
        Self::new(sequence, time, message.payload, found).ok_or_else(nonsense)
    }

    /// As the stream's leader gave it.
    pub(super) fn raw(message: &RawMessage) -> Result<Self, Refusal> {
        let decode = |text: &str| BASE64_STANDARD.decode(text).map_err(|_| nonsense());
        let (payload, headers) = (decode(&message.data)?, decode(&message.hdrs)?);
        let headers = String::from_utf8(headers).map_err(|_| nonsense())?;
        let found = |name: &str| {
            let mut lines = headers
                .split("\r\n")
                .filter_map(|line| line.split_once(':'));
            lines.find_map(|(key, value)| (key == name).then(|| value.trim().to_owned()))
        };
        let (sequence, time) = (Some(message.seq), Some(message.time.as_str()));
        Self::new(sequence, time, payload.into(), found).ok_or_else(nonsense)
    }

    fn new(
        sequence: Option<u64>,
        time: Option<&str>,
        payload: Bytes,
        header: impl Fn(&str) -> Option<String>,
    ) -> Option<Self> {
        let number = |name| header(name).map(|text| text.parse().ok());
        Some(Self {
            sequence: sequence?,
            time: humantime::parse_rfc3339(time?).ok()?,
            payload,
            removed: match number(REMOVED) {
                Some(removed) => Some(removed?),
                None => None,
            },
            version: number(VERSION).flatten().unwrap_or_default(),
            version_epoch: header(VERSION_EPOCH).unwrap_or_default(),
        })
    }
}

/// How many messages under the subject come behind this one, as a batch tells it.
pub(super) fn pending(headers: Option<&HeaderMap>) -> u64 {
    let pending = headers.and_then(|headers| headers.get("Nats-Num-Pending"));
    pending
        .and_then(|text| text.as_str().parse().ok())
        .unwrap_or_default()
}

fn nonsense() -> Refusal {
    let reason = "a stored message does not say what it is";
    BrokerError::Refused(reason.to_owned()).into()
}
