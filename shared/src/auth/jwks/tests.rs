//! Promises about fetched keys: when they are fetched, when they are used, and when they are not.
//!
//! Time is paused where time matters; where a server matters, it is a real one.

use std::sync::Mutex;

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::sleep_until};

use super::{endpoint::tests::Server, *};
use crate::{
    auth::{
        TokenError, TokenOptions, Verifier,
        claims::Rules,
        signer::{OTHER_RSA, RSA, Signer},
    },
    config::Problems,
    secret::Secret,
};

const NOW: u64 = 1_700_000_000;

const AGES: Ages = Ages {
    min_refresh: seconds(30),
    max_refresh: seconds(900),
    max_stale: seconds(3600),
};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A set, and for how long it says that it is good.
type Scripted = (Value, Option<Duration>);

/// What the scripted server answers, and when it was asked.
struct Script {
    jwks: Arc<Jwks>,
    verifier: Verifier,
    answer: Arc<Mutex<Option<Scripted>>>,
    fetches: Arc<Mutex<Vec<Duration>>>,
    start: Instant,
    _refresher: JoinHandle<()>,
}

impl Script {
    /// Fetches the set of keys, or nothing as long as there is none.
    fn start(set: Option<Value>) -> Self {
        let endpoint = Endpoint::new("http://127.0.0.1:1/", false, seconds(5)).expect("is a URL");
        let jwks = Arc::new(Jwks::new(endpoint, AGES));
        let answer = Arc::new(Mutex::new(set.map(|set| (set, None))));
        let fetches: Arc<Mutex<Vec<Duration>>> = Arc::default();
        let start = Instant::now();
        let refresher = {
            let (jwks, answer, fetches) = (jwks.clone(), answer.clone(), fetches.clone());
            tokio::spawn(async move {
                let fetch = || async {
                    fetches.lock().unwrap().push(start.elapsed());
                    let answer = answer.lock().unwrap();
                    let (set, max_age) = answer.as_ref().ok_or(FetchError::Timeout)?;
                    let keys = document::keys(set.to_string().as_bytes())?;
                    Ok(Answer {
                        keys,
                        max_age: *max_age,
                    })
                };
                let metrics = JwksMetrics::register(&prometheus::Registry::new(), "test");
                jwks.keep_fresh(fetch, &metrics.unwrap()).await;
            })
        };
        Self {
            verifier: Verifier::with(Vec::new(), Some(jwks.clone()), Rules::default()),
            jwks,
            answer,
            fetches,
            start,
            _refresher: refresher,
        }
    }

    fn answers(&self, set: Option<Value>, max_age: Option<Duration>) {
        *self.answer.lock().unwrap() = set.map(|set| (set, max_age));
    }

    /// Lets time pass until so long after the start.
    async fn until(&self, since_start: Duration) {
        sleep_until(self.start + since_start).await;
    }

    /// When fetches began, in seconds since the start; forgets them.
    fn fetches(&self) -> Vec<f64> {
        let fetches = std::mem::take(&mut *self.fetches.lock().unwrap());
        fetches.iter().map(Duration::as_secs_f64).collect()
    }

    fn verify(&self, signer: &Signer, kid: &str) -> Result<(), TokenError> {
        verify(&self.verifier, signer, kid)
    }
}

fn verify(verifier: &Verifier, signer: &Signer, kid: &str) -> Result<(), TokenError> {
    let token = signer.token(Algorithm::RS256, Some(kid), &json!({ "sub": "42" }));
    verifier.verify_connection(&token, NOW).map(drop)
}

fn set(keys: &[(&Signer, &str)]) -> Value {
    let keys = keys
        .iter()
        .map(|(signer, kid)| signer.jwk_with(&json!({ "kid": kid })));
    json!({ "keys": keys.collect::<Vec<_>>() })
}

#[tokio::test(start_paused = true)]
async fn a_token_is_verified_with_the_key_that_it_names() {
    let script = Script::start(Some(set(&[(&RSA, "one"), (&OTHER_RSA, "two")])));
    script.until(seconds(1)).await;
    assert_eq!(script.verify(&RSA, "one"), Ok(()));
    assert_eq!(script.verify(&OTHER_RSA, "two"), Ok(()));
    // The right signature under the wrong name.
    assert_eq!(script.verify(&RSA, "two"), Err(TokenError::Signature));
    let nameless = |signer: &Signer| {
        let token = signer.token(Algorithm::RS256, None, &json!({}));
        script.verifier.verify_connection(&token, NOW).map(drop)
    };
    assert_eq!(nameless(&RSA), Ok(()));
    assert_eq!(nameless(&OTHER_RSA), Ok(()));
    let elliptic = Signer::ecdsa(Algorithm::ES256);
    let token = elliptic.token(Algorithm::ES256, Some("one"), &json!({}));
    assert_eq!(
        script.verifier.verify_connection(&token, NOW),
        Err(TokenError::Algorithm)
    );
}

