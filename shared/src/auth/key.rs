//! The keys that tokens are verified with.
//!
//! Owns how a key is read, as a secret, from PEM or as a JSON Web Key, and which algorithms it may be
//! used with: what the key is decides that, never the token (RFC 8725 §3.1). It does not know where
//! keys come from.
//!
//! A key that could not verify anything, or that the library would stumble over, is refused here.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, crypto, crypto::rust_crypto};
use serde::Deserialize;

use crate::secret::Secret;

/// The algorithms that tokens may be signed with, by their names in JOSE (RFC 7518 §3.1, RFC 8037
/// §3.1). ES512 is not among them: the library has no P-521.
pub(super) const ALGORITHMS: [(&str, Algorithm); 9] = [
    ("HS256", Algorithm::HS256),
    ("HS384", Algorithm::HS384),
    ("HS512", Algorithm::HS512),
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

const HMAC: &[Algorithm] = &[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
const RSA: &[Algorithm] = &[Algorithm::RS256, Algorithm::RS384, Algorithm::RS512];
const P256: &[Algorithm] = &[Algorithm::ES256];
const P384: &[Algorithm] = &[Algorithm::ES384];
const ED25519: &[Algorithm] = &[Algorithm::EdDSA];

/// How long the modulus of an RSA key may be, in bytes: no shorter than RFC 7518 §3.3 demands, and no
/// longer than the library takes.
const RSA_MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=512;

/// Longest public exponent of an RSA key, in bytes.
const RSA_EXPONENT_MAX_BYTES: usize = 5;

const ED25519_BYTES: usize = 32;

/// Whether only the holder of a private key can sign with the algorithm.
pub(super) fn is_asymmetric(algorithm: Algorithm) -> bool {
    !HMAC.contains(&algorithm)
}

/// A key, and what it may be used with.
#[derive(Debug)]
pub(super) struct Key {
    /// `kid`: what tokens may call it.
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    decoding: DecodingKey,
}

/// Kinds of public keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PublicKind {
    Rsa,
    Ecdsa,
    Eddsa,
}

/// Why something is not used as a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeyError {
    #[error("is a private key: only its public half belongs here")]
    Private,
    #[error("is not a public key in PEM")]
    Pem,
    #[error("is not an RSA key of 2048 to 4096 bits")]
    Rsa,
    #[error(
        "is not an ECDSA key on P-256 (ES256) or P-384 (ES384); P-521 (ES512) is not supported"
    )]
    Curve,
    #[error("is not an Ed25519 key")]
    Ed25519,
    #[error("is not a JSON Web Key")]
    Malformed,
    #[error("is not a key that signatures are verified with")]
    Usage,
    #[error("is a key for an algorithm that is not supported")]
    Algorithm,
    #[error("is a secret, which has no place in a public set")]
    Symmetric,
}

impl Key {
    /// A shared secret, for HS256, HS384 and HS512.
    pub(super) fn hmac(secret: &Secret) -> Self {
        Self {
            id: None,
            algorithms: HMAC.to_vec(),
            decoding: DecodingKey::from_secret(secret.expose().as_bytes()),
        }
    }

    /// The key, for this algorithm only.
    pub(super) fn only(mut self, algorithm: Algorithm) -> Self {
        self.algorithms.retain(|allowed| *allowed == algorithm);
        self
    }

    /// A public key in PEM: `BEGIN PUBLIC KEY`, for RSA also `BEGIN RSA PUBLIC KEY`.
    pub(super) fn from_pem(kind: PublicKind, pem: &str) -> Result<Self, KeyError> {
        if pem.contains("PRIVATE KEY-----") {
            return Err(KeyError::Private);
        }
        // The library would take the first bits that it finds in a certificate for a key.
        if !pem.contains("PUBLIC KEY-----") {
            return Err(KeyError::Pem);
        }
        let bytes = |key: &DecodingKey| key.try_get_as_bytes().map(<[u8]>::to_vec);
        match kind {
            PublicKind::Rsa => {
                let key = DecodingKey::from_rsa_pem(pem.as_bytes()).and_then(|key| bytes(&key));
                let parts = rust_crypto::DEFAULT_PROVIDER
                    .key_utils
                    .rsa_pub_components_from_public_key;
                let (n, e) = key.and_then(|der| parts(&der)).map_err(|_| KeyError::Rsa)?;
                Self::rsa(&n, &e)
            }
            PublicKind::Ecdsa => {
                let key = DecodingKey::from_ec_pem(pem.as_bytes()).and_then(|key| bytes(&key));
                Self::ecdsa(&key.map_err(|_| KeyError::Curve)?)
            }
            PublicKind::Eddsa => {
                let key = DecodingKey::from_ed_pem(pem.as_bytes()).and_then(|key| bytes(&key));
                Self::eddsa(&key.map_err(|_| KeyError::Ed25519)?)
            }
        }
    }

