//! Promises about the options: which keys they give, and what is said about those that make no sense.

use jsonwebtoken::Algorithm;
use serde_json::json;

use super::*;
use crate::auth::{
    TokenError, jwt,
    signer::{OTHER_RSA, RSA, Signer},
};

const NOW: u64 = 1_700_000_000;

fn verifier(options: &TokenOptions) -> Verifier {
    let mut problems = Problems::default();
    let verifier = options.verifier("client.token", &mut problems);
    assert_eq!(problems.to_string(), "");
    verifier
}

fn problems(options: &TokenOptions) -> String {
    let mut problems = Problems::default();
    options.verifier("client.token", &mut problems);
    problems.to_string()
}

fn secret(text: &str) -> Option<Secret> {
    Some(Secret::new(text))
}

#[test]
fn keys_of_all_kinds_work_side_by_side_and_so_do_those_before_them() {
    let [ecdsa, old_ecdsa] = [Algorithm::ES256, Algorithm::ES384].map(Signer::ecdsa);
    let [eddsa, old_eddsa] = [Signer::eddsa(), Signer::eddsa()];
    let verifier = verifier(&TokenOptions {
        hmac_secret_key: secret("new"),
        hmac_previous_secret_key: secret("old"),
        rsa_public_key: secret(&RSA.public_pem),
        rsa_previous_public_key: secret(&OTHER_RSA.public_pem),
        ecdsa_public_key: secret(&ecdsa.public_pem),
        ecdsa_previous_public_key: secret(&old_ecdsa.public_pem),
        eddsa_public_key: secret(&eddsa.public_pem),
        eddsa_previous_public_key: secret(&old_eddsa.public_pem),
        ..TokenOptions::default()
    });
    let claims = json!({ "sub": "42" });
    let hmac = |key| jwt::sign(&claims, &Secret::new(key)).expect("signs");
    for token in [
        hmac("new"),
        hmac("old"),
        RSA.token(Algorithm::RS256, None, &claims),
        OTHER_RSA.token(Algorithm::RS512, Some("any name"), &claims),
        ecdsa.token(Algorithm::ES256, None, &claims),
        old_ecdsa.token(Algorithm::ES384, None, &claims),
        eddsa.token(Algorithm::EdDSA, None, &claims),
        old_eddsa.token(Algorithm::EdDSA, None, &claims),
    ] {
        let claims = verifier
            .verify_connection(&token, NOW)
            .expect("is accepted");
        assert_eq!(claims.user, "42");
    }
    let forged = jwt::sign(&claims, &Secret::new(RSA.public_pem.as_str())).expect("signs");
    let refused = verifier.verify_connection(&forged, NOW);
    assert_eq!(refused, Err(TokenError::Signature));
}

#[test]
fn a_public_key_may_be_in_a_file() {
    let file = tempfile::NamedTempFile::new().expect("creates a file");
    std::fs::write(file.path(), &RSA.public_pem).expect("writes");
    let mut options = TokenOptions {
        rsa_public_key_file: Some(file.path().to_owned()),
        ..TokenOptions::default()
    };
    let token = RSA.token(Algorithm::RS384, None, &json!({}));
    assert!(verifier(&options).verify_connection(&token, NOW).is_ok());

    std::fs::write(file.path(), "hello").expect("writes");
    assert_eq!(
        problems(&options),
        "client.token.rsa_public_key_file: is not a public key in PEM\n"
    );
    options.rsa_public_key = secret(&RSA.public_pem);
    assert!(problems(&options).contains("cannot be set together"));
}

#[test]
fn exp_can_be_required() {
    let mut options = TokenOptions {
        hmac_secret_key: secret("secret"),
        ..TokenOptions::default()
    };
    let token = |claims| jwt::sign(&claims, &Secret::new("secret")).expect("signs");
    let eternal = token(json!({ "sub": "42" }));
    assert!(verifier(&options).verify_connection(&eternal, NOW).is_ok());

    options.require_exp = true;
    let strict = verifier(&options);
    let refused = Err(TokenError::Claim("exp"));
    assert_eq!(strict.verify_connection(&eternal, NOW), refused);
    let never = token(json!({ "sub": "42", "expire_at": 0, "exp": null }));
    assert_eq!(strict.verify_connection(&never, NOW), refused);
    let subscription = token(json!({ "sub": "42", "channel": "news" }));
    assert!(strict.verify_subscription(&subscription, NOW).is_err());
    let mortal = token(json!({ "sub": "42", "exp": NOW + 1 }));
    assert!(strict.verify_connection(&mortal, NOW).is_ok());
}

