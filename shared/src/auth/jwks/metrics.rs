//! What a process tells about the keys that it fetches.

use prometheus::{IntCounter, IntGauge, Registry};

use crate::clock::unix_seconds;
use crate::metrics::Register;

/// The `flotilla_<process>_jwks_*` series.
#[derive(Debug, Clone)]
pub(in crate::auth) struct JwksMetrics {
    successes: IntCounter,
    failures: IntCounter,
    last_success: IntGauge,
    keys: IntGauge,
}

impl JwksMetrics {
    /// Registers `flotilla_<process>_jwks_refreshes_total`, `_jwks_last_success_timestamp_seconds`
    /// and `_jwks_keys`.
    pub(in crate::auth) fn register(
        registry: &Registry,
        process: &str,
    ) -> Result<Self, prometheus::Error> {
        let register = Register(registry);
        let refreshes = register.counters(
            &format!("flotilla_{process}_jwks_refreshes_total"),
            "Attempts to fetch the keys that tokens are verified with.",
            &["result"],
        )?;
        Ok(Self {
            successes: refreshes.with_label_values(&["success"]),
            failures: refreshes.with_label_values(&["failure"]),
            last_success: register.gauge(
                &format!("flotilla_{process}_jwks_last_success_timestamp_seconds"),
                "When the keys that tokens are verified with were last fetched; 0: never.",
            )?,
            keys: register.gauge(
                &format!("flotilla_{process}_jwks_keys"),
                "Fetched keys that tokens are verified with at the moment.",
            )?,
        })
    }

    /// There was a good answer with so many keys.
    pub(super) fn fetched(&self, keys: usize) {
        self.successes.inc();
        self.last_success
            .set(i64::try_from(unix_seconds()).unwrap_or(i64::MAX));
        self.keys.set(i64::try_from(keys).unwrap_or(i64::MAX));
    }

    /// There was no good answer.
    pub(super) fn failed(&self) {
        self.failures.inc();
    }

    /// The keys are not used any more.
    pub(super) fn lapsed(&self) {
        self.keys.set(0);
    }
}
