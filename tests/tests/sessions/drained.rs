//! Workers leave in good order, and others come.

use anyhow::Result;
use flotilla_tests::SOON;
use nix::sys::signal::Signal::SIGTERM;

use crate::stage::{Stage, builder};

#[tokio::test]
async fn no_client_notices_a_rolling_upgrade() -> Result<()> {
    let mut stage = Stage::set(builder(3).worker("drain.timeout", "15s")).await?;
    for at in 0..stage.fleet.workers.len() {
        leave(&mut stage, at).await?;
        stage.is_attached().await?;
        stage.fleet.workers[at].restart().await?;
        stage.fleet.workers[at].ready().await?;
        stage.fleet.sees_workers(stage.fleet.workers.len()).await?;
    }
    stage.judge().await
}

#[tokio::test]
async fn no_client_notices_that_the_fleet_grows_and_shrinks() -> Result<()> {
    let mut stage = Stage::set(builder(2).worker("drain.timeout", "15s")).await?;
    for _ in 2..6 {
        stage.fleet.add_worker().await?;
    }
    stage.fleet.sees_workers(6).await?;
    stage.write(2).await?;
    for at in 0..4 {
        leave(&mut stage, at).await?;
    }
    stage.is_attached().await?;
    stage.judge().await
}

/// Has a worker drain, and waits for its end.
async fn leave(stage: &mut Stage, at: usize) -> Result<()> {
    let process = stage.fleet.workers[at].process();
    process.signal(SIGTERM)?;
    process.exit(SOON).await?;
    Ok(())
}
