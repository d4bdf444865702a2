//! The lives of streams, as far as this process knows them.
//!
//! Owns: which stream stands for which partition now, and the highest sequence that was seen in each life. A stream
//! that is behind what was seen of it has lost its storage, and does not count as the same life. All connections of a
//! process share this knowledge, and look after the streams one at a time: see `settle`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use super::format;
use crate::broker::Epoch;

/// Most lives that are remembered. Streams seldom begin anew; more of them are no history of ours.
const LIVES_MAX: usize = 64 * 1024;

/// One life of one stream.
#[derive(Debug)]
pub(in crate::broker::nats) struct Life {
    /// The stream's name, which no other life has.
    pub(super) name: String,
    /// What clients are told.
    pub(super) epoch: Epoch,
    seen: AtomicU64,
    is_lost: AtomicBool,
}

/// The stream of a partition.
#[derive(Debug, Clone)]
pub(super) struct Current {
    pub(super) life: Arc<Life>,
    /// The smallest size that this life has had: a channel with no more publications than that has lost none to it.
    pub(super) size_min: u64,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(in crate::broker) struct Lives {
    by_name: RwLock<HashMap<String, Arc<Life>>>,
    /// By namespace and partition.
    current: RwLock<HashMap<String, HashMap<u32, Current>>>,
    /// Since when it is not sure any more that these are the streams.
    doubt: Mutex<Option<Instant>>,
    /// When somebody last began to look after the streams and came to the end of it. Who holds it looks after them.
    pub(super) settled: tokio::sync::Mutex<Option<Instant>>,
}

/// A poisoned lock means that a panic interrupted an insert or a removal, each of which leaves the data usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Life {
    /// Notes that this sequence was given to a message.
    pub(in crate::broker::nats) fn see(&self, sequence: u64) {
        self.seen.fetch_max(sequence, Ordering::Relaxed);
    }

    /// The highest sequence that was seen.
    pub(super) fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// What this life had is gone, although the stream still has its name.
    pub(super) fn lose(&self) {
        self.is_lost.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }

    pub(in crate::broker::nats) fn is_named(&self, name: &str) -> bool {
        self.name == name
    }

    pub(in crate::broker::nats) fn epoch(&self) -> Epoch {
        self.epoch
    }
}

impl Lives {
    /// The life of the stream with this name; `None` if it is no stream of ours.
    pub(in crate::broker::nats) fn meet(&self, name: &str) -> Option<Arc<Life>> {
        let known = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(life) = known.get(name) {
            return Some(Arc::clone(life));
        }
        drop(known);
        let (_, epoch) = format::read_name(name)?;
        let mut known = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= LIVES_MAX {
            return None;
        }
        let life = known.entry(name.to_owned()).or_insert_with(|| {
            Arc::new(Life {
                name: name.to_owned(),
                epoch,
                seen: AtomicU64::new(0),
                is_lost: AtomicBool::new(false),
            })
        });
        Some(Arc::clone(life))
    }

    /// Highest sequence seen by name, now.
    pub(super) fn seen(&self) -> HashMap<String, u64> {
        let known = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        let seen = known.iter().map(|(name, life)| (name.clone(), life.seen()));
        seen.collect()
    }

    /// The stream of a partition, if one is known.
    pub(super) fn current(&self, namespace: &str, partition: u32) -> Option<Current> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.get(namespace)?.get(&partition).cloned()
    }

    /// From now on, these are the streams of a namespace.
    pub(super) fn set(&self, namespace: &str, partitions: HashMap<u32, Current>) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        current.insert(namespace.to_owned(), partitions);
    }

    /// Something happened in which streams may have been lost: nothing is taken for granted any more.
    pub(super) fn doubt(&self) {
        *lock(&self.doubt) = Some(Instant::now());
    }

    /// Since when they have to be looked after.
    pub(super) fn doubted(&self) -> Option<Instant> {
        *lock(&self.doubt)
    }

    /// They have been looked after by someone who began at this time.
    pub(super) fn trust(&self, began: Instant) {
        let mut doubt = lock(&self.doubt);
        if doubt.is_some_and(|doubted| doubted <= began) {
            *doubt = None;
        }
    }
}
