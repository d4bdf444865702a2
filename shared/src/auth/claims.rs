//! What a verified token says.
//!
//! Owns the claims as the rest of the code sees them, and how they are read from a token's JSON. It
//! does not know signatures. `info`, `data` and `meta` keep their JSON byte for byte: applications
//! compare and hash what they put in.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::grant::{ChannelGrant, Overrides};
use super::jwt::TokenError;

/// What a connection token grants. Also travels in a [`Passport`](super::Passport).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionClaims {
    /// `sub`: the user's id; empty for an anonymous user.
    pub user: String,
    /// When the connection expires, in seconds since the Unix epoch; `None` = never. From
    /// `expire_at` (0 = never) if the token has it, else from `exp`.
    pub expire_at: Option<u64>,
    /// `info` (JSON) or the decoded `b64info`: what others learn of this connection. Empty = none.
    #[serde(with = "payload")]
    pub info: Bytes,
    /// `channels`: what the server subscribes the connection to.
    pub channels: Vec<String>,
    /// `subs`: the same, each with what it comes with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub subs: BTreeMap<String, ChannelGrant>,
    /// `meta` (JSON): known to the server only, never sent to a client. Empty = none.
    #[serde(with = "payload")]
    pub meta: Bytes,
    /// `jti`: the token's own id.
    pub token_id: Option<String>,
    /// `iat`: when the token was issued, in seconds since the Unix epoch.
    pub issued_at: Option<u64>,
}

/// What a subscription token grants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubscriptionClaims {
    /// `sub`: the user whose subscription this is; has to equal the connection's user.
    pub user: String,
    /// `channel`: has to equal the channel that is subscribed to.
    pub channel: String,
    /// `client`: if present, has to equal the connection's id.
    pub client: Option<String>,
    /// When the subscription expires, in seconds since the Unix epoch; `None` = never. From
    /// `expire_at` (0 = never) if the token has it, else from `exp`.
    pub expire_at: Option<u64>,
    /// `info` (JSON) or the decoded `b64info`: what others learn of this subscription.
    pub info: Bytes,
    /// `data` (JSON) or the decoded `b64data`: goes to the client in the subscribe result.
    pub data: Bytes,
    /// `override`: what differs from the options of the channel's namespace.
    pub overrides: Overrides,
    /// `jti`: the token's own id.
    pub token_id: Option<String>,
    /// `iat`: when the token was issued, in seconds since the Unix epoch.
    pub issued_at: Option<u64>,
}

/// A token's payload, each claim still as it was written: which one is malformed can then be told,
/// and raw JSON is kept. Claims that are not listed here are ignored (RFC 7519 §4).
#[derive(Debug, Deserialize)]
pub(super) struct RawClaims {
    sub: Option<Box<RawValue>>,
    exp: Option<Box<RawValue>>,
    nbf: Option<Box<RawValue>>,
    iat: Option<Box<RawValue>>,
    jti: Option<Box<RawValue>>,
    aud: Option<Box<RawValue>>,
    iss: Option<Box<RawValue>>,
    info: Option<Box<RawValue>>,
    b64info: Option<Box<RawValue>>,
    data: Option<Box<RawValue>>,
    b64data: Option<Box<RawValue>>,
    meta: Option<Box<RawValue>>,
    channels: Option<Box<RawValue>>,
    subs: Option<Box<RawValue>>,
    #[serde(rename = "override")]
    overrides: Option<Box<RawValue>>,
    channel: Option<Box<RawValue>>,
    client: Option<Box<RawValue>>,
    expire_at: Option<Box<RawValue>>,
}

/// What the claims have to say, whoever presents them.
#[derive(Debug, Clone, Default)]
pub(super) struct Rules {
    /// What `aud` has to contain; empty = it is not checked.
    pub(super) audience: String,
    /// What `iss` has to be; empty = it is not checked.
    pub(super) issuer: String,
    /// Whether there has to be an `exp`.
    pub(super) require_exp: bool,
}

impl RawClaims {
    /// Checks `exp`, `nbf` and `expire_at` against `now` (RFC 7519 §4.1.4 and §4.1.5: a token is
    /// invalid from the second `exp` on, and valid from the second `nbf` on).
    pub(super) fn check_time(&self, now: u64) -> Result<(), TokenError> {
        if numeric_date("nbf", self.nbf.as_deref())?.is_some_and(|nbf| nbf > now) {
            return Err(TokenError::NotYetValid);
        }
        let over = |at: Option<u64>| at.is_some_and(|at| at <= now);
        if over(numeric_date("exp", self.exp.as_deref())?) || over(self.expire_at()?) {
            return Err(TokenError::Expired);
        }
        Ok(())
    }

    /// Checks `aud` (one string or a list of which one has to fit, RFC 7519 §4.1.3), `iss`, and that
    /// there is an `exp`, as far as that is wanted.
    pub(super) fn check(&self, rules: &Rules) -> Result<(), TokenError> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Audience {
            One(String),
            Several(Vec<String>),
        }

