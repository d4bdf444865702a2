//! What operators see.

use std::process::Stdio;

use anyhow::{Context, Result};
use flotilla_shared::protocol::Format::{Json, Protobuf};
use flotilla_tests::fleet::Fleet;
use flotilla_tests::scrape::Scrape;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Gauges that count what exists, and so go back to where they were.
const WORKER_GAUGES: [&str; 3] = [
    "flotilla_worker_connections",
    "flotilla_worker_channels",
    "flotilla_worker_subscriptions",
];

#[tokio::test]
async fn gauges_return_to_zero_when_everybody_has_left() -> Result<()> {
    let fleet = Fleet::builder().start().await?;
    let (worker, gateway) = (&fleet.workers[0], &fleet.gateways[0]);
    let mut clients = Vec::new();
    for number in 0..6 {
        let format = if number % 2 == 0 { Json } else { Protobuf };
        let mut client = fleet.user(&format!("user-{number}"), format).await?;
        client.subscribe("room").await?;
        client.subscribe(&format!("room-{number}")).await?;
        clients.push(client);
    }
    worker
        .metric_becomes("flotilla_worker_connections", &[], 6.0)
        .await?;
    worker
        .metric_becomes("flotilla_worker_subscriptions", &[], 12.0)
        .await?;
    gateway
        .metric_becomes("flotilla_gateway_connections", &[], 6.0)
        .await?;
    // Half say goodbye, half just go.
    let rest = clients.split_off(3);
    for mut client in clients {
        client.close().await?;
    }
    drop(rest);
    for gauge in WORKER_GAUGES {
        worker.metric_becomes(gauge, &[], 0.0).await?;
    }
    gateway
        .metric_becomes("flotilla_gateway_connections", &[], 0.0)
        .await?;
    gateway
        .metric_becomes("flotilla_gateway_worker_connections", &[], 0.0)
        .await
}

#[tokio::test]
async fn messages_are_counted() -> Result<()> {
    let fleet = Fleet::builder().start().await?;
    let mut clients = [
        fleet.user("ada", Json).await?,
        fleet.user("bob", Protobuf).await?,
    ];
    for client in &mut clients {
        client.subscribe("room").await?;
    }
    for number in 0..10 {
        clients[0].publish("room", number.to_string()).await?;
    }
    for client in &mut clients {
        client.texts("room", 10).await?;
    }
    let worker = &fleet.workers[0];
    let received = ["type=\"publish\""];
    worker
        .metric_becomes("flotilla_worker_messages_received_total", &received, 10.0)
        .await?;
    worker
        .metric_becomes("flotilla_worker_messages_delivered_total", &[], 20.0)
        .await?;
    let scrape = worker.scrape().await?;
    assert!(scrape.sum("flotilla_broker_messages_total", &["direction=\"out\""])? >= 10.0);
    assert!(
        fleet.gateways[0]
            .scrape()
            .await?
            .sum("flotilla_gateway_bytes_total", &[])?
            > 0.0
    );
    Ok(())
}

#[tokio::test]
async fn the_exposition_does_not_grow_with_users_and_channels() -> Result<()> {
    let fleet = Fleet::builder().start().await?;
    use_everything(&fleet, 0..1).await?;
    let before = [
        fleet.workers[0].scrape().await?,
        fleet.gateways[0].scrape().await?,
    ];
    use_everything(&fleet, 1..100).await?;
    let after = [
        fleet.workers[0].scrape().await?,
        fleet.gateways[0].scrape().await?,
    ];
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before.series(), after.series());
        for word in ["user-", "room-", "space-", "127.0.0.1"] {
            assert!(!after.text().contains(word), "{word}");
        }
    }
    Ok(())
}

/// Has users with names of their own do everything once, in channels with names of their own.
async fn use_everything(fleet: &Fleet, numbers: std::ops::Range<usize>) -> Result<()> {
    for number in numbers {
        for format in [Json, Protobuf] {
            let room = format!("room-{number}");
            let mut client = fleet.user(&format!("user-{number}"), format).await?;
            client.subscribe(&room).await?;
            client.publish(&room, "1").await?;
            client.publication(&room).await?;
            // A namespace that nobody has configured.
            let elsewhere = client.publish(&format!("space-{number}:a"), "1").await;
            assert!(elsewhere.is_err(), "{elsewhere:?}");
            client.unsubscribe(&room).await?;
            client.close().await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_catalogue_is_exposed_from_the_start() -> Result<()> {
    let fleet = Fleet::builder().start().await?;
    let both = [
        "flotilla_build_info",
        "process_resident_memory_bytes",
        "flotilla_broker_connected",
    ];
    let worker = [
        "flotilla_worker_connections",
        "flotilla_worker_connections_limit",
        "flotilla_worker_channels",
        "flotilla_worker_subscriptions",
        "flotilla_worker_state",
        "flotilla_worker_connections_opened_total",
        "flotilla_worker_connections_closed_total",
        "flotilla_worker_messages_received_total",
        "flotilla_worker_messages_delivered_total",
        "flotilla_worker_messages_dropped_total",
        "flotilla_worker_publications_refused_total",
        "flotilla_worker_publications_repeated_total",
        "flotilla_worker_slow_consumers_total",
    ];
    let gateway = [
        "flotilla_gateway_connections",
        "flotilla_gateway_connections_limit",
        "flotilla_gateway_connections_opened_total",
        "flotilla_gateway_connections_closed_total",
        "flotilla_gateway_handshakes_rejected_total",
        "flotilla_gateway_handshake_duration_seconds",
        "flotilla_gateway_bytes_total",
        "flotilla_gateway_workers",
        "flotilla_gateway_worker_connections",
        "flotilla_gateway_routing_decisions_total",
        "flotilla_gateway_draining",
    ];
    let worker_scrape = fleet.workers[0].scrape().await?;
    let gateway_scrape = fleet.gateways[0].scrape().await?;
    for (scrape, names) in [
        (&worker_scrape, &worker[..]),
        (&gateway_scrape, &gateway[..]),
    ] {
        for name in names.iter().chain(&both) {
            assert!(
                scrape.names().contains(name),
                "{name} is missing in:\n{}",
                scrape.text()
            );
        }
        lint(scrape).await?;
    }
    Ok(())
}

/// `promtool check metrics` has nothing to say.
async fn lint(scrape: &Scrape) -> Result<()> {
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).kill_on_drop(true);
    promtool
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = promtool
        .spawn()
        .context("promtool: run `tests/run setup`")?;
    let mut input = child.stdin.take().context("its standard input")?;
    input.write_all(scrape.text().as_bytes()).await?;
    drop(input);
    let output = child.wait_with_output().await?;
    let said = format!("{output:?}");
    assert!(
        output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(),
        "{said}"
    );
    Ok(())
}
