//! The broker within one process: what an embedded fleet and most tests run on, and the adapter to read first.
//!
//! Owns the topics; `inbox` is the queue that each connection has, `streams` the history of all channels, made of one
//! `stream` each, with its `keys`. A message goes straight into the queues of all subscribers under one lock, so that
//! every subscriber sees a topic's messages in one and the same order. Being in memory it never loses the connection.

mod inbox;
mod keys;
mod stream;
mod streams;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use self::inbox::{Inbox, News, Subscription};
use self::streams::{Stored, Streams};
use super::metrics::ConnectionGauge;
use super::{
    Append, Appended, Broker, BrokerConnection, BrokerError, BrokerEvent, BrokerEvents,
    BrokerMetrics, HistoryPage, HistoryQuery, Retention, Stamp, StreamPosition, Topic,
};
use crate::channel::Channel;

/// Largest payload: what a NATS server takes by default, so that a fleet behaves alike on both.
const PAYLOAD_MAX: usize = 1024 * 1024;

/// How much memory a bus may use. What is counted is close to what is used, not exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimits {
    /// For the queue of one connection, in bytes. When it is full, messages are dropped, and the loss is told.
    pub queue_bytes: usize,
    /// For the streams of all channels together, in bytes. When they are full, what would expire first is dropped: the
    /// oldest publications of a channel, and in the end its numbering.
    pub history_bytes: usize,
}

impl Default for MemoryLimits {
    /// 16 MiB for each queue, 256 MiB for the streams.
    fn default() -> Self {
        Self {
            queue_bytes: 16 * 1024 * 1024,
            history_bytes: 256 * 1024 * 1024,
        }
    }
}

/// The pub/sub system itself. Clones share it; the connections made from any of them see each other.
#[derive(Clone)]
pub struct MemoryBus(Arc<Bus>);

/// Lock order: the streams, the topics, an inbox.
struct Bus {
    streams: Mutex<Streams>,
    topics: Mutex<HashMap<Topic, Vec<Member>>>,
    queue_bytes: usize,
}

/// One subscription, as the topic sees it.
struct Member {
    inbox: Arc<Inbox>,
    token: u64,
    serial: u64,
}

/// A poisoned lock means that a panic interrupted an insert or a removal, each of which leaves the data usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryBus {
    /// An empty bus with the default limits.
    #[must_use]
    pub fn new() -> Self {
        Self::with_limits(MemoryLimits::default())
    }

    /// An empty bus within these limits.
    #[must_use]
    pub fn with_limits(limits: MemoryLimits) -> Self {
        Self(Arc::new(Bus {
            streams: Mutex::new(Streams::new(limits.history_bytes)),
            topics: Mutex::default(),
            queue_bytes: limits.queue_bytes,
        }))
    }

    pub(super) fn connect(&self, metrics: &BrokerMetrics) -> BrokerConnection {
        let inbox = Arc::new(Inbox::new(self.0.queue_bytes, metrics));
        let broker = MemoryBroker {
            bus: Arc::clone(&self.0),
            inbox: Arc::clone(&inbox),
            metrics: metrics.clone(),
            _gauge: ConnectionGauge::new(metrics),
        };
        BrokerConnection {
            broker: Arc::new(broker),
            events: Box::new(MemoryEvents { inbox }),
        }
    }
}

impl Default for MemoryBus {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryBus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("MemoryBus").finish_non_exhaustive()
    }
}

impl Bus {
    fn subscribe(&self, inbox: &Arc<Inbox>, topic: &Topic, token: u64) -> Result<(), BrokerError> {
        let mut topics = lock(&self.topics);
        let serial = inbox.open(topic, token)?;
        let member = Member {
            inbox: Arc::clone(inbox),
            token,
            serial,
        };
        topics.entry(topic.clone()).or_default().push(member);
        Ok(())
    }

    fn unsubscribe(&self, inbox: &Arc<Inbox>, token: u64) {
        let mut topics = lock(&self.topics);
        let Some(Subscription { topic, serial }) = inbox.end(token) else {
            return;
        };
        if let Some(members) = topics.get_mut(&topic) {
            members.retain(|member| member.serial != serial || !Arc::ptr_eq(&member.inbox, inbox));
            if members.is_empty() {
                topics.remove(&topic);
            }
        }
    }

    /// Queues for every member under the topic lock: that is what makes the order the same for all.
    fn deliver(&self, topic: &Topic, news: &News) {
        let topics = lock(&self.topics);
        for member in topics.get(topic).into_iter().flatten() {
            member.inbox.offer(member.token, member.serial, news);
        }
    }

