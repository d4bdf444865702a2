//! Leaving in an orderly way: existing clients are closed at an even pace, so that they come back spread out. Gateways are
//! asked at the same pace to take those that come by links elsewhere, which those clients do not notice.
//!
//! Owns: the pace. New clients are refused by `accept` from the moment the drain begins; the roster tells gateways.

use std::rc::Rc;
use std::time::{Duration, Instant};

use flotilla_shared::clock::unix_seconds;
use flotilla_shared::lifecycle::Phase;
use flotilla_shared::protocol::codes::DisconnectCode;

use crate::closing::Ending;
use crate::shard::Shard;

/// Time between two steps of a drain.
const STEP: Duration = Duration::from_millis(50);

/// How a drain goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DrainPlan {
    /// Wait before the first close, so that gateways have learnt of the drain and send nobody back here.
    pub(crate) settle: Duration,
    /// Time over which the closes are spread.
    pub(crate) window: Duration,
}

/// Waits for the drain to begin, carries it out, and returns when the shard has no connection left, when the drain's
/// deadline has passed, or when the process is to stop at once.
pub(crate) async fn drain(shard: &Rc<Shard>, plan: DrainPlan) {
    let lifecycle = shard.lifecycle();
    lifecycle.wait_for(Phase::Draining).await;
    let metrics = &shard.metrics().process().drain;
    metrics
        .started
        .set(i64::try_from(unix_seconds()).unwrap_or(i64::MAX));
    tokio::select! {
        () = close_all(shard, plan) => {}
        () = lifecycle.wait_for(Phase::Stopped) => {}
        () = deadline(lifecycle.deadline()) => {}
    }
    let cut = shard.connections();
    if cut > 0 {
        tracing::warn!(cut, "connections were cut at the end of the drain");
    }
}

async fn deadline(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn close_all(shard: &Rc<Shard>, plan: DrainPlan) {
    if shard.connections() > 0 {
        tokio::time::sleep(plan.settle).await;
    }
    let metrics = &shard.metrics().process().drain;
    let ends = Instant::now() + plan.window;
    let mut told = 0;
    while shard.connections() > 0 {
        let open = shard.connections_to_end();
        metrics.remaining.add(open.len() as i64 - told);
        told = open.len() as i64;
        let count = pace(open.len(), ends.saturating_duration_since(Instant::now()));
        for connection in open.into_iter().take(count) {
            match connection.outbox().seat() {
                Some(seat) => seat.release(),
                None => connection.end(Ending::Disconnect(DisconnectCode::Shutdown)),
            }
            metrics.closed.inc();
        }
        tokio::time::sleep(STEP).await;
    }
    metrics.remaining.add(-told);
}

/// How many of `open` connections to close in this step, so that the last goes when `left` is over.
fn pace(open: usize, left: Duration) -> usize {
    let steps = left.as_millis() / STEP.as_millis() + 1;
    open.div_ceil(usize::try_from(steps).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closes_are_spread_over_the_window_and_end_with_it() {
        for connections in [1, 7, 100, 10_000] {
            let mut open = connections;
            let mut left = Duration::from_secs(10);
            let mut most = 0;
            loop {
                let closed = pace(open, left);
                most = most.max(closed);
                open -= closed;
                if left.is_zero() {
                    break;
                }
                left = left.saturating_sub(STEP);
            }
            assert_eq!(open, 0, "{connections}");
            assert!(
                most <= connections / 200 + 1,
                "{connections}: {most} at once"
            );
        }
    }
}
