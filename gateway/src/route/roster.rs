//! Listens to the roster: which workers have announced themselves through the broker. Announces this gateway there, too.

use std::time::{Duration, Instant};

use flotilla_shared::broker::{
    Broker, BrokerConnection, BrokerError, BrokerEvent, BrokerMetrics, Brokers, Topic,
};
use flotilla_shared::roster::{LEASE, Roster, RosterMessage, WorkerEntry};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::announce::Announcement;

/// Time between two attempts to reach the broker.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// How often leases are looked at, and this gateway announces itself.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(1);
/// After this silence everyone is asked, among them ourselves.
const ASK_AFTER: Duration = Duration::from_secs(2);
/// The one subscription of this connection.
const TOKEN: u64 = 0;

/// Publishes the workers on the roster until nobody listens any more. While the broker is away the
/// last ones stand: nobody can be heard then, and health checks still tell who is there.
///
/// A broker can also hang without a word. So leases do not run by the clock, but from what was heard
/// of a worker to what was heard last of anyone; and who asks hears at least the own question, if
/// anything is delivered at all.
///
/// # Errors
/// When the broker refuses this gateway from the start, which is because of its configuration.
pub(super) async fn listen(
    brokers: Brokers,
    metrics: BrokerMetrics,
    announcement: Announcement,
    workers: watch::Sender<Vec<WorkerEntry>>,
) -> Result<(), BrokerError> {
    let mut roster = Roster::new(LEASE);
    let mut is_complaining = false;
    let mut was_connected = false;
    while !workers.is_closed() {
        let reason = match subscribe(&brokers, &metrics).await {
            Ok(connection) => {
                is_complaining = false;
                was_connected = true;
                roster.renew_all(Instant::now());
                follow(connection, &announcement, &mut roster, &workers).await;
                "the connection was closed".to_owned()
            }
            Err(error) if !was_connected && !error.is_temporary() => return Err(error),
            Err(error) => error.to_string(),
        };
        if !workers.is_closed() && !is_complaining {
            tracing::warn!(reason, "no roster; trying until there is one");
            is_complaining = true;
        }
        tokio::select! {
            () = sleep(RETRY_INTERVAL) => {}
            () = workers.closed() => {}
        }
    }
    Ok(())
}

async fn subscribe(
    brokers: &Brokers,
    metrics: &BrokerMetrics,
) -> Result<BrokerConnection, BrokerError> {
    let connection = brokers.connect("flotilla-gateway", metrics).await?;
    connection.broker.subscribe(&Topic::Roster, TOKEN).await?;
    query(&*connection.broker).await;
    Ok(connection)
}

/// Asks everyone to announce themselves. If that fails, they do so soon anyway.
async fn query(broker: &dyn Broker) {
    say(broker, &RosterMessage::Query).await;
}

async fn say(broker: &dyn Broker, message: &RosterMessage) {
    let Ok(message) = serde_json::to_vec(message) else {
        return;
    };
    if let Err(error) = broker.publish(&Topic::Roster, message.into()).await {
        tracing::debug!(%error, "nothing could be said on the roster");
    }
}

async fn follow(
    mut connection: BrokerConnection,
    announcement: &Announcement,
    roster: &mut Roster,
    workers: &watch::Sender<Vec<WorkerEntry>>,
) {
    let mut expiry = interval(EXPIRE_INTERVAL);
    expiry.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut batch = Vec::new();
    let mut heard = Instant::now();
    loop {
        let changed = tokio::select! {
            open = connection.events.next_batch(&mut batch) => {
                if !open {
                    return;
                }
                let mut changed = false;
                for event in batch.drain(..) {
                    match event {
                        BrokerEvent::Message { payload, .. } => {
                            let now = Instant::now();
                            if now - heard >= LEASE {
                                roster.renew_all(now);
                            }
                            heard = now;
                            changed |= hear(roster, &payload, now);
                        }
                        BrokerEvent::Reconnected => {
                            roster.renew_all(Instant::now());
                            query(&*connection.broker).await;
                        }
                        // What was missed is announced again.
                        BrokerEvent::Disconnected | BrokerEvent::Overflow { .. } => {}
                        // Announcements are in no stream.
                        BrokerEvent::StreamMessage { .. }
                        | BrokerEvent::HistoryRemoved { .. } => {}
                    }
                }
                changed
            }
            _ = expiry.tick() => {
                say(&*connection.broker, &announcement.message()).await;
                if heard.elapsed() >= ASK_AFTER {
                    query(&*connection.broker).await;
                }
                !roster.expire(heard).is_empty()
            }
            () = workers.closed() => return,
        };
        if changed {
            workers.send_replace(roster.entries().cloned().collect());
        }
    }
}

fn hear(roster: &mut Roster, payload: &[u8], now: Instant) -> bool {
    match serde_json::from_slice(payload) {
        Ok(message) => roster.apply(message, now),
        Err(error) => {
            tracing::debug!(%error, "a message on the roster that is none");
            false
        }
    }
}
