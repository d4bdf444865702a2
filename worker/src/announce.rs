//! What this worker says of itself: that it is there, how loaded it is and in which phase.
//!
//! Owns: this worker's entry in the roster. When it is said is the business of `control`.

use std::time::Duration;

use flotilla_shared::lifecycle::Phase;
use flotilla_shared::metrics::VERSION;
use flotilla_shared::roster::{Life, RosterMessage, WorkerEntry};

use crate::capacity::Capacity;

/// What this worker says of itself.
pub(crate) struct Announcement {
    pub(crate) id: String,
    pub(crate) life: Life,
    /// `host:port` under which gateways reach it.
    pub(crate) address: String,
    pub(crate) capacity: Capacity,
    /// Time between two announcements when nothing changes.
    pub(crate) interval: Duration,
}

impl Announcement {
    /// `missed`: how often this worker could not tell channels who comes and goes.
    pub(crate) fn entry(&self, phase: Phase, missed: u64) -> WorkerEntry {
        WorkerEntry {
            id: self.id.clone(),
            life: self.life,
            address: self.address.clone(),
            phase,
            connections: self.capacity.used() as u64,
            connections_limit: self.capacity.limit() as u64,
            version: VERSION.to_owned(),
            missed,
        }
    }

    /// Warns if another worker says that it is this one, and whether it did. Gateways take the two for one that keeps
    /// moving, and see neither in peace.
    pub(crate) fn tell_of_namesake(&self, message: &RosterMessage) -> bool {
        match message {
            RosterMessage::Announce(entry)
                if entry.id == self.id && entry.address != self.address =>
            {
                tracing::warn!(
                    id = self.id,
                    other = entry.address,
                    "another worker has the same id: ids have to be unique"
                );
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_worker_with_the_same_id_is_told_from_our_own_echo() {
        let ours = Announcement {
            id: "worker-1".to_owned(),
            life: Life(1),
            address: "10.0.0.1:8001".to_owned(),
            capacity: Capacity::new(10),
            interval: Duration::from_secs(1),
        };
        let said = |id: &str, address: &str| {
            RosterMessage::Announce(WorkerEntry {
                id: id.to_owned(),
                address: address.to_owned(),
                ..ours.entry(Phase::Serving, 0)
            })
        };
        assert!(ours.tell_of_namesake(&said("worker-1", "10.0.0.2:8001")));
        assert!(!ours.tell_of_namesake(&said("worker-1", "10.0.0.1:8001")));
        assert!(!ours.tell_of_namesake(&said("worker-2", "10.0.0.2:8001")));
        assert!(!ours.tell_of_namesake(&RosterMessage::Query));
    }
}
