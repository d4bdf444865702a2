//! What the gateway tells a worker about a client: a passport.
//!
//! Owns its form and its keys. A passport is a JSON Web Token that the gateway signs for every
//! connection and the worker verifies before it believes anything; it is short-lived, and carries
//! the identity if the gateway has verified one. Nothing outside of the fleet ever sees one.

use std::path::PathBuf;

use jsonwebtoken::Algorithm;
use serde::{Deserialize, Serialize};

use super::{
    claims::ConnectionClaims,
    jwt::{self, SignError, TokenError, TokenHeader},
    key::Key,
};
use crate::{config::Problems, secret::Secret};

/// The header that carries the passport from gateway to worker.
pub const PASSPORT_HEADER: &str = "x-flotilla-passport";

/// What the names of all internal headers start with. The gateway strips those of a client.
pub const INTERNAL_HEADER_PREFIX: &str = "x-flotilla-";

/// How long a passport is valid from the moment it is signed, in seconds: the time for the worker's
/// handshake, and for clocks that differ a little.
pub const PASSPORT_TTL_SECONDS: u64 = 30;

/// The least number of bytes in a key (RFC 7518 §3.2: no shorter than the hash).
pub const PASSPORT_KEY_MIN_BYTES: usize = 32;

const ISSUER: &str = "flotilla-gateway";
const AUDIENCE: &str = "flotilla-worker";

/// What the gateway tells about a client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passport {
    /// Who the client is, if the gateway has verified its token; else the worker decides from the
    /// token in the connect command.
    pub identity: Option<ConnectionClaims>,
    /// The client's address as the gateway saw it, without the port.
    pub client_address: String,
    /// Names this connection in the logs of gateway and worker.
    pub request_id: String,
}

/// The passport's keys, as written in a configuration.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PassportOptions {
    /// The fleet's key (HS256), at least 32 bytes: the same in every gateway and worker, and
    /// different from any key that tokens are signed with.
    pub secret_key: Option<Secret>,
    /// A file that holds it, instead.
    pub secret_key_file: Option<PathBuf>,
    /// The key before it: passports signed with it are still accepted while keys are changed.
    pub previous_secret_key: Option<Secret>,
    /// A file that holds the key before it, instead.
    pub previous_secret_key_file: Option<PathBuf>,
}

impl PassportOptions {
    /// The keys for these options, which are found at `key` of the configuration; `None` if there
    /// are none, or if something is wrong with them, which is then noted in `problems`.
    pub fn keys(&self, key: &str, problems: &mut Problems) -> Option<PassportKeys> {
        let current_key = format!("{key}.secret_key");
        let previous_key = format!("{key}.previous_secret_key");
        let current = Secret::resolve(
            &current_key,
            self.secret_key.as_ref(),
            self.secret_key_file.as_deref(),
            problems,
        );
        let previous = Secret::resolve(
            &previous_key,
            self.previous_secret_key.as_ref(),
            self.previous_secret_key_file.as_deref(),
            problems,
        );
        for (key, secret) in [(&current_key, &current), (&previous_key, &previous)] {
            if secret.as_ref().is_some_and(is_short) {
                problems.add(
                    key,
                    format!("the key is shorter than {PASSPORT_KEY_MIN_BYTES} bytes"),
                );
            }
        }
        match current {
            None if previous.is_some() => {
                problems.add(&previous_key, format!("needs {current_key}"));
                None
            }
            None => None,
            Some(current) => PassportKeys::new(current, previous.as_ref()).ok(),
        }
    }
}

/// Why a passport is refused. The text never contains a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PassportError {
    /// Not a passport at all, or not one from a gateway for a worker.
    #[error("malformed passport")]
    Malformed,
    /// Not signed with one of the fleet's keys.
    #[error("passport not signed by this fleet")]
    Signature,
    /// Too old: replayed, or the clocks of gateway and worker differ.
    #[error("passport expired")]
    Expired,
}

impl PassportError {
    /// The label for metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Signature => "signature",
            Self::Expired => "expired",
        }
    }
}

