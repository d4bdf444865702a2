//! Promises about tokens: which are accepted, which are refused, and that each refusal tells why.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::*;

const NOW: u64 = 1_700_000_000;

/// Golden tokens: HS256, secret `secret`.
const CONNECTION: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0MiIsImV4cCI6NDEwMjQ0NDgwMH0.M_VfhGMqfmyf4VDriS4dpLAF_Loc8gummQeWZ_frmiQ";
const SUBSCRIPTION: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0MiIsImNoYW5uZWwiOiJuZXdzIiwiZXhwIjo0MTAyNDQ0ODAwfQ.nYgiIMMl3ODDk1Bm1ER_OVDxH1Qv-CUp04V1xljR5gQ";

fn secret() -> Secret {
    Secret::new("secret")
}

fn verifier() -> Verifier {
    Verifier::new([&secret()], String::new(), String::new())
}

fn token(claims: &Value) -> String {
    sign(claims, &secret()).expect("signs")
}

/// A token with the given JSON as its payload, to the byte.
fn token_of(payload: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    sealed(&header, payload, Algorithm::HS256)
}

/// A token with a header that is already encoded, signed with the algorithm.
fn sealed(header: &str, payload: &str, algorithm: Algorithm) -> String {
    let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload));
    let key = EncodingKey::from_secret(b"secret");
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, algorithm).expect("signs");
    format!("{message}.{signature}")
}

fn connection(claims: &Value) -> Result<ConnectionClaims, TokenError> {
    verifier().verify_connection(&token(claims), NOW)
}

fn subscription(claims: &Value) -> Result<SubscriptionClaims, TokenError> {
    verifier().verify_subscription(&token(claims), NOW)
}

#[test]
fn the_vectors_of_the_protocol_page_verify() {
    let connection = verifier()
        .verify_connection(CONNECTION, NOW)
        .expect("is accepted");
    assert_eq!(connection.user, "42");
    assert_eq!(connection.expire_at, Some(4_102_444_800));

    let subscription = verifier()
        .verify_subscription(SUBSCRIPTION, NOW)
        .expect("is accepted");
    assert_eq!(subscription.user, "42");
    assert_eq!(subscription.channel, "news");
    assert_eq!(subscription.expire_at, Some(4_102_444_800));
}

