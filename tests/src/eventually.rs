//! Waiting for a condition with a deadline, which is what tests do instead of sleeping.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::{Instant, sleep};

/// Pause between two looks at the condition.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Calls `probe` until it succeeds and returns what it returned.
///
/// # Errors
/// The last error of `probe`, under `what`, once `deadline` has passed.
pub async fn eventually<T>(
    what: &str,
    deadline: Duration,
    mut probe: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let end = Instant::now() + deadline;
    loop {
        match probe().await {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= end => {
                return Err(error).with_context(|| format!("not within {deadline:?}: {what}"));
            }
            Err(_) => sleep(LOOK_EVERY).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_success_is_returned() {
        let mut tries = 0;
        let value = eventually("three tries", Duration::from_secs(1), async || {
            tries += 1;
            if tries < 3 {
                bail!("only {tries}")
            } else {
                Ok(tries)
            }
        });
        assert_eq!(value.await.unwrap(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_error_is_told_at_the_deadline() {
        let never = eventually(
            "the moon",
            Duration::from_secs(1),
            async || -> Result<()> { bail!("still dark") },
        );
        let text = format!("{:#}", never.await.unwrap_err());
        assert_eq!(text, "not within 1s: the moon: still dark");
    }
}
