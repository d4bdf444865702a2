//! Promises about keys: each verifies with the algorithms of its kind, and what is none is refused.

use serde_json::{Value, json};

use super::*;
use crate::auth::{
    jwt::{self, TokenError, TokenHeader},
    signer::{OTHER_RSA, RSA, Signer, rsa_pkcs1},
};

const RSA_ALGORITHMS: [Algorithm; 3] = [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512];

const P521_PEM: &str = "-----BEGIN PUBLIC KEY-----
MIGbMBAGByqGSM49AgEGBSuBBAAjA4GGAAQAasO4ccdflxe4aV/D95bSULdkCHPt
4uAu+o3bOgDj7gkLrz82Dr6yVrN/zhz/08N1SiAs8nTrS7nh9BdLg6T4ZkUBR6f/
HMAS9FsH72IWBLoZC/UKffwJRwkARq/iMUwTRZ2OyK/ZrzsVqCmmQ6aSXdPFJvR6
ESuWQvmEkJhOpJG+tOA=
-----END PUBLIC KEY-----";
const SECP256K1_PEM: &str = "-----BEGIN PUBLIC KEY-----
MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAE2i/u7wCcJFi3aQHNS8f8+w6yCmOlLmVw
a/Gix7KBfB0xKVKPefGEldKUi+wUS/GgacOVNsV9wNTuhx5cKOXvMw==
-----END PUBLIC KEY-----";
const RSA1024_PEM: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDF0eltEzqNN7N2UOjMSth80BHF
8wN2JWRQkhmbp9UdZj0lcrcCwIS3bEFZv6T/0+AfpH0luWVFTfJQw5pEcjLeUFNU
vF2zvf9u7EjFs5oC73BgAE4X6ZRvks6LujvfmQ/yaRAvmrteAYAgeIFbNjglnCJ5
Sk5S8PelSYobN5zLaQIDAQAB
-----END PUBLIC KEY-----";
const ED448_PEM: &str = "-----BEGIN PUBLIC KEY-----
MEMwBQYDK2VxAzoA48yukm52nR6RhVVOLaAi75E52pffdH8y7YGDM38CZ1XJGfVC
G4HAiwEi6jrSbgpIOeLDN2si9yoA
-----END PUBLIC KEY-----";

/// Who signs with the algorithm, and who else might have.
fn signers(algorithm: Algorithm) -> (PublicKind, Signer, Signer) {
    let ecdsa = || Signer::ecdsa(algorithm);
    match algorithm {
        Algorithm::ES256 | Algorithm::ES384 => (PublicKind::Ecdsa, ecdsa(), ecdsa()),
        _ => (PublicKind::Eddsa, Signer::eddsa(), Signer::eddsa()),
    }
}

fn check(keys: &[Key], token: &str) -> Result<Value, TokenError> {
    jwt::decode(token, &TokenHeader::of(token)?, keys)
}

fn check_kind(kind: PublicKind, algorithm: Algorithm, signer: &Signer, other: &Signer) {
    let claims = json!({ "sub": "42" });
    let token = signer.token(algorithm, None, &claims);
    let forged = other.token(algorithm, None, &claims);
    let pem = Key::from_pem(kind, &signer.public_pem).expect("is a key");
    let jwk = Key::from_jwk(&signer.jwk.to_string()).expect("is a key");
    for key in [pem, jwk] {
        let keys = [key];
        assert_eq!(check(&keys, &token), Ok(claims.clone()), "{algorithm:?}");
        assert_eq!(
            check(&keys, &forged),
            Err(TokenError::Signature),
            "{algorithm:?}"
        );
    }
}

#[test]
fn every_algorithm_verifies_with_its_key_and_no_other() {
    for algorithm in RSA_ALGORITHMS {
        check_kind(PublicKind::Rsa, algorithm, &RSA, &OTHER_RSA);
    }
    for algorithm in [Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA] {
        let (kind, signer, other) = signers(algorithm);
        check_kind(kind, algorithm, &signer, &other);
    }
}

#[test]
fn an_rsa_key_is_read_in_the_older_form_too() {
    let (signer, pem) = rsa_pkcs1();
    let keys = [Key::from_pem(PublicKind::Rsa, &pem).expect("is a key")];
    let token = signer.token(Algorithm::RS256, None, &json!({}));
    assert_eq!(check(&keys, &token), Ok(json!({})));
}

#[test]
fn a_public_key_is_never_taken_for_a_secret() {
    // The classic attack: whoever knows the public key signs with its bytes as an HMAC secret.
    let elliptic = Signer::ecdsa(Algorithm::ES256);
    for (kind, signer) in [(PublicKind::Rsa, &*RSA), (PublicKind::Ecdsa, &elliptic)] {
        let pem = Key::from_pem(kind, &signer.public_pem).expect("is a key");
        let jwk = Key::from_jwk(&signer.jwk.to_string()).expect("is a key");
        let keys = [pem, jwk];
        for secret in [signer.public_pem.as_str(), signer.public_pem.trim_end()] {
            let forged = jwt::sign(&json!({ "sub": "42" }), &Secret::new(secret)).expect("signs");
            assert_eq!(check(&keys, &forged), Err(TokenError::Algorithm));
        }
    }
}

