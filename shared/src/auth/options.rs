//! How tokens are verified, as written in a configuration.
//!
//! Owns the options and what makes sense of them. Gateway and worker have them under keys of their
//! own; it does not know which.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    claims::Rules,
    jwks::{Ages, Endpoint, Jwks},
    jwt::Verifier,
    key::{Key, PublicKind},
};
use crate::{
    config::{Problems, duration},
    secret::Secret,
};

/// Older keys than these are no use to anyone, and times stay within what a clock can tell.
const JWKS_AGE_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// How tokens are verified, as written in a configuration. Keys of several kinds may be set: each is
/// used only with the algorithms of its kind. They are read once, at the start.
///
/// A public key is no secret; it is treated as one so that a private key that was put in its place by
/// mistake is not shown when that is reported.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
    /// The public half of an RSA key that applications sign tokens with (RS256, RS384, RS512), in PEM;
    /// 2048 to 4096 bits.
    pub rsa_public_key: Option<Secret>,
    /// A file that holds it, instead.
    pub rsa_public_key_file: Option<PathBuf>,
    /// The key before it: tokens signed with it are still accepted while keys are changed.
    pub rsa_previous_public_key: Option<Secret>,
    /// A file that holds the key before it, instead.
    pub rsa_previous_public_key_file: Option<PathBuf>,
    /// The public half of an ECDSA key that applications sign tokens with, in PEM; on P-256 (ES256) or
    /// P-384 (ES384). P-521 (ES512) is not supported.
    pub ecdsa_public_key: Option<Secret>,
    /// A file that holds it, instead.
    pub ecdsa_public_key_file: Option<PathBuf>,
    /// The key before it: tokens signed with it are still accepted while keys are changed.
    pub ecdsa_previous_public_key: Option<Secret>,
    /// A file that holds the key before it, instead.
    pub ecdsa_previous_public_key_file: Option<PathBuf>,
    /// The public half of an Ed25519 key that applications sign tokens with (EdDSA), in PEM.
    pub eddsa_public_key: Option<Secret>,
    /// A file that holds it, instead.
    pub eddsa_public_key_file: Option<PathBuf>,
    /// The key before it: tokens signed with it are still accepted while keys are changed.
    pub eddsa_previous_public_key: Option<Secret>,
    /// A file that holds the key before it, instead.
    pub eddsa_previous_public_key_file: Option<PathBuf>,
    /// The URL of a JSON Web Key Set with public keys of these kinds; empty = there is none. `https`,
    /// with a certificate that the system's roots vouch for; `http` only to this machine. Redirects
    /// are not followed, nor are proxies used. A token says by its `kid` which of the keys it means; one
    /// that does not is tried with four of them.
    pub jwks_public_endpoint: String,
    /// `http` is good enough for the key set: whoever can change answers on the way can then forge
    /// tokens.
    pub jwks_allow_http: bool,
    /// How long the key set's server may take to answer.
    #[serde(with = "duration")]
    pub jwks_timeout: Duration,
    /// Keys that are younger than this are not fetched again, whatever tokens name.
    #[serde(with = "duration")]
    pub jwks_min_refresh_age: Duration,
    /// Keys that are this old are fetched again: sooner if `Cache-Control: max-age` says so, or if a
    /// token names a key that is not there.
    #[serde(with = "duration")]
    pub jwks_max_refresh_age: Duration,
    /// How old keys may become while they cannot be fetched again; after that they are not used.
    #[serde(with = "duration")]
    pub jwks_max_stale_age: Duration,
    /// What the `aud` claim has to contain; empty = it is not checked.
    pub audience: String,
    /// What the `iss` claim has to be; empty = it is not checked.
    pub issuer: String,
    /// Tokens without an `exp` claim, which never expire, are refused.
    pub require_exp: bool,
}

impl Default for TokenOptions {
    fn default() -> Self {
        Self {
            hmac_secret_key: None,
            hmac_secret_key_file: None,
            hmac_previous_secret_key: None,
            hmac_previous_secret_key_file: None,
            rsa_public_key: None,
            rsa_public_key_file: None,
            rsa_previous_public_key: None,
            rsa_previous_public_key_file: None,
            ecdsa_public_key: None,
            ecdsa_public_key_file: None,
            ecdsa_previous_public_key: None,
            ecdsa_previous_public_key_file: None,
            eddsa_public_key: None,
            eddsa_public_key_file: None,
            eddsa_previous_public_key: None,
            eddsa_previous_public_key_file: None,
            jwks_public_endpoint: String::new(),
            jwks_allow_http: false,
            jwks_timeout: Duration::from_secs(5),
            jwks_min_refresh_age: Duration::from_secs(30),
            jwks_max_refresh_age: Duration::from_secs(15 * 60),
            jwks_max_stale_age: Duration::from_secs(24 * 60 * 60),
            audience: String::new(),
            issuer: String::new(),
            require_exp: false,
        }
    }
}

impl TokenOptions {
    /// The verifier for these options, which are found at `key` of the configuration. What is wrong
    /// with them is noted in `problems`.
    pub fn verifier(&self, key: &str, problems: &mut Problems) -> Verifier {
        let mut keys = Vec::new();
        for pair in self.pairs() {
            keys.extend(pair.keys(key, problems));
        }
        let rules = Rules {
            audience: self.audience.clone(),
            issuer: self.issuer.clone(),
            require_exp: self.require_exp,
        };
        Verifier::with(keys, self.jwks(key, problems), rules)
    }

