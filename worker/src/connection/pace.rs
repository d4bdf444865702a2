//! How fast a client is read: no faster than it may send, and than it takes its answers.
//!
//! A client that is not read is held back by TCP, so nothing is refused here and nothing piles up.

use std::rc::Rc;
use std::time::Instant;

use super::Connection;

impl Connection {
    /// Counts a message of so many bytes; until when the client's next one has to wait, if it has to.
    pub(super) fn metered(&self, bytes: usize) -> Option<Instant> {
        let now = Instant::now();
        let (until, limit) = self.session.borrow_mut().received(bytes, now)?;
        self.shard.metrics().limited(limit);
        Some(until)
    }

    /// Reads nothing for a while; the connection may end meanwhile.
    pub(super) async fn pause(self: &Rc<Self>, until: Instant) {
        self.session.borrow_mut().hold_up();
        self.while_listening(tokio::time::sleep_until(until.into()))
            .await;
        self.session.borrow_mut().go_on(Instant::now());
    }

    /// Whether the client has to take some of its answers, with so many bytes more to come, before it gets others.
    /// Half of its queue is for what channels deliver meanwhile.
    pub(super) fn is_behind(&self, answers: usize) -> bool {
        let most = self.shard.limits().outbox_max_bytes / 2;
        answers > 0 && (answers > most || self.outbox.has_beyond(most - answers))
    }

    /// Waits until the socket has taken enough of what is queued.
    pub(super) async fn room(self: &Rc<Self>) {
        let most = self.shard.limits().outbox_max_bytes / 2;
        while self.is_listening() && self.outbox.has_beyond(most) {
            self.arm();
            tokio::select! {
                writable = self.outbox.writable() => {
                    if writable.is_err() || self.outbox.flush().is_err() {
                        self.outbox.shut();
                    }
                }
                () = self.outbox.woken() => {}
            }
        }
    }
}
