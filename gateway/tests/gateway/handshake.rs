//! Who gets in, what the worker is told about them, and what the others are told.

use std::time::Duration;

use flotilla_gateway::config::{IdentityMode, OverloadResponse};
use flotilla_shared::http::HEAD_MAX_BYTES;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::{Edge, PATH, configuration, handshake, passport, soon, token};
use crate::worker::{Behaviour, Worker};

fn header(
    request: &tokio_tungstenite::tungstenite::handshake::server::Request,
    name: &str,
) -> Option<String> {
    request
        .headers()
        .get(name)
        .map(|value| value.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_worker_gets_what_is_meant_for_it_and_nothing_else() {
    let worker = Worker::start().await;
    let mut raw = configuration(&[&worker]);
    raw.identity.query_parameter = Some("token".to_owned());
    raw.forward_headers = vec!["X-Tenant".to_owned()];
    let edge = Edge::with(raw).await;
    let query = format!("?a=1&token={}&b=2", token("42", 60));
    let headers = [
        ("user-agent", "test/1"),
        ("x-tenant", "blue"),
        ("x-flotilla-passport", "forged"),
        ("X-Flotilla-Anything", "forged"),
        ("cookie", "session=secret"),
        ("sec-websocket-extensions", "permessage-deflate"),
        ("x-forwarded-for", "192.0.2.1"),
    ];
    let (mut client, _) = edge.connect_with(&query, &headers).await.unwrap();
    client.echo("hello").await;
    let request = worker.last_request();
    assert_eq!(request.uri().to_string(), format!("{PATH}?a=1&b=2"));
    assert_eq!(header(&request, "host"), Some(edge.address.to_string()));
    assert_eq!(header(&request, "user-agent").as_deref(), Some("test/1"));
    assert_eq!(header(&request, "x-tenant").as_deref(), Some("blue"));
    assert_eq!(
        request
            .headers()
            .get_all("x-flotilla-passport")
            .iter()
            .count(),
        1
    );
    let mut names: Vec<&str> = request.headers().keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    let expected = [
        "connection",
        "host",
        "sec-websocket-key",
        "sec-websocket-version",
        "upgrade",
        "user-agent",
        "x-flotilla-passport",
        "x-tenant",
    ];
    assert_eq!(names, expected);
    let passport = passport(&header(&request, "x-flotilla-passport").unwrap());
    assert_eq!(passport.identity.unwrap().user, "42");
    assert_eq!(passport.client_address, "127.0.0.1");
    assert_eq!(passport.request_id.len(), 32);
}

#[tokio::test]
async fn a_token_in_the_subprotocols_stays_at_the_edge() {
    let worker = Worker::start().await;
    let edge = Edge::start(&[&worker]).await;
    let offered = format!("bearer.{}, centrifuge-json", token("42", 60));
    let (_, response) = edge
        .connect_with("", &[("sec-websocket-protocol", &offered)])
        .await
        .unwrap();
    let request = worker.last_request();
    assert_eq!(
        header(&request, "sec-websocket-protocol").as_deref(),
        Some("centrifuge-json")
    );
    assert_eq!(
        response.headers()["sec-websocket-protocol"],
        "centrifuge-json"
    );
    let passport = passport(&header(&request, "x-flotilla-passport").unwrap());
    assert_eq!(passport.identity.unwrap().user, "42");

    // A client that offers nothing else must still get a protocol that it has offered.
    let only = format!("bearer.{}", token("42", 60));
    let (_, response) = edge
        .connect_with("", &[("sec-websocket-protocol", &only)])
        .await
        .unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], only.as_str());
    assert_eq!(
        header(&worker.last_request(), "sec-websocket-protocol"),
        None
    );
}

