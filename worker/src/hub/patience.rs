//! How long is waited for what the broker is known to have, and has not delivered.
//!
//! Owns: the time that it has. What it does not deliver can be read meanwhile; what comes neither way is lost.

use std::time::{Duration, Instant};

use super::doubt::Check;
use super::recovery::Phase;
use super::stream::Stream;

/// How long the broker may take to deliver what it is known to have. After that it has lost it.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Waiting {
    Yet,
    InVain,
}

impl<M> Stream<M> {
    /// Whether anyone waits for the broker to deliver, and whether in vain.
    pub(super) fn look_at_the_time(&mut self, now: Instant) -> Option<Waiting> {
        let is_reading = self.repair.is_some();
        let mut looked = None;
        for recovering in &mut self.recovering {
            if let Phase::Waiting { since, .. } = &mut recovering.phase {
                let began = *since.get_or_insert(now);
                let is_over = !is_reading && now.saturating_duration_since(began) >= PATIENCE;
                looked = looked.max(Some(if is_over {
                    Waiting::InVain
                } else {
                    Waiting::Yet
                }));
            }
        }
        looked.max(self.look_at_the_doubt(now))
    }

    fn look_at_the_doubt(&mut self, now: Instant) -> Option<Waiting> {
        let Check::Behind { until, since } = self.doubt?.check else {
            return None;
        };
        let here = self.position;
        let is_delivered = until.epoch == here.epoch && until.offset <= here.offset;
        if is_delivered {
            self.doubt = None;
            return None;
        }
        let is_over = self.repair.is_none() && now.saturating_duration_since(since) >= PATIENCE;
        Some(if is_over {
            Waiting::InVain
        } else {
            Waiting::Yet
        })
    }
}
