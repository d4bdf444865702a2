//! What a channel is granted with, besides access: by a token's `subs`, by a subscription token, by a hook or by the
//! server API, which all write it alike.
//!
//! Owns: the form of a grant. Whether a grant is given is for others to say.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// One channel that the server subscribes a client to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct ChannelGrant {
    /// `info` (JSON) or the decoded `b64info`: what others learn of this subscription. Empty: none.
    pub info: Bytes,
    /// `data` (JSON) or the decoded `b64data`: goes to the client with the subscription. Empty: none.
    pub data: Bytes,
    /// What differs from the options of the channel's namespace.
    pub overrides: Overrides,
}

/// Options of a namespace, as they are for one subscription. `None`: as the namespace has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Overrides {
    /// The subscriber shows in the channel's presence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence: Option<Switch>,
    /// Others hear of the subscriber's coming and going.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join_leave: Option<Switch>,
    /// The subscriber hears of others' coming and going without asking for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force_push_join_leave: Option<Switch>,
    /// The subscriber recovers what it misses without asking for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force_recovery: Option<Switch>,
    /// Gaps are detected for the subscriber without its asking for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force_positioning: Option<Switch>,
}

/// A switch of [`Overrides`], which is written as an object so that it can grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// On or off.
    pub value: bool,
}

/// A grant as it is written.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b64info: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b64data: Option<String>,
    #[serde(rename = "override")]
    overrides: Option<Overrides>,
}

impl TryFrom<Written> for ChannelGrant {
    type Error = base64::DecodeError;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        Ok(Self {
            info: read(written.info, written.b64info)?,
            data: read(written.data, written.b64data)?,
            overrides: written.overrides.unwrap_or_default(),
        })
    }
}

impl From<ChannelGrant> for Written {
    fn from(grant: ChannelGrant) -> Self {
        let (info, b64info) = write(&grant.info);
        let (data, b64data) = write(&grant.data);
        Self {
            info,
            b64info,
            data,
            b64data,
            overrides: Some(grant.overrides),
        }
    }
}

/// Base64 wins, as it can hold anything.
fn read(json: Option<Box<RawValue>>, base64: Option<String>) -> Result<Bytes, base64::DecodeError> {
    match base64 {
        Some(text) if !text.is_empty() => Ok(STANDARD.decode(text)?.into()),
        _ => Ok(json.map_or_else(Bytes::new, |json| {
            String::from(Box::<str>::from(json)).into()
        })),
    }
}

/// JSON as itself, anything else as base64, so that the bytes come out as they went in.
fn write(bytes: &[u8]) -> (Option<Box<RawValue>>, Option<String>) {
    if bytes.is_empty() {
        return (None, None);
    }
    let json = serde_json::from_slice::<Box<RawValue>>(bytes).ok();
    // White space around the value would be lost.
    match json.filter(|json| json.get().len() == bytes.len()) {
        Some(json) => (Some(json), None),
        None => (None, Some(STANDARD.encode(bytes))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_reads_as_tokens_hooks_and_back_ends_write_it() {
        let text = r#"{"info":{"a": 1},"b64data":"//8=","override":{"presence":{"value":true},"new":1},"other":2}"#;
        let grant: ChannelGrant = serde_json::from_str(text).unwrap();
        assert_eq!(grant.info, r#"{"a": 1}"#);
        assert_eq!(grant.data, &b"\xff\xff"[..]);
        assert_eq!(grant.overrides.presence, Some(Switch { value: true }));
        assert_eq!(grant.overrides.join_leave, None);
        assert!(serde_json::from_str::<ChannelGrant>(r#"{"b64info":"?"}"#).is_err());
        assert_eq!(
            serde_json::from_str::<ChannelGrant>("{}").unwrap(),
            ChannelGrant::default()
        );
    }

    #[test]
    fn a_grant_travels_byte_for_byte() {
        for bytes in [&b""[..], b"{\"b\":1, \"a\":2}", b" 1", b"\xff"] {
            let grant = ChannelGrant {
                info: Bytes::copy_from_slice(bytes),
                ..ChannelGrant::default()
            };
            let text = serde_json::to_string(&grant).unwrap();
            assert_eq!(
                serde_json::from_str::<ChannelGrant>(&text).unwrap(),
                grant,
                "{text}"
            );
        }
    }
}
