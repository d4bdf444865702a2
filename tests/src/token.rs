//! Tokens that tests sign themselves, good ones and forged ones.
//!
//! Signed here by the plain rules of RFC 7515, not by the code under test.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

/// The secret that a [`crate::fleet::Fleet`] accepts connection and subscription tokens by.
pub const SECRET: &str = "the secret that the fleets of the tests share with their clients";

/// How long the tokens of [`user`] live.
const LIFETIME: Duration = Duration::from_secs(600);

/// A token that signs the user in, valid for ten minutes.
///
/// # Errors
/// When signing fails, which it does not.
pub fn user(name: &str) -> Result<String> {
    sign(
        SECRET,
        &json!({"sub": name, "exp": seconds_from_now(LIFETIME)}),
    )
}

/// A token with these claims and a correct HS256 signature by `secret`.
///
/// # Errors
/// When signing fails, which it does not.
pub fn sign(secret: &str, claims: &Value) -> Result<String> {
    sign_with(Algorithm::HS256, secret, claims)
}

/// A token with these claims and a correct signature by `secret` and one of the HMAC algorithms.
///
/// # Errors
/// When the algorithm is not one of those.
pub fn sign_with(algorithm: Algorithm, secret: &str, claims: &Value) -> Result<String> {
    let key = EncodingKey::from_secret(secret.as_bytes());
    Ok(jsonwebtoken::encode(&Header::new(algorithm), claims, &key)?)
}

/// A token with these claims that says it needs no signature: `"alg":"none"`.
pub fn unsigned(claims: &Value) -> String {
    let header = encode(&json!({"alg": "none", "typ": "JWT"}));
    format!("{header}.{}.", encode(claims))
}

/// `token` with its claims exchanged and its signature kept.
pub fn tampered(token: &str, claims: &Value) -> String {
    let mut parts = token.split('.');
    let (header, signature) = (parts.next().unwrap_or(""), parts.nth(1).unwrap_or(""));
    format!("{header}.{}.{signature}", encode(claims))
}

/// A point in time for the claims `exp`, `nbf` and `expire_at`, in Unix seconds.
pub fn seconds_from_now(ahead: Duration) -> u64 {
    (SystemTime::now() + ahead)
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}

fn encode(value: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(value.to_string())
}
