//! Keys that are fetched: a JSON Web Key Set (RFC 7517 §5) at a URL.
//!
//! Owns the keys that are there at the moment, and when they are fetched again. Verifiers read a
//! snapshot and never wait; one task fetches ([`JwksRefresher`]), so that there is never more than
//! one request. It does not know tokens.
//!
//! A server of keys that is down changes nothing at first: the keys stay in use until they are too
//! old to be trusted.

mod document;
mod endpoint;
mod metrics;

use std::{sync::Arc, time::Duration};

use arc_swap::{ArcSwap, Guard};
use futures_util::FutureExt;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::key::Key;
pub(super) use endpoint::Endpoint;
pub(super) use metrics::JwksMetrics;

use document::DocumentError;
use endpoint::FetchError;

/// Time between a failed attempt and the next one: this, doubled with each failure in a row.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// The longest time between a failed attempt and the next one.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// How much earlier than they have to keys are fetched, at most, as a part of the time: so that a
/// fleet that was started together does not fetch together for ever.
const SPREAD: f64 = 0.1;

/// When keys are fetched again, and when they are given up; each is no shorter than the one before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ages {
    /// Younger keys are not fetched again.
    pub(super) min_refresh: Duration,
    /// Older keys are fetched again.
    pub(super) max_refresh: Duration,
    /// Older keys are not used.
    pub(super) max_stale: Duration,
}

/// The keys that are there at one moment.
#[derive(Debug)]
pub(super) enum KeySet {
    /// The first answer has not come yet.
    Awaited,
    /// From the last good answer.
    Known(Vec<Key>),
    /// The last good answer is too long ago.
    Lapsed,
}

impl KeySet {
    /// What may be verified with.
    pub(super) fn keys(&self) -> &[Key] {
        match self {
            Self::Known(keys) => keys,
            Self::Awaited | Self::Lapsed => &[],
        }
    }

    /// Whether another answer may have a key that is missing here: the one of this name, or any.
    pub(super) fn lacks(&self, id: Option<&str>) -> bool {
        match self {
            Self::Known(keys) => id.is_some() && !keys.iter().any(|key| key.may_be(id)),
            Self::Awaited | Self::Lapsed => true,
        }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Jwks {
    endpoint: Endpoint,
    ages: Ages,
    current: ArcSwap<KeySet>,
    asked: Notify,
}

/// A good answer.
#[derive(Debug)]
struct Answer {
    keys: Vec<Key>,
    /// For how long it is good, if it says so.
    max_age: Option<Duration>,
}

impl Jwks {
    /// Without keys, until it is kept fresh.
    pub(super) fn new(endpoint: Endpoint, ages: Ages) -> Self {
        Self {
            endpoint,
            ages,
            current: ArcSwap::from_pointee(KeySet::Awaited),
            asked: Notify::new(),
        }
    }

    /// The keys at this moment.
    pub(super) fn current(&self) -> Guard<Arc<KeySet>> {
        self.current.load()
    }

    /// Whether there has been an answer.
    pub(super) fn has_answered(&self) -> bool {
        !matches!(**self.current(), KeySet::Awaited)
    }

    /// Asks for the keys to be fetched again, as soon as they may be. Never waits.
    pub(super) fn ask(&self) {
        self.asked.notify_one();
    }

    /// Fetches, and waits until it is time to fetch again, for ever.
    async fn keep_fresh<F, Fetching>(&self, fetch: F, metrics: &JwksMetrics)
    where
        F: Fn() -> Fetching,
        Fetching: Future<Output = Result<Answer, FetchError>>,
    {
        let mut fetched_at = None;
        let mut failures = 0_u32;
        loop {
            let result = fetch().await;
            let now = Instant::now();
            match result {
                Ok(answer) => {
                    (fetched_at, failures) = (Some(now), 0);
                    tracing::debug!(keys = answer.keys.len(), "token keys fetched");
                    metrics.fetched(answer.keys.len());
                    let age = answer.max_age.unwrap_or(self.ages.max_refresh);
                    let age = age.clamp(self.ages.min_refresh, self.ages.max_refresh);
                    self.current.store(Arc::new(KeySet::Known(answer.keys)));
                    // Who asked while this was under way has been answered.
                    let _ = self.asked.notified().now_or_never();
                    sleep_until(now + self.ages.min_refresh).await;
                    tokio::select! {
                        () = sleep_until(now + spread(age)) => {}
                        () = self.asked.notified() => {}
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "token keys could not be fetched");
                    metrics.failed();
                    let lapses_at = fetched_at.map(|at: Instant| at + self.ages.max_stale);
                    sleep_until(self.retry_at(now, lapses_at, failures, metrics)).await;
                    failures += 1;
                }
            }
        }
    }

    /// When to try again after a failure. One attempt is at the moment when the keys become too old;
    /// if that fails too, they are given up.
    fn retry_at(
        &self,
        now: Instant,
        lapses_at: Option<Instant>,
        failures: u32,
        metrics: &JwksMetrics,
    ) -> Instant {
        let retry_at = now
            + RETRY_MIN
                .saturating_mul(1 << failures.min(5))
                .min(RETRY_MAX);
        match lapses_at {
            Some(at) if at > now => retry_at.min(at),
            Some(_) if !self.current().keys().is_empty() => {
                tracing::error!("token keys are too old to be used");
                metrics.lapsed();
                self.current.store(Arc::new(KeySet::Lapsed));
                retry_at
            }
            _ => retry_at,
        }
    }
}

fn spread(age: Duration) -> Duration {
    age.mul_f64(rand::random_range(1.0 - SPREAD..=1.0))
}

/// Keeps the keys of a [`Verifier`](super::Verifier) fresh.
#[derive(Debug)]
pub struct JwksRefresher {
    jwks: Arc<Jwks>,
    metrics: JwksMetrics,
}

impl JwksRefresher {
    pub(super) fn new(jwks: Arc<Jwks>, metrics: JwksMetrics) -> Self {
        Self { jwks, metrics }
    }

    /// Fetches the keys whenever that is due, for as long as it is polled.
    pub async fn run(self) {
        let fetch = || self.jwks.endpoint.fetch();
        self.jwks.keep_fresh(fetch, &self.metrics).await;
    }
}

#[cfg(test)]
mod tests;
