//! How the gateway leaves.

use std::time::{Duration, Instant};

use crate::common::{Edge, configuration, handshake};
use crate::worker::Worker;

#[tokio::test]
async fn clients_are_told_that_the_gateway_leaves() {
    let worker = Worker::start().await;
    let edge = Edge::start(&[&worker]).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(edge.connect().await);
    }
    edge.lifecycle.drain(Duration::from_millis(500));
    for client in &mut clients {
        let frame = client.closed().await;
        assert_eq!(
            (u16::from(frame.code), frame.reason.as_str()),
            (1001, "gateway is shutting down")
        );
        while client.next().await.is_some() {}
    }
    edge.ended().await;
}

#[tokio::test]
async fn readiness_goes_first_then_the_door_closes() {
    let worker = Worker::start().await;
    let mut raw = configuration(&[&worker]);
    raw.drain.timeout = Duration::from_secs(3600);
    raw.drain.lame_duck = Duration::from_millis(500);
    let edge = Edge::with(raw).await;
    let mut client = edge.connect().await;
    edge.lifecycle.drain(Duration::from_secs(3));
    assert!(edge.admin("/readyz").await.starts_with("HTTP/1.1 503 "));
    edge.metric_becomes("flotilla_gateway_draining", |sum| sum == 1.0)
        .await;
    // Still open, for those who have not noticed yet; then it is not.
    edge.connect().await.echo("late").await;
    let status = loop {
        if let Err(status) = edge.connect_with("", &[]).await {
            break status;
        }
    };
    assert_eq!(status, 503);
    let answer = edge.exchange(handshake("")).await;
    assert!(answer.contains("\r\nRetry-After: "), "{answer}");
    assert_eq!(u16::from(client.closed().await.code), 1001);
    drop(client);
    edge.ended().await;
}

#[tokio::test]
async fn connections_go_at_an_even_pace() {
    let worker = Worker::start().await;
    let edge = Edge::start(&[&worker]).await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(edge.connect().await);
    }
    let start = Instant::now();
    edge.lifecycle.drain(Duration::from_secs(2));
    let mut waits = Vec::new();
    let mut tasks = tokio::task::JoinSet::new();
    for mut client in clients {
        tasks.spawn(async move {
            assert_eq!(u16::from(client.closed().await.code), 1001);
            start.elapsed()
        });
    }
    while let Some(wait) = tasks.join_next().await {
        waits.push(wait.unwrap());
    }
    waits.sort_unstable();
    // Three quarters of the time for ten connections: the last is told after 1.35 s at the earliest.
    assert!(waits[0] < waits[9] - Duration::from_secs(1), "{waits:?}");
    edge.ended().await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_anyone() {
    let worker = Worker::start().await;
    let edge = Edge::start(&[&worker]).await;
    let mut client = edge.connect().await;
    edge.lifecycle.drain(Duration::from_secs(3600));
    edge.lifecycle.stop();
    edge.ended().await;
    assert!(client.next().await.is_none());
}

#[tokio::test]
async fn a_client_that_does_not_go_is_cut_at_the_deadline() {
    let worker = Worker::start().await;
    let mut raw = configuration(&[&worker]);
    raw.close_timeout = Duration::from_secs(3600);
    let edge = Edge::with(raw).await;
    // It never reads, so it never sees the Close and never answers it.
    let client = edge.connect().await;
    edge.lifecycle.drain(Duration::from_millis(300));
    edge.ended().await;
    drop(client);
}
