//! How a gateway leaves: first it says so, then it takes nobody, then it lets everybody go at an
//! even pace, so that those who come back elsewhere do not come all at once.

use std::time::Duration;

use flotilla_shared::lifecycle::{Lifecycle, Phase};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use crate::edge::Edge;
use crate::relay::Order;

/// Share of the time between lame duck and deadline over which connections are told to go; the rest
/// is for the last of them.
const PACED_SHARE: f64 = 0.75;
/// Connections are told to go in steps of this length.
const PACE_STEP: Duration = Duration::from_millis(50);
/// How often it is looked whether everybody has gone.
const POLL_STEP: Duration = Duration::from_millis(20);

/// How a gateway leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DrainPlan {
    /// How long clients are still taken after readiness is gone.
    pub(crate) lame_duck: Duration,
}

/// Waits for the drain and carries it out. When this returns nobody is left, or the deadline has
/// passed or the process is stopped, and whoever was left has been dropped.
pub(crate) async fn drain(edge: &Edge, plan: DrainPlan, lifecycle: &Lifecycle) {
    lifecycle.wait_for(Phase::Draining).await;
    tokio::select! {
        () = leave(edge, plan, lifecycle) => {}
        () = lifecycle.wait_for(Phase::Stopped) => {}
    }
    edge.admission.close();
    let cut = edge.connections.controls();
    if !cut.is_empty() {
        tracing::warn!(connections = cut.len(), "connections are cut");
        cut.iter()
            .for_each(|connection| connection.give(Order::Drop));
    }
    edge.metrics.draining(0);
}

async fn leave(edge: &Edge, plan: DrainPlan, lifecycle: &Lifecycle) {
    let deadline = lifecycle.deadline().unwrap_or_else(Instant::now);
    edge.metrics.draining(edge.connections.count());
    sleep(plan.lame_duck).await;
    edge.admission.close();
    let window = deadline
        .saturating_duration_since(Instant::now())
        .mul_f64(PACED_SHARE);
    tokio::select! {
        () = let_go(edge, window) => {}
        () = sleep_until(deadline) => {}
    }
}

/// Tells every connection to go, evenly over `window`, and waits until none is left. Handshakes
/// that were admitted before may add some on the way: they are told in the next round.
async fn let_go(edge: &Edge, window: Duration) {
    let connections = edge.connections.controls();
    tracing::info!(
        connections = connections.len(),
        ?window,
        "connections are let go"
    );
    let mut steps = interval(PACE_STEP);
    steps.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let start = Instant::now();
    let mut told = 0;
    while told < connections.len() {
        steps.tick().await;
        let due = due(start.elapsed(), window, connections.len());
        for connection in connections.get(told..due).unwrap_or_default() {
            connection.give(Order::GoAway);
        }
        told = told.max(due);
        edge.metrics.draining(edge.connections.count());
    }
    let mut polls = interval(POLL_STEP);
    while edge.connections.count() > 0 {
        edge.connections
            .controls()
            .iter()
            .for_each(|late| late.give(Order::GoAway));
        edge.metrics.draining(edge.connections.count());
        polls.tick().await;
    }
}

/// How many of `count` are to be told once `elapsed` of `window` is over.
fn due(elapsed: Duration, window: Duration, count: usize) -> usize {
    let share = elapsed.as_secs_f64() / window.as_secs_f64().max(f64::MIN_POSITIVE);
    ((share * count as f64).ceil() as usize).min(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_told_at_an_even_pace() {
        let window = Duration::from_secs(10);
        let at = |seconds: u64| due(Duration::from_secs(seconds), window, 1000);
        assert_eq!(
            [at(0), at(1), at(5), at(10), at(60)],
            [0, 100, 500, 1000, 1000]
        );
        assert_eq!(due(Duration::ZERO, Duration::ZERO, 5), 0);
        assert_eq!(due(Duration::from_millis(1), Duration::ZERO, 5), 5);
        assert_eq!(due(Duration::from_secs(1), window, 1), 1);
    }
}
