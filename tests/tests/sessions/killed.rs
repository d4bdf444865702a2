//! Workers are killed, or hang; NATS is started again.

use anyhow::Result;
use flotilla_tests::SOON;
use flotilla_tests::eventually::eventually;
use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};

use crate::stage::{Stage, builder};

#[tokio::test]
async fn no_client_notices_that_its_worker_was_killed() -> Result<()> {
    let mut stage = Stage::set(builder(3)).await?;
    stage.serves(0, 1).await?;
    stage.fleet.workers[0].process().kill().await?;
    stage.is_attached().await?;
    stage.judge_strictly().await
}

#[tokio::test]
async fn no_client_notices_that_each_worker_in_turn_was_killed_and_started_again() -> Result<()> {
    let mut stage = Stage::set(builder(3)).await?;
    for at in 0..stage.fleet.workers.len() {
        stage.fleet.workers[at].process().kill().await?;
        stage.is_attached().await?;
        stage.write(1).await?;
        stage.fleet.workers[at].restart().await?;
        stage.fleet.workers[at].ready().await?;
        stage.fleet.sees_workers(stage.fleet.workers.len()).await?;
    }
    stage.judge().await?;
    Ok(())
}

#[tokio::test]
async fn no_client_notices_that_its_worker_hung_and_went_on() -> Result<()> {
    let mut stage = Stage::set(builder(3)).await?;
    stage.serves(0, 1).await?;
    stage.fleet.workers[0].process().signal(SIGSTOP)?;
    // All are elsewhere, and have been for a while.
    stage.is_attached().await?;
    stage.write(10).await?;
    stage.fleet.workers[0].process().signal(SIGCONT)?;
    stage.fleet.workers[0].ready().await?;
    eventually("the worker has let go of its sessions", SOON, async || {
        let scrape = stage.fleet.workers[0].scrape().await?;
        let closed = scrape.sum("flotilla_worker_connections_closed_total", &[])?;
        anyhow::ensure!(closed > 0.0, "it has all of them");
        Ok(())
    })
    .await?;
    stage.judge().await?;
    Ok(())
}

#[tokio::test]
async fn no_client_notices_that_nats_was_started_again() -> Result<()> {
    let mut stage = Stage::set(builder(2)).await?;
    stage.fleet.nats.kill().await?;
    stage.fleet.nats.restart().await?;
    for worker in &stage.fleet.workers {
        worker.ready().await?;
    }
    stage.judge_strictly().await
}
