//! Tokens that applications sign for their users: JSON Web Tokens (RFC 7519).
//!
//! Owns keys, algorithms and the order of the checks. What the claims mean is in `claims`; what an
//! error means to a client is up to the session.
//!
//! The algorithm is taken from a list that the kind of key allows, never from the token alone
//! (RFC 8725 §3.1). Time is an argument, and there is no leeway: a token is over when it says so.

use std::path::PathBuf;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use serde::{Deserialize, Serialize, de::DeserializeOwned, de::IgnoredAny};

use super::claims::{ConnectionClaims, RawClaims, SubscriptionClaims};
use crate::{config::Problems, secret::Secret};

/// What an HMAC key may be used with.
const HMAC_ALGORITHMS: [(&str, Algorithm); 3] = [
    ("HS256", Algorithm::HS256),
    ("HS384", Algorithm::HS384),
    ("HS512", Algorithm::HS512),
];

/// How tokens are verified, as written in a configuration.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenOptions {
    /// The key that applications sign tokens with (HS256, HS384, HS512).
    pub hmac_secret_key: Option<Secret>,
    /// A file that holds it, instead.
    pub hmac_secret_key_file: Option<PathBuf>,
    /// The key before it: tokens signed with it are still accepted while keys are changed.
    pub hmac_previous_secret_key: Option<Secret>,
    /// A file that holds the key before it, instead.
    pub hmac_previous_secret_key_file: Option<PathBuf>,
    /// What the `aud` claim has to contain; empty = it is not checked.
    pub audience: String,
    /// What the `iss` claim has to be; empty = it is not checked.
    pub issuer: String,
}

impl TokenOptions {
    /// The verifier for these options, which are found at `key` of the configuration. What is wrong
    /// with them is noted in `problems`.
    pub fn verifier(&self, key: &str, problems: &mut Problems) -> Verifier {
        let current_key = format!("{key}.hmac_secret_key");
        let previous_key = format!("{key}.hmac_previous_secret_key");
        let current = Secret::resolve(
            &current_key,
            self.hmac_secret_key.as_ref(),
            self.hmac_secret_key_file.as_deref(),
            problems,
        );
        let previous = Secret::resolve(
            &previous_key,
            self.hmac_previous_secret_key.as_ref(),
            self.hmac_previous_secret_key_file.as_deref(),
            problems,
        );
        if previous.is_some() && current.is_none() {
            problems.add(&previous_key, format!("needs {current_key}"));
        }
        let keys = current.iter().chain(&previous);
        Verifier::new(keys, self.audience.clone(), self.issuer.clone())
    }
}

/// Why a token is refused. The text never contains a part of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// There is no key to verify tokens with.
    #[error("no key to verify tokens with")]
    NotConfigured,
    /// Not a JSON Web Token.
    #[error("not a JSON Web Token")]
    Malformed,
    /// Signed with an algorithm that the key does not allow, or not signed at all.
    #[error("algorithm not allowed")]
    Algorithm,
    /// The signature fits none of the keys.
    #[error("signature does not fit")]
    Signature,
    /// Was valid, and is no more.
    #[error("expired")]
    Expired,
    /// Will be valid later.
    #[error("not yet valid")]
    NotYetValid,
    /// The named claim is malformed, is missing, or does not fit.
    #[error("claim `{0}` refused")]
    Claim(&'static str),
}

impl TokenError {
    /// The label for metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::NotConfigured => "not_configured",
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Claim(_) => "claim",
        }
    }
}

/// Verifies tokens. Cheap to share, not to clone: one for each process.
#[derive(Debug)]
pub struct Verifier {
    keys: Vec<DecodingKey>,
    audience: String,
    issuer: String,
}

