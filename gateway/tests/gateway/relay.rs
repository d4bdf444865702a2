//! What happens to an upgraded connection.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::common::{Edge, configuration, handshake, soon};
use crate::worker::Worker;

/// A text frame as clients send it, masked with zeros.
fn text_frame(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).expect("is short");
    assert!(length < 126);
    [&[0x81, 0x80 | length, 0, 0, 0, 0], text.as_bytes()].concat()
}

/// A client that has been upgraded, as a bare socket.
async fn upgraded(edge: &Edge) -> TcpStream {
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    stream.write_all(handshake("").as_bytes()).await.unwrap();
    read_head(&mut stream).await;
    stream
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon("a head", stream.read_u8()).await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn read_rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let _ = soon("the end", stream.read_to_end(&mut rest)).await;
    rest
}

#[tokio::test]
async fn messages_travel_both_ways_and_are_counted() {
    let worker = Worker::start().await;
    let edge = Edge::start(&[&worker]).await;
    let mut client = edge.connect().await;
    client.echo("hello").await;
    client.echo(&"long ".repeat(50_000)).await;
    edge.metric_becomes("flotilla_gateway_connections{", |sum| sum == 1.0)
        .await;
    for direction in ["in", "out"] {
        let series = format!("flotilla_gateway_bytes_total{{direction=\"{direction}\"}}");
        edge.metric_becomes(&series, |sum| sum > 250_000.0).await;
    }
    drop(client);
    edge.metric_becomes("flotilla_gateway_connections{", |sum| sum == 0.0)
        .await;
    let series =
        "flotilla_gateway_connections_closed_total{initiator=\"client\",reason=\"abnormal\"}";
    edge.metric_becomes(series, |sum| sum == 1.0).await;
}

#[tokio::test]
async fn bytes_sent_right_behind_the_head_are_delivered() {
    let worker = Worker::start().await;
    let edge = Edge::start(&[&worker]).await;
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    let together = [
        handshake("").into_bytes(),
        text_frame("early"),
        text_frame("bird"),
    ]
    .concat();
    stream.write_all(&together).await.unwrap();
    read_head(&mut stream).await;
    let mut echoes = [0; 13];
    soon("the echoes", stream.read_exact(&mut echoes))
        .await
        .unwrap();
    assert_eq!(&echoes, b"\x81\x05early\x81\x04bird");
}

#[tokio::test]
async fn a_worker_that_speaks_first_is_heard() {
    // Its first frame and a half come in one segment with its 101.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut raw = configuration(&[]);
    raw.pool.workers = vec![listener.local_addr().unwrap().to_string()];
    raw.pool.health_check.interval = Duration::from_secs(3600);
    let edge = Edge::with(raw).await;
    let client = tokio::spawn({
        let address = edge.address;
        async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(handshake("").as_bytes()).await.unwrap();
            read_head(&mut stream).await;
            let mut frames = [0; 16];
            soon("the frames", stream.read_exact(&mut frames))
                .await
                .unwrap();
            frames
        }
    });
    let mut worker = loop {
        let (mut worker, _) = soon("a connection", listener.accept()).await.unwrap();
        // The health check's connection ends without a request.
        if worker.peek(&mut [0]).await.unwrap() == 1 {
            break (read_head(&mut worker).await, worker);
        }
    };
    let key = worker
        .0
        .lines()
        .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))
        .unwrap();
    let mut answer = flotilla_shared::websocket::switching_protocols(key, None);
    answer.extend(b"\x81\x05hello\x81\x07gate");
    worker.1.write_all(&answer).await.unwrap();
    worker.1.write_all(b"way").await.unwrap();
    let frames = soon("the client", client).await.unwrap();
    assert_eq!(&frames[..], b"\x81\x05hello\x81\x07gateway");
}

