//! The only nats-server is killed.

use anyhow::Result;
use flotilla_tests::audit::Losses;

use crate::stage::{Stage, builder};

#[tokio::test]
async fn nothing_is_lost_when_nats_is_killed_and_started_again() -> Result<()> {
    let mut stage = Stage::set(builder()).await?;
    stage.fleet.nats.kill().await?;
    for worker in &stage.fleet.workers {
        worker
            .metric_becomes("flotilla_broker_connected", &[], 0.0)
            .await?;
    }
    stage.fleet.nats.restart().await?;
    for at in 0..stage.fleet.workers.len() {
        stage.reconnected(at).await?;
    }
    stage.judge(Losses::None).await
}
