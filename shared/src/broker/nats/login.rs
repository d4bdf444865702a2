//! Who we are to a NATS server, and how that is proved.
//!
//! Owns the kinds of logins and what a server is answered. A secret in a file is read again for every connection, so a
//! new one takes effect when the server ends the old connection, or when that is lost. Nothing secret is in an error.

use std::path::PathBuf;
use std::sync::Arc;

use async_nats::{Auth, AuthError};
use nkeys::{KeyPair, KeyPairType};
use tokio::task::spawn_blocking;

use crate::config::Problems;
use crate::secret::Secret;

/// What the lines around a block of a credentials file begin with.
const DASHES: &str = "---";

/// How to introduce ourselves.
#[derive(Debug, Clone, Default)]
pub enum NatsLogin {
    /// Not at all. (A certificate may say it, too: see [`NatsTls`](super::NatsTls).)
    #[default]
    Nobody,
    /// A user with a password.
    Password {
        /// The user's name.
        user: String,
        /// The password.
        password: NatsSecret,
    },
    /// A token that whoever may connect knows.
    Token(NatsSecret),
    /// The seed of a user's nkey: the server knows the public key, and has us sign.
    Nkey(NatsSecret),
    /// The content of a credentials file: a user's JWT, and the seed to sign with.
    Credentials(NatsSecret),
}

/// Where a part of a login comes from.
#[derive(Debug, Clone)]
pub enum NatsSecret {
    /// From the configuration.
    Here(Secret),
    /// From a file.
    File {
        /// The setting that names the file, without its `_file`.
        key: String,
        /// The file.
        path: PathBuf,
    },
}

/// What is wrong with a login.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginError {
    /// The file cannot be read, or holds nothing.
    #[error("{0}")]
    File(String),
    #[error("is not the seed of a user's nkey (SU...)")]
    Seed,
    #[error("is not the content of a credentials file: a user's JWT and the seed of a user's nkey")]
    Credentials,
}

impl NatsSecret {
    fn read(&self) -> Result<Secret, LoginError> {
        match self {
            Self::Here(secret) => Ok(secret.clone()),
            Self::File { key, path } => {
                let mut problems = Problems::default();
                let secret = Secret::resolve(key, None, Some(path), &mut problems);
                let problems = problems.finish(secret);
                problems.map_err(|all| LoginError::File(all.to_string().trim_end().to_owned()))
            }
        }
    }
}

impl NatsLogin {
    /// What a server is answered that sent `nonce`. Reads files.
    pub(crate) fn answer(&self, nonce: &[u8]) -> Result<Auth, LoginError> {
        let mut auth = Auth::new();
        match self {
            Self::Nobody => {}
            Self::Password { user, password } => {
                auth.username = Some(user.clone());
                auth.password = Some(password.read()?.expose().to_owned());
            }
            Self::Token(token) => auth.token = Some(token.read()?.expose().to_owned()),
            Self::Nkey(seed) => {
                let seed = seed.read()?;
                let pair = user_key(seed.expose()).ok_or(LoginError::Seed)?;
                auth.nkey = Some(pair.public_key());
                auth.signature = Some(pair.sign(nonce).map_err(|_| LoginError::Seed)?);
            }
            Self::Credentials(content) => {
                let content = content.read()?;
                let credentials = parse_credentials(content.expose());
                let (jwt, pair) = credentials.ok_or(LoginError::Credentials)?;
                auth.jwt = Some(jwt.to_owned());
                let signature = pair.sign(nonce).map_err(|_| LoginError::Credentials)?;
                auth.signature = Some(signature);
            }
        }
        Ok(auth)
    }
}

/// The answer to one server, for the library's callback: on a thread that may wait for a file.
pub(super) async fn introduce(login: Arc<NatsLogin>, nonce: Vec<u8>) -> Result<Auth, AuthError> {
    let answer = spawn_blocking(move || login.answer(&nonce).map_err(AuthError::new)).await;
    answer.map_err(AuthError::new)?
}

fn user_key(seed: &str) -> Option<KeyPair> {
    let pair = KeyPair::from_seed(seed.trim()).ok()?;
    (pair.key_pair_type() == KeyPairType::User).then_some(pair)
}

