//! A session that moves from worker to worker, at both ends.

use std::time::Instant;

use super::Connection;
use crate::closing::Ending;
use crate::fleet::MovedSession;
use crate::link::Seat;
use crate::session::Origin;

impl Connection {
    /// The session has been attached elsewhere, for the time with this number. It is not here any more if it was attached
    /// here before that. One that is not on a link cannot have moved.
    pub(crate) fn moved(&self, generation: u32) {
        let own = self.session.borrow().generation();
        if !(1..generation).contains(&own) {
            return;
        }
        match self.outbox.seat() {
            Some(seat) if seat.is_let_go(Instant::now()) => self.arm(),
            _ => self.end(Ending::Moved),
        }
    }

    /// The gateway may take the session elsewhere.
    pub(super) fn hand_over(&self) {
        if let Some(seat) = self.outbox.seat() {
            seat.hand_over(Instant::now());
            self.outbox.orphan();
        }
    }

    /// Whether another worker has the session, which is listed here only for those who do not know that yet.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.outbox.seat().is_some_and(Seat::is_elsewhere)
    }

    /// Whether the session counts elsewhere: it was handed over, or another worker has it.
    pub(crate) fn counts_elsewhere(&self) -> bool {
        let seat = self.outbox.seat();
        seat.is_some_and(|seat| seat.is_handed_over() || seat.is_elsewhere())
    }

    /// Whether the session is on its way to another worker, or there.
    pub(crate) fn is_leaving(&self) -> bool {
        self.outbox.seat().is_some_and(Seat::is_silent)
    }

    /// The session is here, in all its channels.
    pub(super) fn arrived(&self, origin: Origin) {
        let session = self.session.borrow();
        let moved = MovedSession {
            client: session.client().to_string(),
            user: session.user().to_owned(),
            generation: session.generation(),
        };
        self.shard.moved(origin, moved);
    }
}
