//! The gateway is killed.

use anyhow::Result;

use crate::stage::{CLIENTS, Stage, builder};

#[tokio::test]
async fn nothing_is_lost_when_the_gateway_is_killed_and_started_again() -> Result<()> {
    let mut stage = Stage::set(builder().in_memory().listed()).await?;
    let gateway = &mut stage.fleet.gateways[0];
    gateway.process().kill().await?;
    stage.write(3).await?;
    stage.fleet.gateways[0].restart().await?;
    stage.come_back(CLIENTS).await?;
    stage.judge().await
}
