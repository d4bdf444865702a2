//! A gateway finds the workers by itself, and notices when one is gone.

use std::time::Instant;

use anyhow::{Result, bail};
use flotilla_shared::broker::conformance::Peer;
use flotilla_shared::broker::{BrokerEvent, Brokers, NatsConfig, Topic};
use flotilla_shared::protocol::Format::Json;
use flotilla_shared::roster::RosterMessage;
use flotilla_tests::SOON;
use flotilla_tests::client::Dial;
use flotilla_tests::fleet::Fleet;
use flotilla_tests::token;
use nix::sys::signal::Signal::SIGTERM;

#[tokio::test]
async fn a_worker_that_starts_later_is_found_and_used() -> Result<()> {
    let mut fleet = Fleet::builder().gateways(2).start().await?;
    fleet.add_worker().await?;
    fleet.sees_workers(2).await?;
    fleet.spread(&[Json, Json]).await?;
    Ok(())
}

#[tokio::test]
async fn a_worker_that_was_killed_is_forgotten() -> Result<()> {
    let mut fleet = Fleet::builder().workers(2).gateways(2).start().await?;
    fleet.workers[0].process().kill().await?;
    fleet.sees_workers(1).await?;
    for number in 0..10 {
        let client = fleet.user(&format!("user-{number}"), Json).await?;
        assert_eq!(client.node(), "worker-1");
    }
    Ok(())
}

#[tokio::test]
async fn a_worker_that_ends_says_goodbye() -> Result<()> {
    let mut fleet = Fleet::builder().start().await?;
    let nats = NatsConfig {
        servers: vec![format!("nats://{}", fleet.nats.address())],
        ..NatsConfig::default()
    };
    let mut listener = Peer::connect(&Brokers::Nats(nats)).await?;
    listener.broker.subscribe(&Topic::Roster, 0).await?;
    let worker = &mut fleet.workers[0];
    let id = worker.id().to_owned();
    worker.process().signal(SIGTERM)?;
    let deadline = Instant::now() + SOON;
    while Instant::now() < deadline {
        if let BrokerEvent::Message { payload, .. } = listener.next().await?
            && let RosterMessage::Leave { id: leaver, .. } = serde_json::from_slice(&payload)?
            && leaver == id
        {
            return Ok(());
        }
    }
    bail!("no goodbye")
}

#[tokio::test]
async fn workers_can_be_listed_instead() -> Result<()> {
    let mut fleet = Fleet::builder().workers(2).listed().start().await?;
    fleet.spread(&[Json, Json]).await?;
    fleet.workers[0].process().kill().await?;
    fleet.sees_workers(1).await
}

#[tokio::test]
async fn two_gateways_send_one_user_to_one_worker() -> Result<()> {
    // So that a client that is just leaving does not make its worker a full one.
    let fleet = Fleet::builder()
        .workers(3)
        .gateways(2)
        .gateway("pool.load_factor", 100.0)
        .start()
        .await?;
    for number in 0..10 {
        let token = token::user(&format!("user-{number}"))?;
        let mut nodes = Vec::new();
        for gateway in &fleet.gateways {
            let dial = Dial::to(gateway.url());
            let dial = dial.header("authorization", &format!("Bearer {token}"));
            let mut client = dial.connect("").await?;
            nodes.push(client.node().to_owned());
            client.close().await?;
        }
        assert_eq!(nodes[0], nodes[1], "user-{number}");
    }
    Ok(())
}
