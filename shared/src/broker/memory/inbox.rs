//! One connection as the bus sees it: its subscriptions, and the news that wait for its listening half.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::mem;
use std::sync::Mutex;

use bytes::Bytes;
use tokio::sync::Notify;

use super::lock;
use crate::broker::{
    BATCH_BYTES_MAX, BATCH_EVENTS_MAX, BrokerError, BrokerEvent, BrokerMetrics, Stamp, Topic,
};

/// What a queued message costs beyond its payload: empty payloads must fill a queue, too.
const MESSAGE_OVERHEAD: usize = size_of::<Queued>();

/// See the module's documentation.
pub(super) struct Inbox {
    state: Mutex<State>,
    ready: Notify,
    queue_bytes: usize,
    metrics: BrokerMetrics,
}

#[derive(Default)]
struct State {
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
pub(super) struct Subscription {
    pub(super) topic: Topic,
    /// Tells this use of the token from earlier ones.
    pub(super) serial: u64,
}

struct Queued {
    token: u64,
    serial: u64,
    news: News,
}

/// What a topic's subscribers are told.
#[derive(Clone)]
pub(super) enum News {
    Message(Bytes),
    StreamMessage(Bytes, Stamp),
    HistoryRemoved(Stamp),
}

impl News {
    /// Bytes of the payload.
    fn size(&self) -> usize {
        match self {
            Self::Message(payload) | Self::StreamMessage(payload, _) => payload.len(),
            Self::HistoryRemoved(_) => 0,
        }
    }
}

impl Inbox {
    pub(super) fn new(queue_bytes: usize, metrics: &BrokerMetrics) -> Self {
        Self {
            state: Mutex::default(),
            ready: Notify::new(),
            queue_bytes,
            metrics: metrics.clone(),
        }
    }

    /// Takes `token` into use, and gives the serial number of this use.
    pub(super) fn open(&self, topic: &Topic, token: u64) -> Result<u64, BrokerError> {
        let mut state = lock(&self.state);
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
        self.metrics.subscriptions().inc();
        Ok(serial)
    }

    /// Ends the use of `token`; what is queued for it will not be delivered.
    pub(super) fn end(&self, token: u64) -> Option<Subscription> {
        let mut state = lock(&self.state);
        let subscription = state.subscriptions.remove(&token)?;
        state.dropped.remove(&token);
        self.metrics.subscriptions().dec();
        Some(subscription)
    }

    /// The tokens in use.
    pub(super) fn tokens(&self) -> Vec<u64> {
        lock(&self.state).subscriptions.keys().copied().collect()
    }

    /// Queues what there is to tell, or notes that something is missing.
    pub(super) fn offer(&self, token: u64, serial: u64, news: &News) {
        let mut state = lock(&self.state);
        if state.closed {
            return;
        }
        let cost = news.size() + MESSAGE_OVERHEAD;
        if state.queued_bytes + cost > self.queue_bytes {
            *state.dropped.entry(token).or_default() += 1;
            self.metrics.dropped(1);
        } else {
            state.queued_bytes += cost;
            state.queue.push_back(Queued {
                token,
                serial,
                news: news.clone(),
            });
        }
        drop(state);
        self.ready.notify_one();
    }

    /// Waits for something to take; `false` once nothing will ever come again.
    pub(super) async fn next_batch(&self, batch: &mut Vec<BrokerEvent>) -> bool {
        loop {
            match self.take(batch) {
                None => return false,
                Some(0) => self.ready.notified().await,
                Some(_) => return true,
            }
        }
    }

    /// Moves what is queued into `batch` and says how much that was; `None` once nothing will ever come again.
    fn take(&self, batch: &mut Vec<BrokerEvent>) -> Option<usize> {
        let mut state = lock(&self.state);
        if state.closed {
            return None;
        }
        let (mut messages, mut bytes) = (0, 0);
        while messages < BATCH_EVENTS_MAX && bytes < BATCH_BYTES_MAX {
            let Some(queued) = state.queue.pop_front() else {
                break;
            };
            let size = queued.news.size();
            state.queued_bytes -= size + MESSAGE_OVERHEAD;
            let subscription = state.subscriptions.get(&queued.token);
            if subscription.is_some_and(|live| live.serial == queued.serial) {
                messages += 1;
                bytes += size;
                batch.push(queued.into());
            }
        }
        self.metrics.received(messages, bytes);
        let dropped = mem::take(&mut state.dropped);
        let taken = messages + dropped.len();
        let overflow = |(token, dropped)| BrokerEvent::Overflow { token, dropped };
        batch.extend(dropped.into_iter().map(overflow));
        Some(taken)
    }

    pub(super) fn is_closed(&self) -> bool {
        lock(&self.state).closed
    }

    pub(super) fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        state.queue.clear();
        state.queued_bytes = 0;
        drop(state);
        self.ready.notify_one();
    }
}

impl From<Queued> for BrokerEvent {
    fn from(queued: Queued) -> Self {
        let Queued { token, news, .. } = queued;
        match news {
            News::Message(payload) => Self::Message { token, payload },
            News::StreamMessage(payload, stamp) => Self::StreamMessage {
                token,
                payload,
                stamp,
            },
            News::HistoryRemoved(stamp) => Self::HistoryRemoved { token, stamp },
        }
    }
}