#[tokio::test(start_paused = true)]
async fn until_the_first_answer_nothing_is_ready_and_every_token_is_to_be_tried_again() {
    let script = Script::start(None);
    script.until(seconds(100)).await;
    assert_eq!(
        script.fetches(),
        [0.0, 1.0, 3.0, 7.0, 15.0, 31.0, 61.0, 91.0]
    );
    assert!(!script.verifier.is_ready());
    assert_eq!(script.verify(&RSA, "one"), Err(TokenError::UnknownKey));
    let symmetric = crate::auth::jwt::sign(&json!({}), &Secret::new("x")).expect("signs");
    assert_eq!(
        script.verifier.verify_connection(&symmetric, NOW),
        Err(TokenError::Algorithm)
    );

    script.answers(Some(set(&[(&RSA, "one")])), None);
    script.until(seconds(122)).await;
    assert!(script.verifier.is_ready());
    assert_eq!(script.verify(&RSA, "one"), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn keys_are_fetched_again_when_they_are_old_and_not_before() {
    let script = Script::start(Some(set(&[(&RSA, "one")])));
    script.until(seconds(800)).await;
    assert_eq!(script.fetches(), [0.0]);
    script.until(seconds(901)).await;
    let again = script.fetches();
    assert_eq!(again.len(), 1);
    assert!((810.0..=900.0).contains(&again[0]), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_says_for_how_long_it_is_good_within_bounds() {
    for (max_age, earliest, latest) in [(0, 30.0, 30.0), (300, 270.0, 300.0), (9999, 810.0, 900.0)]
    {
        let script = Script::start(None);
        script.answers(Some(set(&[(&RSA, "one")])), Some(seconds(max_age)));
        script.until(seconds(901)).await;
        let fetches = script.fetches();
        assert!(
            (earliest..=latest).contains(&fetches[1]),
            "{max_age}: {fetches:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_rotated_key_is_fetched_as_soon_as_a_token_names_it() {
    let script = Script::start(Some(set(&[(&RSA, "one")])));
    script.until(seconds(100)).await;
    script.answers(Some(set(&[(&RSA, "one"), (&OTHER_RSA, "two")])), None);
    assert_eq!(
        script.verify(&OTHER_RSA, "two"),
        Err(TokenError::UnknownKey)
    );
    script.until(seconds(101)).await;
    assert_eq!(script.verify(&OTHER_RSA, "two"), Ok(()));
    assert_eq!(script.verify(&RSA, "one"), Ok(()));
    assert_eq!(script.fetches(), [0.0, 100.0]);

    // A key that is gone is not used any more.
    script.answers(Some(set(&[(&OTHER_RSA, "two")])), None);
    script.until(seconds(1100)).await;
    assert_eq!(script.verify(&RSA, "one"), Err(TokenError::UnknownKey));
}

#[tokio::test(start_paused = true)]
async fn names_that_nobody_knows_do_not_make_fetches_frequent() {
    let script = Script::start(Some(set(&[(&RSA, "one")])));
    for second in 1..=300 {
        script.until(seconds(second)).await;
        for name in ["a", "b", "c"] {
            assert_eq!(script.verify(&RSA, name), Err(TokenError::UnknownKey));
        }
    }
    let fetches = script.fetches();
    assert!(fetches.len() <= 11, "{fetches:?}");
    for pair in fetches.windows(2) {
        assert!(pair[1] - pair[0] >= 30.0, "{fetches:?}");
    }
    // Those that the keys verify are not kept waiting, and ask for nothing.
    assert_eq!(script.verify(&RSA, "one"), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn keys_stay_in_use_while_their_server_is_down_but_not_for_ever() {
    let script = Script::start(Some(set(&[(&RSA, "one")])));
    script.until(seconds(1)).await;
    script.answers(None, None);
    script.until(seconds(3599)).await;
    assert_eq!(script.verify(&RSA, "one"), Ok(()));
    script.until(seconds(3601)).await;
    assert_eq!(script.verify(&RSA, "one"), Err(TokenError::UnknownKey));
    assert!(matches!(**script.jwks.current(), KeySet::Lapsed));
    assert!(script.verifier.is_ready(), "others are not turned away");

    script.answers(Some(set(&[(&RSA, "one")])), None);
    script.until(seconds(3632)).await;
    assert_eq!(script.verify(&RSA, "one"), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_keys_counts_as_none() {
    let script = Script::start(Some(set(&[(&RSA, "one")])));
    script.until(seconds(1)).await;
    for useless in [json!({ "keys": [] }), json!({}), json!("keys")] {
        script.answers(Some(useless), None);
        let _ = script.verify(&RSA, "two");
        script.until(script.start.elapsed() + seconds(100)).await;
        assert!(script.fetches().len() > 1);
        assert_eq!(script.verify(&RSA, "one"), Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_names_no_key_does_not_cost_as_many_tries_as_there_are_keys() {
    let others = ["a", "b", "c", "d"].map(|kid| (&*RSA, kid));
    let elliptic = Signer::ecdsa(Algorithm::ES256);
    let nameless = |script: &Script| {
        let token = OTHER_RSA.token(Algorithm::RS256, None, &json!({}));
        script.verifier.verify_connection(&token, NOW).map(drop)
    };
    // What cannot have signed it does not count.
    let near = [
        (&elliptic, "x"),
        others[0],
        others[1],
        others[2],
        (&*OTHER_RSA, "e"),
    ];
    let script = Script::start(Some(set(&near)));
    script.until(seconds(1)).await;
    assert_eq!(nameless(&script), Ok(()));

    let far = [
        others[0],
        others[1],
        others[2],
        others[3],
        (&*OTHER_RSA, "e"),
    ];
    let script = Script::start(Some(set(&far)));
    script.until(seconds(1)).await;
    assert_eq!(nameless(&script), Err(TokenError::Signature));
    assert_eq!(script.verify(&OTHER_RSA, "e"), Ok(()));
}

/// A verifier of the keys of a real server.
fn fetching(server: &Server, change: impl FnOnce(&mut TokenOptions)) -> Verifier {
    let mut options = TokenOptions {
        jwks_public_endpoint: server.url("/jwks"),
        ..TokenOptions::default()
    };
    change(&mut options);
    let mut problems = Problems::default();
    let verifier = options.verifier("token", &mut problems);
    assert_eq!(problems.to_string(), "");
    verifier
}

/// Waits for what has to come about soon.
async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + seconds(10);
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tokens_with_a_new_key_lead_to_one_request() {
    let server = Server::start().await;
    server.answers(&set(&[(&RSA, "one")]).to_string());
    let verifier = Arc::new(fetching(&server, |options| {
        // Whoever asks too late for the second request would cause a third one after this time.
        options.jwks_min_refresh_age = Duration::from_millis(500);
    }));
    let registry = prometheus::Registry::new();
    let refresher = verifier.refresher(&registry, "gateway");
    let refresher = tokio::spawn(refresher.unwrap().expect("there is a URL").run());
    eventually("the first answer", || verifier.is_ready()).await;
    assert_eq!(verify(&verifier, &RSA, "one"), Ok(()));

    let held = server.hold();
    server.answers(&set(&[(&RSA, "one"), (&OTHER_RSA, "two")]).to_string());
    let crowd = (0..8).map(|_| {
        let verifier = verifier.clone();
        tokio::spawn(async move {
            eventually("the new key", || {
                verify(&verifier, &OTHER_RSA, "two") == Ok(())
            })
            .await;
        })
    });
    let crowd: Vec<_> = crowd.collect();
    eventually("the second request", || server.requests() == 2).await;
    // The old keys do while the new ones are on their way.
    assert_eq!(verify(&verifier, &RSA, "one"), Ok(()));
    drop(held);
    for member in crowd {
        member.await.unwrap();
    }
    assert_eq!(server.requests(), 2);

    let shown = crate::metrics::encode(&registry).unwrap();
    for line in [
        "flotilla_gateway_jwks_refreshes_total{result=\"success\"} 2",
        "flotilla_gateway_jwks_refreshes_total{result=\"failure\"} 0",
        "flotilla_gateway_jwks_keys 2",
        "flotilla_gateway_jwks_last_success_timestamp_seconds 1",
    ] {
        assert!(shown.contains(line), "{line} in {shown}");
    }
    refresher.abort();
}

#[tokio::test]
async fn keys_at_hand_do_not_wait_for_those_that_are_fetched() {
    let server = Server::start().await;
    let verifier = fetching(&server, |options| {
        options.hmac_secret_key = Some(Secret::new("secret"));
        options.rsa_public_key = Some(Secret::new(RSA.public_pem.as_str()));
    });
    assert!(verifier.is_ready());
    assert_eq!(verify(&verifier, &RSA, "any"), Ok(()));
    assert_eq!(
        verify(&verifier, &OTHER_RSA, "two"),
        Err(TokenError::UnknownKey)
    );
    let forged = crate::auth::jwt::sign(&json!({}), &Secret::new("guess")).expect("signs");
    let refused = verifier.verify_connection(&forged, NOW);
    assert_eq!(refused, Err(TokenError::Signature));
}
