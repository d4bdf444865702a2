//! The gateway as a part of a process: ports, metrics, several of them side by side.

use std::collections::BTreeSet;

use flotilla_gateway::{BindError, Config, Gateway, RawConfig};
use flotilla_shared::config::Problems;
use tokio::net::TcpListener;

use crate::common::{Edge, configuration, token};
use crate::worker::Worker;

async fn bind(change: impl FnOnce(&mut RawConfig)) -> Result<Gateway, BindError> {
    let mut raw = configuration(&[]);
    raw.pool.workers = vec!["127.0.0.1:1".to_owned()];
    change(&mut raw);
    let mut problems = Problems::default();
    let config = Config::resolve(&raw, &mut problems);
    Gateway::bind(problems.finish(config).unwrap()).await
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error_that_names_the_setting() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let error = bind(|raw| raw.listen = address)
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.starts_with(&format!("listen = \"{address}\" ")),
        "{error}"
    );
    let error = bind(|raw| raw.admin_listen = address)
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.starts_with(&format!("admin_listen = \"{address}\" ")),
        "{error}"
    );
}

#[tokio::test]
async fn several_gateways_live_side_by_side_and_agree_on_homes() {
    let workers = [
        Worker::start().await,
        Worker::start().await,
        Worker::start().await,
    ];
    let edges = [
        Edge::start(&workers.each_ref()).await,
        Edge::start(&workers.each_ref()).await,
    ];
    for user in ["a", "b", "c", "d", "e"] {
        let bearer = format!("Bearer {}", token(user, 60));
        let counts = || workers.each_ref().map(Worker::count);
        let before = counts();
        for edge in &edges {
            let (mut client, _) = edge
                .connect_with("", &[("authorization", &bearer)])
                .await
                .unwrap();
            client.echo("hello").await;
            drop(client);
            edge.metric_becomes("flotilla_gateway_connections{", |sum| sum == 0.0)
                .await;
        }
        let mut gained: Vec<usize> = counts()
            .iter()
            .zip(before)
            .map(|(after, before)| after - before)
            .collect();
        gained.sort_unstable();
        assert_eq!(gained, [0, 0, 2], "user {user}");
    }
    let [first, second] = edges;
    first.lifecycle.stop();
    first.ended().await;
    second.connect().await.echo("still here").await;
}

#[tokio::test]
async fn every_series_is_there_from_the_start_and_nothing_a_client_says_becomes_one() {
    let worker = Worker::start().await;
    let edge = Edge::start(&[&worker]).await;
    let series = async || -> BTreeSet<String> {
        let text = edge.admin("/metrics").await;
        let samples = text
            .lines()
            .filter(|line| line.starts_with("flotilla_gateway_"));
        samples
            .map(|line| line.rsplit_once(' ').unwrap().0.to_owned())
            .collect()
    };
    let before = series().await;
    for name in [
        "connections{listener=\"tls\",tls=\"true\",transport=\"websocket\"}",
        "connections_limit",
        "connections_opened_total",
        "connections_closed_total{initiator=\"gateway\",reason=\"drain\"}",
        "connection_duration_seconds_count",
        "handshakes_in_flight",
        "handshakes_rejected_total{reason=\"auth_expired\"}",
        "handshake_duration_seconds_count{result=\"accepted\"}",
        "jwt_verifications_total{result=\"valid\"}",
        "bytes_total{direction=\"in\"}",
        "workers{state=\"draining\"}",
        "routing_decisions_total{outcome=\"fallback\"}",
        "upstream_connect_errors_total{reason=\"unreachable\"}",
        "upstream_connect_duration_seconds_count",
        "draining",
        "drain_remaining_connections",
    ] {
        assert!(
            before.contains(&format!("flotilla_gateway_{name}")),
            "{name}: {before:?}"
        );
    }
    for user in ["a", "b", "c"] {
        let bearer = format!("Bearer {}", token(user, 60));
        let query = format!("?room={user}");
        let headers = [("authorization", bearer.as_str()), ("user-agent", user)];
        let (mut client, _) = edge.connect_with(&query, &headers).await.unwrap();
        client.echo(user).await;
        assert_eq!(
            edge.connect_with("", &[("origin", user)]).await.err(),
            Some(403)
        );
    }
    assert_eq!(series().await, before);
}
