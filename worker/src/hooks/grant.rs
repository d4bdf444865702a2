//! What a back end grants: the `result` of each hook.
//!
//! Absent values and `null` are empty, zero or `false`; members that are not known are passed over.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use flotilla_shared::auth::{ChannelGrant, Overrides};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::answer::Object;

/// Who a client is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "RawConnect")]
pub(crate) struct ConnectGrant {
    /// Empty: anonymous.
    pub(crate) user: String,
    /// Seconds since 1970; 0: never.
    pub(crate) expire_at: u64,
    /// What others learn of the connection.
    pub(crate) info: Bytes,
    /// Goes to the client in the connect result.
    pub(crate) data: Bytes,
    /// What the server subscribes the connection to.
    pub(crate) channels: Vec<String>,
    /// The same, each with what its subscription comes with.
    pub(crate) subs: BTreeMap<String, ChannelGrant>,
    /// For the server's eyes only.
    pub(crate) meta: Bytes,
}

/// Whether a connection, or a subscription, may go on.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "RawRefresh")]
pub(crate) struct RefreshGrant {
    /// It may not.
    pub(crate) expired: bool,
    /// Seconds since 1970; 0: never.
    pub(crate) expire_at: u64,
    /// What others learn of it from now on; empty: as before.
    pub(crate) info: Bytes,
    /// A connection's, from now on; empty: as before.
    pub(crate) meta: Bytes,
}

/// What a call returns.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "RawRpc")]
pub(crate) struct RpcGrant {
    /// Goes to the client.
    pub(crate) data: Bytes,
}

/// A subscription, and for how long.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "RawSubscribe")]
pub(crate) struct SubscribeGrant {
    /// What it comes with.
    pub(crate) grant: ChannelGrant,
    /// Seconds since 1970; 0: never.
    pub(crate) expire_at: u64,
}