    fn pairs(&self) -> [Pair<'_>; 4] {
        /// The fields of one kind of key, and their names.
        macro_rules! pair {
            ($kind:expr, [$current:ident, $current_file:ident], [$previous:ident, $previous_file:ident]) => {
                Pair {
                    kind: $kind,
                    current: Written {
                        name: stringify!($current),
                        direct: self.$current.as_ref(),
                        file: self.$current_file.as_deref(),
                    },
                    previous: Written {
                        name: stringify!($previous),
                        direct: self.$previous.as_ref(),
                        file: self.$previous_file.as_deref(),
                    },
                }
            };
        }

        [
            pair!(
                None,
                [hmac_secret_key, hmac_secret_key_file],
                [hmac_previous_secret_key, hmac_previous_secret_key_file]
            ),
            pair!(
                Some(PublicKind::Rsa),
                [rsa_public_key, rsa_public_key_file],
                [rsa_previous_public_key, rsa_previous_public_key_file]
            ),
            pair!(
                Some(PublicKind::Ecdsa),
                [ecdsa_public_key, ecdsa_public_key_file],
                [ecdsa_previous_public_key, ecdsa_previous_public_key_file]
            ),
            pair!(
                Some(PublicKind::Eddsa),
                [eddsa_public_key, eddsa_public_key_file],
                [eddsa_previous_public_key, eddsa_previous_public_key_file]
            ),
        ]
    }

    fn jwks(&self, key: &str, problems: &mut Problems) -> Option<Arc<Jwks>> {
        if self.jwks_public_endpoint.is_empty() {
            return None;
        }
        let ascending = [
            (
                "jwks_max_refresh_age",
                self.jwks_max_refresh_age,
                "jwks_min_refresh_age",
                self.jwks_min_refresh_age,
            ),
            (
                "jwks_max_stale_age",
                self.jwks_max_stale_age,
                "jwks_max_refresh_age",
                self.jwks_max_refresh_age,
            ),
        ];
        for (name, age, other_name, other) in ascending {
            if age < other {
                problems.add(
                    &format!("{key}.{name}"),
                    format!("is shorter than {key}.{other_name}"),
                );
            }
        }
        if self.jwks_max_stale_age > JWKS_AGE_MAX {
            problems.add(
                &format!("{key}.jwks_max_stale_age"),
                "is longer than a year",
            );
        }
        let positive = [
            ("jwks_timeout", self.jwks_timeout),
            ("jwks_min_refresh_age", self.jwks_min_refresh_age),
        ];
        for (name, _) in positive.iter().filter(|(_, duration)| duration.is_zero()) {
            problems.add(&format!("{key}.{name}"), "must not be zero");
        }
        let endpoint = Endpoint::new(
            &self.jwks_public_endpoint,
            self.jwks_allow_http,
            self.jwks_timeout,
        );
        let endpoint = problems.check(&format!("{key}.jwks_public_endpoint"), endpoint)?;
        let ages = Ages {
            min_refresh: self.jwks_min_refresh_age,
            max_refresh: self.jwks_max_refresh_age,
            max_stale: self.jwks_max_stale_age,
        };
        Some(Arc::new(Jwks::new(endpoint, ages)))
    }
}

/// A key as written: directly, or in a file.
struct Written<'a> {
    name: &'static str,
    direct: Option<&'a Secret>,
    file: Option<&'a Path>,
}

/// The key of one kind and the key before it.
struct Pair<'a> {
    /// `None`: a shared secret.
    kind: Option<PublicKind>,
    current: Written<'a>,
    previous: Written<'a>,
}

impl Pair<'_> {
    /// The keys, the current one first.
    fn keys(&self, key: &str, problems: &mut Problems) -> Vec<Key> {
        let [current, previous] = [&self.current, &self.previous].map(|written| {
            let name = format!("{key}.{}", written.name);
            Secret::resolve(&name, written.direct, written.file, problems)
        });
        if previous.is_some() && current.is_none() {
            let problem = format!("needs {key}.{}", self.current.name);
            problems.add(&format!("{key}.{}", self.previous.name), problem);
        }
        let found = [(&self.current, current), (&self.previous, previous)];
        let keys = found.into_iter().filter_map(|(written, secret)| {
            let suffix = if written.file.is_some() { "_file" } else { "" };
            let name = format!("{key}.{}{suffix}", written.name);
            problems.check(&name, self.key(&secret?))
        });
        keys.collect()
    }

    fn key(&self, written: &Secret) -> Result<Key, String> {
        match self.kind {
            Some(kind) => Key::from_pem(kind, written.expose()).map_err(|error| error.to_string()),
            None if is_public(written) => {
                Err("is public: with it as a secret, anyone could sign tokens".to_owned())
            }
            None => Ok(Key::hmac(written)),
        }
    }
}

fn is_public(secret: &Secret) -> bool {
    ["PUBLIC KEY-----", "CERTIFICATE-----"]
        .iter()
        .any(|label| secret.expose().contains(label))
}

#[cfg(test)]
mod tests;