/// A credentials file has two blocks between lines of dashes, in this order: the JWT and the seed.
fn parse_credentials(content: &str) -> Option<(&str, KeyPair)> {
    let jwt = block(content, "NATS USER JWT")?;
    Some((jwt, user_key(block(content, "USER NKEY SEED")?)?))
}

/// The one line of the block `name`. Whatever a line may hold, the line of dashes behind it begins with them; a JWT may
/// have some, too, since `-` is a digit of base64url.
fn block<'a>(content: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = content.split_once(&format!("BEGIN {name}"))?;
    let lines = rest.lines().skip(1).map(str::trim);
    let mut lines = lines.filter(|line| !line.is_empty());
    let (line, end) = (lines.next()?, lines.next()?);
    let is_one_word = !line.starts_with(DASHES) && !line.contains(char::is_whitespace);
    (is_one_word && end.starts_with(DASHES)).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(text: &str) -> NatsSecret {
        NatsSecret::Here(Secret::new(text))
    }

    fn credentials(seed: &str) -> String {
        format!(
            "-----BEGIN NATS USER JWT-----\r\nhead.claims.signature\r\n------END NATS USER JWT------\r\n\n\
             ************************* IMPORTANT *************************\n\
             NKEY Seed printed below can be used to sign and prove identity.\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n\n\
             *************************************************************\n"
        )
    }

    #[test]
    fn who_has_a_key_signs_and_does_not_send_it() {
        let pair = KeyPair::new_user();
        let seed = pair.seed().unwrap();
        let auth = NatsLogin::Nkey(here(&seed)).answer(b"nonce").unwrap();
        assert_eq!(auth.nkey, Some(pair.public_key()));
        pair.verify(b"nonce", &auth.signature.unwrap()).unwrap();

        let login = NatsLogin::Credentials(here(&credentials(&seed)));
        let auth = login.answer(b"nonce").unwrap();
        assert_eq!(auth.jwt.as_deref(), Some("head.claims.signature"));
        assert_eq!((auth.nkey, auth.password, auth.token), (None, None, None));
        pair.verify(b"nonce", &auth.signature.unwrap()).unwrap();
    }

    #[test]
    fn a_jwt_with_dashes_is_taken_whole() {
        let seed = KeyPair::new_user().seed().unwrap();
        let content = credentials(&seed).replace("signature", "sig---nature---");
        let auth = NatsLogin::Credentials(here(&content))
            .answer(b"nonce")
            .unwrap();
        assert_eq!(auth.jwt.as_deref(), Some("head.claims.sig---nature---"));
    }

    #[test]
    fn what_is_no_login_is_refused_without_being_shown() {
        let account = KeyPair::new_account().seed().unwrap();
        let nkeys = ["", "SUSECRET", &account].map(|text| NatsLogin::Nkey(here(text)));
        let bare = KeyPair::new_user().seed().unwrap();
        let whole = credentials(&bare);
        let contents = [
            credentials(&account),
            credentials("SUSECRET"),
            whole.replace("head.claims", "head claims"),
            whole.replace("head.claims.signature\r\n", ""),
            whole.replace("------END USER", "END USER"),
            bare,
        ];
        let credentials = contents.map(|text| NatsLogin::Credentials(here(&text)));
        for login in nkeys.iter().chain(&credentials) {
            let error = login.answer(b"nonce").err().unwrap().to_string();
            assert!(!error.contains("SECRET") && !error.contains(&account));
            assert!(!format!("{login:?}").contains("SECRET"));
        }
    }

    #[test]
    fn a_secret_in_a_file_is_read_for_each_answer() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let login = NatsLogin::Token(NatsSecret::File {
            key: "broker.nats.token".to_owned(),
            path: file.path().to_owned(),
        });
        for token in ["one", "two"] {
            std::fs::write(file.path(), format!("{token}\n")).unwrap();
            assert_eq!(login.answer(b"").unwrap().token.as_deref(), Some(token));
        }
        file.close().unwrap();
        let error = login.answer(b"").err().unwrap().to_string();
        assert!(error.starts_with("broker.nats.token_file: cannot read "));
    }
}
