//! One channel's stream: its publications, its numbering, and what else it remembers.
//!
//! Time is an argument. Offsets are dense, and what is dropped is dropped from the old end, so the publications that
//! are kept are always the last ones: how many there are says whether anything behind an offset is missing. A removal of
//! the history takes an offset without a publication, and leaves nothing before it.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::keys::Keys;
use crate::broker::{
    Append, Appended, Epoch, HistoryPage, HistoryQuery, Retention, Stamp, StoredPublication,
    StreamPosition,
};

/// What a stream costs in memory when it is empty, roughly: itself, and its places in the collections of the bus.
const STREAM_OVERHEAD: usize = 512;

/// What a publication costs beyond its payload, roughly. Collections may be twice as large as what they hold.
const PUBLICATION_OVERHEAD: usize = 2 * size_of::<Publication>();

/// Later than anything happens, and still a time that the clock can express.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// One stream. Its retention is that of the last call about it.
#[derive(Debug)]
pub(super) struct Stream {
    epoch: Epoch,
    retention: Retention,
    /// The offset of the last publication that was ever appended, or of the removal behind it.
    last: u64,
    last_came: Instant,
    /// The offset of the last removal; 0: none.
    removal: u64,
    /// Those with the offsets up to `last`, none of them before `removal`.
    publications: VecDeque<Publication>,
    payload_bytes: usize,
    keys: Keys,
    /// The newest version, and the epoch it belongs to; 0: none.
    version: u64,
    version_epoch: String,
}

#[derive(Debug)]
struct Publication {
    came: Instant,
    payload: Bytes,
}

/// What a stream can lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Publication,
    Key,
    /// Nothing else is left: the stream is to be forgotten.
    Numbering,
}

/// The time when something that came at `time` is over.
pub(super) fn after(time: Instant, duration: Duration) -> Instant {
    time.checked_add(duration.min(FAR)).unwrap_or(time)
}

impl Stream {
    /// A stream without publications.
    pub(super) fn new(epoch: Epoch, retention: Retention, now: Instant) -> Self {
        Self {
            epoch,
            retention,
            last: 0,
            last_came: now,
            removal: 0,
            publications: VecDeque::new(),
            payload_bytes: 0,
            keys: Keys::default(),
            version: 0,
            version_epoch: String::new(),
        }
    }

    /// A key that is remembered decides before the version does. One that came with an outdated version is not kept.
    pub(super) fn append(&mut self, append: &Append, now: Instant) -> Appended {
        if let Some(offset) = self.keys.get(&append.idempotency_key) {
            return Appended::Repeated(self.position(offset));
        }
        if append.version > 0 {
            if append.version <= self.version && append.version_epoch == self.version_epoch {
                return Appended::Outdated(self.end());
            }
            self.version = append.version;
            self.version_epoch.clone_from(&append.version_epoch);
        }
        self.last += 1;
        self.last_came = now;
        self.payload_bytes += append.payload.len();
        self.publications.push_back(Publication {
            came: now,
            payload: append.payload.clone(),
        });
        self.keys.insert(&append.idempotency_key, self.last, now);
        self.trim();
        Appended::Published(self.end())
    }

    /// What is asked for, of all that has not been dropped.
    pub(super) fn read(&self, query: HistoryQuery) -> HistoryPage {
        let kept = self.publications.len();
        // The place in the queue of what has this offset, or would have it.
        let before = self.last - kept as u64;
        let index = |offset: u64| {
            let behind = offset.saturating_sub(before + 1);
            usize::try_from(behind).map_or(kept, |behind| behind.min(kept))
        };
        let (start, end) = match query.since {
            None => (0, kept),
            Some(since) if query.reverse => (0, index(since)),
            Some(since) => (index(since.saturating_add(1)), kept),
        };
        let stored = |(index, publication): (usize, &Publication)| StoredPublication {
            offset: before + 1 + (start + index) as u64,
            payload: publication.payload.clone(),
        };
        let found = self.publications.range(start..end).enumerate();
        let publications = if query.reverse {
            found.rev().take(query.limit).map(stored).collect()
        } else {
            found.take(query.limit).map(stored).collect()
        };
        // Whoever has seen all that a removal removed has missed nothing.
        let first = before - u64::from(before > 0 && before == self.removal);
        let nothing_dropped = |since| !query.reverse && (first..=self.last).contains(&since);
        HistoryPage {
            publications,
            end: self.end(),
            is_complete: query.since.is_some_and(nothing_dropped) && end - start <= query.limit,
        }
    }

