//! Which connections are relayed right now, and the one order that can be given to each: to end.
//!
//! An order is a flag that the connection's task looks at whenever it wakes, plus a wake. That
//! costs an idle connection a few words and a busy one a load of its own cache line, where a watch
//! channel would take a shared lock on every message.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use futures_util::task::AtomicWaker;

/// What a connection is told to do. Later orders are stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Order {
    /// Relay.
    Carry = 0,
    /// Say goodbye to both sides (close code 1001) and end.
    GoAway = 1,
    /// End at once.
    Drop = 2,
}

/// The place where one connection finds its orders.
pub(crate) struct Control {
    order: AtomicU8,
    waker: AtomicWaker,
}

impl Control {
    /// The order that stands; `waker` is woken at the next one.
    pub(super) fn order(&self, waker: &Waker) -> Order {
        // Registered first: an order given in between is seen below or wakes.
        self.waker.register(waker);
        match self.order.load(Ordering::Acquire) {
            0 => Order::Carry,
            1 => Order::GoAway,
            _ => Order::Drop,
        }
    }

    /// Waits for the order to end at once.
    pub(super) async fn dropped(&self) {
        self.at_least(Order::Drop).await;
    }

    /// Waits for this order or a stronger one.
    async fn at_least(&self, order: Order) {
        poll_fn(|cx| {
            if self.order(cx.waker()) >= order {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Gives an order. A weaker one than that which stands is ignored.
    pub(crate) fn give(&self, order: Order) {
        if self.order.fetch_max(order as u8, Ordering::AcqRel) < order as u8 {
            self.waker.wake();
        }
    }
}

/// Every relayed connection of this gateway.
#[derive(Default)]
pub(crate) struct Registry {
    live: Mutex<Live>,
}

#[derive(Default)]
struct Live {
    next: u64,
    controls: HashMap<u64, Arc<Control>>,
}

impl Registry {
    /// Enters a connection, which is in the registry until the seat is dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> Seat {
        let control = Arc::new(Control {
            order: AtomicU8::new(Order::Carry as u8),
            waker: AtomicWaker::new(),
        });
        let mut live = self.live();
        let number = live.next;
        live.next += 1;
        live.controls.insert(number, control.clone());
        drop(live);
        Seat {
            registry: self.clone(),
            number,
            control,
        }
    }

    /// How many connections there are.
    pub(crate) fn count(&self) -> usize {
        self.live().controls.len()
    }

    /// Those connected now, in no particular order.
    pub(crate) fn controls(&self) -> Vec<Arc<Control>> {
        self.live().controls.values().cloned().collect()
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        // Nothing panics while holding it; a map of flags would be valid anyway.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's entry.
pub(crate) struct Seat {
    registry: Arc<Registry>,
    number: u64,
    control: Arc<Control>,
}

impl Seat {
    /// Where this connection finds its orders.
    pub(super) fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Waits for the order to end at once.
    pub(crate) async fn dropped(&self) {
        self.control.dropped().await;
    }

    /// Waits for any order to end.
    pub(crate) async fn told_to_go(&self) {
        self.control.at_least(Order::GoAway).await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.registry.live().controls.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_is_free_once_it_is_dropped() {
        let registry = Arc::new(Registry::default());
        let (first, second) = (registry.enter(), registry.enter());
        assert_eq!(registry.count(), 2);
        drop(first);
        assert_eq!(registry.count(), 1);
        drop(second);
        assert_eq!(registry.count(), 0);
    }

    #[test]
    fn orders_only_get_stronger() {
        let registry = Arc::new(Registry::default());
        let seat = registry.enter();
        let order = || seat.control().order(Waker::noop());
        assert_eq!(order(), Order::Carry);
        registry.controls()[0].give(Order::Drop);
        registry.controls()[0].give(Order::GoAway);
        assert_eq!(order(), Order::Drop);
    }
}
