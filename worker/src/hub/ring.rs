//! The latest publications of one channel's stream, so that most recoveries ask nobody.
//!
//! Owns: an unbroken piece of the stream that ends where the stream is followed to. Bounded, and holds copies: a few
//! bytes kept here must not keep a whole read buffer of the broker's alive.
//!
//! It forgets what the broker forgets: what is beyond the channel's size or time to live, and what was removed. The time
//! counts from the arrival here, so that a publication is gone from the broker first, by as long as it was on its way.

use std::cell::Cell;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flotilla_shared::broker::{Retention, StoredPublication};

use super::room::RingBytes;

/// Most publications kept.
const ENTRIES_MAX: usize = 64;

/// Most bytes kept.
const BYTES_MAX: usize = 64 * 1024;

/// What a publication costs beyond its payload, roughly. The queue may be twice as large as what it holds.
const ENTRY_OVERHEAD: usize = 2 * size_of::<Entry>();

#[derive(Debug)]
pub(super) struct Ring {
    entries: VecDeque<Entry>,
    /// Payloads plus [`ENTRY_OVERHEAD`] each.
    bytes: usize,
    /// The bytes of all rings of this shard, these included.
    shard_bytes: RingBytes,
    /// Whether it has answered since somebody looked.
    was_used: Cell<bool>,
    /// Most publications that the channel keeps, as far as they fit here.
    size: usize,
    /// How long the channel keeps one.
    ttl: Duration,
    /// The publications up to this one are not kept any more, also those that are still to come.
    removed: u64,
}

#[derive(Debug)]
struct Entry {
    /// Where the stream stood before this publication.
    before: u64,
    came: Instant,
    publication: StoredPublication,
}

impl Ring {
    /// Keeps what fits, until the channel's retention is known.
    pub(super) fn new(shard_bytes: &RingBytes) -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            shard_bytes: shard_bytes.clone(),
            was_used: Cell::new(false),
            size: ENTRIES_MAX,
            ttl: Duration::MAX,
            removed: 0,
        }
    }

    /// From now on, keeps no more than the channel does.
    pub(super) fn retain(&mut self, retention: Retention) {
        let size = usize::try_from(retention.size).unwrap_or(ENTRIES_MAX);
        self.size = size.clamp(1, ENTRIES_MAX);
        self.ttl = retention.ttl;
        self.trim();
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.entries = VecDeque::new();
        self.shard_bytes.subtract(std::mem::take(&mut self.bytes));
    }

    /// Forgets everything, and begins with another life of the stream.
    pub(super) fn restart(&mut self) {
        self.clear();
        self.removed = 0;
    }

    /// Forgets the publications up to this one.
    pub(super) fn remove_until(&mut self, offset: u64) {
        self.removed = self.removed.max(offset);
        while self.oldest().is_some_and(|oldest| oldest <= offset) {
            self.drop_oldest();
        }
    }

    /// Adds what comes right behind the newest entry, and lets go of the oldest; of all, if this cannot be added.
    pub(super) fn push(&mut self, before: u64, offset: u64, payload: &[u8], now: Instant) {
        let cost = cost(payload);
        if cost > BYTES_MAX || self.shard_bytes.is_closed() {
            return self.clear();
        }
        if offset <= self.removed {
            return;
        }
        self.bytes += cost;
        self.shard_bytes.add(cost);
        self.entries.push_back(Entry {
            before,
            came: now,
            publication: StoredPublication {
                offset,
                payload: Bytes::copy_from_slice(payload),
            },
        });
        self.trim();
    }

    /// Everything behind `offset`; `None` if some of it is not here.
    pub(super) fn since(
        &self,
        offset: u64,
        now: Instant,
    ) -> Option<impl Iterator<Item = &StoredPublication>> {
        let mut kept = self.kept(now).peekable();
        let oldest = kept.peek()?;
        // Where nothing was known to be before it, there may have been something that had been forgotten. Whoever has that
        // may lack what came behind it.
        let reaches_back = match oldest.before {
            0 => offset == 0 || oldest.publication.offset <= offset,
            before => before <= offset,
        };
        self.was_used.set(reaches_back || self.was_used.get());
        let publications = kept.map(|entry| &entry.publication);
        reaches_back
            .then(|| publications.skip_while(move |publication| publication.offset <= offset))
    }

    pub(super) fn newest(&self, now: Instant) -> Option<&StoredPublication> {
        let newest = self.kept(now).last()?;
        self.was_used.set(true);
        Some(&newest.publication)
    }

    /// Whether it has answered since this was asked last.
    pub(super) fn was_used(&self) -> bool {
        self.was_used.take()
    }

    /// What has not outlived its time.
    fn kept(&self, now: Instant) -> impl Iterator<Item = &Entry> {
        let is_over = move |entry: &&Entry| now.saturating_duration_since(entry.came) >= self.ttl;
        self.entries.iter().skip_while(is_over)
    }

    fn trim(&mut self) {
        while self.entries.len() > self.size || self.bytes > BYTES_MAX {
            self.drop_oldest();
        }
    }

    fn oldest(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.publication.offset)
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.entries.pop_front() {
            let cost = cost(&oldest.publication.payload);
            self.bytes -= cost;
            self.shard_bytes.subtract(cost);
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.shard_bytes.subtract(self.bytes);
    }
}