/// What is published, and how.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "RawPublish")]
pub(crate) struct PublishGrant {
    /// Instead of what the client wants to publish; empty: that.
    pub(crate) data: Bytes,
    /// It is not kept in the channel's history.
    pub(crate) skip_history: bool,
    pub(crate) tags: BTreeMap<String, String>,
    /// Empty: none.
    pub(crate) idempotency_key: String,
    /// It is sent as a difference to subscribers who can read one.
    pub(crate) delta: bool,
    /// 0: none.
    pub(crate) version: u64,
    pub(crate) version_epoch: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawConnect {
    user: Option<String>,
    expire_at: Option<u64>,
    info: Json,
    b64info: Base64,
    data: Json,
    b64data: Base64,
    channels: Option<Vec<String>>,
    subs: Option<BTreeMap<String, Object<ChannelGrant>>>,
    meta: Json,
}

impl From<RawConnect> for ConnectGrant {
    fn from(raw: RawConnect) -> Self {
        let subs = raw.subs.unwrap_or_default().into_iter();
        Self {
            user: raw.user.unwrap_or_default(),
            expire_at: raw.expire_at.unwrap_or_default(),
            info: either(raw.info, raw.b64info),
            data: either(raw.data, raw.b64data),
            channels: raw.channels.unwrap_or_default(),
            subs: subs.map(|(name, Object(sub))| (name, sub)).collect(),
            meta: raw.meta.0,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawRefresh {
    expired: Option<bool>,
    expire_at: Option<u64>,
    info: Json,
    b64info: Base64,
    meta: Json,
}

impl From<RawRefresh> for RefreshGrant {
    fn from(raw: RawRefresh) -> Self {
        Self {
            expired: raw.expired.unwrap_or_default(),
            expire_at: raw.expire_at.unwrap_or_default(),
            info: either(raw.info, raw.b64info),
            meta: raw.meta.0,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawRpc {
    data: Json,
    b64data: Base64,
}

impl From<RawRpc> for RpcGrant {
    fn from(raw: RawRpc) -> Self {
        Self {
            data: either(raw.data, raw.b64data),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawSubscribe {
    info: Json,
    b64info: Base64,
    data: Json,
    b64data: Base64,
    expire_at: Option<u64>,
    #[serde(rename = "override")]
    overrides: Option<Object<Overrides>>,
}

impl From<RawSubscribe> for SubscribeGrant {
    fn from(raw: RawSubscribe) -> Self {
        let overrides = raw.overrides.map(|Object(overrides)| overrides);
        Self {
            grant: ChannelGrant {
                info: either(raw.info, raw.b64info),
                data: either(raw.data, raw.b64data),
                overrides: overrides.unwrap_or_default(),
            },
            expire_at: raw.expire_at.unwrap_or_default(),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawPublish {
    data: Json,
    b64data: Base64,
    skip_history: Option<bool>,
    tags: Option<BTreeMap<String, String>>,
    idempotency_key: Option<String>,
    delta: Option<bool>,
    version: Option<u64>,
    version_epoch: Option<String>,
}

impl From<RawPublish> for PublishGrant {
    fn from(raw: RawPublish) -> Self {
        Self {
            data: either(raw.data, raw.b64data),
            skip_history: raw.skip_history.unwrap_or_default(),
            tags: raw.tags.unwrap_or_default(),
            idempotency_key: raw.idempotency_key.unwrap_or_default(),
            delta: raw.delta.unwrap_or_default(),
            version: raw.version.unwrap_or_default(),
            version_epoch: raw.version_epoch.unwrap_or_default(),
        }
    }
}

/// Any JSON value, byte for byte; `null` is none.
#[derive(Default)]
struct Json(Bytes);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw: Box<RawValue> = Deserialize::deserialize(deserializer)?;
        Ok(Self(match raw.get() {
            "null" => Bytes::new(),
            text => Bytes::copy_from_slice(text.as_bytes()),
        }))
    }
}

/// Any bytes, for hooks whose payloads need not be JSON.
#[derive(Default)]
struct Base64(Bytes);

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
        // Not the library's error, which would quote.
        let bytes = BASE64_STANDARD.decode(text);
        let bytes = bytes.map_err(|_| D::Error::custom("not base64"))?;
        Ok(Self(bytes.into()))
    }
}

/// The payload that was given either way.
fn either(Json(json): Json, Base64(decoded): Base64) -> Bytes {
    if decoded.is_empty() { json } else { decoded }
}

#[cfg(test)]
mod tests {
    use flotilla_shared::auth::Switch;

    use super::*;

    fn read<T: serde::de::DeserializeOwned>(result: &str) -> T {
        serde_json::from_str(result).unwrap()
    }

    #[test]
    fn a_connect_hook_says_everything_about_a_client() {
        let granted: ConnectGrant = read(
            r#"{"user": "42", "expire_at": 7, "info": {"b":1, "a":1.0}, "b64data": "/wA=", "channels": ["a", "b"],
                "subs": {"c": {"info": [1], "data": "d", "override": {"presence": {"value": true}}}, "d": {}},
                "meta": {"plan":  "free"}, "unknown": 1}"#,
        );
        let sub = ChannelGrant {
            info: Bytes::from_static(b"[1]"),
            data: Bytes::from_static(br#""d""#),
            overrides: Overrides {
                presence: Some(Switch { value: true }),
                ..Overrides::default()
            },
        };
        let expected = ConnectGrant {
            user: "42".to_owned(),
            expire_at: 7,
            info: Bytes::from_static(br#"{"b":1, "a":1.0}"#),
            data: Bytes::from_static(b"\xff\x00"),
            channels: vec!["a".to_owned(), "b".to_owned()],
            subs: [
                ("c".to_owned(), sub),
                ("d".to_owned(), ChannelGrant::default()),
            ]
            .into(),
            meta: Bytes::from_static(br#"{"plan":  "free"}"#),
        };
        assert_eq!(granted, expected);
    }

    #[test]
    fn a_refresh_hook_says_whether_it_goes_on() {
        let granted: RefreshGrant =
            read(r#"{"expired": true, "expire_at": 7, "b64info": "e30=", "meta": [0]}"#);
        let expected = RefreshGrant {
            expired: true,
            expire_at: 7,
            info: Bytes::from_static(b"{}"),
            meta: Bytes::from_static(b"[0]"),
        };
        assert_eq!(granted, expected);
    }

    #[test]
    fn a_subscribe_hook_says_what_a_subscription_comes_with() {
        let granted: SubscribeGrant = read(
            r#"{"b64info": "/wA=", "data": "d", "expire_at": 9, "override": {"force_recovery": null,
                "join_leave": {"value": false}, "unknown": {"value": 1}}}"#,
        );
        let expected = SubscribeGrant {
            grant: ChannelGrant {
                info: Bytes::from_static(b"\xff\x00"),
                data: Bytes::from_static(br#""d""#),
                overrides: Overrides {
                    join_leave: Some(Switch { value: false }),
                    ..Overrides::default()
                },
            },
            expire_at: 9,
        };
        assert_eq!(granted, expected);
    }

    #[test]
    fn a_publish_hook_says_what_is_published_and_how() {
        let granted: PublishGrant = read(
            r#"{"data": {}, "skip_history": true, "tags": {"a": "b"}, "idempotency_key": "k", "delta": true,
                "version": 18446744073709551615, "version_epoch": "e"}"#,
        );
        let expected = PublishGrant {
            data: Bytes::from_static(b"{}"),
            skip_history: true,
            tags: [("a".to_owned(), "b".to_owned())].into(),
            idempotency_key: "k".to_owned(),
            delta: true,
            version: u64::MAX,
            version_epoch: "e".to_owned(),
        };
        assert_eq!(granted, expected);
    }

    #[test]
    fn what_is_null_is_as_if_it_were_absent() {
        let nulls = r#"{"user": null, "expire_at": null, "info": null, "b64info": null, "data": null, "b64data": null,
            "channels": null, "subs": null, "meta": null, "expired": null, "override": null, "skip_history": null,
            "tags": null, "idempotency_key": null, "delta": null, "version": null, "version_epoch": null}"#;
        for result in ["{}", nulls] {
            assert_eq!(read::<ConnectGrant>(result), ConnectGrant::default());
            assert_eq!(read::<RefreshGrant>(result), RefreshGrant::default());
            assert_eq!(read::<RpcGrant>(result), RpcGrant::default());
            assert_eq!(read::<SubscribeGrant>(result), SubscribeGrant::default());
            assert_eq!(read::<PublishGrant>(result), PublishGrant::default());
        }
    }

    #[test]
    fn values_of_another_type_are_not_guessed_at() {
        for wrong in [
            r#"{"user": 42}"#,
            r#"{"expire_at": -1}"#,
            r#"{"expire_at": "7"}"#,
            r#"{"b64info": "?"}"#,
            r#"{"channels": "a"}"#,
            r#"{"subs": ["a"]}"#,
            r#"{"subs": {"a": [{}]}}"#,
            r#"{"subs": {"a": {"override": {"presence": true}}}}"#,
        ] {
            assert!(
                serde_json::from_str::<ConnectGrant>(wrong).is_err(),
                "{wrong}"
            );
        }
    }
}
