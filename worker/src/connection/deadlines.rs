//! When a connection has to be looked at, whatever its client does.

use std::rc::Rc;
use std::time::Instant;

use super::Connection;
use crate::closing::Ending;
use crate::link::{Due, Seat};
use crate::session::Event;

impl Connection {
    /// Called by the timer: true work only if `tick` is the one this connection is armed for.
    pub(crate) fn fired(self: &Rc<Self>, tick: u64) {
        // Behind the goodbye nothing is said: not even a ping.
        if self.armed_tick.get() != tick || self.ending.get().is_some() {
            return;
        }
        self.armed_tick.set(0);
        self.asks.tidy();
        let stalled = self.outbox.stalled_since();
        if stalled.is_some_and(|since| since.elapsed() >= self.shard.limits().write_timeout) {
            self.end(Ending::Stalled);
            return;
        }
        let seat = self.outbox.seat().and_then(Seat::deadline);
        match seat.filter(|(deadline, _)| *deadline <= Instant::now()) {
            Some((_, Due::HandOver)) => return self.hand_over(),
            Some((_, Due::End(ending))) => return self.end(ending),
            None => {}
        }
        self.notify(Event::Timer);
    }

    /// Arms the wheel for the session's next deadline, or for the outbox' if that comes first.
    pub(crate) fn arm(&self) {
        let session = self.session.borrow().next_deadline();
        let stall = self
            .outbox
            .stalled_since()
            .map(|since| since + self.shard.limits().write_timeout);
        let seat = self.outbox.seat().and_then(Seat::deadline);
        let seat = seat.map(|(deadline, _)| deadline);
        let Some(deadline) = session.into_iter().chain(stall).chain(seat).min() else {
            return;
        };
        let armed = self.armed_tick.get();
        if let Some(tick) = self.shard.arm(self.id, deadline, armed) {
            self.armed_tick.set(tick);
        }
    }
}
