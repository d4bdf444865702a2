//! What a link has still to write.
//!
//! Owns: the bytes between everybody who says something on a link and the task that writes. Never waits; what becomes too
//! much ends the link, since a gateway that does not take it would make this worker keep it for all of its clients.

use std::cell::{Cell, RefCell};

use bytes::{Bytes, BytesMut};
use flotilla_shared::link::{ToGateway, append};
use tokio::sync::Notify;

/// Most bytes that may wait, and the message that exceeds them.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// When so much waits, what clients have asked for is not answered yet: one client's answers must not end the link for
/// all.
const ANSWERS_MAX_BYTES: usize = 8 * 1024 * 1024;

/// A buffer of this size is kept for what is said next; the memory of a larger one is given back.
const KEPT_BYTES: usize = 64 * 1024;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    buffer: RefCell<BytesMut>,
    /// Of what was taken to be written, what the socket has not taken yet.
    unwritten: Cell<usize>,
    is_closed: Cell<bool>,
    is_stalled: Cell<bool>,
    news: Notify,
    /// The socket has taken something, or the link is closed.
    progress: Notify,
}

impl Outgoing {
    /// Appends a message. Nothing is kept once the link is closed.
    pub(super) fn say(&self, message: &ToGateway) {
        if self.is_closed.get() {
            return;
        }
        let mut buffer = self.buffer.borrow_mut();
        let is_first = buffer.is_empty();
        append(message, &mut buffer);
        if buffer.len() + self.unwritten.get() > MAX_BYTES {
            self.is_stalled.set(true);
            drop(buffer);
            self.close();
        } else if is_first {
            self.news.notify_one();
        }
    }

    /// Everything that was said since this was asked last, once there is something; `None`: the link is closed.
    /// Cancel-safe.
    pub(super) async fn take(&self) -> Option<Bytes> {
        while !self.is_closed.get() {
            if let Some(taken) = self.gathered() {
                return Some(taken);
            }
            self.news.notified().await;
        }
        None
    }

    /// Resolves when the link is closed. Cancel-safe.
    pub(super) async fn closed(&self) {
        while !self.is_closed.get() {
            self.news.notified().await;
        }
    }

    fn gathered(&self) -> Option<Bytes> {
        let mut buffer = self.buffer.borrow_mut();
        if buffer.is_empty() {
            return None;
        }
        let taken = buffer.split().freeze();
        if taken.len() > KEPT_BYTES {
            *buffer = BytesMut::new();
        }
        self.unwritten.set(taken.len());
        Some(taken)
    }

    /// The socket has taken so much more.
    pub(super) fn wrote(&self, bytes: usize) {
        self.unwritten
            .set(self.unwritten.get().saturating_sub(bytes));
        self.progress.notify_waiters();
    }

    /// Takes nothing more, and forgets what was not written.
    pub(super) fn close(&self) {
        self.is_closed.set(true);
        *self.buffer.borrow_mut() = BytesMut::new();
        self.news.notify_one();
        self.progress.notify_waiters();
    }

    /// Whether answers have to wait.
    pub(super) fn is_behind(&self) -> bool {
        !self.is_closed.get() && self.waiting_bytes() > ANSWERS_MAX_BYTES
    }

    /// Resolves when they have not. Cancel-safe.
    pub(super) async fn caught_up(&self) {
        while self.is_behind() {
            self.progress.notified().await;
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.get()
    }

    /// Whether it was closed because the gateway took too little.
    pub(super) fn is_stalled(&self) -> bool {
        self.is_stalled.get()
    }

    /// Bytes that the socket has not taken yet.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.buffer.borrow().len() + self.unwritten.get()
    }
}

#[cfg(test)]
mod tests {
    use flotilla_shared::link::{Cast, ForGateway};

    use super::*;

    fn cast(bytes: usize) -> ToGateway {
        ForGateway::Cast(Cast {
            topic: 1,
            offset: None,
            frames: vec![0; bytes].into(),
        })
        .into()
    }

    #[tokio::test]
    async fn what_gathered_is_taken_at_once() {
        let outgoing = Outgoing::default();
        for _ in 0..3 {
            outgoing.say(&cast(10));
        }
        let taken = outgoing.take().await.unwrap();
        assert_eq!(outgoing.waiting_bytes(), taken.len());
        outgoing.wrote(taken.len());
        assert_eq!(outgoing.waiting_bytes(), 0);
    }

    #[tokio::test]
    async fn answers_wait_until_the_gateway_has_taken_enough() {
        let outgoing = Outgoing::default();
        outgoing.say(&cast(ANSWERS_MAX_BYTES));
        assert!(outgoing.is_behind());
        let taken = outgoing.take().await.unwrap();
        assert!(outgoing.is_behind());
        let write = async { outgoing.wrote(taken.len()) };
        tokio::join!(outgoing.caught_up(), write);
        assert!(!outgoing.is_behind());
    }

    #[tokio::test]
    async fn a_gateway_that_takes_nothing_loses_its_link() {
        let outgoing = Outgoing::default();
        outgoing.say(&cast(MAX_BYTES / 2));
        // What is being written counts.
        outgoing.take().await.unwrap();
        assert!(!outgoing.is_closed());
        outgoing.say(&cast(MAX_BYTES / 2));
        assert!(outgoing.is_stalled());
        assert_eq!(outgoing.take().await, None);
        outgoing.say(&cast(10));
        assert_eq!(outgoing.buffer.borrow().capacity(), 0);
    }
}