#[test]
fn every_hmac_algorithm_is_accepted() {
    for (name, algorithm) in &ALGORITHMS[..3] {
        let header = URL_SAFE_NO_PAD.encode(json!({ "alg": name }).to_string());
        let token = sealed(&header, r#"{"sub":"42"}"#, *algorithm);
        let claims = verifier()
            .verify_connection(&token, NOW)
            .expect("is accepted");
        assert_eq!(claims.user, "42", "{name}");
    }
}

#[test]
fn a_token_with_alg_none_is_refused() {
    let payload = URL_SAFE_NO_PAD.encode(r#"{"sub":"42"}"#);
    for alg in ["none", "None", "NONE"] {
        let header = URL_SAFE_NO_PAD.encode(json!({ "alg": alg }).to_string());
        for token in [
            format!("{header}.{payload}."),
            format!("{header}.{payload}.c2ln"),
        ] {
            let refused = verifier().verify_connection(&token, NOW);
            assert_eq!(refused, Err(TokenError::Algorithm), "{alg}");
        }
    }
}

#[test]
fn an_algorithm_of_another_kind_of_key_is_refused() {
    for alg in ["RS256", "ES256", "EdDSA", "PS512", "hs256", ""] {
        let header = URL_SAFE_NO_PAD.encode(json!({ "alg": alg }).to_string());
        let token = sealed(&header, r#"{"sub":"42"}"#, Algorithm::HS256);
        assert_eq!(
            verifier().verify_connection(&token, NOW),
            Err(TokenError::Algorithm),
            "{alg}"
        );
    }
}

#[test]
fn a_token_signed_with_an_algorithm_other_than_it_names_is_refused() {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS512"}"#);
    let token = sealed(&header, r#"{"sub":"42"}"#, Algorithm::HS256);
    assert_eq!(
        verifier().verify_connection(&token, NOW),
        Err(TokenError::Signature)
    );
}

#[test]
fn a_token_signed_with_another_key_is_refused() {
    let forged = sign(&json!({ "sub": "42" }), &Secret::new("guess")).expect("signs");
    assert_eq!(
        verifier().verify_connection(&forged, NOW),
        Err(TokenError::Signature)
    );
}

#[test]
fn a_token_whose_payload_was_changed_is_refused() {
    let (header, rest) = CONNECTION.split_once('.').expect("has parts");
    let (_, signature) = rest.split_once('.').expect("has parts");
    let payload = URL_SAFE_NO_PAD.encode(r#"{"sub":"43","exp":4102444800}"#);
    let changed = format!("{header}.{payload}.{signature}");
    assert_eq!(
        verifier().verify_connection(&changed, NOW),
        Err(TokenError::Signature)
    );
}

#[test]
fn a_token_signed_with_the_previous_key_is_accepted() {
    let current = Secret::new("next");
    let verifier = Verifier::new([&current, &secret()], String::new(), String::new());
    assert!(verifier.verify_connection(CONNECTION, NOW).is_ok());
    let fresh = sign(&json!({ "sub": "7" }), &current).expect("signs");
    assert_eq!(
        verifier
            .verify_connection(&fresh, NOW)
            .expect("is accepted")
            .user,
        "7"
    );
}

#[test]
fn an_expired_token_is_told_apart_from_an_invalid_one() {
    let expired = token(&json!({ "sub": "42", "exp": NOW - 1 }));
    assert_eq!(
        verifier().verify_connection(&expired, NOW),
        Err(TokenError::Expired)
    );
    let forged = sign(&json!({ "exp": NOW - 1 }), &Secret::new("guess")).expect("signs");
    assert_eq!(
        verifier().verify_connection(&forged, NOW),
        Err(TokenError::Signature)
    );
}

#[test]
fn times_are_checked_to_the_second_and_without_leeway() {
    assert!(connection(&json!({ "exp": NOW + 1 })).is_ok());
    assert_eq!(connection(&json!({ "exp": NOW })), Err(TokenError::Expired));
    assert!(connection(&json!({ "nbf": NOW })).is_ok());
    assert_eq!(
        connection(&json!({ "nbf": NOW + 1 })),
        Err(TokenError::NotYetValid)
    );
}

#[test]
fn fractions_of_a_second_are_cut_off() {
    let claims = connection(&json!({ "exp": NOW as f64 + 10.75 })).expect("is accepted");
    assert_eq!(claims.expire_at, Some(NOW + 10));
}

#[test]
fn a_token_without_exp_never_expires() {
    assert_eq!(
        connection(&json!({ "sub": "42" }))
            .expect("is accepted")
            .expire_at,
        None
    );
}

#[test]
fn expire_at_takes_the_place_of_exp() {
    let expire_at = |claims| connection(&claims).map(|claims| claims.expire_at);
    assert_eq!(
        expire_at(json!({ "exp": NOW + 5, "expire_at": NOW + 60 })),
        Ok(Some(NOW + 60))
    );
    assert_eq!(
        expire_at(json!({ "exp": NOW + 5, "expire_at": 0 })),
        Ok(None)
    );
    assert_eq!(
        expire_at(json!({ "exp": NOW - 5, "expire_at": 0 })),
        Err(TokenError::Expired)
    );
    assert_eq!(
        expire_at(json!({ "expire_at": NOW - 1 })),
        Err(TokenError::Expired)
    );
}

#[test]
fn audience_and_issuer_are_checked_if_they_are_configured() {
    let verifier = Verifier::new([&secret()], "fleet".to_owned(), "app".to_owned());
    let verify = |claims| verifier.verify_connection(&token(&claims), NOW).map(|_| ());
    assert_eq!(verify(json!({ "aud": "fleet", "iss": "app" })), Ok(()));
    assert_eq!(
        verify(json!({ "aud": ["other", "fleet"], "iss": "app" })),
        Ok(())
    );
    assert_eq!(
        verify(json!({ "aud": ["other"], "iss": "app" })),
        Err(TokenError::Claim("aud"))
    );
    assert_eq!(
        verify(json!({ "aud": [], "iss": "app" })),
        Err(TokenError::Claim("aud"))
    );
    assert_eq!(
        verify(json!({ "iss": "app" })),
        Err(TokenError::Claim("aud"))
    );
    assert_eq!(
        verify(json!({ "aud": "fleet" })),
        Err(TokenError::Claim("iss"))
    );
    assert_eq!(
        verify(json!({ "aud": "fleet", "iss": "apple" })),
        Err(TokenError::Claim("iss"))
    );
    assert!(connection(&json!({ "aud": "anyone", "iss": "anyone" })).is_ok());
}

#[test]
fn a_subscription_token_does_not_open_a_connection() {
    let refused = verifier().verify_connection(SUBSCRIPTION, NOW);
    assert_eq!(refused, Err(TokenError::Claim("channel")));
}

#[test]
fn a_connection_token_does_not_open_a_subscription() {
    let refused = verifier().verify_subscription(CONNECTION, NOW);
    assert_eq!(refused, Err(TokenError::Claim("channel")));
    assert_eq!(
        subscription(&json!({ "channel": "" })),
        Err(TokenError::Claim("channel"))
    );
}

#[test]
fn info_data_and_meta_keep_their_json_byte_for_byte() {
    let info = r#"{"b": 1.0,  "a":"\u00e9",  "b":12345678901234567890123}"#;
    let payload = format!(r#"{{"sub":"42","channel":"c","info":{info},"data":{info}}}"#);
    let claims = verifier()
        .verify_subscription(&token_of(&payload), NOW)
        .expect("is accepted");
    assert_eq!(claims.info, info);
    assert_eq!(claims.data, info);

    let payload = format!(r#"{{"sub":"42","info":{info},"meta":{info}}}"#);
    let claims = verifier()
        .verify_connection(&token_of(&payload), NOW)
        .expect("is accepted");
    assert_eq!(claims.info, info);
    assert_eq!(claims.meta, info);
}

#[test]
fn base64_gives_binary_info_and_data() {
    let claims = subscription(&json!({
        "channel": "c", "client": "id", "b64info": "AP8=", "info": {}, "b64data": "aGk=",
    }));
    let claims = claims.expect("is accepted");
    assert_eq!(claims.info, [0_u8, 0xff].as_slice());
    assert_eq!(claims.data, "hi");
    assert_eq!(claims.client.as_deref(), Some("id"));
}

#[test]
fn a_null_claim_counts_as_absent() {
    let claims = json!({
        "sub": null, "exp": null, "info": null, "channels": null, "channel": null, "meta": null,
    });
    assert_eq!(connection(&claims), Ok(ConnectionClaims::default()));
}

#[test]
fn a_malformed_claim_is_named() {
    for (claims, name) in [
        (json!({ "sub": 42 }), "sub"),
        (json!({ "exp": "tomorrow" }), "exp"),
        (json!({ "exp": -1 }), "exp"),
        (json!({ "nbf": [] }), "nbf"),
        (json!({ "iat": true }), "iat"),
        (json!({ "jti": {} }), "jti"),
        (json!({ "expire_at": -1 }), "expire_at"),
        (json!({ "channels": "news" }), "channels"),
        (json!({ "channels": [1] }), "channels"),
        (json!({ "b64info": "not base64!" }), "b64info"),
    ] {
        assert_eq!(
            connection(&claims),
            Err(TokenError::Claim(name)),
            "{claims}"
        );
    }
}

#[test]
fn garbage_is_refused_as_malformed() {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
    let critical = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#);
    for garbage in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "...".to_owned(),
        "not a token".to_owned(),
        "\u{0}\u{7f}\u{1f600}".to_owned(),
        header.clone(),
        format!("{header}.e30"),
        format!("{header}.e30.%%%"),
        format!("{CONNECTION}."),
        format!("{CONNECTION}.x"),
        format!("{}.e30.c2ln", URL_SAFE_NO_PAD.encode("[]")),
        sealed(&header, "not json", Algorithm::HS256),
        sealed(&header, r#"["sub"]"#, Algorithm::HS256),
        sealed(&header, r#"{"sub":"1","sub":"2"}"#, Algorithm::HS256),
        sealed(&critical, "{}", Algorithm::HS256),
    ] {
        let refused = verifier().verify_connection(&garbage, NOW);
        assert_eq!(refused, Err(TokenError::Malformed), "{garbage}");
    }
}

#[test]
fn without_a_key_nothing_is_accepted() {
    let verifier = Verifier::new([], String::new(), String::new());
    assert!(!verifier.is_configured());
    assert_eq!(
        verifier.verify_connection(CONNECTION, NOW),
        Err(TokenError::NotConfigured)
    );
    assert_eq!(
        verifier.verify_subscription(SUBSCRIPTION, NOW),
        Err(TokenError::NotConfigured)
    );
}

#[test]
fn whoever_takes_any_signature_still_asks_for_the_same_claims() {
    let open = Verifier::new([], "us".to_owned(), String::new()).taking_any_signature();
    assert!(open.is_configured() && open.is_ready());
    let with = |claims: &Value| {
        let stranger = sign(claims, &Secret::new("not the secret")).expect("signs");
        open.verify_connection(&stranger, NOW)
    };
    let claims = with(&json!({"sub": "42", "aud": "us", "exp": NOW + 1})).expect("is accepted");
    assert_eq!(claims.user, "42");
    for (claims, refusal) in [
        (json!({"aud": "us", "exp": NOW}), TokenError::Expired),
        (
            json!({"aud": "us", "nbf": NOW + 1}),
            TokenError::NotYetValid,
        ),
        (json!({"aud": "them"}), TokenError::Claim("aud")),
        (json!({"aud": "us", "sub": 42}), TokenError::Claim("sub")),
        (
            json!({"aud": "us", "channel": "news"}),
            TokenError::Claim("channel"),
        ),
    ] {
        assert_eq!(with(&claims), Err(refusal), "{claims}");
    }
    for garbage in ["", "a.b.c", "no token"] {
        let found = open.verify_connection(garbage, NOW);
        assert_eq!(found, Err(TokenError::Malformed), "{garbage:?}");
    }
    let unsigned = format!("{}.e30.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#));
    let found = open.verify_connection(&unsigned, NOW);
    assert_eq!(
        found,
        Err(TokenError::Algorithm),
        "a token has to look like one"
    );
}
