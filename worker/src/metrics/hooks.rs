//! Calls of hooks.

use std::time::Instant;

use flotilla_shared::metrics::Register;
use prometheus::{Error, HistogramVec, IntCounterVec, IntGauge, exponential_buckets};

use crate::hooks::Hook;

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HookResult {
    /// An answer that grants.
    Ok,
    /// An answer that refuses with an error.
    Error,
    /// An answer that sends the client away.
    Disconnect,
    /// No answer in time.
    Timeout,
    /// No connection, or one that broke.
    Unreachable,
    /// A status other than 200.
    Status,
    /// An answer that cannot be understood, or is too long.
    Nonsense,
    /// Not asked: too many calls waited already.
    Overload,
    /// Nobody waits for the answer any more: the client is gone.
    Abandoned,
}

impl HookResult {
    const ALL: [Self; 9] = [
        Self::Ok,
        Self::Error,
        Self::Disconnect,
        Self::Timeout,
        Self::Unreachable,
        Self::Status,
        Self::Nonsense,
        Self::Overload,
        Self::Abandoned,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Disconnect => "disconnect",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Status => "status",
            Self::Nonsense => "nonsense",
            Self::Overload => "overload",
            Self::Abandoned => "abandoned",
        }
    }
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(crate) struct HookCalls {
    calls: IntCounterVec,
    duration: HistogramVec,
    in_flight: IntGauge,
}

impl HookCalls {
    pub(super) fn register(register: Register<'_>) -> Result<Self, Error> {
        let hooks = Self {
            calls: register.counters(
                "flotilla_worker_hook_calls_total",
                "Questions to the back end, by what came of them.",
                &["hook", "result"],
            )?,
            duration: register.histograms(
                "flotilla_worker_hook_duration_seconds",
                "Time until a question to the back end was answered or given up, its wait for other calls included.",
                &exponential_buckets(0.001, 2.0, 13)?,
                &["hook"],
            )?,
            in_flight: register.gauge(
                "flotilla_worker_hook_calls_in_flight",
                "Questions to the back end that are not answered yet, those included that wait for other calls.",
            )?,
        };
        for hook in Hook::ALL {
            hooks.duration.with_label_values(&[hook.label()]);
            for result in HookResult::ALL {
                hooks
                    .calls
                    .with_label_values(&[hook.label(), result.label()]);
            }
        }
        Ok(hooks)
    }

    /// Counts a call as in flight until it has ended or is dropped.
    pub(crate) fn begin(&self, hook: Hook) -> HookCall<'_> {
        self.in_flight.inc();
        HookCall {
            metrics: self,
            hook,
            result: HookResult::Abandoned,
            since: Instant::now(),
        }
    }
}

/// A call in flight.
pub(crate) struct HookCall<'a> {
    metrics: &'a HookCalls,
    hook: Hook,
    result: HookResult,
    since: Instant,
}

impl HookCall<'_> {
    /// Says what came of it.
    pub(crate) fn end(mut self, result: HookResult) {
        self.result = result;
    }
}

impl Drop for HookCall<'_> {
    fn drop(&mut self) {
        let hook = self.hook.label();
        let counts = self.metrics;
        counts.in_flight.dec();
        let result = self.result.label();
        counts.calls.with_label_values(&[hook, result]).inc();
        let seconds = self.since.elapsed().as_secs_f64();
        counts.duration.with_label_values(&[hook]).observe(seconds);
    }
}
