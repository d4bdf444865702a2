//! Calls of the server API.

use flotilla_shared::metrics::Register;
use prometheus::{Error, IntCounterVec};

use crate::api::METHODS;

/// The label of whatever is no method of ours.
const OTHER: &str = "other";

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(crate) struct ApiCalls(IntCounterVec);

impl ApiCalls {
    pub(super) fn register(register: Register<'_>) -> Result<Self, Error> {
        let calls = register.counters(
            "flotilla_worker_api_calls_total",
            "Calls of the server API.",
            &["method", "result"],
        )?;
        for method in METHODS.into_iter().chain([OTHER]) {
            for result in ["ok", "error", "unauthorized"] {
                calls.with_label_values(&[method, result]);
            }
        }
        Ok(Self(calls))
    }

    /// Counts an answered call.
    pub(crate) fn called(&self, method: &str, succeeded: bool) {
        self.count(method, if succeeded { "ok" } else { "error" });
    }

    /// Counts a call with no key, or a wrong one.
    pub(crate) fn unauthorized(&self, method: &str) {
        self.count(method, "unauthorized");
    }

    fn count(&self, method: &str, result: &str) {
        let known = METHODS.into_iter().find(|known| *known == method);
        self.0
            .with_label_values(&[known.unwrap_or(OTHER), result])
            .inc();
    }
}
