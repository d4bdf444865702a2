//! What a client must not see yet: a channel that came with the connect command may deliver before another one is open,
//! and so before the client knows that it is connected.

use std::cell::RefCell;

use bytes::Bytes;

/// Frames that are held back; nothing, and no memory, except while a connect command is being answered.
#[derive(Debug, Default)]
pub(super) struct Held(RefCell<Option<Box<Frames>>>);

#[derive(Debug, Default)]
struct Frames {
    frames: Vec<Bytes>,
    bytes: usize,
}

impl Held {
    /// Holds back from now on.
    pub(super) fn begin(&self) {
        self.0.borrow_mut().get_or_insert_default();
    }

    pub(super) fn is_begun(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Keeps `frames`, unless more than `max_bytes` would be kept.
    pub(super) fn hold(&self, frames: &Bytes, max_bytes: usize) -> bool {
        let mut held = self.0.borrow_mut();
        let Some(held) = held.as_mut() else {
            return false;
        };
        held.bytes += frames.len();
        let fits = held.bytes <= max_bytes;
        if fits {
            held.frames.push(frames.clone());
        }
        fits
    }

    /// Holds nothing back any more; returns what was, in its order.
    pub(super) fn end(&self) -> Vec<Bytes> {
        self.0
            .borrow_mut()
            .take()
            .map_or_else(Vec::new, |held| held.frames)
    }
}