        if rules.require_exp && self.exp.is_none() {
            return Err(TokenError::Claim("exp"));
        }
        let (audience, issuer) = (rules.audience.as_str(), rules.issuer.as_str());
        if !audience.is_empty() {
            let fits = match claim("aud", self.aud.as_deref())? {
                None => false,
                Some(Audience::One(found)) => found == audience,
                Some(Audience::Several(found)) => found.iter().any(|found| found == audience),
            };
            if !fits {
                return Err(TokenError::Claim("aud"));
            }
        }
        if !issuer.is_empty() && self.text("iss", self.iss.as_deref())? != issuer {
            return Err(TokenError::Claim("iss"));
        }
        Ok(())
    }

    /// Reads the claims of a connection token. A token for a subscription is none.
    pub(super) fn into_connection(self) -> Result<ConnectionClaims, TokenError> {
        if self.channel.is_some() {
            return Err(TokenError::Claim("channel"));
        }
        Ok(ConnectionClaims {
            user: self.text("sub", self.sub.as_deref())?,
            expire_at: self.expire_at()?,
            info: payload_claim("b64info", self.b64info.as_deref(), self.info.as_deref())?,
            channels: claim("channels", self.channels.as_deref())?.unwrap_or_default(),
            subs: claim("subs", self.subs.as_deref())?.unwrap_or_default(),
            meta: self.meta.as_deref().map(json_bytes).unwrap_or_default(),
            token_id: claim("jti", self.jti.as_deref())?,
            issued_at: numeric_date("iat", self.iat.as_deref())?,
        })
    }

    /// Reads the claims of a subscription token. A token without a channel is none.
    pub(super) fn into_subscription(self) -> Result<SubscriptionClaims, TokenError> {
        let channel = self.text("channel", self.channel.as_deref())?;
        if channel.is_empty() {
            return Err(TokenError::Claim("channel"));
        }
        let client = self.text("client", self.client.as_deref())?;
        Ok(SubscriptionClaims {
            user: self.text("sub", self.sub.as_deref())?,
            channel,
            client: Some(client).filter(|client| !client.is_empty()),
            expire_at: self.expire_at()?,
            info: payload_claim("b64info", self.b64info.as_deref(), self.info.as_deref())?,
            data: payload_claim("b64data", self.b64data.as_deref(), self.data.as_deref())?,
            overrides: claim("override", self.overrides.as_deref())?.unwrap_or_default(),
            token_id: claim("jti", self.jti.as_deref())?,
            issued_at: numeric_date("iat", self.iat.as_deref())?,
        })
    }

    /// When what the token grants is over.
    fn expire_at(&self) -> Result<Option<u64>, TokenError> {
        match numeric_date("expire_at", self.expire_at.as_deref())? {
            Some(0) => Ok(None),
            Some(at) => Ok(Some(at)),
            None => numeric_date("exp", self.exp.as_deref()),
        }
    }

    fn text(&self, name: &'static str, raw: Option<&RawValue>) -> Result<String, TokenError> {
        Ok(claim(name, raw)?.unwrap_or_default())
    }
}

/// Parses one claim. What it contains stays out of the error.
fn claim<T: DeserializeOwned>(
    name: &'static str,
    raw: Option<&RawValue>,
) -> Result<Option<T>, TokenError> {
    raw.map(|raw| serde_json::from_str(raw.get()).map_err(|_| TokenError::Claim(name)))
        .transpose()
}

/// A date in seconds since the Unix epoch. RFC 7519 §2 allows fractions, which are cut off; there
/// are no dates before the epoch.
fn numeric_date(name: &'static str, raw: Option<&RawValue>) -> Result<Option<u64>, TokenError> {
    let Some(seconds) = claim::<serde_json::Number>(name, raw)? else {
        return Ok(None);
    };
    if let Some(whole) = seconds.as_u64() {
        return Ok(Some(whole));
    }
    // The cast saturates: a date too far ahead for an integer stays far ahead.
    let whole = seconds
        .as_f64()
        .filter(|seconds| *seconds >= 0.0)
        .map(|seconds| seconds as u64);
    whole.map(Some).ok_or(TokenError::Claim(name))
}

/// Bytes that are given either as base64 (which wins, as it can hold anything) or as JSON.
fn payload_claim(
    b64_name: &'static str,
    b64: Option<&RawValue>,
    json: Option<&RawValue>,
) -> Result<Bytes, TokenError> {
    match claim::<String>(b64_name, b64)? {
        Some(encoded) if !encoded.is_empty() => match STANDARD.decode(encoded) {
            Ok(decoded) => Ok(decoded.into()),
            Err(_) => Err(TokenError::Claim(b64_name)),
        },
        _ => Ok(json.map(json_bytes).unwrap_or_default()),
    }
}

fn json_bytes(raw: &RawValue) -> Bytes {
    Bytes::copy_from_slice(raw.get().as_bytes())
}

/// How a payload travels in a passport: as itself if it is JSON, which is the usual case and the
/// smaller one, else as base64. Either way the bytes come out as they went in.
mod payload {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
    use serde_json::value::RawValue;

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Payload {
        Json(Box<RawValue>),
        Base64(String),
    }

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, s: S) -> Result<S::Ok, S::Error> {
        let json = serde_json::from_slice::<Box<RawValue>>(bytes).ok();
        // White space around the value would be lost.
        match json.filter(|json| json.get().len() == bytes.len()) {
            Some(json) => Payload::Json(json),
            None => Payload::Base64(STANDARD.encode(bytes)),
        }
        .serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Bytes, D::Error> {
        match Payload::deserialize(d)? {
            Payload::Json(json) => Ok(String::from(Box::<str>::from(json)).into()),
            Payload::Base64(encoded) => STANDARD
                .decode(encoded)
                .map(Bytes::from)
                .map_err(D::Error::custom),
        }
    }
}
