//! What was measured: latencies as a histogram of high dynamic range, and what went wrong, counted
//! by kind.
//!
//! Shared by all clients of a run. A lock is held for one record at a time, never across an await.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest latency that is told apart; longer ones count as this.
const LONGEST: Duration = Duration::from_secs(300);

/// Latencies, from one microsecond up to five minutes, exact to three digits.
#[derive(Debug)]
pub struct Latencies(Mutex<Histogram<u64>>);

impl Latencies {
    /// None yet.
    ///
    /// # Errors
    /// Never: the bounds are fixed and right.
    pub fn new() -> Result<Self> {
        let longest = u64::try_from(LONGEST.as_micros()).context("the longest latency")?;
        Ok(Self(Mutex::new(Histogram::new_with_bounds(1, longest, 3)?)))
    }

    /// Adds one.
    pub fn record(&self, latency: Duration) {
        let microseconds = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        lock(&self.0).saturating_record(microseconds.max(1));
    }

    /// Sums up what was recorded.
    pub fn summary(&self) -> Summary {
        let histogram = lock(&self.0);
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Summary {
            count: histogram.len(),
            mean: histogram.mean() / 1000.0,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1000.0,
        }
    }
}

/// A distribution of latencies in milliseconds; all zero if nothing was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// How many there are.
    pub count: u64,
    /// The mean.
    pub mean: f64,
    /// The median.
    pub p50: f64,
    /// 90 % are at most this.
    pub p90: f64,
    /// 99 % are at most this.
    pub p99: f64,
    /// 99.9 % are at most this.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

/// Events, counted by kind.
#[derive(Debug, Default)]
pub struct Tally(Mutex<BTreeMap<String, u64>>);

impl Tally {
    /// Counts one event.
    pub fn count(&self, kind: &impl ToString) {
        *lock(&self.0).entry(kind.to_string()).or_default() += 1;
    }

    /// What was counted.
    pub fn totals(&self) -> BTreeMap<String, u64> {
        lock(&self.0).clone()
    }
}

/// A client that panicked leaves its numbers as they were, and they are whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let latencies = Latencies::new().unwrap();
        for milliseconds in 1..=1000 {
            latencies.record(Duration::from_millis(milliseconds));
        }
        let summary = latencies.summary();
        let close = |value: f64, expected: f64| (value / expected - 1.0).abs() < 0.001;
        assert_eq!(summary.count, 1000);
        assert!(close(summary.p50, 500.0), "{summary:?}");
        assert!(close(summary.p99, 990.0), "{summary:?}");
        assert!(close(summary.max, 1000.0), "{summary:?}");
    }

    #[test]
    fn extremes_are_recorded_as_the_bounds() {
        let latencies = Latencies::new().unwrap();
        latencies.record(Duration::ZERO);
        latencies.record(Duration::MAX);
        let summary = latencies.summary();
        assert_eq!(summary.count, 2);
        assert!(summary.max >= 300_000.0, "{summary:?}");
    }

    #[test]
    fn nothing_recorded_is_all_zero() {
        assert_eq!(Latencies::new().unwrap().summary(), Summary::default());
    }

    #[test]
    fn events_are_counted_by_kind() {
        let tally = Tally::default();
        for kind in ["closed 3501", "timeout", "closed 3501"] {
            tally.count(&kind);
        }
        let totals: Vec<_> = tally.totals().into_iter().collect();
        assert_eq!(
            totals,
            [("closed 3501".to_owned(), 2), ("timeout".to_owned(), 1)]
        );
    }
}
