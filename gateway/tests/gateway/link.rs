//! What happens to clients whose sessions are carried by links.

use std::time::Duration;

use flotilla_gateway::RawConfig;
use flotilla_gateway::config::{OverloadResponse, Transport};
use flotilla_shared::auth::passport::PASSPORT_HEADER;
use flotilla_shared::link::{ForGateway, ForWorker};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::common::{Client, Edge, PATH, configuration, handshake, passport, soon, token};
use crate::link_worker::{LinkWorker, Wanted};
use crate::tls::Pair;

/// The configuration of tests with links to these workers.
fn linked(workers: &[&LinkWorker]) -> RawConfig {
    let mut raw = configuration(&[]);
    raw.pool.workers = workers
        .iter()
        .map(|worker| worker.address.to_string())
        .collect();
    raw.pool.transport = Transport::Link;
    raw.link.threads = 1;
    raw.pool.ejection = Duration::from_millis(200);
    raw
}

async fn edge(workers: &[&LinkWorker]) -> Edge {
    Edge::with(linked(workers)).await
}

/// A frame as clients send it, masked with zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("is short");
    assert!(length < 126);
    [&[first, 0x80 | length, 0, 0, 0, 0], payload].concat()
}

/// A client that has been upgraded, as a bare socket.
async fn upgraded(edge: &Edge) -> TcpStream {
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    stream.write_all(handshake("").as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon("a head", stream.read_u8()).await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    stream
}

async fn read(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    soon("bytes", stream.read_exact(&mut bytes)).await.unwrap();
    bytes
}

/// The code of the Close that comes next, as the last that comes.
async fn close_code(stream: &mut TcpStream) -> u16 {
    let mut rest = Vec::new();
    soon("the end", stream.read_to_end(&mut rest))
        .await
        .unwrap();
    assert_eq!(rest[0], 0x88, "{rest:?}");
    u16::from_be_bytes([rest[2], rest[3]])
}

fn closed(heard: &ForWorker) -> Option<(u32, bool)> {
    match heard {
        ForWorker::Closed(closed) => Some((closed.code, closed.is_slow)),
        _ => None,
    }
}

#[tokio::test]
async fn messages_travel_both_ways_and_the_worker_knows_who_it_is() {
    let worker = LinkWorker::start().await;
    let edge = edge(&[&worker]).await;
    let bearer = format!("Bearer {}", token("42", 60));
    let headers = [
        ("authorization", bearer.as_str()),
        ("sec-websocket-protocol", "chat"),
    ];
    let (mut client, response) = edge.connect_with("?a=1", &headers).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
    client.echo("hello").await;
    client.echo(&"long ".repeat(10_000)).await;
    let open = worker.opened().await;
    assert_eq!((open.generation, open.restore), (1, None));
    assert_eq!(open.path, "/connection/websocket?a=1");
    assert_eq!(open.protocols, ["chat"]);
    let shown = open
        .headers
        .iter()
        .find(|header| header.name == PASSPORT_HEADER);
    let identity = passport(&shown.unwrap().value).identity.unwrap();
    assert_eq!(identity.user, "42");
    assert!(
        open.headers
            .iter()
            .all(|header| header.name != "authorization")
    );
    edge.metric_becomes("flotilla_gateway_link_sessions", |sum| sum == 1.0)
        .await;
    edge.metric_becomes("flotilla_gateway_links{state=\"up\"}", |sum| sum == 1.0)
        .await;
    drop(client);
    assert_eq!(worker.heard(closed).await, (0, false));
    edge.metric_becomes("flotilla_gateway_link_sessions", |sum| sum == 0.0)
        .await;
}

#[tokio::test]
async fn clients_share_a_link() {
    let worker = LinkWorker::start().await;
    let edge = edge(&[&worker]).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(edge.connect().await);
    }
    for client in &mut clients {
        client.echo("hello").await;
    }
    assert_eq!(worker.links_seen(), 1);
}

