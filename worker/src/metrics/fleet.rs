//! Questions to all workers, and what is remembered of their members.

use std::time::Duration;

use flotilla_shared::metrics::Register;
use prometheus::{Error, Histogram, IntCounterVec, IntGauge, exponential_buckets};

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(crate) struct FleetMetrics {
    questions: IntCounterVec,
    duration: Histogram,
    pub(super) members_remembered: IntGauge,
}

/// How a question to other workers went.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked {
    /// All have answered.
    Complete,
    /// Some have not.
    Partial,
    /// Nobody could be asked, or the answers were too large.
    Failed,
}

impl Asked {
    const ALL: [Self; 3] = [Self::Complete, Self::Partial, Self::Failed];

    fn label(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Partial => "partial",
            Self::Failed => "failed",
        }
    }
}

impl FleetMetrics {
    pub(super) fn register(register: Register<'_>) -> Result<Self, Error> {
        let questions = register.counters(
            "flotilla_worker_fleet_questions_total",
            "Questions of this worker to all workers, by whether all have answered.",
            &["result"],
        )?;
        for result in Asked::ALL {
            questions.with_label_values(&[result.label()]);
        }
        Ok(Self {
            questions,
            duration: register.histogram(
                "flotilla_worker_fleet_question_duration_seconds",
                "How long the other workers took to answer a question.",
                &exponential_buckets(0.001, 2.0, 12)?,
            )?,
            members_remembered: register.gauge(
                "flotilla_worker_members_remembered",
                "Members of channels, on any worker, who are remembered for those who are told of joins and leaves; sampled every second.",
            )?,
        })
    }

    /// Counts a question.
    pub(crate) fn asked(&self, result: Asked, took: Duration) {
        self.questions.with_label_values(&[result.label()]).inc();
        self.duration.observe(took.as_secs_f64());
    }
}
