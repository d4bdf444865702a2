//! The latest publications of one channel's stream, so that most recoveries ask nobody.
//!
//! Owns: an unbroken piece of the stream that ends where the stream is followed to. Bounded, and holds copies: a few
//! bytes kept here must not keep a whole read buffer of the broker's alive.

use std::collections::VecDeque;

use bytes::Bytes;
use flotilla_shared::broker::StoredPublication;

/// Most publications kept.
const ENTRIES_MAX: usize = 64;

/// Most payload bytes kept.
const BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(super) struct Ring {
    entries: VecDeque<Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    /// Where the stream stood before this publication.
    before: u64,
    publication: StoredPublication,
}

impl Ring {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Adds what comes right behind the newest entry, and lets go of the oldest.
    pub(super) fn push(&mut self, before: u64, offset: u64, payload: &[u8]) {
        if payload.len() > BYTES_MAX {
            return self.clear();
        }
        self.bytes += payload.len();
        self.entries.push_back(Entry {
            before,
            publication: StoredPublication {
                offset,
                payload: Bytes::copy_from_slice(payload),
            },
        });
        while self.entries.len() > ENTRIES_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.entries.pop_front() else {
                break;
            };
            self.bytes -= oldest.publication.payload.len();
        }
    }

    /// Everything behind `offset`; `None` if some of it is not here.
    pub(super) fn since(&self, offset: u64) -> Option<impl Iterator<Item = &StoredPublication>> {
        let reaches_back = self.entries.front()?.before <= offset;
        let publications = self.entries.iter().map(|entry| &entry.publication);
        reaches_back
            .then(|| publications.skip_while(move |publication| publication.offset <= offset))
    }

    pub(super) fn newest(&self) -> Option<&StoredPublication> {
        self.entries.back().map(|entry| &entry.publication)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(ring: &Ring, since: u64) -> Option<Vec<u64>> {
        let publications = ring.since(since)?;
        Some(publications.map(|publication| publication.offset).collect())
    }

    #[test]
    fn it_gives_everything_behind_an_offset_or_nothing() {
        let mut ring = Ring::default();
        assert_eq!(offsets(&ring, 0), None);
        for (before, offset) in [(3, 5), (5, 6), (6, 9)] {
            ring.push(before, offset, b"x");
        }
        assert_eq!(offsets(&ring, 2), None);
        assert_eq!(offsets(&ring, 3).unwrap(), [5, 6, 9]);
        assert_eq!(offsets(&ring, 6).unwrap(), [9]);
        assert_eq!(offsets(&ring, 9).unwrap(), [0; 0]);
    }

    #[test]
    fn it_holds_so_many_publications_and_so_many_bytes() {
        let mut ring = Ring::default();
        for offset in 1..=1000 {
            ring.push(offset - 1, offset, b"x");
        }
        assert_eq!(offsets(&ring, 1000 - ENTRIES_MAX as u64).unwrap().len(), 64);
        assert_eq!(offsets(&ring, 999 - ENTRIES_MAX as u64), None);
        let half = vec![0; BYTES_MAX / 2];
        for offset in 1001..=1003 {
            ring.push(offset - 1, offset, &half);
        }
        assert_eq!(offsets(&ring, 1001).unwrap(), [1002, 1003]);
        assert_eq!(offsets(&ring, 1000), None);
        ring.push(1003, 1004, &vec![0; BYTES_MAX + 1]);
        assert_eq!(
            ring.newest(),
            None,
            "what follows would hide that one is missing"
        );
    }
}
