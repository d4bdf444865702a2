//! Whether a shard can do anything for the sessions on its links.
//!
//! Owns: since when its broker is away, and what the gateways have been told of that. What they make of it is theirs: it may be
//! that no worker could do better.

use std::cell::Cell;
use std::time::{Duration, Instant};

use flotilla_shared::link::{self, ForGateway};

use super::Shard;
use crate::link::Link;

/// How long the broker is away before the gateways are told. One that was lost for a moment only is back by then, also
/// after a few attempts, and no session had to move for it; and from then on there is time enough to take the sessions
/// elsewhere before this worker's lease is over and others are told that its clients have left.
const PATIENCE: Duration = Duration::from_secs(1);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Condition {
    lost_at: Cell<Option<Instant>>,
    /// The gateways have been told that the shard is cut off.
    is_cut_off: Cell<bool>,
}

impl Condition {
    /// The broker is away.
    fn lost(&self, now: Instant) {
        self.lost_at.set(self.lost_at.get().or(Some(now)));
    }

    /// The broker is back. Whether the gateways have to be told.
    fn restored(&self) -> bool {
        self.lost_at.set(None);
        self.is_cut_off.replace(false)
    }

    /// Whether the gateways have to be told that the broker is away.
    fn is_due(&self, now: Instant) -> bool {
        let lost_at = self.lost_at.get();
        let is_over = lost_at.is_some_and(|at| now.saturating_duration_since(at) >= PATIENCE);
        is_over && !self.is_cut_off.replace(true)
    }
}

impl Shard {
    /// The connection to the broker is lost.
    pub(super) fn broker_lost(&self) {
        self.condition.lost(Instant::now());
    }

    /// The connection to the broker is there again.
    pub(super) fn broker_restored(&self) {
        if self.condition.restored() {
            self.tell_condition(false);
        }
    }

    /// To be called now and then.
    pub(super) fn look_after_condition(&self, now: Instant) {
        if self.condition.is_due(now) {
            self.tell_condition(true);
        }
    }

    fn tell_condition(&self, is_cut_off: bool) {
        self.open_links().for_each(|link| tell(&link, is_cut_off));
    }

    /// Tells a gateway whose link begins, if there is something to tell.
    pub(super) fn introduce(&self, link: &Link) {
        if self.condition.is_cut_off.get() {
            tell(link, true);
        }
    }
}

fn tell(link: &Link, is_cut_off: bool) {
    link.say(ForGateway::Condition(link::Condition { is_cut_off }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_is_back_soon_was_never_away() {
        let (condition, start) = (Condition::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        assert!(!condition.is_due(start));
        condition.lost(start);
        assert!(!condition.is_due(at(900)));
        assert!(!condition.restored());
        condition.lost(at(1000));
        assert!(!condition.is_due(at(1900)));
        assert!(condition.is_due(at(2000)));
        assert!(!condition.is_due(at(3000)), "it is told once");
        assert!(condition.restored());
        assert!(!condition.is_due(at(9000)));
    }
}