#[tokio::test]
async fn a_client_without_a_token_is_passed_on_or_refused_as_configured() {
    let worker = Worker::start().await;
    let edge = Edge::start(&[&worker]).await;
    edge.connect().await.echo("hello").await;
    let sent = header(&worker.last_request(), "x-flotilla-passport").unwrap();
    assert_eq!(passport(&sent).identity, None);

    let mut raw = configuration(&[&worker]);
    raw.identity.mode = IdentityMode::Required;
    let edge = Edge::with(raw).await;
    assert_eq!(edge.connect_with("", &[]).await.err(), Some(401));
    let bearer = format!("Bearer {}", token("42", 60));
    assert!(
        edge.connect_with("", &[("authorization", &bearer)])
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_bad_token_is_refused_with_its_class() {
    let worker = Worker::start().await;
    let edge = Edge::start(&[&worker]).await;
    let expired = handshake(&format!("Authorization: Bearer {}\r\n", token("42", -1)));
    let answer = edge.exchange(expired).await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(
        answer.ends_with("\r\n\r\nthe token is expired\n"),
        "{answer}"
    );
    let answer = edge
        .exchange(handshake("Authorization: Bearer x.y.z\r\n"))
        .await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(
        answer.contains("\r\nWWW-Authenticate: Bearer error=\"invalid_token\"\r\n"),
        "{answer}"
    );
    assert!(
        answer.ends_with("\r\n\r\nthe token is invalid\n"),
        "{answer}"
    );
    assert_eq!(worker.count(), 0);
    for result in ["expired", "invalid"] {
        let series = format!("flotilla_gateway_jwt_verifications_total{{result=\"{result}\"}}");
        edge.metric_becomes(&series, |sum| sum == 1.0).await;
    }
}

#[tokio::test]
async fn pages_of_other_origins_are_refused() {
    let worker = Worker::start().await;
    let mut raw = configuration(&[&worker]);
    raw.allowed_origins = vec!["https://*.example.com".to_owned()];
    let edge = Edge::with(raw).await;
    let same = format!("http://{}", edge.address);
    for allowed in [same.as_str(), "https://app.example.com"] {
        assert!(
            edge.connect_with("", &[("origin", allowed)]).await.is_ok(),
            "{allowed}"
        );
    }
    assert_eq!(
        header(&worker.last_request(), "origin").as_deref(),
        Some("https://app.example.com")
    );
    for refused in [
        "https://example.com.evil.example",
        "http://app.example.com",
        "null",
    ] {
        assert_eq!(
            edge.connect_with("", &[("origin", refused)]).await.err(),
            Some(403),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn requests_that_are_no_upgrades_are_answered_as_http() {
    let worker = Worker::start().await;
    let edge = Edge::start(&[&worker]).await;
    let check = async |request: &str, status: u16, says: &str| {
        let answer = edge.exchange(request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request:?}: {answer}"
        );
        assert!(answer.contains(says), "{request:?}: {answer}");
    };
    check("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 404, "nothing is here").await;
    let get = format!("GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n");
    check(&get, 426, "\r\nUpgrade: websocket\r\n").await;
    let post = format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
    check(&post, 405, "\r\nAllow: GET\r\n").await;
    let old = handshake("").replace("Version: 13", "Version: 8");
    check(&old, 426, "\r\nSec-WebSocket-Version: 13\r\n").await;
    check("\x16\x03\x01\x02\r\n\r\n", 400, "malformed").await;
    let long = format!(
        "GET {PATH} HTTP/1.1\r\nX: {}\r\n\r\n",
        "a".repeat(HEAD_MAX_BYTES)
    );
    check(&long, 431, "longer than").await;
    assert_eq!(worker.count(), 0);
}

#[tokio::test]
async fn requests_that_two_servers_could_read_differently_are_refused() {
    let worker = Worker::start().await;
    let edge = Edge::start(&[&worker]).await;
    let check = async |request: String, names: &str| {
        let answer = edge.exchange(&request).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{request:?}: {answer}");
        assert!(answer.contains(names), "{request:?}: {answer}");
    };
    let both = "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n";
    check(handshake(both), "Transfer-Encoding").await;
    check(
        handshake("Content-Length: 5\r\n") + "hello",
        "Content-Length",
    )
    .await;
    check(
        handshake("").replace("websocket\r\nSec", "h2c\r\nSec"),
        "Upgrade",
    )
    .await;
    check(handshake("Host: other\r\n"), "Host").await;
    check(
        handshake("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
        "Sec-WebSocket-Key",
    )
    .await;
    // A second request behind a refused one is not looked at.
    let smuggled = handshake("Content-Length: 5\r\n") + &handshake("");
    let answer = edge.exchange(&smuggled).await;
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    assert_eq!(worker.count(), 0);
}

#[tokio::test]
async fn a_client_that_dawdles_over_its_head_is_refused() {
    let worker = Worker::start().await;
    let mut raw = configuration(&[&worker]);
    raw.head_timeout = Duration::from_millis(100);
    let edge = Edge::with(raw).await;
    let answer = edge.exchange("GET / HTTP/1.1\r\nHost: x\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    let series = "flotilla_gateway_handshakes_rejected_total{reason=\"timeout\"}";
    edge.metric_becomes(series, |sum| sum == 1.0).await;
}

#[tokio::test]
async fn a_client_that_leaves_without_a_word_is_no_rejection() {
    let worker = Worker::start().await;
    let edge = Edge::start(&[&worker]).await;
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut nothing = Vec::new();
    soon("the end", stream.read_to_end(&mut nothing))
        .await
        .unwrap();
    assert!(nothing.is_empty());
    edge.metric_becomes("flotilla_gateway_handshakes_in_flight", |sum| sum == 0.0)
        .await;
    edge.metric_becomes("flotilla_gateway_handshakes_rejected_total", |sum| {
        sum == 0.0
    })
    .await;
}

#[tokio::test]
async fn more_connections_than_configured_are_sent_away_for_a_while() {
    let worker = Worker::start().await;
    let mut raw = configuration(&[&worker]);
    raw.connections_max = 1;
    let edge = Edge::with(raw).await;
    let client = edge.connect().await;
    let answer = edge.exchange(handshake("")).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("\r\nRetry-After: "), "{answer}");
    drop(client);
    edge.metric_becomes("flotilla_gateway_connections{", |sum| sum == 0.0)
        .await;
    edge.connect().await.echo("there is room again").await;
}

#[tokio::test]
async fn a_page_is_told_of_overload_by_a_close_code_if_configured() {
    let worker = Worker::that(Behaviour::Answer("HTTP/1.1 503 Busy\r\n\r\n")).await;
    let mut raw = configuration(&[&worker]);
    raw.overload_response = OverloadResponse::Websocket;
    let edge = Edge::with(raw).await;
    let protocol = [("sec-websocket-protocol", "centrifuge-json")];
    let (mut client, _) = edge.connect_with("", &protocol).await.unwrap();
    assert_eq!(u16::from(client.closed().await.code), 1013);
    // Other refusals stay what they are.
    assert_eq!(
        edge.connect_with("", &[("origin", "https://evil.example")])
            .await
            .err(),
        Some(403)
    );
}
