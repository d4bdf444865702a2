//! The gateway is killed.

use anyhow::Result;
use flotilla_tests::audit::Losses;

use crate::stage::{CLIENTS, Stage, builder};

#[tokio::test]
async fn nothing_is_lost_when_the_gateway_is_killed_and_started_again() -> Result<()> {
    let mut stage = Stage::set(builder()).await?;
    stage.fleet.gateways[0].process().kill().await?;
    stage.write(3).await?;
    stage.fleet.gateways[0].restart().await?;
    stage.come_back(CLIENTS).await?;
    stage.judge(Losses::None).await
}

#[tokio::test]
async fn nothing_is_lost_when_the_gateway_of_a_lonely_worker_is_killed_and_started_again()
-> Result<()> {
    let alone = builder().workers(1).in_memory().listed();
    let mut stage = Stage::set(alone).await?;
    stage.fleet.gateways[0].process().kill().await?;
    stage.write(3).await?;
    stage.fleet.gateways[0].restart().await?;
    stage.come_back(CLIENTS).await?;
    stage.judge(Losses::None).await
}
