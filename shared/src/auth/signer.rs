//! Keys that are made for tests, and tokens that are signed with them.

use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PublicKeyData};
use rsa::{
    RsaPrivateKey,
    pkcs1::{EncodeRsaPrivateKey, EncodeRsaPublicKey},
    pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding},
    traits::PublicKeyParts,
};
use serde_json::{Value, json};

/// A private key, and its public half in every form.
pub(super) struct Signer {
    private: EncodingKey,
    /// PKCS #8 in PEM.
    pub(super) private_pem: String,
    /// `BEGIN PUBLIC KEY`.
    pub(super) public_pem: String,
    /// Without `kid`, `alg` and `use`.
    pub(super) jwk: Value,
}

/// Takes a while to make, so there is one.
pub(super) static RSA: LazyLock<Signer> = LazyLock::new(|| rsa(2048));

/// Another one.
pub(super) static OTHER_RSA: LazyLock<Signer> = LazyLock::new(|| rsa(2048));

fn rsa(bits: usize) -> Signer {
    let key = RsaPrivateKey::new(&mut rsa::rand_core::OsRng, bits).expect("is made");
    let number = |number: &rsa::BigUint| URL_SAFE_NO_PAD.encode(number.to_bytes_be());
    let public = key.to_public_key();
    Signer {
        private: EncodingKey::from_rsa_der(key.to_pkcs1_der().expect("is written").as_bytes()),
        private_pem: key
            .to_pkcs8_pem(LineEnding::LF)
            .expect("is written")
            .to_string(),
        public_pem: public
            .to_public_key_pem(LineEnding::LF)
            .expect("is written"),
        jwk: json!({ "kty": "RSA", "n": number(public.n()), "e": number(public.e()) }),
    }
}

/// The public half in the older form, `BEGIN RSA PUBLIC KEY`.
pub(super) fn rsa_pkcs1() -> (Signer, String) {
    let key = RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).expect("is made");
    let signer = Signer {
        private: EncodingKey::from_rsa_der(key.to_pkcs1_der().expect("is written").as_bytes()),
        private_pem: String::new(),
        public_pem: String::new(),
        jwk: Value::Null,
    };
    let pem = key.to_public_key().to_pkcs1_pem(LineEnding::LF);
    (signer, pem.expect("is written"))
}

impl Signer {
    /// On P-256 or P-384.
    pub(super) fn ecdsa(algorithm: Algorithm) -> Self {
        let (kind, curve) = match algorithm {
            Algorithm::ES256 => (&PKCS_ECDSA_P256_SHA256, "P-256"),
            _ => (&PKCS_ECDSA_P384_SHA384, "P-384"),
        };
        let pair = KeyPair::generate_for(kind).expect("is made");
        let (x, y) = pair.der_bytes()[1..].split_at(pair.der_bytes().len() / 2);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let jwk = json!({ "kty": "EC", "crv": curve, "x": x, "y": y });
        Self::of(&pair, EncodingKey::from_ec_der(&pair.serialize_der()), jwk)
    }

    /// On Ed25519.
    pub(super) fn eddsa() -> Self {
        let pair = KeyPair::generate_for(&PKCS_ED25519).expect("is made");
        let x = URL_SAFE_NO_PAD.encode(pair.der_bytes());
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": x });
        Self::of(&pair, EncodingKey::from_ed_der(&pair.serialize_der()), jwk)
    }

    fn of(pair: &KeyPair, private: EncodingKey, jwk: Value) -> Self {
        Self {
            private,
            private_pem: pair.serialize_pem(),
            public_pem: pair.public_key_pem(),
            jwk,
        }
    }

    /// The public half as a JSON Web Key with these members as well.
    pub(super) fn jwk_with(&self, members: &Value) -> Value {
        let mut jwk = self.jwk.clone();
        for (name, value) in members.as_object().expect("is an object") {
            jwk[name] = value.clone();
        }
        jwk
    }

    /// A token with the claims, and with a `kid` if there is one.
    pub(super) fn token(&self, algorithm: Algorithm, kid: Option<&str>, claims: &Value) -> String {
        let mut header = Header::new(algorithm);
        header.kid = kid.map(str::to_owned);
        jsonwebtoken::encode(&header, claims, &self.private).expect("signs")
    }
}