#[tokio::test]
async fn what_is_cast_reaches_each_member_once_and_in_order() {
    let worker = LinkWorker::start().await;
    let edge = edge(&[&worker]).await;
    let mut clients = Vec::new();
    for _ in 0..200 {
        let mut client = edge.connect().await;
        client.echo("join news 0").await;
        clients.push(client);
    }
    let mut other = edge.connect().await;
    other.echo("join sport").await;
    clients[7].echo("leave news").await;
    for (offset, text) in [(1, "one"), (2, "two"), (3, "three")] {
        worker.cast("news", Some(offset), text).await;
    }
    clients[7].echo("bye").await;
    for (at, client) in clients.iter_mut().enumerate().filter(|(at, _)| *at != 7) {
        for text in ["one", "two", "three"] {
            assert_eq!(client.receive().await, text, "client {at}");
        }
        client.echo("bye").await;
    }
    other.echo("nothing for me").await;
    edge.metric_becomes("flotilla_gateway_link_casts_total", |sum| sum == 3.0)
        .await;
    let deliveries = "flotilla_gateway_link_cast_deliveries_total";
    edge.metric_becomes(deliveries, |sum| sum == 597.0).await;
}

#[tokio::test]
async fn a_slow_client_is_closed_alone() {
    let worker = LinkWorker::that(Wanted {
        outbox_max_bytes: 64 * 1024,
        ..Wanted::default()
    })
    .await;
    let edge = edge(&[&worker]).await;
    let mut slow = upgraded(&edge).await;
    slow.write_all(&frame(0x81, b"join news")).await.unwrap();
    read(&mut slow, 11).await;
    let mut quick = edge.connect().await;
    quick.echo("join news").await;
    let text = "x".repeat(10_000);
    let mut casts = 0;
    while worker.count(|heard| closed(heard) == Some((3008, true))) == 0 {
        worker.cast("news", None, &text).await;
        assert_eq!(quick.receive().await.len(), text.len());
        casts += 1;
        assert!(casts < 10_000, "the slow client is never closed");
    }
    quick.echo("still here").await;
    let series =
        "flotilla_gateway_connections_closed_total{initiator=\"gateway\",reason=\"slow_consumer\"}";
    let mut rest = Vec::new();
    soon("the end", slow.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.ends_with(b"\x88\x06\x0b\xc0slow"));
    drop(slow);
    edge.metric_becomes(series, |sum| sum == 1.0).await;
}

#[tokio::test]
async fn an_answer_may_be_larger_than_what_else_may_wait_but_has_to_be_taken_in_time() {
    let worker = LinkWorker::that(Wanted {
        write_timeout_ms: 300,
        outbox_max_bytes: 64 * 1024 * 1024,
        ..Wanted::default()
    })
    .await;
    let edge = edge(&[&worker]).await;
    let mut client = upgraded(&edge).await;
    client
        .write_all(&frame(0x81, b"flood 30000000"))
        .await
        .unwrap();
    assert_eq!(worker.heard(closed).await, (3009, true));
}

