//! The subscriptions of one connection, and how their messages become batches.
//!
//! async-nats gives every subscription a queue of its own. Here each one has a waker of its own too, which notes the
//! token in a list: a batch then visits only the subscriptions that have something, and empties each in one go.
//! Nothing is looked up per message.
//!
//! The lock is held for as long as a batch is gathered, never across an `.await`.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use async_nats::{Message, Subscriber};
use futures_util::StreamExt;
use futures_util::task::AtomicWaker;

use super::history::{Life, Lives, Republished};
use crate::broker::{
    BATCH_BYTES_MAX, BATCH_EVENTS_MAX, BrokerError, BrokerEvent, BrokerMetrics, Stamp,
    StreamPosition,
};

/// From so many dropped messages in one batch on, any subscription may have lost some: async-nats reports each drop
/// through a queue of 128, and what does not fit there is not reported. Half of that keeps a distance.
const DROPS_TRACEABLE: u64 = 64;

/// All subscriptions of one connection.
pub(super) struct Table {
    state: Mutex<State>,
    ready: Arc<Ready>,
    metrics: BrokerMetrics,
    lives: Arc<Lives>,
}

#[derive(Default)]
struct State {
    slots: HashMap<u64, Slot>,
    last_serial: u64,
    /// `Disconnected` and `Reconnected` that the listener has not been told yet.
    untold: Vec<BrokerEvent>,
    /// Dropped messages by async-nats's subscription id.
    drops: HashMap<u64, u64>,
    closed: bool,
}

/// One token in use.
struct Slot {
    /// Tells this use of the token from earlier ones.
    serial: u64,
    /// `None` while the subscription is opening.
    flow: Option<Flow>,
}

/// A subscription that may deliver.
struct Flow {
    sid: u64,
    subscriber: Subscriber,
    bell: Arc<Bell>,
    waker: Waker,
    /// The stream that the last message was in.
    life: Option<Arc<Life>>,
}

/// The tokens whose queues may hold something, and whom to wake for them.
#[derive(Default)]
struct Ready {
    tokens: Mutex<VecDeque<u64>>,
    listener: AtomicWaker,
}

/// Rung by async-nats when a message arrives in one subscription's queue.
struct Bell {
    token: u64,
    /// Whether the token is in the list already.
    rung: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            lock(&self.ready.tokens).push_back(self.token);
            self.ready.listener.wake();
        }
    }
}

/// A poisoned lock means that a panic interrupted an insert or a removal, each of which leaves the data usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Table {
    pub(super) fn new(metrics: &BrokerMetrics, lives: Arc<Lives>) -> Self {
        Self {
            state: Mutex::default(),
            ready: Arc::default(),
            metrics: metrics.clone(),
            lives,
        }
    }

    /// Takes `token` for a subscription that is about to open.
    pub(super) fn reserve(&self, token: u64) -> Result<Reservation<'_>, BrokerError> {
        let mut state = lock(&self.state);
        if state.closed {
            return Err(BrokerError::Closed);
        }
        if state.slots.contains_key(&token) {
            return Err(BrokerError::token_in_use(token));
        }
        state.last_serial += 1;
        let serial = state.last_serial;
        state.slots.insert(token, Slot { serial, flow: None });
        self.metrics.subscriptions().inc();
        Ok(Reservation {
            table: self,
            token,
            serial,
            kept: false,
        })
    }

    /// Gives a reserved token its messages. If the reservation is gone, so is the subscription.
    pub(super) fn fill(&self, token: u64, serial: u64, sid: u64, subscriber: Subscriber) {
        let mut state = lock(&self.state);
        let Some(slot) = state
            .slots
            .get_mut(&token)
            .filter(|slot| slot.serial == serial)
        else {
            return;
        };
        let ready = Arc::clone(&self.ready);
        let bell = Arc::new(Bell {
            token,
            rung: AtomicBool::new(false),
            ready,
        });
        let waker = Waker::from(Arc::clone(&bell));
        // The first visit is what hands the waker to async-nats.
        waker.wake_by_ref();
        slot.flow = Some(Flow {
            sid,
            subscriber,
            bell,
            waker,
            life: None,
        });
    }

    /// Ends whatever uses `token`. Dropping the subscriber is what unsubscribes.
    pub(super) fn remove(&self, token: u64) {
        if lock(&self.state).slots.remove(&token).is_some() {
            self.metrics.subscriptions().dec();
        }
    }

    /// Ends this use of `token` and no later one.
    fn remove_use(&self, token: u64, serial: u64) {
        let mut state = lock(&self.state);
        if state
            .slots
            .get(&token)
            .is_some_and(|slot| slot.serial == serial)
        {
            state.slots.remove(&token);
            self.metrics.subscriptions().dec();
        }
    }

    /// Tells the listener that the connection is lost; alternates with [`tell_reconnected`](Self::tell_reconnected). If
    /// the listener has not seen the last `Reconnected` yet, that one is taken back instead: a link that flaps fills
    /// no memory.
    pub(super) fn tell_disconnected(&self) {
        let mut state = lock(&self.state);
        if state.untold.pop().is_none() {
            state.untold.push(BrokerEvent::Disconnected);
        }
        drop(state);
        self.ready.listener.wake();
    }

    /// Tells the listener that the connection is whole again.
    pub(super) fn tell_reconnected(&self) {
        lock(&self.state).untold.push(BrokerEvent::Reconnected);
        self.ready.listener.wake();
    }

    /// Notes a message that async-nats dropped because the queue of subscription `sid` was full.
    pub(super) fn note_drop(&self, sid: u64) {
        *lock(&self.state).drops.entry(sid).or_default() += 1;
        self.metrics.dropped(1);
        self.ready.listener.wake();
    }

    /// Ends all subscriptions; none can be opened any more.
    pub(super) fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        let slots = mem::take(&mut state.slots);
        drop(state);
        self.metrics
            .subscriptions()
            .sub(i64::try_from(slots.len()).unwrap_or(i64::MAX));
        self.ready.listener.wake();
    }

    /// One turn of [`crate::broker::BrokerEvents::next_batch`].
    pub(super) fn poll_batch(
        &self,
        context: &Context<'_>,
        batch: &mut Vec<BrokerEvent>,
    ) -> Poll<bool> {
        // Before looking: what rings after the look must wake us.
        self.ready.listener.register(context.waker());
        let mut state = lock(&self.state);
        if state.closed {
            return Poll::Ready(false);
        }
        let before = batch.len();
        batch.append(&mut state.untold);
        state.take_drops(batch);
        let (messages, bytes) = state.take_messages(&self.ready, &self.lives, batch);
        self.metrics.received(messages, bytes);
        if batch.len() > before {
            Poll::Ready(true)
        } else {
            Poll::Pending
        }
    }
}