/// A key that is too short to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a passport key has at least {PASSPORT_KEY_MIN_BYTES} bytes")]
pub struct ShortKey;

/// Signs and verifies passports, and seals what workers write for each other.
#[derive(Debug)]
pub struct PassportKeys {
    pub(super) signing: Secret,
    pub(super) accepted: Vec<Key>,
}

impl PassportKeys {
    /// Signs with `current`; accepts what is signed with either.
    ///
    /// # Errors
    /// When a key is shorter than [`PASSPORT_KEY_MIN_BYTES`].
    pub fn new(current: Secret, previous: Option<&Secret>) -> Result<Self, ShortKey> {
        if is_short(&current) || previous.is_some_and(is_short) {
            return Err(ShortKey);
        }
        let accepted = [Some(&current), previous]
            .into_iter()
            .flatten()
            .map(|secret| Key::hmac(secret).only(Algorithm::HS256));
        Ok(Self {
            accepted: accepted.collect(),
            signing: current,
        })
    }

    /// Signs a passport that is valid for [`PASSPORT_TTL_SECONDS`] from `now` (seconds since the
    /// Unix epoch) on.
    ///
    /// # Errors
    /// When it cannot be written as JSON, which no passport is known to cause.
    pub fn sign(&self, passport: &Passport, now: u64) -> Result<String, SignError> {
        let claims = SealedRef {
            iss: ISSUER,
            aud: AUDIENCE,
            exp: now.saturating_add(PASSPORT_TTL_SECONDS),
            passport,
        };
        jwt::sign(&claims, &self.signing)
    }

    /// Verifies a passport at `now` (seconds since the Unix epoch).
    ///
    /// # Errors
    /// When it is refused: whatever it says must not be believed.
    pub fn verify(&self, passport: &str, now: u64) -> Result<Passport, PassportError> {
        let sealed = TokenHeader::of(passport)
            .and_then(|header| jwt::decode(passport, &header, &self.accepted));
        let sealed: Sealed = sealed.map_err(|error| match error {
            TokenError::Signature => PassportError::Signature,
            _ => PassportError::Malformed,
        })?;
        if sealed.iss != ISSUER || sealed.aud != AUDIENCE {
            return Err(PassportError::Malformed);
        }
        if sealed.exp <= now {
            return Err(PassportError::Expired);
        }
        Ok(sealed.passport)
    }
}

fn is_short(key: &Secret) -> bool {
    key.expose().len() < PASSPORT_KEY_MIN_BYTES
}

/// The claims of a passport as it is signed.
#[derive(Serialize)]
struct SealedRef<'a> {
    iss: &'static str,
    aud: &'static str,
    exp: u64,
    passport: &'a Passport,
}

/// The claims of a passport as it is read.
#[derive(Deserialize)]
struct Sealed {
    iss: String,
    aud: String,
    exp: u64,
    passport: Passport,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::auth::ChannelGrant;

    const NOW: u64 = 1_700_000_000;

    fn secret(filler: char) -> Secret {
        Secret::new(filler.to_string().repeat(PASSPORT_KEY_MIN_BYTES))
    }

    fn keys(filler: char) -> PassportKeys {
        PassportKeys::new(secret(filler), None).expect("the key is long enough")
    }

    fn passport() -> Passport {
        Passport {
            identity: Some(ConnectionClaims {
                user: "42".to_owned(),
                expire_at: Some(NOW + 60),
                info: Bytes::from_static(b"{\"b\": 1.0,  \"a\":\"\\u00e9\"}"),
                channels: vec!["news".to_owned()],
                subs: BTreeMap::from([("b".to_owned(), ChannelGrant::default())]),
                meta: Bytes::from_static(&[0, 0xff]),
                token_id: Some("id".to_owned()),
                issued_at: Some(NOW),
            }),
            client_address: "2001:db8::1".to_owned(),
            request_id: "r1".to_owned(),
        }
    }