    /// Keeps the streams locked until all is delivered: that is what makes the order that of the offsets.
    fn append(&self, channel: &Channel, retention: Retention, append: &Append) -> Stored {
        let mut streams = lock(&self.streams);
        let stored = streams.append(channel, retention, append, Instant::now());
        if let Appended::Published(position) = stored.appended {
            let stamp = Stamp {
                position,
                previous: position.offset - 1,
            };
            let topic = Topic::Channel(channel.clone());
            let news = News::StreamMessage(append.payload.clone(), stamp);
            self.deliver(&topic, &news);
        }
        stored
    }

    /// Keeps the streams locked as an append does: who hears of it has heard of all that was removed.
    fn remove_history(&self, channel: &Channel) {
        let mut streams = lock(&self.streams);
        if let Some(stamp) = streams.clear(channel, Instant::now()) {
            let topic = Topic::Channel(channel.clone());
            self.deliver(&topic, &News::HistoryRemoved(stamp));
        }
    }
}

/// The half that acts.
struct MemoryBroker {
    bus: Arc<Bus>,
    inbox: Arc<Inbox>,
    metrics: BrokerMetrics,
    _gauge: ConnectionGauge,
}

impl MemoryBroker {
    fn check_open(&self) -> Result<(), BrokerError> {
        if self.inbox.is_closed() {
            Err(BrokerError::Closed)
        } else {
            Ok(())
        }
    }

    /// Whether a payload of this size may go out now.
    fn check(&self, size: usize) -> Result<(), BrokerError> {
        let limit = PAYLOAD_MAX;
        if size > limit {
            let error = BrokerError::TooLarge { size, limit };
            self.metrics.failed(&error);
            return Err(error);
        }
        self.check_open()
    }
}

#[async_trait]
impl Broker for MemoryBroker {
    async fn subscribe(&self, topic: &Topic, token: u64) -> Result<(), BrokerError> {
        self.bus.subscribe(&self.inbox, topic, token)
    }

    fn unsubscribe(&self, token: u64) {
        self.bus.unsubscribe(&self.inbox, token);
    }

    async fn publish(&self, topic: &Topic, payload: Bytes) -> Result<(), BrokerError> {
        self.check(payload.len())?;
        let size = payload.len();
        self.bus.deliver(topic, &News::Message(payload));
        self.metrics.sent(size);
        Ok(())
    }

    async fn append(
        &self,
        channel: &Channel,
        retention: Retention,
        append: Append,
    ) -> Result<Appended, BrokerError> {
        let size = append.payload.len();
        self.check(size)?;
        let append = Append {
            // It stays for long, and must not keep a larger buffer that it was cut from.
            payload: Bytes::copy_from_slice(&append.payload),
            ..append
        };
        let Stored { appended, evicted } = self.bus.append(channel, retention, &append);
        self.metrics.appended(&appended, size);
        self.metrics.evicted(evicted);
        Ok(appended)
    }

    async fn history(
        &self,
        channel: &Channel,
        retention: Retention,
        query: HistoryQuery,
    ) -> Result<HistoryPage, BrokerError> {
        self.check_open()?;
        let page = lock(&self.bus.streams).read(channel, retention, query, Instant::now());
        self.metrics.read(&page);
        Ok(page)
    }

    async fn ends(&self, channels: &[Channel]) -> Result<Vec<StreamPosition>, BrokerError> {
        self.check_open()?;
        let (mut streams, now) = (lock(&self.bus.streams), Instant::now());
        let ends = channels.iter().map(|channel| streams.end(channel, now));
        Ok(ends.collect())
    }

    async fn remove_history(&self, channel: &Channel) -> Result<(), BrokerError> {
        self.check_open()?;
        self.bus.remove_history(channel);
        Ok(())
    }

    fn is_connected(&self) -> bool {
        !self.inbox.is_closed()
    }
}

impl Drop for MemoryBroker {
    fn drop(&mut self) {
        for token in self.inbox.tokens() {
            self.bus.unsubscribe(&self.inbox, token);
        }
        self.inbox.close();
    }
}

/// The half that listens.
struct MemoryEvents {
    inbox: Arc<Inbox>,
}

#[async_trait]
impl BrokerEvents for MemoryEvents {
    async fn next_batch(&mut self, batch: &mut Vec<BrokerEvent>) -> bool {
        self.inbox.next_batch(batch).await
    }
}

impl Drop for MemoryEvents {
    /// Without a listener nothing must be queued any more.
    fn drop(&mut self) {
        self.inbox.close();
    }
}
