//! A broker that can be away.

use std::sync::Arc;

use async_trait::async_trait;
use flotilla_shared::broker::{
    Append, Appended, Broker, BrokerConnection, BrokerError, BrokerEvent, BrokerEvents,
    HistoryPage, HistoryQuery, Retention, StreamPosition, Topic,
};
use flotilla_shared::channel::Channel;
use tokio::sync::watch;

use super::*;

/// Says whether the broker is away. Nothing that it delivers gets lost meanwhile.
#[derive(Clone, Default)]
pub(super) struct Switch(watch::Sender<bool>);

impl Switch {
    /// The broker is away, or back.
    pub(super) fn turn(&self, is_away: bool) {
        self.0.send_replace(is_away);
    }

    pub(super) fn put_behind(&self, connection: BrokerConnection) -> BrokerConnection {
        let is_away = self.0.subscribe();
        BrokerConnection {
            broker: Arc::new(Switched {
                broker: connection.broker,
                is_away: is_away.clone(),
            }),
            events: Box::new(SwitchedEvents {
                events: connection.events,
                is_away,
            }),
        }
    }
}

struct Switched {
    broker: Arc<dyn Broker>,
    is_away: watch::Receiver<bool>,
}

impl Switched {
    fn there(&self) -> Result<&dyn Broker, BrokerError> {
        if *self.is_away.borrow() {
            return Err(BrokerError::Disconnected);
        }
        Ok(&*self.broker)
    }
}

#[async_trait]
impl Broker for Switched {
    async fn subscribe(&self, topic: &Topic, token: u64) -> Result<(), BrokerError> {
        self.there()?.subscribe(topic, token).await
    }

    fn unsubscribe(&self, token: u64) {
        self.broker.unsubscribe(token);
    }

    async fn publish(&self, topic: &Topic, payload: Bytes) -> Result<(), BrokerError> {
        self.there()?.publish(topic, payload).await
    }

    async fn append(
        &self,
        channel: &Channel,
        retention: Retention,
        append: Append,
    ) -> Result<Appended, BrokerError> {
        self.there()?.append(channel, retention, append).await
    }

    async fn history(
        &self,
        channel: &Channel,
        retention: Retention,
        query: HistoryQuery,
    ) -> Result<HistoryPage, BrokerError> {
        self.there()?.history(channel, retention, query).await
    }

    async fn ends(&self, channels: &[Channel]) -> Result<Vec<StreamPosition>, BrokerError> {
        self.there()?.ends(channels).await
    }

    async fn remove_history(&self, channel: &Channel) -> Result<(), BrokerError> {
        self.there()?.remove_history(channel).await
    }

    fn is_connected(&self) -> bool {
        self.there().is_ok()
    }
}

struct SwitchedEvents {
    events: Box<dyn BrokerEvents>,
    is_away: watch::Receiver<bool>,
}

#[async_trait]
impl BrokerEvents for SwitchedEvents {
    async fn next_batch(&mut self, batch: &mut Vec<BrokerEvent>) -> bool {
        tokio::select! {
            biased;
            more = self.events.next_batch(batch) => more,
            changed = self.is_away.changed() => {
                changed.unwrap();
                batch.push(if *self.is_away.borrow() {
                    BrokerEvent::Disconnected
                } else {
                    BrokerEvent::Reconnected
                });
                true
            }
        }
    }
}
