//! Told to stop, a process sends its clients on at an even pace, and then ends.

use std::time::Duration;

use anyhow::Result;
use flotilla_shared::protocol::Format::{Json, Protobuf};
use flotilla_tests::SOON;
use flotilla_tests::client::{Client, Dial};
use flotilla_tests::fleet::Fleet;
use flotilla_tests::token;
use futures_util::future::try_join_all;
use nix::sys::signal::Signal::SIGTERM;
use tokio::time::Instant;

const CLIENTS: usize = 20;

async fn crowd(fleet: &Fleet, size: usize) -> Result<Vec<Client>> {
    let connect = (0..size).map(async |number| {
        let format = if number % 2 == 0 { Json } else { Protobuf };
        fleet.user(&format!("user-{number}"), format).await
    });
    try_join_all(connect).await
}

#[tokio::test]
async fn a_worker_told_to_stop_sends_its_clients_on_and_ends() -> Result<()> {
    let fleet = Fleet::builder().workers(2).worker("drain.window", "1s");
    let mut fleet = fleet.worker("drain.settle", "500ms").start().await?;
    let mut clients = crowd(&fleet, CLIENTS).await?;
    let leaving = clients[0].node().to_owned();
    let (mut moved, mut stayed): (Vec<_>, Vec<_>) = clients
        .drain(..)
        .partition(|client| client.node() == leaving);
    assert!(
        moved.len() > 1 && !stayed.is_empty(),
        "{} of {CLIENTS}",
        moved.len()
    );
    let worker = fleet.worker(&leaving)?;
    worker.process().signal(SIGTERM)?;

    for client in &mut moved {
        let close = client.closed().await?;
        assert_eq!((close.code, close.reason.as_str()), (3001, "shutdown"));
    }
    for (number, format) in [Json, Protobuf].into_iter().enumerate() {
        let mut back = fleet.user(&format!("user-{number}"), format).await?;
        assert_ne!(back.node(), leaving);
        stayed[0].subscribe(&format!("room-{number}")).await?;
        back.publish(&format!("room-{number}"), "1").await?;
        assert_eq!(
            stayed[0].publication(&format!("room-{number}")).await?.data,
            "1"
        );
    }
    let status = fleet.worker(&leaving)?.process().exit(SOON).await?;
    assert_eq!(status.code(), Some(0));
    fleet.sees_workers(1).await
}

#[tokio::test]
async fn a_draining_worker_spreads_its_goodbyes() -> Result<()> {
    let mut fleet = Fleet::builder()
        .worker("drain.window", "4s")
        .start()
        .await?;
    let mut clients = crowd(&fleet, 3 * CLIENTS).await?;
    let started = Instant::now();
    fleet.workers[0].process().signal(SIGTERM)?;
    let ends = clients.iter_mut().map(async |client| {
        let close = client.closed().await?;
        anyhow::Ok((close.code, started.elapsed()))
    });
    let mut ends = try_join_all(ends).await?;
    ends.sort();
    let (code, first) = ends[0];
    let (last_code, last) = ends[3 * CLIENTS - 1];
    assert_eq!((code, last_code), (3001, 3001));
    // Had all been told at once, they would all have come back at once.
    assert!(
        last - first > Duration::from_millis(500),
        "{first:?} to {last:?}"
    );
    let status = fleet.workers[0].process().exit(SOON).await?;
    assert_eq!(status.code(), Some(0));
    Ok(())
}

#[tokio::test]
async fn a_draining_worker_says_so_and_answers_until_it_ends() -> Result<()> {
    let fleet = Fleet::builder().worker("drain.window", "50s");
    let mut fleet = fleet.worker("drain.timeout", "60s").start().await?;
    let _clients = crowd(&fleet, CLIENTS).await?;
    let worker = &mut fleet.workers[0];
    worker.process().signal(SIGTERM)?;
    worker
        .metric_becomes("flotilla_worker_state", &["state=\"draining\""], 1.0)
        .await?;
    assert_eq!(worker.health("/readyz").await?, 503);
    assert_eq!(worker.health("/livez").await?, 200);
    // A second signal: now.
    worker.process().signal(SIGTERM)?;
    worker.process().exit(Duration::from_secs(10)).await?;
    Ok(())
}

#[tokio::test]
async fn a_gateway_told_to_stop_says_goodbye_and_ends() -> Result<()> {
    let fleet = Fleet::builder().gateways(2).gateway("drain.timeout", "4s");
    let mut fleet = fleet.gateway("drain.lame_duck", "500ms").start().await?;
    let mut clients = crowd(&fleet, CLIENTS).await?;
    let other = Dial::to(fleet.gateways[1].url());
    let mut stayed = other.connect(&token::user("ada")?).await?;
    fleet.gateways[0].process().signal(SIGTERM)?;
    for client in &mut clients {
        let close = client.closed().await?;
        assert_eq!(close.code, 1001, "{close:?}");
        assert!(
            !close.reason.is_empty(),
            "an SDK ignores a code without a reason"
        );
    }
    let status = fleet.gateways[0].process().exit(SOON).await?;
    assert_eq!(status.code(), Some(0));
    stayed.subscribe("room").await?;
    fleet.workers[0]
        .metric_becomes("flotilla_worker_connections", &[], 1.0)
        .await
}

#[tokio::test]
async fn a_gateway_told_twice_stops_at_once() -> Result<()> {
    let mut fleet = Fleet::builder()
        .gateway("drain.timeout", "60s")
        .gateway("drain.lame_duck", "30s")
        .start()
        .await?;
    let _clients = crowd(&fleet, CLIENTS).await?;
    let gateway = &mut fleet.gateways[0];
    gateway.process().signal(SIGTERM)?;
    gateway
        .metric_becomes("flotilla_gateway_draining", &[], 1.0)
        .await?;
    assert_eq!(gateway.health("/readyz").await?, 503);
    gateway.process().signal(SIGTERM)?;
    gateway.process().exit(Duration::from_secs(10)).await?;
    Ok(())
}
