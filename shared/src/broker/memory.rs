//! The broker within one process: what an embedded fleet and most tests run on, and the adapter to read first.
//!
//! Owns the topics and one queue per connection. A message goes straight into the queues of all subscribers under one
//! lock, so that every subscriber sees a topic's messages in one and the same order. Being in memory it never loses
//! the connection.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;

use super::metrics::ConnectionGauge;
use super::{
    Append, Appended, BATCH_BYTES_MAX, BATCH_EVENTS_MAX, Broker, BrokerConnection, BrokerError,
    BrokerEvent, BrokerEvents, BrokerMetrics, HistoryPage, HistoryQuery, Retention, Topic,
};
use crate::channel::Channel;

/// Largest payload: what a NATS server takes by default, so that a fleet behaves alike on both.
const PAYLOAD_MAX: usize = 1024 * 1024;

/// Default bound of a connection's queue, in bytes.
const QUEUE_BYTES: usize = 16 * 1024 * 1024;

/// What a queued message costs beyond its payload, roughly: empty payloads must fill a queue too.
const MESSAGE_OVERHEAD: usize = 64;

/// The pub/sub system itself. Clones share it; the connections made from any of them see each other.
#[derive(Clone)]
pub struct MemoryBus(Arc<Bus>);

struct Bus {
    topics: Mutex<HashMap<Topic, Vec<Member>>>,
    queue_bytes: usize,
}

/// One subscription, as the topic sees it.
struct Member {
    inbox: Arc<Inbox>,
    token: u64,
    /// Tells this use of the token from earlier ones.
    serial: u64,
}

/// What waits for one connection's listening half.
struct Inbox {
    state: Mutex<InboxState>,
    ready: Notify,
    queue_bytes: usize,
    metrics: BrokerMetrics,
}

#[derive(Default)]
struct InboxState {
    subscriptions: HashMap<u64, Subscription>,
    last_serial: u64,
    queue: VecDeque<Queued>,
    /// Payloads plus [`MESSAGE_OVERHEAD`] each.
    queued_bytes: usize,
    /// Messages that found the queue full, by token; reported with the next batch.
    dropped: BTreeMap<u64, u64>,
    /// Either half is gone: nothing is queued any more.
    closed: bool,
}

/// One subscription, as its connection sees it.
struct Subscription {
    topic: Topic,
    serial: u64,
}

struct Queued {
    token: u64,
    serial: u64,
    payload: Bytes,
}

/// A poisoned lock means that a panic interrupted an insert or a removal, each of which leaves the data usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryBus {
    /// An empty bus with the default queue bound of 16 MiB per connection.
    #[must_use]
    pub fn new() -> Self {
        Self::with_queue_bytes(QUEUE_BYTES)
    }

    /// An empty bus whose connections queue at most about `queue_bytes` each.
    #[must_use]
    pub fn with_queue_bytes(queue_bytes: usize) -> Self {
        Self(Arc::new(Bus {
            topics: Mutex::default(),
            queue_bytes,
        }))
    }

    pub(super) fn connect(&self, metrics: &BrokerMetrics) -> BrokerConnection {
        let inbox = Arc::new(Inbox {
            state: Mutex::default(),
            ready: Notify::new(),
            queue_bytes: self.0.queue_bytes,
            metrics: metrics.clone(),
        });
        let broker = MemoryBroker {
            bus: Arc::clone(&self.0),
            inbox: Arc::clone(&inbox),
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
        let mut state = lock(&inbox.state);
        if state.closed {
            return Err(BrokerError::Closed);
        }
        if state.subscriptions.contains_key(&token) {
            return Err(BrokerError::token_in_use(token));
        }
        state.last_serial += 1;
        let serial = state.last_serial;
        state.subscriptions.insert(
            token,
            Subscription {
                topic: topic.clone(),
                serial,
            },
        );
        inbox.metrics.subscriptions().inc();
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
        let mut state = lock(&inbox.state);
        let Some(Subscription { topic, serial }) = state.subscriptions.remove(&token) else {
            return;
        };
        inbox.metrics.subscriptions().dec();
        state.dropped.remove(&token);
        if let Some(members) = topics.get_mut(&topic) {
            members.retain(|member| member.serial != serial || !Arc::ptr_eq(&member.inbox, inbox));
            if members.is_empty() {
                topics.remove(&topic);
            }
        }
    }

    /// Queues for every member under the topic lock: that is what makes the order the same for all.
    fn publish(&self, topic: &Topic, payload: &Bytes) {
        let topics = lock(&self.topics);
        for member in topics.get(topic).into_iter().flatten() {
            member.inbox.offer(member.token, member.serial, payload);
        }
    }
}

