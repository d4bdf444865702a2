//! What a worker cannot take in time is dropped where it waits, and counted; what follows comes.

use anyhow::{Context, Result, ensure};
use flotilla_shared::protocol::Format::Json;
use flotilla_tests::SOON;
use flotilla_tests::eventually::eventually;
use flotilla_tests::fleet::Fleet;
use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};

const MESSAGES: usize = 100;

#[tokio::test]
async fn messages_that_a_channel_s_queue_does_not_hold_are_counted_and_the_next_one_comes()
-> Result<()> {
    let mut fleet = Fleet::builder()
        .workers(2)
        .worker("broker.nats.subscription_capacity", 3)
        .start()
        .await?;
    let clients: [_; 2] = fleet
        .spread(&[Json, Json])
        .await?
        .try_into()
        .ok()
        .context("two")?;
    let [mut publisher, mut reader] = clients;
    reader.subscribe("room").await?;
    let slow = reader.node().to_owned();
    fleet.worker(&slow)?.process().signal(SIGSTOP)?;
    for number in 0..MESSAGES {
        publisher.publish("room", number.to_string()).await?;
    }
    fleet.worker(&slow)?.process().signal(SIGCONT)?;
    let dropped = eventually("messages were dropped", SOON, async || {
        let scrape = fleet.worker(&slow)?.scrape().await?;
        let dropped = scrape.sum("flotilla_broker_messages_dropped_total", &[])?;
        ensure!(dropped > 0.0, "none");
        Ok(dropped as usize)
    });
    ensure!(dropped.await? <= MESSAGES);
    publisher.publish("room", "\"next\"").await?;
    let mut came = Vec::new();
    while came.last().is_none_or(|text| text != "\"next\"") {
        came.extend(reader.texts("room", 1).await?);
    }
    // A publication is counted as dropped, or it comes.
    let worker = fleet.worker(&slow)?;
    let dropped = (MESSAGES + 1 - came.len()) as f64;
    worker
        .metric_becomes("flotilla_broker_messages_dropped_total", &[], dropped)
        .await
}