fn cost(payload: &[u8]) -> usize {
    payload.len() + ENTRY_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(ring: &Ring, since: u64, now: Instant) -> Option<Vec<u64>> {
        let publications = ring.since(since, now)?;
        Some(publications.map(|publication| publication.offset).collect())
    }

    fn filled(offsets: &[(u64, u64)], now: Instant) -> Ring {
        let mut ring = Ring::new(&RingBytes::default());
        for (before, offset) in offsets {
            ring.push(*before, *offset, b"x", now);
        }
        ring
    }

    #[test]
    fn it_gives_everything_behind_an_offset_or_nothing() {
        let now = Instant::now();
        assert_eq!(offsets(&filled(&[], now), 0, now), None);
        let ring = filled(&[(3, 5), (5, 6), (6, 9)], now);
        assert_eq!(offsets(&ring, 2, now), None);
        assert_eq!(offsets(&ring, 3, now).unwrap(), [5, 6, 9]);
        assert_eq!(offsets(&ring, 6, now).unwrap(), [9]);
        assert_eq!(offsets(&ring, 9, now).unwrap(), [0; 0]);
    }

    #[test]
    fn behind_what_had_been_forgotten_it_proves_nothing() {
        let now = Instant::now();
        let ring = filled(&[(0, 5), (5, 6)], now);
        assert_eq!(offsets(&ring, 0, now).unwrap(), [5, 6]);
        assert_eq!(offsets(&ring, 4, now), None);
        assert_eq!(offsets(&ring, 5, now).unwrap(), [6]);
    }

    #[test]
    fn it_holds_so_many_publications_and_so_many_bytes() {
        let now = Instant::now();
        let mut ring = filled(&[], now);
        for offset in 1..=1000 {
            ring.push(offset - 1, offset, b"x", now);
        }
        let kept = offsets(&ring, 1000 - ENTRIES_MAX as u64, now).unwrap();
        assert_eq!(kept.len(), ENTRIES_MAX);
        assert_eq!(offsets(&ring, 999 - ENTRIES_MAX as u64, now), None);
        let half = vec![0; BYTES_MAX / 2 - ENTRY_OVERHEAD];
        for offset in 1001..=1003 {
            ring.push(offset - 1, offset, &half, now);
        }
        assert_eq!(offsets(&ring, 1001, now).unwrap(), [1002, 1003]);
        assert_eq!(offsets(&ring, 1000, now), None);
        ring.push(1003, 1004, &vec![0; BYTES_MAX], now);
        assert_eq!(
            ring.newest(now),
            None,
            "what follows would hide that one is missing"
        );
    }

    #[test]
    fn it_keeps_no_more_and_for_no_longer_than_the_channel_does() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut ring = filled(&[(0, 1), (1, 2), (2, 3)], start);
        ring.retain(Retention {
            size: 2,
            ttl: Duration::from_secs(10),
            meta_ttl: Duration::from_secs(100),
        });
        assert_eq!(offsets(&ring, 0, start), None);
        assert_eq!(offsets(&ring, 1, start).unwrap(), [2, 3]);
        ring.push(3, 4, b"x", after(5));
        assert_eq!(offsets(&ring, 2, after(9)).unwrap(), [3, 4]);
        assert_eq!(offsets(&ring, 2, after(10)), None);
        assert_eq!(offsets(&ring, 3, after(10)).unwrap(), [4]);
        assert!(ring.newest(after(14)).is_some());
        assert!(ring.newest(after(15)).is_none());
    }

    #[test]
    fn what_was_removed_is_not_given_out_whenever_it_comes() {
        let now = Instant::now();
        let mut ring = filled(&[(0, 1), (1, 2), (2, 3)], now);
        ring.remove_until(2);
        assert_eq!(offsets(&ring, 1, now), None);
        assert_eq!(offsets(&ring, 2, now).unwrap(), [3]);
        ring.remove_until(5);
        ring.push(3, 4, b"x", now);
        ring.push(4, 5, b"x", now);
        assert_eq!(ring.newest(now), None);
        ring.push(5, 6, b"x", now);
        assert_eq!(offsets(&ring, 4, now), None);
        assert_eq!(offsets(&ring, 5, now).unwrap(), [6]);
        ring.restart();
        ring.push(0, 1, b"x", now);
        assert_eq!(
            offsets(&ring, 0, now).unwrap(),
            [1],
            "this life has not lost it"
        );
    }
}
