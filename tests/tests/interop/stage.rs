//! The fleet that the story is played on.

use anyhow::{Context, Result, bail};
use flotilla_tests::fleet::{Fleet, namespace};
use flotilla_tests::token;
use toml::Value;

/// Keys to try for one that leads to another worker.
const KEYS_MAX: usize = 100;

/// A fleet, and where two users connect to be served by two workers.
pub(crate) struct Stage {
    pub(crate) fleet: Fleet,
    pub(crate) alice_url: String,
    pub(crate) bob_url: String,
    worker_of_alice: String,
}

impl Stage {
    pub(crate) async fn new() -> Result<Self> {
        let namespaces = vec![
            namespace("closed", &[]),
            namespace("news", &["allow_subscribe_for_client"]),
        ];
        let fleet = Fleet::builder()
            .workers(3)
            .worker("channel.namespaces", Value::Array(namespaces))
            // SDKs send their token in the connect command, where the gateway does not see it.
            .gateway("sticky", vec!["query:key".to_owned()])
            .start()
            .await?;
        let (worker_of_alice, _) = place(&fleet, 0).await?;
        for number in 1..KEYS_MAX {
            let (worker, bob_url) = place(&fleet, number).await?;
            if worker != worker_of_alice {
                let alice_url = url(&fleet, 0);
                return Ok(Self {
                    fleet,
                    alice_url,
                    bob_url,
                    worker_of_alice,
                });
            }
        }
        bail!("{KEYS_MAX} keys led to one worker");
    }

    /// Waits until the worker that serves alice has no channel any more, which it keeps for a moment after the last
    /// client has left.
    pub(crate) async fn worker_of_alice_has_left(&mut self) -> Result<()> {
        let worker = self.fleet.worker(&self.worker_of_alice)?;
        worker
            .metric_becomes("flotilla_worker_channels", &[], 0.0)
            .await
    }

    /// Kills the worker that serves alice.
    pub(crate) async fn kill_worker_of_alice(&mut self) -> Result<()> {
        let worker = self.fleet.worker(&self.worker_of_alice)?;
        let served = worker
            .scrape()
            .await?
            .sum("flotilla_worker_connections", &[])?;
        anyhow::ensure!(served >= 1.0, "it serves nobody: {served}");
        worker.process().kill().await.context("the worker of alice")
    }
}

fn url(fleet: &Fleet, number: usize) -> String {
    format!("{}?key={number}", fleet.url())
}

/// The worker that a key leads to, and the URL with that key.
async fn place(fleet: &Fleet, number: usize) -> Result<(String, String)> {
    let url = url(fleet, number);
    let dial = flotilla_tests::client::Dial::to(&url);
    let mut client = dial.connect(&token::user("scout")?).await?;
    let worker = client.node().to_owned();
    client.close().await?;
    Ok((worker, url))
}
