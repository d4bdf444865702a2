//! The places of those who have connected and not said yet what they want.
//!
//! Owns: how many there are, and who gives way when all are taken. Whoever has a place for longest loses it to whoever
//! comes next, so that sockets that say nothing cannot keep clients out; but nobody loses it within [`GRACE`], so that
//! a crowd of clients that all come at once is served in the order in which they came.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};

/// How long a place is kept at least. A client says what it wants within a few round trips.
const GRACE: Duration = Duration::from_secs(1);

/// See the module's documentation. For one thread.
pub(crate) struct Handshakes {
    most: usize,
    taken: RefCell<Taken>,
    /// Somebody has left.
    left: Notify,
}

#[derive(Default)]
struct Taken {
    next: u64,
    /// Since when each place is taken, in the order in which they were; who has it hears that the sender is gone.
    places: BTreeMap<u64, (Instant, oneshot::Sender<()>)>,
}

/// A place; dropping it frees it.
pub(crate) struct Place {
    handshakes: Rc<Handshakes>,
    number: u64,
    lost: oneshot::Receiver<()>,
}

impl Handshakes {
    pub(crate) fn new(most: usize) -> Rc<Self> {
        Rc::new(Self {
            most,
            taken: RefCell::default(),
            left: Notify::new(),
        })
    }

    /// A place for who has just come. Waits for at most [`GRACE`]. Not for two at a time.
    pub(crate) async fn enter(self: &Rc<Self>) -> Place {
        while let Some(until) = self.full_until() {
            tokio::select! {
                () = self.left.notified() => {}
                () = sleep_until(until) => {
                    self.taken.borrow_mut().places.pop_first();
                }
            }
        }
        let (hold, lost) = oneshot::channel();
        let mut taken = self.taken.borrow_mut();
        let number = taken.next;
        taken.next += 1;
        taken.places.insert(number, (Instant::now(), hold));
        Place {
            handshakes: self.clone(),
            number,
            lost,
        }
    }

    /// When the first one has to give way, if all places are taken.
    fn full_until(&self) -> Option<Instant> {
        let taken = &self.taken.borrow().places;
        let (since, _) = taken.first_key_value()?.1;
        (taken.len() >= self.most).then(|| *since + GRACE)
    }
}

impl Place {
    /// Does something that needs the place; `None` if the place was lost before it was done.
    pub(crate) async fn hold<T>(mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            _ = &mut self.lost => None,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.handshakes.taken.borrow_mut();
        if taken.places.remove(&self.number).is_some() {
            self.handshakes.left.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::task::{JoinHandle, LocalSet, spawn_local};
    use tokio::time::timeout;

    use super::*;

    /// Somebody who has a place and never says anything; true once the place is lost.
    fn silent(place: Place) -> JoinHandle<bool> {
        spawn_local(async move { place.hold(pending::<()>()).await.is_none() })
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_has_been_silent_for_longest_gives_way_to_who_comes() {
        let handshakes = Handshakes::new(2);
        let test = async {
            let first = silent(handshakes.enter().await);
            let second = silent(handshakes.enter().await);
            let start = Instant::now();
            let third = handshakes.enter().await;
            assert_eq!(start.elapsed(), GRACE);
            assert!(first.await.unwrap());
            assert!(!second.is_finished());
            assert_eq!(third.hold(ready(1)).await, Some(1));
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_gives_way_to_a_crowd_that_is_served() {
        let handshakes = Handshakes::new(2);
        let most = GRACE / 2;
        let test = async {
            let start = Instant::now();
            for _ in 0..100 {
                let place = handshakes.enter().await;
                spawn_local(async move {
                    let served = place.hold(tokio::time::sleep(most)).await;
                    assert_eq!(served, Some(()));
                });
            }
            assert_eq!(start.elapsed(), most * 49);
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_was_lost_is_not_freed_again() {
        let handshakes = Handshakes::new(1);
        let lost = handshakes.enter().await;
        let taken = handshakes.enter().await;
        drop(lost);
        assert!(timeout(GRACE / 2, handshakes.enter()).await.is_err());
        drop(taken);
        assert!(timeout(GRACE / 2, handshakes.enter()).await.is_ok());
    }
}