impl Inbox {
    fn offer(&self, token: u64, serial: u64, payload: &Bytes) {
        let mut state = lock(&self.state);
        if state.closed {
            return;
        }
        let cost = payload.len() + MESSAGE_OVERHEAD;
        if state.queued_bytes + cost > self.queue_bytes {
            *state.dropped.entry(token).or_default() += 1;
            self.metrics.dropped(1);
        } else {
            state.queued_bytes += cost;
            state.queue.push_back(Queued {
                token,
                serial,
                payload: payload.clone(),
            });
        }
        drop(state);
        self.ready.notify_one();
    }

    /// Moves what is queued into `batch` and says how much that was; `None` once nothing will ever come again.
    fn take(&self, batch: &mut Vec<BrokerEvent>) -> Option<usize> {
        let mut state = lock(&self.state);
        if state.closed {
            return None;
        }
        let (mut messages, mut bytes) = (0, 0);
        while messages < BATCH_EVENTS_MAX && bytes < BATCH_BYTES_MAX {
            let Some(Queued {
                token,
                serial,
                payload,
            }) = state.queue.pop_front()
            else {
                break;
            };
            state.queued_bytes -= payload.len() + MESSAGE_OVERHEAD;
            if state
                .subscriptions
                .get(&token)
                .is_some_and(|live| live.serial == serial)
            {
                messages += 1;
                bytes += payload.len();
                batch.push(BrokerEvent::Message { token, payload });
            }
        }
        self.metrics.received(messages, bytes);
        let dropped = mem::take(&mut state.dropped);
        let taken = messages + dropped.len();
        let overflow = |(token, dropped)| BrokerEvent::Overflow { token, dropped };
        batch.extend(dropped.into_iter().map(overflow));
        Some(taken)
    }

    fn is_closed(&self) -> bool {
        lock(&self.state).closed
    }

    fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        state.queue.clear();
        state.queued_bytes = 0;
        drop(state);
        self.ready.notify_one();
    }
}

/// The half that acts.
struct MemoryBroker {
    bus: Arc<Bus>,
    inbox: Arc<Inbox>,
    _gauge: ConnectionGauge,
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
        if payload.len() > PAYLOAD_MAX {
            let error = BrokerError::TooLarge {
                size: payload.len(),
                limit: PAYLOAD_MAX,
            };
            self.inbox.metrics.failed(&error);
            return Err(error);
        }
        if self.inbox.is_closed() {
            return Err(BrokerError::Closed);
        }
        self.bus.publish(topic, &payload);
        self.inbox.metrics.sent(payload.len());
        Ok(())
    }

    async fn append(&self, _: &Channel, _: Retention, _: Append) -> Result<Appended, BrokerError> {
        Err(BrokerError::no_history())
    }

    async fn history(
        &self,
        _: &Channel,
        _: Retention,
        _: HistoryQuery,
    ) -> Result<HistoryPage, BrokerError> {
        Err(BrokerError::no_history())
    }

    async fn remove_history(&self, _: &Channel) -> Result<(), BrokerError> {
        Err(BrokerError::no_history())
    }

    fn is_connected(&self) -> bool {
        !self.inbox.is_closed()
    }
}

impl Drop for MemoryBroker {
    fn drop(&mut self) {
        let tokens: Vec<u64> = lock(&self.inbox.state)
            .subscriptions
            .keys()
            .copied()
            .collect();
        for token in tokens {
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
        loop {
            match self.inbox.take(batch) {
                None => return false,
                Some(0) => self.inbox.ready.notified().await,
                Some(_) => return true,
            }
        }
    }
}

impl Drop for MemoryEvents {
    /// Without a listener nothing must be queued any more.
    fn drop(&mut self) {
        self.inbox.close();
    }
}