    #[test]
    fn a_passport_arrives_as_it_was_sent() {
        let signed = keys('a').sign(&passport(), NOW).expect("signs");
        assert_eq!(keys('a').verify(&signed, NOW), Ok(passport()));

        let anonymous = Passport::default();
        let signed = keys('a').sign(&anonymous, NOW).expect("signs");
        assert_eq!(keys('a').verify(&signed, NOW), Ok(anonymous));
    }

    #[test]
    fn odd_payloads_arrive_byte_for_byte() {
        for info in [
            &b""[..],
            b" {} ",
            b"null",
            b"{\"a\":1}\n",
            b"\"\"",
            b"\xff\x00",
            b"{",
        ] {
            let mut sent = passport();
            sent.identity.as_mut().expect("has one").info = Bytes::from_static(info);
            let signed = keys('a').sign(&sent, NOW).expect("signs");
            assert_eq!(keys('a').verify(&signed, NOW), Ok(sent), "{info:?}");
        }
    }

    #[test]
    fn a_forged_passport_is_refused() {
        let forged = keys('b').sign(&passport(), NOW).expect("signs");
        assert_eq!(
            keys('a').verify(&forged, NOW),
            Err(PassportError::Signature)
        );
        for garbage in ["", "..", "x.y.z", "42"] {
            assert_eq!(
                keys('a').verify(garbage, NOW),
                Err(PassportError::Malformed)
            );
        }
    }

    #[test]
    fn a_passport_that_is_not_signed_is_refused() {
        let signed = keys('a').sign(&passport(), NOW).expect("signs");
        let payload = signed.split('.').nth(1).expect("has a payload");
        // {"alg":"none"}
        let unsigned = format!("eyJhbGciOiJub25lIn0.{payload}.");
        assert_eq!(
            keys('a').verify(&unsigned, NOW),
            Err(PassportError::Malformed)
        );
    }

    #[test]
    fn an_old_passport_is_refused() {
        let signed = keys('a').sign(&passport(), NOW).expect("signs");
        assert!(
            keys('a')
                .verify(&signed, NOW + PASSPORT_TTL_SECONDS - 1)
                .is_ok()
        );
        let refused = keys('a').verify(&signed, NOW + PASSPORT_TTL_SECONDS);
        assert_eq!(refused, Err(PassportError::Expired));
    }

    #[test]
    fn a_passport_signed_with_the_previous_key_is_accepted() {
        let signed = keys('a').sign(&passport(), NOW).expect("signs");
        let rotated = PassportKeys::new(secret('b'), Some(&secret('a'))).expect("long enough");
        assert_eq!(rotated.verify(&signed, NOW), Ok(passport()));
        let fresh = rotated.sign(&passport(), NOW).expect("signs");
        assert_eq!(keys('b').verify(&fresh, NOW), Ok(passport()));
        assert_eq!(keys('a').verify(&fresh, NOW), Err(PassportError::Signature));
    }

    #[test]
    fn a_token_of_a_user_is_no_passport_even_with_the_same_key() {
        let claims = json!({ "sub": "42", "exp": NOW + 10, "passport": passport() });
        for (iss, aud) in [("app", AUDIENCE), (ISSUER, "app")] {
            let mut claims = claims.clone();
            claims["iss"] = json!(iss);
            claims["aud"] = json!(aud);
            let token = jwt::sign(&claims, &secret('a')).expect("signs");
            assert_eq!(keys('a').verify(&token, NOW), Err(PassportError::Malformed));
        }
        let token = jwt::sign(&claims, &secret('a')).expect("signs");
        assert_eq!(keys('a').verify(&token, NOW), Err(PassportError::Malformed));
    }

    #[test]
    fn a_short_key_is_refused() {
        assert!(PassportKeys::new(Secret::new("secret"), None).is_err());
        assert!(PassportKeys::new(secret('a'), Some(&Secret::new("secret"))).is_err());

        let options = PassportOptions {
            secret_key: Some(Secret::new("secret")),
            ..PassportOptions::default()
        };
        let mut problems = Problems::default();
        assert!(options.keys("passport", &mut problems).is_none());
        assert_eq!(
            problems.to_string(),
            "passport.secret_key: the key is shorter than 32 bytes\n"
        );
    }
}
