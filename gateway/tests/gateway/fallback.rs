//! Clients without WebSocket: streams, and the short requests that go with them.

use std::time::Duration;

use flotilla_gateway::RawConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::common::{Edge, PATH, configuration, handshake, passport, soon, token};
use crate::http_worker::{HttpWorker, STREAM};
use crate::tls::Pair;
use crate::worker::Worker;

const SSE: &str = "GET /connection/sse?cf_connect=%7B%7D HTTP/1.1\r\nHost: gateway\r\n\r\n";

fn before(workers: &[&HttpWorker]) -> RawConfig {
    let mut raw = configuration(&[]);
    raw.pool.workers = workers
        .iter()
        .map(|worker| worker.address.to_string())
        .collect();
    raw
}

fn post(path: &str, lines: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: gateway\r\nContent-Length: {length}\r\n{lines}\r\n{body}"
    )
}

async fn ask(edge: &Edge, bytes: &str) -> TcpStream {
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    stream
}

async fn expect<S: AsyncRead + Unpin>(stream: &mut S, wanted: &str) {
    let mut bytes = vec![0; wanted.len()];
    soon(wanted, stream.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), wanted);
}

async fn expect_end<S: AsyncRead + Unpin>(stream: &mut S) {
    let mut rest = Vec::new();
    soon("the end", stream.read_to_end(&mut rest))
        .await
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&rest), "");
}

/// The head of a short answer; its body stays.
async fn answer_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = soon("an answer", stream.read_u8()).await.unwrap();
        head.push(byte);
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn each_piece_of_a_stream_arrives_before_the_next_is_written() {
    let mut worker = HttpWorker::start().await;
    let edge = Edge::with(before(&[&worker])).await;
    let mut client = ask(&edge, SSE).await;
    let mut stream = worker.stream().await;
    expect(&mut client, STREAM).await;
    for number in 0..100 {
        let event = format!("data: {{\"id\":{number}}}\n\n");
        stream.write_all(event.as_bytes()).await.unwrap();
        expect(&mut client, &event).await;
    }
    let series = "flotilla_gateway_connections{listener=\"plain\",tls=\"false\",transport=\"sse\"}";
    edge.metric_becomes(series, |sum| sum == 1.0).await;
    drop(stream);
    expect_end(&mut client).await;
    drop(client);
    edge.metric_becomes(series, |sum| sum == 0.0).await;
}

#[tokio::test]
async fn a_stream_comes_through_tls() {
    let (mut worker, pair) = (HttpWorker::start().await, Pair::new());
    let mut raw = before(&[&worker]);
    pair.put(&mut raw);
    let edge = Edge::with(raw).await;
    let mut client = pair.connect(&edge).await;
    let body = "{\"id\":1}".repeat(1000);
    let request = post("/connection/http_stream", "", &body);
    client.write_all(request.as_bytes()).await.unwrap();
    client.flush().await.unwrap();
    let mut stream = worker.stream().await;
    expect(&mut client, STREAM).await;
    let piece = "x".repeat(200_000);
    stream.write_all(piece.as_bytes()).await.unwrap();
    expect(&mut client, &piece).await;
    assert_eq!(worker.seen()[0].body, body.as_bytes());
    drop(stream);
    expect_end(&mut client).await;
}

#[tokio::test]
async fn the_worker_learns_who_asks_from_the_passport_only() {
    let mut worker = HttpWorker::start().await;
    let edge = Edge::with(before(&[&worker])).await;
    let lines = format!(
        "Authorization: Bearer {}\r\nX-Flotilla-Passport: forged\r\nx-flotilla-anything: forged\r\n",
        token("42", 60)
    );
    let _client = ask(&edge, &post("/connection/http_stream", &lines, "{}")).await;
    let _stream = worker.stream().await;
    let head = worker.seen().remove(0).head;
    let ours = |name: &str| name.to_ascii_lowercase().starts_with("x-flotilla-");
    let internal: Vec<_> = head.headers.iter().filter(|(name, _)| ours(name)).collect();
    assert_eq!(internal.len(), 1, "{internal:?}");
    let identity = passport(&internal[0].1).identity.unwrap();
    assert_eq!(identity.user, "42");
    assert_eq!(head.header("Authorization"), None);
    assert_eq!(head.header("Connection"), Some("close"));
}

