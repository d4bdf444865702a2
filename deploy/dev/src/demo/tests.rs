//! The demo server over a real socket, asked in plain HTTP.

use std::net::SocketAddr;

use axum::http::HeaderMap;
use flotilla_shared::auth::Verifier;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};

use super::*;
use crate::{
    member::{Listening, Member},
    orders::{Action, Order, Refusal},
};

const URL: &str = "ws://127.0.0.1:8000/connection/websocket";

fn secret() -> Secret {
    Secret::new("a secret of the tests")
}

/// The id of the only client of the worker that stands in for a real one.
const CLIENT: &str = "6f1c9a30-0000-4000-8000-000000000000";

/// The server of a fleet without workers, in one process.
async fn start() -> SocketAddr {
    start_with(&[], None).await
}

async fn start_with(workers: &[Member], orders: Option<Orders>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("has an address");
    let demo = Demo {
        url: URL.into(),
        channel: "chat:lobby".into(),
        token_secret: secret(),
        crew: Crew::new(workers, secret()),
        orders,
    };
    tokio::spawn(serve(listener, demo));
    address
}

/// The server of a fleet of processes, and where orders about them arrive.
async fn start_with_orders() -> (SocketAddr, mpsc::Receiver<Order>) {
    let (orders, asked) = Orders::new();
    (start_with(&[], Some(orders)).await, asked)
}

/// A worker of this name that would listen at `address`.
fn member(name: &str, address: SocketAddr) -> Member {
    Member {
        name: name.into(),
        pid: None,
        listening: Listening {
            admin: address,
            api: Some(address),
        },
    }
}

/// An address at which nobody listens.
async fn nowhere() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    listener.local_addr().expect("has an address")
}

/// What answers like a worker that drains and has one client, [`CLIENT`], of whom it says that `worker-7` serves it.
async fn stand_in() -> SocketAddr {
    let metrics = "flotilla_worker_state{state=\"draining\"} 1\nflotilla_worker_connections 1\n";
    let connections = async |headers: HeaderMap, body: String| {
        assert_eq!(headers["x-api-key"], secret().expose());
        let asked: Value = serde_json::from_str(&body).expect("is JSON");
        let cursor = asked["cursor"].as_str().expect("begins somewhere");
        let connections = match cursor < CLIENT {
            true => serde_json::json!({CLIENT: {"node": "worker-7"}}),
            false => serde_json::json!({}),
        };
        json(&serde_json::json!({"result": {"connections": connections}}))
    };
    let worker = Router::new()
        .route("/metrics", axum::routing::get(async move || metrics))
        .route("/api/connections", post(connections));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("has an address");
    tokio::spawn(async move { axum::serve(listener, worker).await });
    address
}

/// The whole answer to a GET of `target`, asked by the name `host`.
async fn get(address: SocketAddr, target: &str, host: &str) -> String {
    let head =
        format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nOrigin: https://elsewhere.example\r\n");
    ask(address, &head).await
}

/// The whole answer to a POST to `target` from a page of this origin.
async fn post_from(address: SocketAddr, target: &str, origin: &str) -> String {
    let head = format!("POST {target} HTTP/1.1\r\nHost: {address}\r\nOrigin: {origin}\r\n");
    ask(address, &head).await
}

async fn ask(address: SocketAddr, head: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    let request = format!("{head}Connection: close\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("writes");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("reads");
    answer
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").expect("has a head").1
}

fn content_security_policy_of(answer: &str) -> &str {
    let name = "content-security-policy: ";
    answer
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .expect("has a policy")
}

#[tokio::test]
async fn the_page_is_served_under_both_loopback_names() {
    let address = start().await;
    for name in ["127.0.0.1", "localhost"] {
        let answer = get(address, "/", &format!("{name}:{}", address.port())).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.contains("<title>Flotilla chat</title>"), "{answer}");
    }
}

#[tokio::test]
async fn a_request_by_another_name_is_refused() {
    let address = start().await;
    let port = address.port();
    for host in [
        "evil.example".to_owned(),
        format!("evil.example:{port}"),
        "127.0.0.1".to_owned(),
        String::new(),
    ] {
        for target in ["/", "/token?user=a", "/where?client=a", "/workers"] {
            let answer = get(address, target, &host).await;
            assert!(
                answer.starts_with("HTTP/1.1 421 "),
                "{host:?} {target}: {answer}"
            );
        }
    }
}

