//! More waits for a worker than its queues hold.

use anyhow::{Result, ensure};
use flotilla_tests::SOON;
use flotilla_tests::audit::Losses;
use flotilla_tests::eventually::eventually;
use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};

use crate::stage::{Stage, builder};

#[tokio::test]
async fn nothing_is_lost_when_the_queues_of_a_worker_overflow() -> Result<()> {
    let narrow = builder().worker("broker.nats.subscription_capacity", 1);
    let mut stage = Stage::set(narrow).await?;
    let worker = stage.fleet.workers[0].process();
    // What is published meanwhile waits in its sockets, and comes all at once.
    worker.signal(SIGSTOP)?;
    stage.write(2).await?;
    stage.fleet.workers[0].process().signal(SIGCONT)?;
    eventually("messages were dropped", SOON, async || {
        let scrape = stage.fleet.workers[0].scrape().await?;
        let dropped = scrape.sum("flotilla_broker_messages_dropped_total", &[])?;
        ensure!(dropped > 0.0, "none");
        Ok(())
    })
    .await?;
    stage.judge(Losses::None).await
}