#[tokio::test]
async fn frames_cut_at_every_byte_arrive_whole() {
    let worker = LinkWorker::start().await;
    let edge = edge(&[&worker]).await;
    let mut stream = upgraded(&edge).await;
    stream.set_nodelay(true).unwrap();
    let fragments = [frame(0x01, b"o"), frame(0x80, b"ne"), frame(0x81, b"two")];
    for byte in fragments.concat() {
        stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(read(&mut stream, 10).await, b"\x81\x03one\x81\x03two");
    assert_eq!(worker.texts(), ["one", "two"]);
}

#[tokio::test]
async fn messages_sent_right_behind_the_head_are_delivered() {
    let worker = LinkWorker::start().await;
    let edge = edge(&[&worker]).await;
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    let together = [
        handshake("").into_bytes(),
        frame(0x81, b"early"),
        frame(0x81, b"bird"),
    ];
    stream.write_all(&together.concat()).await.unwrap();
    while soon("the head", stream.read_u8()).await.unwrap() != 0x81 {}
    assert_eq!(read(&mut stream, 12).await, b"\x05early\x81\x04bird");
}

#[tokio::test]
async fn pings_are_answered_by_the_gateway() {
    let worker = LinkWorker::start().await;
    let edge = edge(&[&worker]).await;
    let mut stream = upgraded(&edge).await;
    stream.write_all(&frame(0x89, b"abc")).await.unwrap();
    assert_eq!(read(&mut stream, 5).await, b"\x8a\x03abc");
    assert!(worker.texts().is_empty());
}

#[tokio::test]
async fn what_breaks_the_rules_is_closed_with_the_code_for_it() {
    let worker = LinkWorker::that(Wanted {
        message_max_bytes: 100,
        ..Wanted::default()
    })
    .await;
    let edge = edge(&[&worker]).await;
    let cases: [(&[u8], u16); 5] = [
        // Not masked, reserved bits, a control frame in pieces: protocol errors.
        (b"\x81\x01x", 1002),
        (&frame(0xf1, b"x"), 1002),
        (&frame(0x09, b"x"), 1002),
        (&frame(0x81, b"\xff\xfe"), 1007),
        (&frame(0x81, &[b'x'; 101]), 1009),
    ];
    for (bytes, code) in cases {
        let mut stream = upgraded(&edge).await;
        stream.write_all(bytes).await.unwrap();
        assert_eq!(close_code(&mut stream).await, code);
        let told =
            |heard: &ForWorker| closed(heard).filter(|told| *told == (u32::from(code), false));
        worker.heard(told).await;
    }
}

#[tokio::test]
async fn a_close_is_passed_on_both_ways() {
    let worker = LinkWorker::start().await;
    let edge = edge(&[&worker]).await;
    let mut client = edge.connect().await;
    client.send("close 3501").await;
    let close = client.closed().await;
    assert_eq!(
        (u16::from(close.code), close.reason.as_str()),
        (3501, "told to")
    );
    assert!(client.next().await.is_none());
    let series =
        "flotilla_gateway_connections_closed_total{initiator=\"worker\",reason=\"application\"}";
    edge.metric_becomes(series, |sum| sum == 1.0).await;
    // The worker knows that it has ended.
    assert_eq!(worker.count(|heard| closed(heard).is_some()), 0);

    let mut stream = upgraded(&edge).await;
    stream.write_all(&frame(0x88, b"\x03\xe8")).await.unwrap();
    assert_eq!(close_code(&mut stream).await, 1000);
    assert_eq!(worker.heard(closed).await, (1000, false));
}

#[tokio::test]
async fn the_gateway_asks_whether_clients_are_there_and_keeps_the_answers_to_itself() {
    let worker = LinkWorker::start().await;
    let edge = edge(&[&worker]).await;
    let mut alive = edge.connect().await;
    alive.echo("ask 300").await;
    let mut silent = edge.connect().await;
    silent.echo("ask 300").await;
    for _ in 0..3 {
        assert_eq!(alive.receive().await, "?");
        alive.send("!").await;
    }
    assert_eq!(silent.receive().await, "?");
    let close = loop {
        match silent.next().await {
            Some(Message::Close(Some(close))) => break close,
            Some(Message::Text(_)) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        (u16::from(close.code), close.reason.as_str()),
        (3012, "no pong")
    );
    assert_eq!(worker.heard(closed).await, (3012, false));
    assert_eq!(worker.texts(), ["ask 300", "ask 300"]);
}

/// Two workers, of which the first one has the client.
async fn two() -> (LinkWorker, LinkWorker, Edge, Client) {
    let (one, other) = (LinkWorker::start().await, LinkWorker::start().await);
    let edge = edge(&[&one, &other]).await;
    let mut client = edge.connect().await;
    client.echo("hello").await;
    if one.texts().is_empty() {
        (other, one, edge, client)
    } else {
        (one, other, edge, client)
    }
}

#[tokio::test]
async fn a_session_whose_worker_is_lost_goes_on_elsewhere_and_the_client_sees_nothing() {
    let (first, second, edge, mut client) = two().await;
    client.echo("state here").await;
    client.echo("join news 5").await;
    client.echo("join plain").await;
    first.cast("news", Some(9), "news").await;
    assert_eq!(client.receive().await, "news");
    client.send("hold this").await;
    client.echo("done").await;
    first.cut().await;
    drop(first);
    assert_eq!(second.opened().await.generation, 2);
    let restore = second.opened().await.restore.unwrap();
    assert_eq!(&restore.state[..], b"here");
    let positions: Vec<(&[u8], u64)> = restore
        .positions
        .iter()
        .map(|at| (&at.topic[..], at.offset))
        .collect();
    assert_eq!(positions, [(&b"news"[..], 9)]);
    let messages: Vec<(u64, &[u8])> = restore
        .messages
        .iter()
        .map(|said| (said.number, &said.payload[..]))
        .collect();
    assert_eq!(messages, [(5, &b"hold this"[..])]);
    client.echo("hello again").await;
    second.cast("news", Some(10), "nobody is there").await;
    client.echo("join news 9").await;
    second.cast("news", Some(10), "more news").await;
    assert_eq!(client.receive().await, "more news");
    let moved = "flotilla_gateway_link_moves_total{reason=\"worker_lost\"}";
    edge.metric_becomes(moved, |sum| sum == 1.0).await;
    let resent = "flotilla_gateway_link_messages_resent_total";
    edge.metric_becomes(resent, |sum| sum == 1.0).await;
}

#[tokio::test]
async fn what_is_said_while_there_is_no_worker_is_handled_by_the_next_one() {
    let (first, second, edge, mut client) = two().await;
    second.wants(Wanted {
        is_refusing: true,
        ..Wanted::default()
    });
    first.cut().await;
    drop(first);
    second.opened().await;
    client.send("one").await;
    client.send("two").await;
    second.wants(Wanted::default());
    assert_eq!(client.receive().await, "one");
    assert_eq!(client.receive().await, "two");
    drop(edge);
}

#[tokio::test]
async fn a_worker_that_leaves_hands_its_sessions_over() {
    let (first, second, edge, mut client) = two().await;
    client.echo("state mine").await;
    first.release().await;
    let restore = second.opened().await.restore.unwrap();
    assert_eq!(&restore.state[..], b"mine");
    assert!(restore.messages.is_empty());
    let detach = |heard: &ForWorker| matches!(heard, ForWorker::Detach(_)).then_some(());
    first.heard(detach).await;
    client.echo("hello again").await;
    let moved = "flotilla_gateway_link_moves_total{reason=\"released\"}";
    edge.metric_becomes(moved, |sum| sum == 1.0).await;
    // It has not been told that the client has gone.
    assert_eq!(first.count(|heard| closed(heard).is_some()), 0);
}

#[tokio::test]
async fn a_client_that_nobody_takes_is_told_that_its_worker_is_lost() {
    let worker = LinkWorker::start().await;
    let edge = edge(&[&worker]).await;
    let mut client = edge.connect().await;
    client.echo("hello").await;
    worker.wants(Wanted {
        is_refusing: true,
        ..Wanted::default()
    });
    worker.cut().await;
    let close = client.closed().await;
    assert_eq!(
        (u16::from(close.code), close.reason.as_str()),
        (1012, "worker lost")
    );
}

#[tokio::test]
async fn nonsense_on_a_link_ends_the_link_and_no_session() {
    let worker = LinkWorker::start().await;
    let edge = edge(&[&worker]).await;
    let mut client = edge.connect().await;
    client.echo("state mine").await;
    worker.babble().await;
    while worker.opened().await.generation == 1 {
        tokio::task::yield_now().await;
    }
    client.echo("hello again").await;
    // A message that can be read, and makes no sense.
    let cast = flotilla_shared::link::Cast {
        topic: 77,
        ..Default::default()
    };
    worker.say(ForGateway::Cast(cast)).await;
    while worker.opened().await.generation == 2 {
        tokio::task::yield_now().await;
    }
    client.echo("and again").await;
    assert_eq!(worker.links_seen(), 3);
}

#[tokio::test]
async fn a_client_that_nobody_takes_at_first_is_refused() {
    let worker = LinkWorker::that(Wanted {
        is_refusing: true,
        ..Wanted::default()
    })
    .await;
    let edge = edge(&[&worker]).await;
    assert_eq!(edge.connect_with("", &[]).await.err(), Some(503));
    worker.wants(Wanted::default());
    edge.connect().await.echo("hello").await;
}

#[tokio::test]
async fn a_client_is_not_read_while_its_worker_owes_it_too_much() {
    let worker = LinkWorker::start().await;
    let edge = edge(&[&worker]).await;
    let mut client = edge.connect().await;
    for number in 0..100 {
        client.send(&format!("hold {number}")).await;
    }
    let most = flotilla_shared::link::UNACKED_MAX;
    let last = format!("hold {}", most - 1);
    soon("the last", async {
        while !worker.texts().contains(&last) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Others are.
    let mut other = edge.connect().await;
    for _ in 0..100 {
        other.echo("quick").await;
    }
    let held = worker
        .texts()
        .iter()
        .filter(|text| text.starts_with("hold"))
        .count();
    assert_eq!(held, most);
}

#[tokio::test]
async fn clients_are_told_that_the_gateway_leaves() {
    let worker = LinkWorker::start().await;
    let edge = edge(&[&worker]).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(edge.connect().await);
    }
    edge.lifecycle.drain(Duration::from_millis(500));
    for client in &mut clients {
        let close = client.closed().await;
        assert_eq!(
            (u16::from(close.code), close.reason.as_str()),
            (1001, "gateway is shutting down")
        );
        while client.next().await.is_some() {}
    }
    edge.ended().await;
    soon("the worker knows", async {
        while worker.count(|heard| closed(heard) == Some((1001, false))) < 5 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn clients_with_tls_are_carried_as_well() {
    let (worker, pair) = (LinkWorker::start().await, Pair::new());
    let mut raw = linked(&[&worker]);
    pair.put(&mut raw);
    let edge = Edge::with(raw).await;
    let url = format!("wss://localhost{PATH}");
    let mut clients = Vec::new();
    for _ in 0..3 {
        let stream = pair.connect(&edge).await;
        let (mut client, _) = Box::pin(Client::upgrade(stream, &url, &[])).await.unwrap();
        client.echo("join news 0").await;
        client.echo(&"long ".repeat(10_000)).await;
        clients.push(client);
    }
    let text = "x".repeat(100_000);
    for offset in 1..10 {
        worker.cast("news", Some(offset), &text).await;
    }
    for client in &mut clients {
        for _ in 1..10 {
            assert_eq!(client.receive().await, text);
        }
    }
    worker.cut().await;
    clients[0].echo("still here").await;
}

#[tokio::test]
async fn a_page_is_told_of_overload_by_a_close_code_if_configured() {
    let worker = LinkWorker::that(Wanted {
        is_refusing: true,
        ..Wanted::default()
    })
    .await;
    let mut raw = linked(&[&worker]);
    raw.overload_response = OverloadResponse::Websocket;
    let edge = Edge::with(raw).await;
    let mut client = edge.connect().await;
    assert_eq!(u16::from(client.closed().await.code), 1013);
}

#[tokio::test]
async fn each_thread_has_its_links() {
    let worker = LinkWorker::start().await;
    let mut raw = linked(&[&worker]);
    raw.link.threads = 3;
    let edge = Edge::with(raw).await;
    let mut clients = Vec::new();
    for _ in 0..9 {
        let mut client = edge.connect().await;
        client.echo("join news").await;
        clients.push(client);
    }
    assert_eq!(worker.links_seen(), 3);
    worker.cast("news", None, "to all").await;
    for client in &mut clients {
        assert_eq!(client.receive().await, "to all");
    }
    // Once over each.
    edge.metric_becomes("flotilla_gateway_link_casts_total", |sum| sum == 3.0)
        .await;
    worker.cut().await;
    for client in &mut clients {
        client.echo("still here").await;
    }
}

#[tokio::test]
async fn a_worker_that_falls_silent_is_left() {
    let (first, second, _edge, mut client) = two().await;
    first.freeze();
    assert_eq!(second.opened().await.generation, 2);
    client.echo("hello again").await;
}

#[tokio::test]
async fn sessions_move_to_a_worker_that_joins() {
    let (first, late) = (LinkWorker::start().await, LinkWorker::start().await);
    late.wants(Wanted {
        is_refusing: true,
        ..Wanted::default()
    });
    let edge = edge(&[&first, &late]).await;
    let mut clients = Vec::new();
    for number in 0..20 {
        let bearer = format!("Bearer {}", token(&number.to_string(), 60));
        let headers = [("authorization", bearer.as_str())];
        let (mut client, _) = edge.connect_with("", &headers).await.unwrap();
        client.echo("hello").await;
        clients.push(client);
    }
    late.wants(Wanted::default());
    let moved = "flotilla_gateway_link_moves_total{reason=\"rebalanced\"}";
    edge.metric_becomes(moved, |sum| sum >= 4.0).await;
    for client in &mut clients {
        client.echo("hello again").await;
    }
    let hello = |worker: &LinkWorker| {
        let texts = worker.texts();
        texts.iter().filter(|text| *text == "hello again").count()
    };
    assert_eq!(hello(&first) + hello(&late), 20);
    assert!((4..=10).contains(&hello(&late)), "{}", hello(&late));
}

const CUT_OFF: &str = "flotilla_gateway_link_moves_total{reason=\"cut_off\"}";

fn opened(heard: &ForWorker) -> bool {
    matches!(heard, ForWorker::Open(_))
}

#[tokio::test]
async fn a_session_whose_worker_is_cut_off_goes_where_one_is_not() {
    let (first, second, edge, mut client) = two().await;
    client.echo("state mine").await;
    first.is_cut_off(true).await;
    let open = second.opened().await;
    assert_eq!(open.generation, 2);
    assert_eq!(&open.restore.unwrap().state[..], b"mine");
    client.echo("hello again").await;
    edge.metric_becomes(CUT_OFF, |sum| sum == 1.0).await;
    // Nor is anybody else brought there.
    for _ in 0..10 {
        edge.connect().await.echo("hello").await;
    }
    assert_eq!(first.count(opened), 1);
    assert_eq!(first.count(|heard| closed(heard).is_some()), 0);
}

#[tokio::test]
async fn nobody_moves_while_all_workers_are_cut_off() {
    let (first, second, edge, mut client) = two().await;
    second.is_cut_off(true).await;
    first.is_cut_off(true).await;
    // New clients are better off anywhere than nowhere; by then each worker has a link.
    let mut others = Vec::new();
    while second.count(opened) == 0 {
        let mut other = edge.connect().await;
        other.echo("hello").await;
        others.push(other);
    }
    let asked = std::time::Instant::now();
    while asked.elapsed() < Duration::from_secs(1) {
        client.echo("still here").await;
    }
    let detach = |heard: &ForWorker| matches!(heard, ForWorker::Detach(_));
    assert_eq!((first.count(detach), second.count(detach)), (0, 0));
    // The first one that has its broker again gets them all.
    let stayed = others.len() + 1 - second.count(opened);
    second.is_cut_off(false).await;
    edge.metric_becomes(CUT_OFF, |sum| sum == stayed as f64)
        .await;
    client.echo("hello again").await;
    assert!(second.texts().contains(&"hello again".to_owned()));
}

#[tokio::test]
async fn a_worker_that_is_cut_off_for_a_moment_keeps_its_sessions() {
    let (first, second, _edge, mut client) = two().await;
    first.is_cut_off(true).await;
    first.is_cut_off(false).await;
    let asked = std::time::Instant::now();
    while asked.elapsed() < Duration::from_secs(1) {
        client.echo("still here").await;
    }
    assert_eq!((first.count(opened), second.count(opened)), (1, 0));
}