impl State {
    fn take_drops(&mut self, batch: &mut Vec<BrokerEvent>) {
        if self.drops.is_empty() {
            return;
        }
        let drops = mem::take(&mut self.drops);
        let anyone = drops.values().sum::<u64>() >= DROPS_TRACEABLE;
        for (&token, slot) in &self.slots {
            let Some(flow) = &slot.flow else { continue };
            let dropped = drops.get(&flow.sid).copied().unwrap_or_default();
            if anyone || dropped > 0 {
                batch.push(BrokerEvent::Overflow { token, dropped });
            }
        }
    }

    /// Visits the subscriptions that rang; returns the number of messages taken and their bytes.
    fn take_messages(
        &mut self,
        ready: &Ready,
        lives: &Lives,
        batch: &mut Vec<BrokerEvent>,
    ) -> (usize, usize) {
        let (mut messages, mut bytes) = (0, 0);
        while messages < BATCH_EVENTS_MAX && bytes < BATCH_BYTES_MAX {
            let Some(token) = lock(&ready.tokens).pop_front() else {
                break;
            };
            let Some(flow) = self
                .slots
                .get_mut(&token)
                .and_then(|slot| slot.flow.as_mut())
            else {
                continue;
            };
            // Before looking, for the same reason as above.
            flow.bell.rung.swap(false, Ordering::AcqRel);
            let mut context = Context::from_waker(&flow.waker);
            while let Poll::Ready(Some(message)) = flow.subscriber.poll_next_unpin(&mut context) {
                messages += 1;
                bytes += message.payload.len();
                batch.push(event(token, message, &mut flow.life, lives));
                if messages >= BATCH_EVENTS_MAX || bytes >= BATCH_BYTES_MAX {
                    // To the end of the line: one busy topic must not starve the others.
                    flow.waker.wake_by_ref();
                    break;
                }
            }
        }
        (messages, bytes)
    }
}

/// What a message says. One without headers is in no stream, and costs no look at them.
fn event(token: u64, message: Message, life: &mut Option<Arc<Life>>, lives: &Lives) -> BrokerEvent {
    let payload = message.payload;
    let headers = message.headers.as_ref();
    let Some(republished) = headers.and_then(Republished::read) else {
        return BrokerEvent::Message { token, payload };
    };
    if !life
        .as_ref()
        .is_some_and(|life| life.is_named(republished.stream))
    {
        *life = lives.meet(republished.stream);
    }
    let Some(life) = life else {
        return BrokerEvent::Message { token, payload };
    };
    let offset = republished.sequence;
    life.see(offset);
    let epoch = life.epoch();
    let stamp = Stamp {
        position: StreamPosition { offset, epoch },
        previous: republished.previous,
    };
    if republished.is_removal {
        BrokerEvent::HistoryRemoved { token, stamp }
    } else {
        BrokerEvent::StreamMessage {
            token,
            payload,
            stamp,
        }
    }
}

/// A token taken for a subscription that is opening. Dropped before [`keep`](Self::keep), it gives everything back, the
/// subscription included if there is one already.
pub(super) struct Reservation<'a> {
    table: &'a Table,
    token: u64,
    serial: u64,
    kept: bool,
}

impl Reservation<'_> {
    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    /// The subscription stays. `false`: it was ended in the meantime.
    pub(super) fn keep(mut self) -> bool {
        self.kept = true;
        let state = lock(&self.table.state);
        state
            .slots
            .get(&self.token)
            .is_some_and(|slot| slot.serial == self.serial)
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.table.remove_use(self.token, self.serial);
        }
    }
}
