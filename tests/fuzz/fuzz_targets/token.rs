//! Tokens and passports: as a stranger writes them, and with any claims behind a valid signature.
#![no_main]

use std::sync::LazyLock;

use flotilla_shared::auth::jwt::sign;
use flotilla_shared::auth::{PassportKeys, Verifier};
use flotilla_shared::secret::Secret;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// Seconds since the Unix epoch at which everything is verified.
const NOW: u64 = 1_700_000_000;

static KEY: LazyLock<Secret> =
    LazyLock::new(|| Secret::new("a key that no fuzzer can guess, 32 bytes"));

static VERIFIER: LazyLock<Verifier> =
    LazyLock::new(|| Verifier::new([&*KEY], String::new(), String::new()));

static PASSPORTS: LazyLock<PassportKeys> =
    LazyLock::new(|| PassportKeys::new(KEY.clone(), None).expect("a key that is long enough"));

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    assert!(
        VERIFIER.verify_connection(text, NOW).is_err(),
        "a forged token"
    );
    assert!(
        VERIFIER.verify_subscription(text, NOW).is_err(),
        "a forged token"
    );
    assert!(PASSPORTS.verify(text, NOW).is_err(), "a forged passport");

    // Behind the signature: what an application, or a gateway of another version, may have written.
    let Ok(claims) = serde_json::from_str::<Value>(text) else {
        return;
    };
    let token = sign(&claims, &KEY).expect("JSON can be written as JSON");
    let _ = VERIFIER.verify_subscription(&token, NOW);
    let _ = PASSPORTS.verify(&token, NOW);
    if VERIFIER.verify_connection(&token, NOW).is_ok() {
        let expires = claims.get("exp").and_then(Value::as_f64);
        assert!(
            expires.is_none_or(|at| at == 0.0 || at >= NOW as f64),
            "an expired token"
        );
    }
});
