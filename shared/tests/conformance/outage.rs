//! What the NATS adapter does when the server goes away, and when it was never there.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flotilla_shared::broker::conformance::Peer;
use flotilla_shared::broker::{
    BrokerConnection, BrokerError, BrokerEvent, BrokerMetrics, Brokers, NatsConfig, Topic,
};
use flotilla_shared::channel::Channel;
use prometheus::{Encoder, Registry, TextEncoder};
use tokio::time::Instant;

use crate::nats_server::NatsServer;

fn topic(name: &str) -> Result<Topic> {
    Ok(Topic::Channel(Channel::parse(name, 255)?))
}

/// Tries to connect; how that went is the inner result.
async fn connect(brokers: &Brokers) -> Result<Result<BrokerConnection, BrokerError>> {
    let metrics = BrokerMetrics::register(&Registry::new())?;
    Ok(brokers.connect("outage", &metrics).await)
}

/// The value of a series in the text that Prometheus would read.
fn value(registry: &Registry, series: &str) -> Result<String> {
    let mut text = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut text)?;
    let text = String::from_utf8(text)?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    Ok(line
        .with_context(|| format!("no series {series}"))?
        .to_owned())
}

/// The tasks of a closed connection end a little later.
async fn becomes_zero(registry: &Registry, series: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while value(registry, series)? != "0" {
        ensure!(
            Instant::now() < deadline,
            "{series} stays at {}",
            value(registry, series)?
        );
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn messages_flow_again_after_a_crash(server: &mut NatsServer) -> Result<()> {
    let brokers = server.brokers();
    let (mut listener, mut publisher) = (
        Peer::connect(&brokers).await?,
        Peer::connect(&brokers).await?,
    );
    let topics = (0..100)
        .map(|number| topic(&format!("crash:{number}")))
        .collect::<Result<Vec<_>>>()?;
    for (token, topic) in (0..).zip(&topics) {
        listener.broker.subscribe(topic, token).await?;
    }

    server.kill().await?;
    ensure!(listener.next().await? == BrokerEvent::Disconnected);
    ensure!(publisher.next().await? == BrokerEvent::Disconnected);
    ensure!(!listener.broker.is_connected());
    let published = publisher.broker.publish(&topics[0], "lost".into()).await;
    ensure!(published == Err(BrokerError::Disconnected), "{published:?}");
    let subscribed = listener.broker.subscribe(&topic("late")?, 1000).await;
    ensure!(
        subscribed == Err(BrokerError::Disconnected),
        "{subscribed:?}"
    );
    // Leaving works at any time.
    listener.broker.unsubscribe(99);

    server.restart().await?;
    ensure!(listener.next().await? == BrokerEvent::Reconnected);
    ensure!(publisher.next().await? == BrokerEvent::Reconnected);
    for (token, topic) in (0..99).zip(&topics) {
        publisher.broker.publish(topic, "found".into()).await?;
        listener.expect(token, "found").await?;
    }
    publisher.broker.publish(&topics[99], "left".into()).await?;
    listener.broker.subscribe(&topic("late")?, 1000).await?;
    publisher
        .broker
        .publish(&topic("late")?, "in time".into())
        .await?;
    Ok(listener.expect(1000, "in time").await?)
}

#[tokio::test]
async fn after_a_crash_every_subscription_is_back_before_reconnected_is_told() -> Result<()> {
    let mut server = NatsServer::start().await?;
    for _ in 0..3 {
        messages_flow_again_after_a_crash(&mut server).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_crash_messages_flow_again_on_several_threads() -> Result<()> {
    let mut server = NatsServer::start().await?;
    messages_flow_again_after_a_crash(&mut server).await
}

#[tokio::test]
async fn an_outage_shows_in_the_metrics() -> Result<()> {
    let mut server = NatsServer::start().await?;
    let registry = Registry::new();
    let metrics = BrokerMetrics::register(&registry)?;
    let mut peer = Peer::from(server.brokers().connect("outage", &metrics).await?);
    peer.broker.subscribe(&topic("metrics")?, 1).await?;
    ensure!(value(&registry, "flotilla_broker_connected")? == "1");
    ensure!(value(&registry, "flotilla_broker_subscriptions")? == "1");

    server.kill().await?;
    ensure!(peer.next().await? == BrokerEvent::Disconnected);
    ensure!(value(&registry, "flotilla_broker_connected")? == "0");
    ensure!(
        value(
            &registry,
            r#"flotilla_broker_disconnects_total{reason="lost"}"#
        )? == "1"
    );

    server.restart().await?;
    ensure!(peer.next().await? == BrokerEvent::Reconnected);
    ensure!(value(&registry, "flotilla_broker_connected")? == "1");
    ensure!(value(&registry, "flotilla_broker_reconnects_total")? == "1");

    peer.broker
        .publish(&topic("metrics")?, "four".into())
        .await?;
    peer.expect(1, "four").await?;
    for direction in ["in", "out"] {
        let messages = format!("flotilla_broker_messages_total{{direction=\"{direction}\"}}");
        let bytes = format!("flotilla_broker_bytes_total{{direction=\"{direction}\"}}");
        ensure!(value(&registry, &messages)? == "1" && value(&registry, &bytes)? == "4");
    }
    drop(peer);
    ensure!(value(&registry, "flotilla_broker_subscriptions")? == "0");
    for gauge in ["flotilla_broker_connections", "flotilla_broker_connected"] {
        becomes_zero(&registry, gauge).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_subscription_that_is_not_confirmed_in_time_does_not_exist() -> Result<()> {
    let server = NatsServer::start().await?;
    let patience = Duration::from_millis(200);
    let impatient = NatsConfig {
        request_timeout: patience,
        ..server.config()
    };
    let mut listener = Peer::from(connect(&Brokers::Nats(impatient)).await??);
    let publisher = Peer::connect(&server.brokers()).await?;

    server.freeze().await?;
    let subscribed = listener.broker.subscribe(&topic("late")?, 1).await;
    ensure!(subscribed == Err(BrokerError::Timeout), "{subscribed:?}");
    server.thaw()?;

    listener.broker.subscribe(&topic("other")?, 1).await?;
    publisher
        .broker
        .publish(&topic("late")?, "stray".into())
        .await?;
    publisher
        .broker
        .publish(&topic("other")?, "hello".into())
        .await?;
    Ok(listener.expect(1, "hello").await?)
}

#[tokio::test]
async fn a_server_that_falls_silent_counts_as_lost() -> Result<()> {
    let server = NatsServer::start().await?;
    let probing = NatsConfig {
        ping_interval: Duration::from_millis(100),
        ..server.config()
    };
    let mut peer = Peer::from(connect(&Brokers::Nats(probing)).await??);
    server.freeze().await?;
    ensure!(peer.next().await? == BrokerEvent::Disconnected);
    server.thaw()?;
    ensure!(peer.next().await? == BrokerEvent::Reconnected);
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_not_there_is_worth_another_try() -> Result<()> {
    let mut server = NatsServer::start().await?;
    let brokers = server.brokers();
    server.kill().await?;
    let error = connect(&brokers)
        .await?
        .err()
        .context("connected to nothing")?;
    ensure!(matches!(error, BrokerError::Unreachable(_)), "{error}");
    ensure!(error.is_temporary());
    server.restart().await?;
    connect(&brokers).await??;
    Ok(())
}

#[tokio::test]
async fn a_server_that_refuses_us_is_not_worth_another_try() -> Result<()> {
    let users = r#"authorization { users = [
        { user: fleet, password: secret, permissions: { publish: "flotilla.>", subscribe: "flotilla.>" } },
        { user: stranger, password: secret, permissions: { publish: "x", subscribe: "x" } },
    ] }"#;
    let server = NatsServer::start_with(users).await?;
    let as_user = |user: &str| {
        let servers = server.config().servers;
        let servers = servers
            .iter()
            .map(|url| url.replace("//", &format!("//{user}@")))
            .collect();
        let request_timeout = Duration::from_millis(500);
        Brokers::Nats(NatsConfig {
            servers,
            request_timeout,
            ..NatsConfig::default()
        })
    };
    for user in ["fleet:wrong", "stranger:secret"] {
        let error = connect(&as_user(user)).await?.err().context("was let in")?;
        ensure!(matches!(error, BrokerError::Refused(_)), "{user}: {error}");
        ensure!(!error.to_string().contains("secret"), "{error}");
    }
    // These permissions are all that a process needs.
    let mut peer = Peer::from(connect(&as_user("fleet:secret")).await??);
    peer.broker.subscribe(&topic("allowed")?, 1).await?;
    peer.broker
        .publish(&topic("allowed")?, "hello".into())
        .await?;
    Ok(peer.expect(1, "hello").await?)
}

#[tokio::test]
async fn fleets_with_different_prefixes_do_not_meet() -> Result<()> {
    let server = NatsServer::start().await?;
    let other = NatsConfig {
        subject_prefix: "other.fleet".to_owned(),
        ..server.config()
    };
    let mut ours = Peer::connect(&server.brokers()).await?;
    let theirs = Peer::connect(&Brokers::Nats(other)).await?;
    ours.broker.subscribe(&topic("shared")?, 1).await?;
    theirs
        .broker
        .publish(&topic("shared")?, "theirs".into())
        .await?;
    // The barrier of a subscription proves that the server has worked through what was published.
    theirs.broker.subscribe(&topic("shared")?, 1).await?;
    ours.broker
        .publish(&topic("shared")?, "ours".into())
        .await?;
    Ok(ours.expect(1, "ours").await?)
}
