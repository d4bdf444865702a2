//! What was missed is not kept any more: every client is told so, and misses nothing else.

use anyhow::Result;
use flotilla_tests::audit::Losses;

use crate::stage::{CLIENTS, Stage, keeping};

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
