//! The link between a worker and NATS is cut, or swallows everything.

use anyhow::Result;
use flotilla_tests::audit::Losses;
use flotilla_tests::fault::Link;

use crate::stage::{Stage, builder};

#[tokio::test]
async fn nothing_is_lost_when_a_worker_s_link_to_nats_is_cut_and_mended() -> Result<()> {
    broken(Link::cut).await
}

#[tokio::test]
async fn nothing_is_lost_when_a_worker_s_link_to_nats_swallows_everything_for_a_while() -> Result<()>
{
    broken(Link::stall).await
}

async fn broken(break_it: impl FnOnce(&Link)) -> Result<()> {
    let linked = builder()
        .linked()
        .worker("broker.nats.ping_interval", "300ms");
    let mut stage = Stage::set(linked).await?;
    break_it(&stage.fleet.links[0]);
    stage.fleet.workers[0]
        .metric_becomes("flotilla_broker_connected", &[], 0.0)
        .await?;
    stage.write(3).await?;
    stage.fleet.links[0].mend();
    stage.reconnected(0).await?;
    stage.judge(Losses::None).await
}
