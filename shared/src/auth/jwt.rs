//! Tokens that applications sign for their users: JSON Web Tokens (RFC 7519).
//!
//! Owns the order of the checks, and which keys are tried. What the claims mean is in `claims`; what
//! an error means to a client is up to the session.
//!
//! A token is verified only with keys that allow the algorithm it names (RFC 8725 §3.1). Time is an
//! argument, and there is no leeway: a token is over when it says so. Nothing here waits: keys that
//! are fetched are those that are there at this moment.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, Validation, errors::ErrorKind};
use prometheus::Registry;
use serde::{Deserialize, Serialize, de::DeserializeOwned, de::IgnoredAny};

use super::{
    claims::{ConnectionClaims, RawClaims, Rules, SubscriptionClaims},
    jwks::{Jwks, JwksMetrics, JwksRefresher},
    key::{ALGORITHMS, Key, is_asymmetric},
};
use crate::secret::Secret;

/// Most fetched keys that one token is tried with. One is the rule; several are for tokens that do not
/// name their key, and each costs as much as a signature does to verify.
const FETCHED_TRIES_MAX: usize = 4;

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
    /// The key that the token names is not there, and may be later: keys are being fetched.
    #[error("key not known yet")]
    UnknownKey,
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
            Self::UnknownKey => "unknown_key",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Claim(_) => "claim",
        }
    }
}

/// Verifies tokens. Cheap to share, not to clone: one for each process.
#[derive(Debug)]
pub struct Verifier {
    keys: Vec<Key>,
    jwks: Option<Arc<Jwks>>,
    rules: Rules,
    takes_any_signature: bool,
}

impl Verifier {
    /// Accepts what is signed with any of the `keys` (HS256, HS384, HS512), the most likely one
    /// first. An empty `audience` or `issuer` is not checked.
    pub fn new<'a>(
        keys: impl IntoIterator<Item = &'a Secret>,
        audience: String,
        issuer: String,
    ) -> Self {
        let rules = Rules {
            audience,
            issuer,
            require_exp: false,
        };
        Self::with(keys.into_iter().map(Key::hmac).collect(), None, rules)
    }

    /// Accepts what is signed with any of the `keys`, or with one of those that are fetched.
    pub(super) fn with(keys: Vec<Key>, jwks: Option<Arc<Jwks>>, rules: Rules) -> Self {
        Self {
            keys,
            jwks,
            rules,
            takes_any_signature: false,
        }
    }

    /// The same claims are asked for, but whoever can write a token may be whoever they like. For development: there
    /// applications may not have keys yet.
    #[must_use]
    pub fn taking_any_signature(self) -> Self {
        Self {
            takes_any_signature: true,
            ..self
        }
    }

    /// Whether there is a key to verify tokens with, or will be, or none is needed.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        self.takes_any_signature || !self.keys.is_empty() || self.jwks.is_some()
    }

    /// Whether the keys are there. Not so before the first answer when they all have to be fetched;
    /// from then on always: clients that need a newer key are told to try again, and nobody else is
    /// turned away because a server of keys is down.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.keys.is_empty() || self.jwks.as_ref().is_none_or(|jwks| jwks.has_answered())
    }

    /// What keeps the fetched keys fresh; `None` if none are fetched. Its metrics are then
    /// registered as `flotilla_<process>_jwks_*`.
    ///
    /// # Errors
    /// When the registry has these metrics already, which is a bug.
    pub fn refresher(
        &self,
        registry: &Registry,
        process: &str,
    ) -> Result<Option<JwksRefresher>, prometheus::Error> {
        let refresher = self.jwks.as_ref().map(|jwks| {
            let metrics = JwksMetrics::register(registry, process)?;
            Ok(JwksRefresher::new(jwks.clone(), metrics))
        });
        refresher.transpose()
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
        let claims = self.decode(token)?;
        claims.check_time(now)?;
        claims.check(&self.rules)?;
        Ok(claims)
    }

    fn decode(&self, token: &str) -> Result<RawClaims, TokenError> {
        let header = TokenHeader::of(token)?;
        if self.takes_any_signature {
            let claims = jsonwebtoken::dangerous::insecure_decode_claims(token);
            return claims.map_err(|_| TokenError::Malformed);
        }
        let Some(jwks) = &self.jwks else {
            return decode(token, &header, &self.keys);
        };
        let fetched = jwks.current();
        let key_id = header.kid.as_deref();
        let meant = |key: &&Key| key.allows(header.alg) && key.may_be(key_id);
        let named = fetched.keys().iter().filter(meant);
        let named = named.take(FETCHED_TRIES_MAX);
        match decode(token, &header, self.keys.iter().chain(named)) {
            // No key at hand fits, and a secret would not be fetched.
            Err(TokenError::Signature | TokenError::Algorithm)
                if is_asymmetric(header.alg) && fetched.lacks(key_id) =>
            {
                jwks.ask();
                Err(TokenError::UnknownKey)
            }
            result => result,
        }
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

/// The claims of a token that is signed with one of the keys by the algorithm that it names. Neither
/// times nor parties are checked.
pub(super) fn decode<'a, T: DeserializeOwned>(
    token: &str,
    header: &TokenHeader,
    keys: impl IntoIterator<Item = &'a Key>,
) -> Result<T, TokenError> {
    let validation = signature_only(header.alg);
    let mut refusal = TokenError::Algorithm;
    for key in keys.into_iter().filter(|key| key.allows(header.alg)) {
        match jsonwebtoken::decode(token, key.decoding(), &validation) {
            Ok(data) => return Ok(data.claims),
            Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => {
                refusal = TokenError::Signature;
            }
            Err(_) => return Err(TokenError::Malformed),
        }
    }
    Err(refusal)
}

/// What a token says about its signature. Reading it here, rather than leaving it to the library,
/// tells an algorithm that it does not know (`none`) from garbage.
pub(super) struct TokenHeader {
    alg: Algorithm,
    kid: Option<String>,
}

impl TokenHeader {
    pub(super) fn of(token: &str) -> Result<Self, TokenError> {
        #[derive(Deserialize)]
        struct Written {
            alg: String,
            kid: Option<String>,
            crit: Option<IgnoredAny>,
        }

        let encoded = token.split('.').next().unwrap_or_default();
        let json = URL_SAFE_NO_PAD
            .decode(encoded)
            .map_err(|_| TokenError::Malformed)?;
        let written: Written = serde_json::from_slice(&json).map_err(|_| TokenError::Malformed)?;
        // RFC 7515 §4.1.11: extensions that have to be understood, of which there are none here.
        if written.crit.is_some() {
            return Err(TokenError::Malformed);
        }
        let found = ALGORITHMS.iter().find(|(name, _)| *name == written.alg);
        let (_, alg) = found.ok_or(TokenError::Algorithm)?;
        Ok(Self {
            alg: *alg,
            kid: written.kid,
        })
    }
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