    /// Forgets the publications, and says where that stands; `None` if none has come since the last time.
    pub(super) fn clear(&mut self, now: Instant) -> Option<Stamp> {
        if self.last == self.removal {
            return None;
        }
        self.publications = VecDeque::new();
        self.payload_bytes = 0;
        let previous = self.last;
        self.last += 1;
        self.last_came = now;
        self.removal = self.last;
        let position = self.end();
        Some(Stamp { position, previous })
    }

    /// From now on, keeps what `retention` says.
    pub(super) fn retain(&mut self, retention: Retention) {
        self.retention = retention;
        self.trim();
    }

    /// Drops what is over; whether anything is left then.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        while self.due() <= now {
            if self.drop_first() == Part::Numbering {
                return false;
            }
        }
        true
    }

    /// When the next part of it goes. The numbering goes last, whenever its own time is over.
    pub(super) fn due(&self) -> Instant {
        let first = [self.publication_due(), self.keys.due()];
        let first = first.into_iter().flatten().min();
        first.unwrap_or_else(|| after(self.last_came, self.retention.meta_ttl))
    }

    /// Drops the part that is due first, and says what it was.
    pub(super) fn drop_first(&mut self) -> Part {
        match (self.publication_due(), self.keys.due()) {
            (Some(publication), key) if key.is_none_or(|key| publication <= key) => {
                self.drop_oldest();
                Part::Publication
            }
            (_, Some(_)) => {
                self.keys.drop_first();
                Part::Key
            }
            _ => Part::Numbering,
        }
    }

    /// What it costs in memory, roughly, without the channel's name.
    pub(super) fn bytes(&self) -> usize {
        STREAM_OVERHEAD
            + self.payload_bytes
            + self.publications.len() * PUBLICATION_OVERHEAD
            + self.keys.bytes()
            + self.version_epoch.len()
    }

    fn publication_due(&self) -> Option<Instant> {
        let oldest = self.publications.front()?;
        Some(after(oldest.came, self.retention.ttl))
    }

    fn position(&self, offset: u64) -> StreamPosition {
        StreamPosition {
            offset,
            epoch: self.epoch,
        }
    }

    /// Where it ends.
    pub(super) fn end(&self) -> StreamPosition {
        self.position(self.last)
    }

    fn trim(&mut self) {
        let size = self.retention.size.max(1) as usize;
        while self.publications.len() > size {
            self.drop_oldest();
        }
    }

    /// Gives memory back, too, once most of it is unused.
    fn drop_oldest(&mut self) {
        if let Some(publication) = self.publications.pop_front() {
            self.payload_bytes -= publication.payload.len();
        }
        let capacity = self.publications.capacity();
        if capacity / 4 > self.publications.len() {
            self.publications.shrink_to(capacity / 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::IDEMPOTENCY_WINDOW;

    #[test]
    fn a_stream_that_shrank_gives_its_memory_back() {
        let retention = Retention {
            size: 10_000,
            ttl: Duration::from_secs(10),
            meta_ttl: Duration::from_secs(3600),
        };
        let now = Instant::now();
        let mut stream = Stream::new(Epoch(1), retention, now);
        let empty = stream.bytes();
        for number in 0..10_000 {
            let append = Append {
                idempotency_key: number.to_string(),
                ..Append::default()
            };
            stream.append(&append, now);
        }
        assert!(stream.publications.capacity() >= 10_000 && stream.keys.capacity() >= 10_000);
        assert!(stream.expire(now + IDEMPOTENCY_WINDOW));
        let (publications, keys) = (stream.publications.capacity(), stream.keys.capacity());
        assert!(publications < 16 && keys < 16, "{publications}, {keys}");
        assert_eq!(stream.bytes(), empty);
    }
}
