//! What is held back in a channel behind a gap, and how much of it there may be.
//!
//! Owns: the count of both bounds, of the channel and of the shard. What is held is a copy: it must not keep a whole read
//! buffer of the broker's alive.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use flotilla_shared::broker::Stamp;

/// Most bytes of what is held back in one channel, with [`OVERHEAD`] for each message.
const BYTES_MAX: usize = 256 * 1024;

/// Most bytes of what is held back in all channels of a shard.
pub(super) const SHARD_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What a message that is held back costs beyond its payload, roughly. The queue may be twice as large as what it holds.
const OVERHEAD: usize = 2 * size_of::<Message>();

/// The bytes that are held back in all channels of one shard. Clones share the count.
#[derive(Clone, Debug, Default)]
pub(super) struct HeldBytes(Rc<Cell<usize>>);

impl HeldBytes {
    fn add(&self, bytes: usize) {
        self.0.set(self.0.get() + bytes);
    }

    fn subtract(&self, bytes: usize) {
        self.0.set(self.0.get() - bytes);
    }

    pub(super) fn get(&self) -> usize {
        self.0.get()
    }
}

/// What came behind the gap, in its order.
#[derive(Debug)]
pub(super) struct Held {
    messages: VecDeque<Message>,
    bytes: usize,
    shard_bytes: HeldBytes,
}

#[derive(Debug)]
pub(super) struct Message {
    pub(super) stamp: Stamp,
    /// `None`: a removal of the history.
    pub(super) payload: Option<Bytes>,
}

impl Held {
    pub(super) fn new(shard_bytes: &HeldBytes) -> Self {
        Self {
            messages: VecDeque::new(),
            bytes: 0,
            shard_bytes: shard_bytes.clone(),
        }
    }

    pub(super) fn push(&mut self, stamp: Stamp, payload: Option<&[u8]>) {
        let bytes = OVERHEAD + payload.map_or(0, <[u8]>::len);
        self.bytes += bytes;
        self.shard_bytes.add(bytes);
        let payload = payload.map(Bytes::copy_from_slice);
        self.messages.push_back(Message { stamp, payload });
    }

    /// Whether it is more than the channel or the shard may hold.
    pub(super) fn is_too_much(&self) -> bool {
        self.bytes > BYTES_MAX || self.shard_bytes.get() > SHARD_BYTES_MAX
    }

    pub(super) fn first(&self) -> Option<Stamp> {
        self.messages.front().map(|first| first.stamp)
    }

    /// From now on whoever has taken them out is who holds them.
    pub(super) fn take(&mut self) -> VecDeque<Message> {
        self.shard_bytes.subtract(std::mem::take(&mut self.bytes));
        std::mem::take(&mut self.messages)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shard_bytes.subtract(self.bytes);
    }
}
