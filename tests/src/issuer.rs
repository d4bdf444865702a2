//! Who issues tokens by a key pair: signs them, and tells its public key to whoever asks.
//!
//! A stand-in for an identity provider: a JSON Web Key Set over HTTP, whose key can be exchanged and
//! which can be out of order.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::get};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rsa::RsaPrivateKey;
use rsa::pkcs1::{EncodeRsaPrivateKey, EncodeRsaPublicKey, LineEnding};
use rsa::rand_core::OsRng;
use rsa::traits::PublicKeyParts;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::token::seconds_from_now;

/// The shortest that may be used.
const KEY_BITS: usize = 2048;

/// How long the tokens live.
const LIFETIME: Duration = Duration::from_secs(600);

/// See the module's documentation.
#[derive(Debug)]
pub struct Issuer {
    address: SocketAddr,
    key: RsaPrivateKey,
    key_id: String,
    shared: Arc<Mutex<Shared>>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    set: Value,
    requests: usize,
    is_out_of_order: bool,
}

impl Issuer {
    /// Makes a key and serves it.
    ///
    /// # Errors
    /// When there is no port for it.
    pub async fn start() -> Result<Self> {
        let key = RsaPrivateKey::new(&mut OsRng, KEY_BITS)?;
        let shared = Arc::new(Mutex::new(Shared {
            set: set(&key, "0"),
            requests: 0,
            is_out_of_order: false,
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let asked = shared.clone();
        let router = Router::new().route("/jwks", get(async move || answer(&asked)));
        Ok(Self {
            address,
            key,
            key_id: "0".to_owned(),
            shared,
            server: tokio::spawn(async { drop(axum::serve(listener, router).await) }),
        })
    }

    /// Where its key set is.
    pub fn url(&self) -> String {
        format!("http://{}/jwks", self.address)
    }

    /// Signs with another key from now on, and tells only that.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn rotate(&mut self) -> Result<()> {
        self.key = RsaPrivateKey::new(&mut OsRng, KEY_BITS)?;
        self.key_id.push('+');
        lock(&self.shared).set = set(&self.key, &self.key_id);
        Ok(())
    }

    /// Has it answer with an error, or well again.
    pub fn out_of_order(&self, is_out_of_order: bool) {
        lock(&self.shared).is_out_of_order = is_out_of_order;
    }

    /// How often its key set was asked for.
    pub fn requests(&self) -> usize {
        lock(&self.shared).requests
    }

    /// A token (RS256) that signs the user in, valid for ten minutes.
    ///
    /// # Errors
    /// When signing fails, which it does not.
    pub fn user(&self, name: &str) -> Result<String> {
        let claims = json!({"sub": name, "exp": seconds_from_now(LIFETIME)});
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some(self.key_id.clone());
        let key = EncodingKey::from_rsa_der(self.key.to_pkcs1_der()?.as_bytes());
        Ok(jsonwebtoken::encode(&header, &claims, &key)?)
    }

    /// Its public key in PEM, which anybody may know.
    ///
    /// # Errors
    /// When it cannot be written, which it can.
    pub fn public_pem(&self) -> Result<String> {
        Ok(self.key.to_public_key().to_pkcs1_pem(LineEnding::LF)?)
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn answer(shared: &Mutex<Shared>) -> Response {
    let mut shared = lock(shared);
    shared.requests += 1;
    if shared.is_out_of_order {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    shared.set.to_string().into_response()
}

fn set(key: &RsaPrivateKey, key_id: &str) -> Value {
    let number = |number: &rsa::BigUint| BASE64_URL_SAFE_NO_PAD.encode(number.to_bytes_be());
    json!({"keys": [{
        "kty": "RSA", "kid": key_id, "use": "sig", "alg": "RS256",
        "n": number(key.n()), "e": number(key.e()),
    }]})
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