#[tokio::test]
async fn streams_are_admitted_like_websockets() {
    let mut worker = HttpWorker::start().await;
    let mut raw = before(&[&worker]);
    raw.connections_max = 1;
    let edge = Edge::with(raw).await;
    let forged = edge
        .exchange(post(
            "/connection/http_stream",
            "Authorization: Bearer x\r\n",
            "{}",
        ))
        .await;
    assert!(forged.starts_with("HTTP/1.1 401 "), "{forged}");
    let foreign = SSE.replace("\r\n\r\n", "\r\nOrigin: https://evil.example\r\n\r\n");
    let foreign = edge.exchange(foreign).await;
    assert!(foreign.starts_with("HTTP/1.1 403 "), "{foreign}");
    assert!(!foreign.contains("Access-Control"), "{foreign}");
    let _client = ask(&edge, SSE).await;
    let _stream = worker.stream().await;
    let full = SSE.replace("\r\n\r\n", "\r\nOrigin: http://gateway\r\n\r\n");
    let full = edge.exchange(full).await;
    assert!(full.starts_with("HTTP/1.1 503 "), "{full}");
    let readable = "\r\nAccess-Control-Allow-Origin: http://gateway\r\n";
    assert!(full.contains(readable), "{full}");
}

#[tokio::test]
async fn a_stream_goes_to_the_next_worker_when_one_does_not_take_it() {
    let full = Worker::that(crate::worker::Behaviour::Answer(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
    ))
    .await;
    let mut worker = HttpWorker::start().await;
    let mut raw = before(&[&worker]);
    raw.pool.workers.push(full.address.to_string());
    let edge = Edge::with(raw).await;
    for _ in 0..8 {
        let mut client = ask(&edge, SSE).await;
        let _stream = worker.stream().await;
        expect(&mut client, STREAM).await;
    }
}

#[tokio::test]
async fn posts_share_a_connection_and_what_is_pipelined_waits_its_turn() {
    let worker = HttpWorker::start().await;
    let edge = Edge::with(before(&[&worker])).await;
    let two = [post("/emulation", "", "one"), post("/emulation", "", "two")].concat();
    let mut client = ask(&edge, &two).await;
    for _ in 0..2 {
        let head = answer_head(&mut client).await;
        assert!(head.starts_with("HTTP/1.1 204 "), "{head}");
        assert!(head.contains("\r\nConnection: keep-alive\r\n"), "{head}");
    }
    let kept =
        "flotilla_gateway_connections{listener=\"plain\",tls=\"false\",transport=\"keep_alive\"}";
    edge.metric_becomes(kept, |sum| sum == 1.0).await;
    let third = post("/emulation", "Connection: close\r\n", "three");
    client.write_all(third.as_bytes()).await.unwrap();
    let head = answer_head(&mut client).await;
    assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
    expect_end(&mut client).await;
    drop(client);
    edge.metric_becomes(kept, |sum| sum == 0.0).await;
    let bodies: Vec<Vec<u8>> = worker.seen().into_iter().map(|seen| seen.body).collect();
    assert_eq!(bodies, [&b"one"[..], b"two", b"three"]);
    let answered = "flotilla_gateway_request_duration_seconds_count{endpoint=\"emulation\"}";
    assert_eq!(edge.metric(answered).await, 3.0);
}