#[test]
fn keys_show_neither_in_debug_nor_in_errors() {
    let options = TokenOptions {
        hmac_secret_key: secret("hunter2"),
        hmac_secret_key_file: Some(PathBuf::from("/dev/null")),
        rsa_public_key: secret(&RSA.private_pem),
        ..TokenOptions::default()
    };
    let mut problems = Problems::default();
    let verifier = options.verifier("client.token", &mut problems);
    assert!(!verifier.is_configured());
    let shown = format!(
        "{options:?} {problems} {:?}",
        Verifier::new([&Secret::new("hunter2")], String::new(), String::new())
    );
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(!shown.contains(&format!("{:?}", b"hunter2")), "{shown}");
    assert!(!shown.contains("BEGIN"), "{shown}");
    for key in ["hmac_secret_key_file: ", "rsa_public_key: is a private key"] {
        assert!(shown.contains(&format!("client.token.{key}")), "{shown}");
    }
}

#[test]
fn a_previous_key_alone_is_refused() {
    let options = TokenOptions {
        hmac_previous_secret_key: secret("old"),
        eddsa_previous_public_key: secret(&Signer::eddsa().public_pem),
        ..TokenOptions::default()
    };
    assert_eq!(
        problems(&options),
        "client.token.hmac_previous_secret_key: needs client.token.hmac_secret_key\n\
         client.token.eddsa_previous_public_key: needs client.token.eddsa_public_key\n"
    );
}

#[test]
fn a_public_key_as_a_shared_secret_is_refused() {
    let options = TokenOptions {
        hmac_secret_key: secret(&RSA.public_pem),
        ..TokenOptions::default()
    };
    assert_eq!(
        problems(&options),
        "client.token.hmac_secret_key: is public: with it as a secret, anyone could sign tokens\n"
    );
}

#[test]
fn a_key_set_is_fetched_by_https_or_from_this_machine() {
    let told = |url: &str, jwks_allow_http| {
        problems(&TokenOptions {
            jwks_public_endpoint: url.to_owned(),
            jwks_allow_http,
            ..TokenOptions::default()
        })
    };
    for url in [
        "http://127.0.0.1:1/jwks",
        "http://[::1]/",
        "http://LocalHost:80/a?b=c",
    ] {
        assert_eq!(told(url, false), "");
    }
    for (url, problem) in [
        ("http://example.com/jwks", "is not https"),
        ("http://127.0.0.1.example.com/", "is not https"),
        ("http://localhost.example.com/", "is not https"),
        ("ftp://127.0.0.1/jwks", "is not a URL"),
        ("file:///etc/passwd", "is not a URL"),
        ("/jwks", "is not a URL"),
        ("example.com", "is not a URL"),
        ("https://user:word@example.com/", "contains a user"),
        ("http://127.0.0.1@example.com/", "contains a user"),
    ] {
        let told = told(url, false);
        let expected = format!("client.token.jwks_public_endpoint: {problem}");
        assert!(told.starts_with(&expected), "{url}: {told}");
    }
    assert_eq!(told("http://example.com/jwks", true), "");
}

#[test]
fn ages_that_make_no_sense_are_told_at_once() {
    let options = TokenOptions {
        jwks_public_endpoint: "http://localhost/".to_owned(),
        jwks_timeout: Duration::ZERO,
        jwks_min_refresh_age: Duration::from_secs(60),
        jwks_max_refresh_age: Duration::from_secs(50),
        jwks_max_stale_age: Duration::from_secs(40),
        ..TokenOptions::default()
    };
    assert_eq!(
        problems(&options),
        "client.token.jwks_max_refresh_age: is shorter than client.token.jwks_min_refresh_age\n\
         client.token.jwks_max_stale_age: is shorter than client.token.jwks_max_refresh_age\n\
         client.token.jwks_timeout: must not be zero\n"
    );
    let options = TokenOptions {
        jwks_public_endpoint: "http://localhost/".to_owned(),
        jwks_max_stale_age: Duration::MAX,
        ..TokenOptions::default()
    };
    assert_eq!(
        problems(&options),
        "client.token.jwks_max_stale_age: is longer than a year\n"
    );
}
