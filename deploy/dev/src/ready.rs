//! Waiting until the fleet is ready for clients, by asking each process as an operator would.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::{interval, timeout};

use crate::{ask, member::Member};

/// How long the fleet may take until it is ready, once everybody listens.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Waits until every member (workers, then the gateway) says that it is ready, and the gateway has
/// found every worker.
///
/// # Errors
/// When it takes too long: with what was missing last.
pub(crate) async fn wait(members: &[Member]) -> Result<()> {
    let mut missing = None;
    let ready = async {
        let mut tick = interval(Duration::from_millis(50));
        loop {
            tick.tick().await;
            match check(members).await {
                Ok(()) => return,
                Err(reason) => missing = Some(reason),
            }
        }
    };
    let Err(late) = timeout(TIMEOUT, ready).await else {
        return Ok(());
    };
    Err(missing.unwrap_or_else(|| late.into())).context("the fleet does not become ready")
}

async fn check(members: &[Member]) -> Result<()> {
    for member in members {
        ask::admin(member.listening.admin, "/readyz")
            .await
            .with_context(|| member.name.clone())?;
    }
    let Some((gateway, workers)) = members.split_last() else {
        return Ok(());
    };
    let metrics = ask::admin(gateway.listening.admin, "/metrics")
        .await
        .context("the gateway's metrics")?;
    let found = format!(
        "flotilla_gateway_workers{{state=\"active\"}} {}",
        workers.len()
    );
    ensure!(
        metrics.lines().any(|line| line == found),
        "the gateway has not found every worker"
    );
    Ok(())
}
