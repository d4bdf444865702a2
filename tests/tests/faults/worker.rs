//! A worker is killed, or hangs.

use std::time::Duration;

use anyhow::{Result, ensure};
use flotilla_tests::SOON;
use flotilla_tests::audit::Losses;
use flotilla_tests::eventually::eventually;
use flotilla_tests::nats::Layout;
use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};

use crate::stage::{Stage, builder, stores};

/// A server that drops whoever is silent for a second.
fn impatient() -> Layout {
    Layout {
        ping_interval: Duration::from_millis(300),
        ..stores()
    }
}

#[tokio::test]
async fn nothing_is_lost_when_a_worker_is_killed() -> Result<()> {
    let mut stage = Stage::set(builder()).await?;
    let clients = stage.clients_of(0).await?;
    stage.fleet.workers[0].process().kill().await?;
    stage.come_back(clients).await?;
    stage.judge(Losses::None).await
}

#[tokio::test]
async fn nothing_is_lost_when_one_worker_after_the_other_is_killed_and_started_again() -> Result<()>
{
    let mut stage = Stage::set(builder()).await?;
    for at in 0..stage.fleet.workers.len() {
        stage.fleet.workers[at].process().kill().await?;
        stage.write(1).await?;
        stage.fleet.workers[at].restart().await?;
        stage.fleet.sees_workers(stage.fleet.workers.len()).await?;
    }
    stage.judge(Losses::None).await
}

#[tokio::test]
async fn nothing_is_lost_when_a_worker_hangs_until_its_clients_have_left() -> Result<()> {
    let mut stage = Stage::set(builder().nats(impatient())).await?;
    let clients = stage.clients_of(0).await?;
    stage.fleet.workers[0].process().signal(SIGSTOP)?;
    stage.come_back(clients).await?;
    stage.fleet.workers[0].process().signal(SIGCONT)?;
    stage.fleet.workers[0].ready().await?;
    stage.judge(Losses::None).await
}

#[tokio::test]
async fn nothing_is_lost_when_a_worker_hangs_until_nats_has_dropped_it() -> Result<()> {
    let mut stage = Stage::set(builder().nats(impatient())).await?;
    let id = stage.fleet.workers[0].id().to_owned();
    ensure!(stage.fleet.nats.connections_of(&id).await? > 0);
    stage.fleet.workers[0].process().signal(SIGSTOP)?;
    eventually("NATS has dropped the worker", SOON, async || {
        let connections = stage.fleet.nats.connections_of(&id).await?;
        ensure!(connections == 0, "{connections} are left");
        Ok(())
    })
    .await?;
    stage.fleet.workers[0].process().signal(SIGCONT)?;
    stage.reconnected(0).await?;
    stage.judge(Losses::None).await
}
