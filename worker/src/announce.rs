//! Tells the fleet that this worker is there, how loaded it is and in which phase.
//!
//! Owns: this worker's entry in the roster. Knows nothing of other workers: it only ever speaks, and answers when a
//! gateway asks who is there.

use std::time::Duration;

use flotilla_shared::broker::{
    Broker, BrokerConnection, BrokerEvent, BrokerEvents, BrokerMetrics, Brokers, Topic,
};
use flotilla_shared::lifecycle::{Lifecycle, Phase};
use flotilla_shared::metrics::VERSION;
use flotilla_shared::roster::{RosterMessage, WorkerEntry};

use crate::api::ControlBroker;
use crate::capacity::Capacity;

/// The broker token of the roster's topic.
const TOKEN: u64 = 0;

/// How long to wait before trying a broker that could not be reached.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// What this worker says of itself.
pub(crate) struct Announcement {
    pub(crate) id: String,
    /// `host:port` under which gateways reach it.
    pub(crate) address: String,
    pub(crate) capacity: Capacity,
    /// Time between two announcements when nothing changes.
    pub(crate) interval: Duration,
}

/// Announces until the worker has stopped, then says good-bye. The broker connection that this takes is shared through
/// `control` with whatever else is not a client's.
pub(crate) async fn announce(
    announcement: Announcement,
    brokers: Brokers,
    control: ControlBroker,
    metrics: BrokerMetrics,
    lifecycle: Lifecycle,
) {
    let BrokerConnection { broker, events } = tokio::select! {
        connection = connect(&announcement, &brokers, &metrics) => connection,
        () = lifecycle.wait_for(Phase::Stopped) => return,
    };
    control.get_or_init(|| broker.clone());
    keep_announcing(&announcement, &*broker, events, &lifecycle).await;
}

/// A broker connection that listens to the roster, however long it takes.
async fn connect(
    announcement: &Announcement,
    brokers: &Brokers,
    metrics: &BrokerMetrics,
) -> BrokerConnection {
    let name = format!("{}-control", announcement.id);
    loop {
        // The shards say in the log when the broker cannot be reached.
        if let Ok(connection) = brokers.connect(&name, metrics).await
            && connection
                .broker
                .subscribe(&Topic::Roster, TOKEN)
                .await
                .is_ok()
        {
            return connection;
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

async fn keep_announcing(
    announcement: &Announcement,
    broker: &dyn Broker,
    mut events: Box<dyn BrokerEvents>,
    lifecycle: &Lifecycle,
) {
    let mut status = lifecycle.subscribe();
    let mut interval = tokio::time::interval(announcement.interval);
    let mut batch = Vec::new();
    let mut has_namesake = false;
    loop {
        let is_asked = tokio::select! {
            _ = interval.tick() => true,
            changed = status.changed() => {
                if changed.is_err() {
                    return;
                }
                true
            }
            open = events.next_batch(&mut batch) => {
                if !open {
                    return;
                }
                let mut is_asked = false;
                for event in batch.drain(..) {
                    is_asked |= is_a_question(&event);
                    has_namesake = has_namesake || announcement.tell_of_namesake(&event);
                }
                is_asked
            }
        };
        let phase = status.borrow_and_update().phase;
        if phase == Phase::Stopped {
            let leave = RosterMessage::Leave {
                id: announcement.id.clone(),
            };
            publish(broker, &leave).await;
            // It was handed over, not sent, and the process is about to end: wait until it comes back.
            while events.next_batch(&mut batch).await {
                if batch
                    .drain(..)
                    .any(|event| heard(&event) == Some(leave.clone()))
                {
                    break;
                }
            }
            return;
        }
        if is_asked {
            publish(broker, &RosterMessage::Announce(announcement.entry(phase))).await;
        }
    }
}

impl Announcement {
    fn entry(&self, phase: Phase) -> WorkerEntry {
        WorkerEntry {
            id: self.id.clone(),
            address: self.address.clone(),
            phase,
            connections: self.capacity.used() as u64,
            connections_limit: self.capacity.limit() as u64,
            version: VERSION.to_owned(),
        }
    }

    /// Warns if another worker says that it is this one, and whether it did. Gateways take the two for one that keeps
    /// moving, and see neither in peace.
    fn tell_of_namesake(&self, event: &BrokerEvent) -> bool {
        match heard(event) {
            Some(RosterMessage::Announce(entry))
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

/// Whether somebody asks who is there, or may have missed what was said.
fn is_a_question(event: &BrokerEvent) -> bool {
    *event == BrokerEvent::Reconnected || heard(event) == Some(RosterMessage::Query)
}

fn heard(event: &BrokerEvent) -> Option<RosterMessage> {
    match event {
        BrokerEvent::Message { payload, .. } => serde_json::from_slice(payload).ok(),
        _ => None,
    }
}

async fn publish(broker: &dyn Broker, message: &RosterMessage) {
    let Ok(payload) = serde_json::to_vec(message) else {
        return;
    };
    if let Err(error) = broker.publish(&Topic::Roster, payload.into()).await {
        // The next announcement is never far.
        tracing::debug!(%error, "announcement not sent");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_worker_with_the_same_id_is_told_from_our_own_echo() {
        let ours = Announcement {
            id: "worker-1".to_owned(),
            address: "10.0.0.1:8001".to_owned(),
            capacity: Capacity::new(10),
            interval: Duration::from_secs(1),
        };
        let said = |id: &str, address: &str| {
            let entry = WorkerEntry {
                id: id.to_owned(),
                address: address.to_owned(),
                ..ours.entry(Phase::Serving)
            };
            let payload = serde_json::to_vec(&RosterMessage::Announce(entry)).unwrap();
            BrokerEvent::Message {
                token: TOKEN,
                payload: payload.into(),
            }
        };
        assert!(ours.tell_of_namesake(&said("worker-1", "10.0.0.2:8001")));
        assert!(!ours.tell_of_namesake(&said("worker-1", "10.0.0.1:8001")));
        assert!(!ours.tell_of_namesake(&said("worker-2", "10.0.0.2:8001")));
        assert!(!ours.tell_of_namesake(&BrokerEvent::Reconnected));
    }
}