    /// A JSON Web Key (RFC 7517 §4). Only public keys for signatures are taken.
    pub(super) fn from_jwk(json: &str) -> Result<Self, KeyError> {
        let jwk: Jwk = serde_json::from_str(json).map_err(|_| KeyError::Malformed)?;
        let is_other_use = jwk.usage.as_ref().is_some_and(|usage| usage != "sig");
        let verifies = |operations: &Vec<String>| operations.iter().any(|name| name == "verify");
        if is_other_use || !jwk.key_ops.as_ref().is_none_or(verifies) {
            return Err(KeyError::Usage);
        }
        let mut key = jwk.key()?;
        if let Some(named) = &jwk.alg {
            key.algorithms
                .retain(|allowed| ALGORITHMS.contains(&(named.as_str(), *allowed)));
            if key.algorithms.is_empty() {
                return Err(KeyError::Algorithm);
            }
        }
        key.id = jwk.kid;
        Ok(key)
    }

    fn rsa(n: &[u8], e: &[u8]) -> Result<Self, KeyError> {
        let significant = |number: &[u8]| number.iter().skip_while(|byte| **byte == 0).count();
        if !RSA_MODULUS_BYTES.contains(&significant(n))
            || !(1..=RSA_EXPONENT_MAX_BYTES).contains(&significant(e))
        {
            return Err(KeyError::Rsa);
        }
        Ok(Self::public(
            RSA,
            DecodingKey::from_rsa_raw_components(n, e),
        ))
    }

    /// `point`: uncompressed (SEC 1 §2.3.3), so that its length tells the curve.
    fn ecdsa(point: &[u8]) -> Result<Self, KeyError> {
        let (algorithms, algorithm) = match point.len() {
            65 => (P256, Algorithm::ES256),
            97 => (P384, Algorithm::ES384),
            _ => return Err(KeyError::Curve),
        };
        let decoding = DecodingKey::from_ec_der(point);
        // Fails where there is no such point on the curve: it may be one on another curve.
        crypto::verify("", b"", &decoding, algorithm).map_err(|_| KeyError::Curve)?;
        Ok(Self::public(algorithms, decoding))
    }

    fn eddsa(bytes: &[u8]) -> Result<Self, KeyError> {
        // The library panics when it verifies with a shorter one.
        if bytes.len() != ED25519_BYTES {
            return Err(KeyError::Ed25519);
        }
        let decoding = DecodingKey::from_ed_der(bytes);
        crypto::verify("", b"", &decoding, Algorithm::EdDSA).map_err(|_| KeyError::Ed25519)?;
        Ok(Self::public(ED25519, decoding))
    }

    fn public(algorithms: &[Algorithm], decoding: DecodingKey) -> Self {
        Self {
            id: None,
            algorithms: algorithms.to_vec(),
            decoding,
        }
    }

    /// Whether a token that names its key `id` may mean this one. Only where both have a name can
    /// they differ.
    pub(super) fn may_be(&self, id: Option<&str>) -> bool {
        match (self.id.as_deref(), id) {
            (Some(own), Some(id)) => own == id,
            _ => true,
        }
    }

    /// Whether it may be used with the algorithm.
    pub(super) fn allows(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// The key as the library wants it.
    pub(super) fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }
}

/// A JSON Web Key as it is written.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Jwk {
    fn key(&self) -> Result<Key, KeyError> {
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => Key::rsa(&number(&self.n)?, &number(&self.e)?),
            ("EC", Some(crv @ ("P-256" | "P-384"))) => {
                let size = if crv == "P-256" { 32 } else { 48 };
                let (x, y) = (number(&self.x)?, number(&self.y)?);
                // RFC 7518 §6.2.1.2: each coordinate in full length.
                if x.len() != size || y.len() != size {
                    return Err(KeyError::Curve);
                }
                Key::ecdsa(&[&[4], x.as_slice(), &y].concat())
            }
            ("EC", _) => Err(KeyError::Curve),
            ("OKP", Some("Ed25519")) => Key::eddsa(&number(&self.x)?),
            ("OKP", _) => Err(KeyError::Ed25519),
            ("oct", _) => Err(KeyError::Symmetric),
            _ => Err(KeyError::Algorithm),
        }
    }
}

/// A number in base64url, big-endian (RFC 7518 §2).
fn number(text: &Option<String>) -> Result<Vec<u8>, KeyError> {
    let text = text.as_deref().ok_or(KeyError::Malformed)?;
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| KeyError::Malformed)
}

#[cfg(test)]
mod tests;
