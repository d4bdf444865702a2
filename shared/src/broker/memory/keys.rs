//! The idempotency keys of one stream, oldest first.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::time::Instant;

use super::stream::after;
use crate::broker::IDEMPOTENCY_WINDOW;

/// Most keys that one stream remembers. When there are more, the oldest is forgotten before its time: its repetition
/// would then be appended once more.
pub(super) const KEYS_MAX: usize = 16 * 1024;

/// What a key costs beyond its text, roughly: it is in two collections.
const KEY_OVERHEAD: usize = 128;

/// The keys, each with the offset of its publication.
#[derive(Debug, Default)]
pub(super) struct Keys {
    offsets: HashMap<Arc<str>, u64>,
    /// When each came.
    order: VecDeque<(Instant, Arc<str>)>,
    bytes: usize,
}

impl Keys {
    /// The offset that `key` was given. The empty key is none.
    pub(super) fn get(&self, key: &str) -> Option<u64> {
        self.offsets.get(key).copied()
    }

    /// Remembers a new key, unless it is the empty one.
    pub(super) fn insert(&mut self, key: &str, offset: u64, now: Instant) {
        if key.is_empty() {
            return;
        }
        if self.order.len() == KEYS_MAX {
            self.drop_first();
        }
        let key = Arc::<str>::from(key);
        self.bytes += key.len() + KEY_OVERHEAD;
        self.offsets.insert(Arc::clone(&key), offset);
        self.order.push_back((now, key));
    }

    /// When the oldest key's time is over.
    pub(super) fn due(&self) -> Option<Instant> {
        let (came, _) = self.order.front()?;
        Some(after(*came, IDEMPOTENCY_WINDOW))
    }

    /// Forgets the oldest key.
    pub(super) fn drop_first(&mut self) {
        let Some((_, key)) = self.order.pop_front() else {
            return;
        };
        self.bytes -= key.len() + KEY_OVERHEAD;
        self.offsets.remove(&key);
        if self.order.capacity() / 4 > self.order.len() {
            self.order.shrink_to(self.order.capacity() / 2);
            self.offsets.shrink_to(self.offsets.capacity() / 2);
        }
    }

    /// What all of them cost in memory, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.offsets.capacity().max(self.order.capacity())
    }
}
