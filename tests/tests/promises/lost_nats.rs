//! Without NATS nobody hears anybody; with NATS back, everybody does, without doing anything.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flotilla_shared::protocol::Format::{Json, Protobuf};
use flotilla_shared::roster::LEASE;
use flotilla_tests::SOON;
use flotilla_tests::client::{Client, publish};
use flotilla_tests::eventually::eventually;
use flotilla_tests::fault::Link;
use flotilla_tests::fleet::Fleet;
use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};

#[tokio::test]
async fn messages_flow_again_after_nats_was_killed_and_restarted() -> Result<()> {
    let mut fleet = Fleet::builder().workers(2).start().await?;
    let mut clients = fleet.spread(&[Json, Protobuf]).await?;
    for client in &mut clients {
        client.subscribe("room").await?;
    }
    fleet.nats.kill().await?;
    for worker in &fleet.workers {
        worker
            .metric_becomes("flotilla_broker_connected", &[], 0.0)
            .await?;
    }
    for client in &mut clients {
        let error = client.refusal(publish("room", "1")).await?;
        assert!(error.temporary, "{error:?}");
    }

    fleet.nats.restart().await?;
    for worker in &fleet.workers {
        worker.ready().await?;
    }
    let [first, second] = &mut clients[..] else {
        panic!("two clients")
    };
    reaches(first, second).await?;
    reaches(second, first).await?;
    // A subscription made before the loss and one made after it are alike.
    first.subscribe("new").await?;
    second.publish("new", "2").await?;
    assert_eq!(first.publication("new").await?.data, "2");
    fleet.sees_workers(2).await?;
    fleet.user("newcomer", Json).await?;
    Ok(())
}

#[tokio::test]
async fn a_worker_without_nats_says_that_it_is_not_ready_and_keeps_its_clients() -> Result<()> {
    let fleet = Fleet::builder().workers(3).linked().start().await?;
    let mut clients = fleet.spread(&[Json, Json, Protobuf]).await?;
    for client in &mut clients {
        client.subscribe("room").await?;
    }
    let node = clients[2].node().to_owned();
    let cut_off = fleet
        .workers
        .iter()
        .position(|worker| worker.id() == node)
        .expect("its worker");
    fleet.links[cut_off].cut();
    let worker = &fleet.workers[cut_off];
    eventually("the worker is not ready", SOON, async || {
        let status = worker.health("/readyz").await?;
        ensure!(status == 503, "/readyz answers {status}");
        Ok(())
    })
    .await?;
    assert_eq!(worker.health("/livez").await?, 200);

    // The others go on as if nothing had happened.
    let [first, second, lost] = &mut clients[..] else {
        panic!("three clients")
    };
    first.publish("room", "\"meanwhile\"").await?;
    assert_eq!(second.publication("room").await?.data, "\"meanwhile\"");
    let error = lost.refusal(publish("room", "1")).await?;
    assert!(error.temporary, "{error:?}");

    fleet.links[cut_off].mend();
    worker.ready().await?;
    reaches(first, lost).await?;
    reaches(lost, first).await
}

#[tokio::test]
async fn a_network_that_swallows_everything_is_noticed_and_survived() -> Result<()> {
    let fleet = Fleet::builder()
        .workers(2)
        .linked()
        .worker("broker.nats.ping_interval", "300ms");
    let fleet = fleet.start().await?;
    let mut clients = fleet.spread(&[Json, Protobuf]).await?;
    for client in &mut clients {
        client.subscribe("room").await?;
    }
    fleet.links.iter().for_each(Link::stall);
    for worker in &fleet.workers {
        worker
            .metric_becomes("flotilla_broker_connected", &[], 0.0)
            .await?;
    }
    fleet.links.iter().for_each(Link::mend);
    for worker in &fleet.workers {
        worker.ready().await?;
    }
    let [first, second] = &mut clients[..] else {
        panic!("two clients")
    };
    reaches(first, second).await?;
    reaches(second, first).await
}

#[tokio::test]
async fn a_nats_that_hangs_takes_no_worker_from_a_gateway() -> Result<()> {
    let fleet = Fleet::builder().workers(2).start().await?;
    fleet.nats.signal(SIGSTOP)?;
    // A gateway that hears nobody asks once a second, and looks at the leases each time. Until it has asked so often, a
    // worker that had gone would have been forgotten.
    let gateway = &fleet.gateways[0];
    let said = ["direction=\"out\""];
    let asked = async || {
        gateway
            .scrape()
            .await?
            .sum("flotilla_broker_messages_total", &said)
    };
    let before = asked().await?;
    eventually("the gateway asks in vain", SOON + LEASE * 2, async || {
        let questions = asked().await? - before;
        ensure!(
            questions > LEASE.as_secs_f64() + 1.0,
            "{questions} questions"
        );
        Ok(())
    })
    .await?;
    fleet.sees_workers(2).await?;
    fleet.user("newcomer", Json).await?;
    fleet.nats.signal(SIGCONT)?;
    let mut clients = fleet.spread(&[Json, Protobuf]).await?;
    for client in &mut clients {
        client.subscribe("room").await?;
    }
    Ok(())
}

/// Publishes until a publication arrives: what is published while subscriptions are being
/// restored may be lost, by the contract of a channel without history.
async fn reaches(publisher: &mut Client, subscriber: &mut Client) -> Result<()> {
    eventually("a publication reaches its subscriber", SOON, async || {
        publisher.publish("room", "\"again\"").await?;
        let came = subscriber
            .publication_within("room", Duration::from_millis(100))
            .await?;
        came.map(|_| ()).context("none came")
    })
    .await
}