#[test]
fn a_key_is_not_used_with_the_algorithm_of_another_kind() {
    let es256 = Signer::ecdsa(Algorithm::ES256);
    let es384 = Signer::ecdsa(Algorithm::ES384);
    let eddsa = Signer::eddsa();
    let tokens = [
        RSA.token(Algorithm::RS256, None, &json!({})),
        es256.token(Algorithm::ES256, None, &json!({})),
        es384.token(Algorithm::ES384, None, &json!({})),
        eddsa.token(Algorithm::EdDSA, None, &json!({})),
        jwt::sign(&json!({}), &Secret::new("secret")).expect("signs"),
    ];
    let public = |signer: &Signer| Key::from_jwk(&signer.jwk.to_string()).expect("is a key");
    let keys = [
        public(&RSA),
        public(&es256),
        public(&es384),
        public(&eddsa),
        Key::hmac(&Secret::new("secret")),
    ];
    for (of_key, key) in keys.iter().enumerate() {
        for (of_token, token) in tokens.iter().enumerate() {
            let header = TokenHeader::of(token).expect("is a header");
            let result: Result<Value, _> = jwt::decode(token, &header, [key]);
            let expected = if of_key == of_token {
                Ok(json!({}))
            } else {
                Err(TokenError::Algorithm)
            };
            assert_eq!(result, expected, "key {of_key}, token {of_token}");
        }
    }
}

#[test]
fn a_json_web_key_that_names_its_algorithm_is_used_with_no_other() {
    let jwk = RSA.jwk_with(&json!({ "alg": "RS512", "use": "sig", "key_ops": ["verify"] }));
    let keys = [Key::from_jwk(&jwk.to_string()).expect("is a key")];
    for algorithm in RSA_ALGORITHMS {
        let result = check(&keys, &RSA.token(algorithm, None, &json!({})));
        if algorithm == Algorithm::RS512 {
            assert_eq!(result, Ok(json!({})));
        } else {
            assert_eq!(result, Err(TokenError::Algorithm), "{algorithm:?}");
        }
    }
}

#[test]
fn a_json_web_key_for_something_else_is_refused() {
    let elliptic = Signer::ecdsa(Algorithm::ES256);
    let x = elliptic.jwk["x"].clone();
    let eddsa = Signer::eddsa();
    for (jwk, error) in [
        (RSA.jwk_with(&json!({ "use": "enc" })), KeyError::Usage),
        (
            RSA.jwk_with(&json!({ "key_ops": ["sign"] })),
            KeyError::Usage,
        ),
        (
            RSA.jwk_with(&json!({ "alg": "PS256" })),
            KeyError::Algorithm,
        ),
        (
            RSA.jwk_with(&json!({ "alg": "HS256" })),
            KeyError::Algorithm,
        ),
        (
            RSA.jwk_with(&json!({ "alg": "RSA-OAEP" })),
            KeyError::Algorithm,
        ),
        (RSA.jwk_with(&json!({ "n": "AQAB" })), KeyError::Rsa),
        (RSA.jwk_with(&json!({ "e": "" })), KeyError::Rsa),
        (
            RSA.jwk_with(&json!({ "n": "not base64url!" })),
            KeyError::Malformed,
        ),
        (RSA.jwk_with(&json!({ "kid": 7 })), KeyError::Malformed),
        (RSA.jwk_with(&json!({ "kty": "EC" })), KeyError::Curve),
        (
            elliptic.jwk_with(&json!({ "alg": "ES384" })),
            KeyError::Algorithm,
        ),
        (
            elliptic.jwk_with(&json!({ "crv": "P-384" })),
            KeyError::Curve,
        ),
        (
            elliptic.jwk_with(&json!({ "crv": "P-521" })),
            KeyError::Curve,
        ),
        (
            elliptic.jwk_with(&json!({ "crv": "secp256k1" })),
            KeyError::Curve,
        ),
        (elliptic.jwk_with(&json!({ "y": x })), KeyError::Curve),
        (
            elliptic.jwk_with(&json!({ "x": null })),
            KeyError::Malformed,
        ),
        (
            eddsa.jwk_with(&json!({ "crv": "Ed448" })),
            KeyError::Ed25519,
        ),
        (eddsa.jwk_with(&json!({ "x": "AAAA" })), KeyError::Ed25519),
        (
            json!({ "kty": "oct", "k": "c2VjcmV0" }),
            KeyError::Symmetric,
        ),
        (json!({ "kty": "quantum" }), KeyError::Algorithm),
        (json!(["kty"]), KeyError::Malformed),
    ] {
        assert_eq!(Key::from_jwk(&jwk.to_string()).err(), Some(error), "{jwk}");
    }
}

#[test]
fn pem_that_is_no_public_key_of_its_kind_is_refused() {
    let elliptic = Signer::ecdsa(Algorithm::ES256);
    let (rsa, ecdsa, eddsa) = (PublicKind::Rsa, PublicKind::Ecdsa, PublicKind::Eddsa);
    for (kind, pem, error) in [
        (rsa, RSA.private_pem.as_str(), KeyError::Private),
        (ecdsa, &elliptic.private_pem, KeyError::Private),
        (rsa, "MIIBIjANBgkq", KeyError::Pem),
        (
            rsa,
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
            KeyError::Pem,
        ),
        (
            rsa,
            "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
            KeyError::Rsa,
        ),
        (rsa, &elliptic.public_pem, KeyError::Rsa),
        (rsa, RSA1024_PEM, KeyError::Rsa),
        (ecdsa, &RSA.public_pem, KeyError::Curve),
        (ecdsa, P521_PEM, KeyError::Curve),
        (ecdsa, SECP256K1_PEM, KeyError::Curve),
        (eddsa, &elliptic.public_pem, KeyError::Ed25519),
        (eddsa, ED448_PEM, KeyError::Ed25519),
    ] {
        assert_eq!(
            Key::from_pem(kind, pem).err(),
            Some(error),
            "{kind:?} {pem}"
        );
    }
}