#[tokio::test]
async fn frames_cut_at_every_byte_arrive_whole() {
    let worker = Worker::start().await;
    let edge = Edge::start(&[&worker]).await;
    let mut stream = upgraded(&edge).await;
    stream.set_nodelay(true).unwrap();
    for byte in [text_frame("one"), text_frame("two")].concat() {
        stream.write_all(&[byte]).await.unwrap();
        stream.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut echoes = [0; 10];
    soon("the echoes", stream.read_exact(&mut echoes))
        .await
        .unwrap();
    assert_eq!(&echoes, b"\x81\x03one\x81\x03two");
}

#[tokio::test]
async fn a_client_that_ends_its_side_still_hears_the_answer() {
    // The worker answers only after it has seen that no more comes.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut raw = configuration(&[]);
    raw.pool.workers = vec![listener.local_addr().unwrap().to_string()];
    let edge = Edge::with(raw).await;
    let worker = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            if stream.peek(&mut [0]).await.unwrap() == 0 {
                continue;
            }
            let head = read_head(&mut stream).await;
            let key = head
                .lines()
                .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
            let answer = flotilla_shared::websocket::switching_protocols(key.unwrap(), None);
            stream.write_all(&answer).await.unwrap();
            let request = read_rest(&mut stream).await;
            stream.write_all(b"\x81\x04late").await.unwrap();
            return request;
        }
    });
    let mut stream = upgraded(&edge).await;
    stream.write_all(&text_frame("last words")).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(read_rest(&mut stream).await, b"\x81\x04late");
    assert_eq!(
        soon("the worker", worker).await.unwrap(),
        text_frame("last words")
    );
}

#[tokio::test]
async fn a_close_is_passed_on_with_its_code() {
    let worker = Worker::start().await;
    let edge = Edge::start(&[&worker]).await;
    let mut client = edge.connect().await;
    client.send("close 3501").await;
    let frame = client.closed().await;
    assert_eq!(
        (u16::from(frame.code), frame.reason.as_str()),
        (3501, "told to")
    );
    assert!(client.next().await.is_none());
    drop(client);
    let series =
        "flotilla_gateway_connections_closed_total{initiator=\"worker\",reason=\"application\"}";
    edge.metric_becomes(series, |sum| sum == 1.0).await;

    let mut client = edge.connect().await;
    soon("closing", client.0.close(None)).await.unwrap();
    while client.next().await.is_some() {}
    drop(client);
    let series =
        "flotilla_gateway_connections_closed_total{initiator=\"client\",reason=\"normal\"}";
    edge.metric_becomes(series, |sum| sum == 1.0).await;
}

#[tokio::test]
async fn a_client_whose_worker_is_lost_is_told_so() {
    let worker = Worker::start().await;
    let edge = Edge::start(&[&worker]).await;
    let mut client = edge.connect().await;
    client.echo("alive").await;
    client.send("vanish").await;
    let frame = client.closed().await;
    assert_eq!(
        (u16::from(frame.code), frame.reason.as_str()),
        (1012, "worker lost")
    );
    drop(client);
    let series =
        "flotilla_gateway_connections_closed_total{initiator=\"worker\",reason=\"worker_lost\"}";
    edge.metric_becomes(series, |sum| sum == 1.0).await;
}

#[tokio::test]
async fn no_close_is_put_into_the_middle_of_a_frame() {
    let worker = Worker::start().await;
    let edge = Edge::start(&[&worker]).await;
    let mut stream = upgraded(&edge).await;
    stream.write_all(&text_frame("break")).await.unwrap();
    assert_eq!(read_rest(&mut stream).await, [0x82, 100, 1, 2]);
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_ended_and_others_are_not_slowed() {
    let worker = Worker::start().await;
    let mut raw = configuration(&[&worker]);
    raw.write_timeout = Duration::from_millis(300);
    let edge = Edge::with(raw).await;
    let mut slow = upgraded(&edge).await;
    let flood = tokio::spawn(async move {
        let frame = [&[0x82, 0xfe, 0xff, 0xff, 0, 0, 0, 0][..], &[7; 65_535]].concat();
        while slow.write_all(&frame).await.is_ok() {}
    });
    let mut other = edge.connect().await;
    for _ in 0..100 {
        other.echo("quick").await;
    }
    let series =
        "flotilla_gateway_connections_closed_total{initiator=\"gateway\",reason=\"slow_consumer\"}";
    edge.metric_becomes(series, |sum| sum == 1.0).await;
    soon("the flood's end", flood).await.unwrap();
    other.echo("still here").await;
}
