//! A worker is cut off: from NATS only, or from the gateway only.

use anyhow::Result;
use flotilla_tests::fault::Link;

use crate::stage::{Stage, builder};

#[tokio::test]
async fn no_client_notices_that_its_worker_was_cut_off_from_nats() -> Result<()> {
    let linked = builder(3)
        .linked()
        .worker("broker.nats.ping_interval", "300ms");
    let mut stage = Stage::set(linked).await?;
    stage.serves(0, 1).await?;
    let served = stage.served(0).await?;
    stage.fleet.links[0].cut();
    stage.fleet.workers[0]
        .metric_becomes("flotilla_broker_connected", &[], 0.0)
        .await?;
    stage.write(2).await?;
    stage.moved("cut_off", served).await?;
    stage.fleet.links[0].mend();
    stage.fleet.workers[0].ready().await?;
    stage.judge().await?;
    Ok(())
}

#[tokio::test]
async fn no_client_notices_that_its_worker_was_cut_off_from_the_gateway() -> Result<()> {
    from_the_gateway(Link::cut).await
}

#[tokio::test]
async fn no_client_notices_that_the_way_to_its_worker_swallowed_everything() -> Result<()> {
    from_the_gateway(Link::stall).await
}

async fn from_the_gateway(break_it: impl FnOnce(&Link)) -> Result<()> {
    let mut stage = Stage::set(builder(3).fronted()).await?;
    stage.serves(0, 1).await?;
    break_it(&stage.fleet.fronts[0]);
    stage.write(4).await?;
    stage.is_attached().await?;
    stage.fleet.fronts[0].mend();
    stage.judge().await?;
    Ok(())
}