impl Verifier {
    /// Accepts what is signed with any of the `keys`, the most likely one first. An empty
    /// `audience` or `issuer` is not checked.
    pub fn new<'a>(
        keys: impl IntoIterator<Item = &'a Secret>,
        audience: String,
        issuer: String,
    ) -> Self {
        let keys = keys.into_iter().map(decoding_key).collect();
        Self {
            keys,
            audience,
            issuer,
        }
    }

    /// Whether there is a key to verify tokens with.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        !self.keys.is_empty()
    }

    /// What the connection token grants. `now` is in seconds since the Unix epoch.
    ///
    /// # Errors
    /// When the token is refused. A token that has a `channel` is: it was made for a subscription.
    pub fn verify_connection(&self, token: &str, now: u64) -> Result<ConnectionClaims, TokenError> {
        self.verify(token, now)?.into_connection()
    }

    /// What the subscription token grants. `now` is in seconds since the Unix epoch. That user,
    /// channel and client fit the subscription is for the caller to check.
    ///
    /// # Errors
    /// When the token is refused. A token that has no `channel` is: it was made for a connection.
    pub fn verify_subscription(
        &self,
        token: &str,
        now: u64,
    ) -> Result<SubscriptionClaims, TokenError> {
        self.verify(token, now)?.into_subscription()
    }

    fn verify(&self, token: &str, now: u64) -> Result<RawClaims, TokenError> {
        if !self.is_configured() {
            return Err(TokenError::NotConfigured);
        }
        let claims: RawClaims = decode(token, &self.keys, &HMAC_ALGORITHMS)?;
        claims.check_time(now)?;
        claims.check_parties(&self.audience, &self.issuer)?;
        Ok(claims)
    }
}

/// Signs `claims` with HS256.
///
/// # Errors
/// When the claims cannot be written as JSON.
pub fn sign<T: Serialize>(claims: &T, key: &Secret) -> Result<String, SignError> {
    let key = EncodingKey::from_secret(key.expose().as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).map_err(SignError)
}

/// Claims that could not be signed.
#[derive(Debug, thiserror::Error)]
#[error("cannot sign the claims: {0}")]
pub struct SignError(#[source] jsonwebtoken::errors::Error);

pub(super) fn decoding_key(secret: &Secret) -> DecodingKey {
    DecodingKey::from_secret(secret.expose().as_bytes())
}

/// The claims of a token that is signed with one of the keys by one of the algorithms. Neither
/// times nor parties are checked.
pub(super) fn decode<T: DeserializeOwned>(
    token: &str,
    keys: &[DecodingKey],
    allowed: &[(&str, Algorithm)],
) -> Result<T, TokenError> {
    let validation = signature_only(algorithm(token, allowed)?);
    for key in keys {
        match jsonwebtoken::decode(token, key, &validation) {
            Ok(data) => return Ok(data.claims),
            Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => {}
            Err(_) => return Err(TokenError::Malformed),
        }
    }
    Err(TokenError::Signature)
}

/// The algorithm that the token's header names, if it is allowed. Reading the header here, rather
/// than leaving it to the library, tells an algorithm that it does not know (`none`) from garbage.
fn algorithm(token: &str, allowed: &[(&str, Algorithm)]) -> Result<Algorithm, TokenError> {
    #[derive(Deserialize)]
    struct TokenHeader {
        alg: String,
        crit: Option<IgnoredAny>,
    }

    let encoded = token.split('.').next().unwrap_or_default();
    let json = URL_SAFE_NO_PAD
        .decode(encoded)
        .map_err(|_| TokenError::Malformed)?;
    let header: TokenHeader = serde_json::from_slice(&json).map_err(|_| TokenError::Malformed)?;
    // RFC 7515 §4.1.11: extensions that have to be understood, of which there are none here.
    if header.crit.is_some() {
        return Err(TokenError::Malformed);
    }
    let found = allowed.iter().find(|(name, _)| *name == header.alg);
    found
        .map(|(_, algorithm)| *algorithm)
        .ok_or(TokenError::Algorithm)
}

/// Leaves to the library the signature and nothing else: its time checks read the clock and allow a
/// minute of leeway.
fn signature_only(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

#[cfg(test)]
mod tests;