#[tokio::test]
async fn the_policy_lets_only_the_pages_own_script_run_and_only_the_gateway_be_reached() {
    let address = start().await;
    let host = address.to_string();
    let (first, second) = (
        get(address, "/", &host).await,
        get(address, "/", &host).await,
    );
    let policy = content_security_policy_of(&first);
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    assert!(
        policy.contains("connect-src 'self' ws://127.0.0.1:8000;"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_ne!(
        policy,
        content_security_policy_of(&second),
        "a nonce is used once"
    );
    let nonce = policy
        .split("'nonce-")
        .nth(1)
        .and_then(|rest| rest.split('\'').next());
    let nonce = nonce.expect("has a nonce");
    assert!(body(&first).contains(&format!("<script nonce=\"{nonce}\">")));
    assert!(body(&first).contains(&format!("<style nonce=\"{nonce}\">")));
}

#[tokio::test]
async fn no_other_site_may_read_an_answer() {
    let address = start().await;
    for target in ["/", "/token?user=a", "/where?client=a", "/workers"] {
        let answer = get(address, target, &address.to_string())
            .await
            .to_lowercase();
        assert!(!answer.contains("access-control-allow"), "{answer}");
        assert!(
            answer.contains("cross-origin-resource-policy: same-origin"),
            "{answer}"
        );
        assert!(answer.contains("cache-control: no-store"), "{answer}");
    }
}

#[tokio::test]
async fn a_page_gets_a_valid_token_for_its_user() {
    let address = start().await;
    let answer = get(
        address,
        "/token?user=Calm%20Sloop%2010",
        &address.to_string(),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let grant: Value = serde_json::from_str(body(&answer)).expect("is JSON");
    assert_eq!(
        (&grant["url"], &grant["channel"]),
        (&URL.into(), &"chat:lobby".into())
    );
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("is later")
        .as_secs();
    let verifier = Verifier::new([&secret()], String::new(), String::new());
    let claims = verifier
        .verify_connection(grant["token"].as_str().expect("is text"), now)
        .expect("is valid");
    assert_eq!(claims.user, "Calm Sloop 10");
    let expires = claims.expire_at.expect("expires");
    assert!((now + 590..=now + 610).contains(&expires), "{expires}");
}

#[tokio::test]
async fn a_bad_user_is_refused_by_name() {
    let address = start().await;
    let long = format!("/token?user={}", "a".repeat(USER_MAX_BYTES + 1));
    for target in ["/token", "/token?user=", &long] {
        let answer = get(address, target, &address.to_string()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{target}: {answer}");
        assert!(body(&answer).contains("user"), "{target}: {answer}");
    }
}

#[test]
fn the_page_loads_nothing_from_elsewhere_and_trusts_no_markup() {
    for forbidden in [
        "http://",
        "https://",
        "innerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
    ] {
        assert!(!PAGE.contains(forbidden), "{forbidden}");
    }
}

/// What is answered to a GET of `target` as JSON.
async fn told(address: SocketAddr, target: &str) -> Value {
    let answer = get(address, target, &address.to_string()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{target}: {answer}");
    serde_json::from_str(body(&answer)).expect("is JSON")
}

#[tokio::test]
async fn a_client_is_found_as_long_as_any_worker_answers() {
    let workers = [
        member("worker-1", nowhere().await),
        member("worker-2", stand_in().await),
    ];
    let address = start_with(&workers, None).await;
    for _ in 0..2 {
        let found = told(address, &format!("/where?client={CLIENT}")).await;
        assert_eq!(found["worker"], "worker-7");
    }
}

#[tokio::test]
async fn a_client_that_nobody_serves_is_nowhere() {
    let address = start_with(&[member("worker-1", stand_in().await)], None).await;
    let before = "00000000-0000-0000-0000-000000000000";
    let behind = CLIENT.replace("6f", "70");
    for client in [before, &behind] {
        let found = told(address, &format!("/where?client={client}")).await;
        assert_eq!(found["worker"], Value::Null, "{client}");
    }
}

#[tokio::test]
async fn without_a_worker_that_answers_nobody_knows_where_a_client_is() {
    let target = format!("/where?client={CLIENT}");
    let gone = [member("worker-1", nowhere().await)];
    for workers in [&gone[..], &[]] {
        let address = start_with(workers, None).await;
        let answer = get(address, &target, &address.to_string()).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    }
}

#[tokio::test]
async fn what_is_no_client_is_refused_by_name() {
    let address = start().await;
    for target in ["/where", "/where?client=", "/where?client=worker-1"] {
        let answer = get(address, target, &address.to_string()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{target}: {answer}");
        assert!(body(&answer).contains("client"), "{target}: {answer}");
    }
}

#[tokio::test]
async fn every_worker_is_shown_as_it_is() {
    let workers = [
        member("worker-1", nowhere().await),
        member("worker-2", stand_in().await),
    ];
    let (orders, _asked) = Orders::new();
    for (orders, controls) in [(None, false), (Some(orders), true)] {
        let address = start_with(&workers, orders).await;
        let expected = serde_json::json!({"controls": controls, "workers": [
            {"name": "worker-1", "state": "gone", "connections": null},
            {"name": "worker-2", "state": "draining", "connections": 1},
        ]});
        assert_eq!(told(address, "/workers").await, expected);
    }
}

#[tokio::test]
async fn the_page_has_workers_killed_drained_and_started() {
    let (address, mut asked) = start_with_orders().await;
    for (target, expected) in [
        ("/workers/worker-1/kill", Action::Kill),
        ("/workers/worker-1/drain", Action::Drain),
        ("/workers/worker-1/start", Action::Start),
    ] {
        for origin in origins(address.port()) {
            let obey = async {
                let order = asked.recv().await.expect("an order");
                assert_eq!((&*order.worker, order.action), ("worker-1", expected));
                order.done.send(Ok(())).expect("is waited for");
            };
            let (answer, ()) = tokio::join!(post_from(address, target, &origin), obey);
            assert!(answer.starts_with("HTTP/1.1 204 "), "{target}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_refusal_is_told_with_its_reason() {
    let (address, mut asked) = start_with_orders().await;
    let origin = format!("http://{address}");
    for (refusal, status) in [
        (Refusal::Unknown, 404),
        (Refusal::NotRunning, 409),
        (Refusal::Running, 409),
        (Refusal::Start(anyhow::anyhow!("no such file")), 500),
        (Refusal::Ending, 503),
    ] {
        let reason = refusal.to_string();
        let obey = async {
            let order = asked.recv().await.expect("an order");
            order.done.send(Err(refusal)).expect("is waited for");
        };
        let (answer, ()) =
            tokio::join!(post_from(address, "/workers/worker-9/start", &origin), obey);
        let line = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&line), "{reason}: {answer}");
        assert!(body(&answer).contains(&reason), "{reason}: {answer}");
    }
    drop(asked);
    let answer = post_from(address, "/workers/worker-1/kill", &origin).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}

#[tokio::test]
async fn no_other_site_has_anything_done_to_a_worker() {
    let (address, mut asked) = start_with_orders().await;
    let port = address.port();
    for origin in [
        "https://elsewhere.example".to_owned(),
        format!("http://elsewhere.example:{port}"),
        format!("https://127.0.0.1:{port}"),
        format!("http://127.0.0.1:{}", port ^ 1),
        "http://localhost".to_owned(),
        "null".to_owned(),
        String::new(),
    ] {
        let answer = post_from(address, "/workers/worker-1/kill", &origin).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{origin:?}: {answer}");
    }
    let without = format!("POST /workers/worker-1/kill HTTP/1.1\r\nHost: {address}\r\n");
    let answer = ask(address, &without).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    let by_name = format!(
        "POST /workers/worker-1/kill HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://{address}\r\n"
    );
    let answer = ask(address, &by_name).await;
    assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
    let answer = get(address, "/workers/worker-1/kill", &address.to_string()).await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    assert!(asked.try_recv().is_err(), "nothing was ordered");
}

#[tokio::test]
async fn what_is_no_action_is_not_done() {
    let (address, mut asked) = start_with_orders().await;
    let origin = format!("http://{address}");
    for target in ["/workers/worker-1/pause", "/workers/worker-1/Kill"] {
        let answer = post_from(address, target, &origin).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{target}: {answer}");
    }
    assert!(asked.try_recv().is_err(), "nothing was ordered");
}

#[tokio::test]
async fn in_one_process_nothing_is_done_to_workers() {
    let address = start().await;
    let origin = format!("http://{address}");
    for action in ["kill", "drain", "start"] {
        let target = format!("/workers/worker-1/{action}");
        let answer = post_from(address, &target, &origin).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
        assert!(body(&answer).contains("--nats"), "{answer}");
    }
}
