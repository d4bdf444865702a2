//! How much memory the rings of a shard take together.
//!
//! Owns: the count, when nothing may be kept at all, and the choice of what goes when it is too much. A hand goes round
//! over the slots; whoever has answered a recovery since the hand came by last is passed over once, the others are
//! emptied. What is gone from here is read from the broker.

use std::cell::Cell;
use std::rc::Rc;

use super::{Hub, Member};

/// Most bytes of a shard's rings, between ticks.
pub(super) const RINGS_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The bytes that the rings of one shard take, and whether they may. Clones share both.
#[derive(Clone, Debug, Default)]
pub(super) struct RingBytes(Rc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    bytes: Cell<usize>,
    is_closed: Cell<bool>,
}

impl RingBytes {
    pub(super) fn add(&self, bytes: usize) {
        self.0.bytes.set(self.0.bytes.get() + bytes);
    }

    pub(super) fn subtract(&self, bytes: usize) {
        self.0.bytes.set(self.0.bytes.get() - bytes);
    }

    pub(super) fn get(&self) -> usize {
        self.0.bytes.get()
    }

    /// From now on no ring takes anything in. What they have, they keep.
    pub(super) fn close(&self) {
        self.0.is_closed.set(true);
    }

    pub(super) fn open(&self) {
        self.0.is_closed.set(false);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.is_closed.get()
    }
}

impl<M: Member> Hub<M> {
    /// Lets go of the rings of least use, if they are too much.
    pub(super) fn bound_rings(&mut self) {
        if self.ring_bytes.get() > RINGS_BYTES_MAX {
            // Some more than it takes, so that not every tick has to look for what could go.
            self.shrink_rings(RINGS_BYTES_MAX / 8 * 7);
        }
    }

    fn shrink_rings(&mut self, bytes: usize) {
        // The first time round may only find that all are in use.
        for _ in 0..2 * self.slots.len() {
            if self.ring_bytes.get() <= bytes {
                return;
            }
            self.ring_hand = (self.ring_hand + 1) % self.slots.len();
            let slot = self.slots.get_mut(self.ring_hand);
            if let Some(stream) = slot.and_then(|slot| slot.stream.as_mut())
                && !stream.ring.was_used()
            {
                stream.ring.clear();
            }
        }
    }
}
