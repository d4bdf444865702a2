//! The worker's broker connection for what is not a client's.
//!
//! Owns: the talk of the fleet about itself: it announces this worker, hears who else there is, and takes in what is meant
//! for this worker. What the others ask and answer is the business of `fleet`; what this worker says of itself, that of
//! `announce`.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use flotilla_shared::broker::{
    Broker, BrokerConnection, BrokerEvent, BrokerEvents, BrokerMetrics, Brokers, Topic,
};
use flotilla_shared::lifecycle::{Lifecycle, Phase};
use flotilla_shared::roster::RosterMessage;
use tokio::time::MissedTickBehavior;

use crate::announce::Announcement;
use crate::fleet::Fleet;

/// The broker tokens of the roster's topic and of this worker's inbox.
const ROSTER: u64 = 0;
const INBOX: u64 = 1;

/// How long to wait before trying a broker that could not be reached.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// How often this worker looks for others that have not been heard of for too long.
const EXPIRY_INTERVAL: Duration = Duration::from_millis(500);

/// The connection, once there is one, for whoever publishes on behalf of the worker.
pub(crate) type ControlBroker = Arc<OnceLock<Arc<dyn Broker>>>;

/// See the module's documentation.
pub(crate) struct Control {
    pub(crate) announcement: Announcement,
    pub(crate) fleet: Fleet,
    /// Where the connection is left for others.
    pub(crate) broker: ControlBroker,
    pub(crate) lifecycle: Lifecycle,
}

impl Control {
    /// Connects, and is the worker's voice and ear until it has stopped; then says good-bye.
    pub(crate) async fn run(self, brokers: Brokers, metrics: BrokerMetrics) {
        let BrokerConnection { broker, events } = tokio::select! {
            connection = self.connect(&brokers, &metrics) => connection,
            () = self.lifecycle.wait_for(Phase::Stopped) => return,
        };
        self.broker.get_or_init(|| broker.clone());
        self.ask_who_is_there(&*broker).await;
        self.talk(&*broker, events).await;
    }

    /// A connection that listens to the roster and to this worker's inbox, however long it takes.
    async fn connect(&self, brokers: &Brokers, metrics: &BrokerMetrics) -> BrokerConnection {
        let id = &self.announcement.id;
        let inbox = Topic::Worker(id.clone());
        let name = format!("{id}-control");
        loop {
            // The shards say in the log when the broker cannot be reached.
            if let Ok(connection) = brokers.connect(&name, metrics).await {
                let broker = &connection.broker;
                // First the inbox: who hears of this worker may ask it.
                if broker.subscribe(&inbox, INBOX).await.is_ok()
                    && broker.subscribe(&Topic::Roster, ROSTER).await.is_ok()
                {
                    return connection;
                }
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }

    async fn talk(&self, broker: &dyn Broker, mut events: Box<dyn BrokerEvents>) {
        let mut status = self.lifecycle.subscribe();
        let mut interval = tokio::time::interval(self.announcement.interval);
        let mut expiry = tokio::time::interval(EXPIRY_INTERVAL);
        expiry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::new();
        let mut has_namesake = false;
        loop {
            let speaks = tokio::select! {
                _ = interval.tick() => true,
                _ = expiry.tick() => {
                    self.fleet.forget_the_silent();
                    false
                }
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
                        is_asked |= self.hear(event, broker, &mut has_namesake).await;
                    }
                    is_asked
                }
            };
            let phase = status.borrow_and_update().phase;
            if phase == Phase::Stopped {
                self.say_good_bye(broker, events).await;
                return;
            }
            if speaks {
                let entry = self.announcement.entry(phase, self.fleet.missed());
                publish(broker, &RosterMessage::Announce(entry)).await;
            }
        }
    }

    /// Whether this worker should say that it is there.
    async fn hear(&self, event: BrokerEvent, broker: &dyn Broker, has_namesake: &mut bool) -> bool {
        match event {
            BrokerEvent::Message {
                token: INBOX,
                payload,
            } => {
                self.fleet.receive(payload);
                false
            }
            BrokerEvent::Message { payload, .. } => {
                let Ok(message) = serde_json::from_slice(&payload) else {
                    return false;
                };
                *has_namesake = *has_namesake || self.announcement.tell_of_namesake(&message);
                let is_asked = message == RosterMessage::Query;
                self.fleet.heard(message);
                is_asked
            }
            BrokerEvent::Disconnected => {
                self.fleet.lost_touch();
                false
            }
            BrokerEvent::Reconnected => {
                self.ask_who_is_there(broker).await;
                true
            }
            BrokerEvent::StreamMessage { .. }
            | BrokerEvent::HistoryRemoved { .. }
            | BrokerEvent::Overflow { .. } => false,
        }
    }

    async fn ask_who_is_there(&self, broker: &dyn Broker) {
        publish(broker, &RosterMessage::Query).await;
        self.fleet.asked();
    }

    async fn say_good_bye(&self, broker: &dyn Broker, mut events: Box<dyn BrokerEvents>) {
        let leave = RosterMessage::Leave {
            id: self.announcement.id.clone(),
            life: self.announcement.life,
        };
        publish(broker, &leave).await;
        // It was handed over, not sent, and the process is about to end: wait until it comes back.
        let is_leave = |event: BrokerEvent| match event {
            BrokerEvent::Message {
                token: ROSTER,
                payload,
            } => serde_json::from_slice(&payload).is_ok_and(|heard: RosterMessage| heard == leave),
            _ => false,
        };
        let mut batch = Vec::new();
        while events.next_batch(&mut batch).await {
            if batch.drain(..).any(is_leave) {
                return;
            }
        }
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
