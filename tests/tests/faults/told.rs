//! What was missed is not kept any more: every client is told so, and misses nothing else.

use anyhow::Result;
use flotilla_tests::audit::Losses;

use crate::stage::{CLIENTS, Stage, builder, keeping};

#[tokio::test]
async fn whoever_cannot_get_what_it_missed_is_told_so_and_misses_nothing_else() -> Result<()> {
    let forgetful = keeping(2).workers(1).in_memory().listed();
    let mut stage = Stage::set(forgetful).await?;
    stage.fleet.gateways[0].process().kill().await?;
    stage.write(3).await?;
    stage.fleet.gateways[0].restart().await?;
    stage.come_back(CLIENTS).await?;
    stage.judge(Losses::Told).await
}

#[tokio::test]
async fn when_a_stream_has_lost_everything_nobody_takes_an_old_place_for_a_new_one() -> Result<()> {
    let alone = keeping(1000).workers(1).in_memory().listed();
    let mut stage = Stage::set(alone).await?;
    stage.fleet.workers[0].process().kill().await?;
    stage.fleet.workers[0].restart().await?;
    stage.come_back(CLIENTS).await?;
    stage.judge(Losses::Told).await
}

#[tokio::test]
async fn when_nats_has_lost_all_streams_nobody_takes_an_old_place_for_a_new_one() -> Result<()> {
    let forgetful = builder().worker("broker.nats.history.storage", "memory");
    let mut stage = Stage::set(forgetful).await?;
    stage.fleet.nats.kill().await?;
    for worker in &stage.fleet.workers {
        worker
            .metric_becomes("flotilla_broker_connected", &[], 0.0)
            .await?;
    }
    stage.fleet.nats.restart().await?;
    stage.come_back(CLIENTS).await?;
    stage.judge(Losses::Told).await
}