#[tokio::test]
async fn a_connection_that_was_kept_may_become_a_websocket() {
    let (emulating, echoing) = (HttpWorker::start().await, Worker::start().await);
    let mut raw = before(&[&emulating]);
    raw.pool.workers.push(echoing.address.to_string());
    raw.pool.tries = 2;
    let edge = Edge::with(raw).await;
    let preflight = "OPTIONS /emulation HTTP/1.1\r\nHost: gateway\r\n\r\n";
    let mut client = ask(&edge, preflight).await;
    assert!(answer_head(&mut client).await.starts_with("HTTP/1.1 204 "));
    client.write_all(handshake("").as_bytes()).await.unwrap();
    let head = answer_head(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
}

#[tokio::test]
async fn a_connection_is_not_kept_for_ever() {
    let worker = HttpWorker::start().await;
    let mut raw = before(&[&worker]);
    raw.keepalive_timeout = Duration::from_millis(100);
    let edge = Edge::with(raw).await;
    let mut client = ask(&edge, &post("/emulation", "", "one")).await;
    answer_head(&mut client).await;
    expect_end(&mut client).await;
}

#[tokio::test]
async fn a_connection_is_not_kept_when_there_is_no_place_for_it() {
    let mut worker = HttpWorker::start().await;
    let mut raw = before(&[&worker]);
    raw.connections_max = 1;
    let edge = Edge::with(raw).await;
    let _client = ask(&edge, SSE).await;
    let _stream = worker.stream().await;
    let answer = edge.exchange(post("/emulation", "", "one")).await;
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
}

/// Each of these has smuggled a request past some pair of parsers.
#[tokio::test]
async fn a_request_that_can_be_read_in_two_ways_reaches_no_worker() {
    let worker = HttpWorker::start().await;
    let edge = Edge::with(before(&[&worker])).await;
    let hidden = "GET /api/x HTTP/1.1\r\nHost: x\r\n\r\n";
    let check = async |path: &str, lines: &str, body: &str, status: u16| {
        let request = format!("POST {path} HTTP/1.1\r\nHost: gateway\r\n{lines}\r\n{body}");
        let answer = edge.exchange(request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{lines}: {answer}"
        );
        assert!(
            answer.contains("\r\nConnection: close"),
            "{lines}: {answer}"
        );
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{lines}: {answer}");
    };
    for path in ["/emulation", "/connection/http_stream"] {
        let chunked = format!("0\r\n\r\n{hidden}");
        let te = "Transfer-Encoding: chunked\r\n";
        check(path, te, &chunked, 411).await;
        check(path, &format!("Content-Length: 5\r\n{te}"), &chunked, 400).await;
        check(path, &format!("{te}Content-Length: 5\r\n"), &chunked, 400).await;
        let two = "Content-Length: 0\r\nContent-Length: 30\r\n";
        check(path, two, hidden, 400).await;
        for odd in ["+5", "0x5", "5, 5", "-1", "99999999999999999999"] {
            check(path, &format!("Content-Length: {odd}\r\n"), hidden, 400).await;
        }
        check(path, "Content-Length: 65537\r\n", "", 413).await;
        check(path, "Host: other\r\nContent-Length: 0\r\n", "", 400).await;
    }
    // Nothing may follow a request whose answer does not end.
    let stream = "/connection/http_stream";
    check(stream, "Content-Length: 0\r\n", hidden, 400).await;
    assert_eq!(worker.seen().len(), 0);
}

#[tokio::test]
async fn a_body_up_to_the_limit_is_passed_on() {
    let worker = HttpWorker::start().await;
    let mut raw = before(&[&worker]);
    raw.client.message_size_limit = 100_000;
    let edge = Edge::with(raw).await;
    let body = "x".repeat(100_000);
    let answer = edge.exchange(post("/emulation", "Connection: close\r\n", &body));
    assert!(answer.await.starts_with("HTTP/1.1 204 "));
    assert_eq!(worker.seen()[0].body.len(), 100_000);
}

#[tokio::test]
async fn browsers_are_told_what_their_pages_may_ask() {
    let worker = HttpWorker::start().await;
    let mut raw = before(&[&worker]);
    raw.allowed_origins = vec!["https://app.example".to_owned()];
    let edge = Edge::with(raw).await;
    let preflight = |path: &str, origin: &str| {
        format!(
            "OPTIONS {path} HTTP/1.1\r\nHost: gateway\r\nOrigin: {origin}\r\n\
             Access-Control-Request-Headers: content-type\r\nConnection: close\r\n\r\n"
        )
    };
    for path in ["/emulation", "/connection/http_stream", "/connection/sse"] {
        let answer = edge.exchange(preflight(path, "https://app.example")).await;
        assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
        for line in [
            "Access-Control-Allow-Origin: https://app.example",
            "Access-Control-Allow-Headers: content-type",
            "Access-Control-Max-Age: 300",
        ] {
            assert!(answer.contains(&format!("\r\n{line}\r\n")), "{answer}");
        }
        let foreign = edge.exchange(preflight(path, "https://evil.example")).await;
        assert!(foreign.starts_with("HTTP/1.1 403 "), "{foreign}");
    }
    let lines = "Origin: https://app.example\r\nConnection: close\r\n";
    let answer = edge.exchange(post("/emulation", lines, "{}")).await;
    let readable = "\r\nAccess-Control-Allow-Origin: https://app.example\r\n";
    assert!(answer.contains(readable), "{answer}");
    let odd = edge
        .exchange("PUT /emulation HTTP/1.1\r\nHost: x\r\n\r\n")
        .await;
    assert!(odd.starts_with("HTTP/1.1 405 "), "{odd}");
    assert_eq!(worker.seen().len(), 1);
}

#[tokio::test]
async fn what_is_off_is_not_there() {
    let worker = HttpWorker::start().await;
    let mut raw = before(&[&worker]);
    for switch in [&mut raw.sse, &mut raw.http_stream, &mut raw.emulation] {
        switch.enabled = false;
    }
    let edge = Edge::with(raw).await;
    for path in [
        "/connection/sse",
        "/connection/http_stream",
        "/emulation",
        "/connection/uni_sse",
        "/connection/uni_http_stream",
        "/connection/uni_websocket",
        "/api/publish",
    ] {
        let answer = edge.exchange(post(path, "", "{}")).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
    }
    assert_eq!(worker.seen().len(), 0);
}

#[tokio::test]
async fn unidirectional_clients_reach_their_own_paths() {
    let mut worker = HttpWorker::start().await;
    let mut raw = before(&[&worker]);
    (raw.uni_sse.enabled, raw.uni_http_stream.enabled) = (true, true);
    let edge = Edge::with(raw).await;
    for path in ["/connection/uni_sse", "/connection/uni_http_stream"] {
        let mut client = ask(&edge, &post(path, "", "{}")).await;
        let _stream = worker.stream().await;
        expect(&mut client, STREAM).await;
        assert_eq!(worker.seen().last().unwrap().head.path, path);
    }
    let echoing = Worker::start().await;
    let mut raw = configuration(&[&echoing]);
    raw.uni_websocket.enabled = true;
    let edge = Edge::with(raw).await;
    let path = "/connection/uni_websocket";
    let mut client = ask(&edge, &handshake("").replace(PATH, path)).await;
    let head = answer_head(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(echoing.last_request().uri().path(), path);
}

#[tokio::test]
async fn a_post_goes_to_another_worker_only_if_the_first_was_not_reached() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (dead, worker) = (gone.local_addr().unwrap(), HttpWorker::start().await);
    let mut raw = before(&[&worker]);
    raw.pool.workers.push(dead.to_string());
    raw.pool.health_check.interval = Duration::from_secs(3600);
    let edge = Edge::with(raw).await;
    drop(gone);
    for _ in 0..8 {
        let answer = edge.exchange(post("/emulation", "Connection: close\r\n", "{}"));
        assert!(answer.await.starts_with("HTTP/1.1 204 "));
    }

    // One that breaks off may have done what it was told.
    let (first, second) = (
        HttpWorker::answering("HTTP/1.1 2").await,
        HttpWorker::answering("HTTP/1.1 2").await,
    );
    let edge = Edge::with(before(&[&first, &second])).await;
    let answer = edge.exchange(post("/emulation", "", "{}")).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert_eq!(first.seen().len() + second.seen().len(), 1);
}

#[tokio::test]
async fn a_post_is_answered_within_its_time_and_others_are_bounded() {
    let worker = HttpWorker::answering("").await;
    let mut raw = before(&[&worker]);
    raw.requests_max = 1;
    raw.request_timeout = Duration::from_secs(1);
    let edge = Edge::with(raw).await;
    let mut waiting = ask(&edge, &post("/emulation", "", "{}")).await;
    soon("the worker", async {
        while worker.seen().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let busy = edge.exchange(post("/emulation", "", "{}")).await;
    assert!(busy.starts_with("HTTP/1.1 503 "), "{busy}");
    let head = answer_head(&mut waiting).await;
    assert!(head.starts_with("HTTP/1.1 504 "), "{head}");
}

#[tokio::test]
async fn the_server_api_is_passed_on_only_when_asked_for() {
    let worker = HttpWorker::answering(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
    )
    .await;
    let mut raw = before(&[&worker]);
    raw.http_api.forward = true;
    raw.http_api.body_size_limit = 10;
    let edge = Edge::with(raw).await;
    let lines = "X-API-Key: k\r\nConnection: close\r\n";
    let answer = edge.exchange(post("/api/info", lines, "{}")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\n{}"), "{answer}");
    let head = worker.seen().remove(0).head;
    assert_eq!(head.path, "/api/info");
    assert_eq!(head.header("X-API-Key"), Some("k"));
    let long = edge.exchange(post("/api/info", lines, "{         }")).await;
    assert!(long.starts_with("HTTP/1.1 413 "), "{long}");
}

#[tokio::test]
async fn a_drain_ends_streams_and_those_who_stayed() {
    let mut worker = HttpWorker::start().await;
    let edge = Edge::with(before(&[&worker])).await;
    let mut client = ask(&edge, SSE).await;
    let mut stream = worker.stream().await;
    stream.write_all(b"data: {}\n\n").await.unwrap();
    let mut staying = ask(&edge, &post("/emulation", "", "one")).await;
    answer_head(&mut staying).await;
    edge.lifecycle.drain(Duration::from_millis(500));
    expect(&mut client, STREAM).await;
    expect(&mut client, "data: {}\n\n").await;
    expect_end(&mut client).await;
    expect_end(&mut staying).await;
    drop((client, staying));
    edge.ended().await;
}
