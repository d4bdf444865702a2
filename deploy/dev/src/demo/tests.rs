//! The demo server over a real socket, asked in plain HTTP.

use std::net::SocketAddr;

use flotilla_shared::auth::Verifier;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;

const URL: &str = "ws://127.0.0.1:8000/connection/websocket";

fn secret() -> Secret {
    Secret::new("a secret of the tests")
}

async fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("has an address");
    let demo = Demo {
        url: URL.into(),
        channel: "chat:lobby".into(),
        token_secret: secret(),
    };
    tokio::spawn(serve(listener, demo));
    address
}

/// The whole answer to a GET of `target`, asked by the name `host`.
async fn get(address: SocketAddr, target: &str, host: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nOrigin: https://elsewhere.example\r\nConnection: close\r\n\r\n"
    );
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
        for target in ["/", "/token?user=a"] {
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
    for target in ["/", "/token?user=a"] {
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
    let grant: serde_json::Value = serde_json::from_str(body(&answer)).expect("is JSON");
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
