//! Workers leave in good order, and others come.

use anyhow::Result;
use flotilla_tests::SOON;
use flotilla_tests::fleet::Builder;
use nix::sys::signal::Signal::SIGTERM;

use crate::stage::{Stage, builder};

#[tokio::test]
async fn no_client_notices_a_rolling_upgrade() -> Result<()> {
    let mut stage = Stage::set(quick(3)).await?;
    for at in 0..stage.fleet.workers.len() {
        leave(&mut stage, at).await?;
        stage.is_attached().await?;
        stage.fleet.workers[at].restart().await?;
        stage.fleet.workers[at].ready().await?;
        stage.fleet.sees_workers(stage.fleet.workers.len()).await?;
    }
    stage.judge().await?;
    Ok(())
}

#[tokio::test]
async fn no_client_notices_that_the_fleet_grows_and_shrinks() -> Result<()> {
    let mut stage = Stage::set(quick(2)).await?;
    for _ in 2..6 {
        stage.fleet.add_worker().await?;
    }
    stage.fleet.sees_workers(6).await?;
    // Sessions move to those who have come, until loads are even.
    stage.serves(5, 1).await?;
    stage.write(2).await?;
    for at in 1..5 {
        leave(&mut stage, at).await?;
    }
    stage.is_attached().await?;
    stage.judge().await?;
    Ok(())
}

/// Has a worker drain, and waits for its end.
async fn leave(stage: &mut Stage, at: usize) -> Result<()> {
    let process = stage.fleet.workers[at].process();
    process.signal(SIGTERM)?;
    process.exit(SOON).await?;
    Ok(())
}

/// Workers that take little time to leave.
fn quick(workers: usize) -> Builder {
    builder(workers)
        .worker("drain.settle", "500ms")
        .worker("drain.window", "2s")
}
