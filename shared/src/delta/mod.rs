//! Fossil deltas: what turns the bytes that a client has into those that it is to get.
//!
//! Owns the encoder; clients have the decoder. Knows nothing of channels or publications: who has
//! which source, and whether a delta is worth sending, is decided by the caller.
//!
//! The format is that of the Fossil version control system. A delta is the target's length and
//! `\n`, then operations, then the target's checksum and `;`. An operation is `LENGTH@OFFSET,`, a
//! copy from the source, or `LENGTH:` and as many bytes, an insertion. Numbers are written in
//! base 64 with an alphabet of Fossil's own.

mod blocks;
mod common;
#[cfg(test)]
mod tests;
mod writer;

use blocks::{BLOCK_BYTES, Blocks};
use common::{common_prefix, common_suffix};
use writer::Writer;

/// Bytes that a copy has at least. Below 16 MiB a number has four digits or fewer, so that a copy
/// takes 10 bytes, and 5 more if it splits an insertion: copying never makes a delta longer.
const COPY_BYTES_MIN: usize = BLOCK_BYTES;

/// Bytes of one UTF-8 character that may follow its first.
const CONTINUATIONS_MAX: usize = 3;

/// The delta that makes `target` out of `source`.
///
/// - Any bytes are taken. **Where `target` is UTF-8, so is the delta**: no operation begins or ends
///   within a character. A delta can therefore be sent as a JSON string, and one serves the
///   subscribers of both encodings.
/// - A delta may be longer than its target (by some 20 bytes, if the two have nothing in common):
///   then the target itself is what to send.
/// - Time grows with the two lengths added, whatever the bytes are. Memory is that of the result,
///   and at most two and a quarter times `source` while it is made.
/// - Lengths and offsets have to fit into 32 bits, because clients read them so.
pub fn fossil_delta(source: &[u8], target: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new(target);
    // Most updates change a few values in the middle: these two need no index.
    let prefix = Match {
        source: 0,
        target: 0,
        length: common_prefix(source, target),
    };
    let copied = prefix.aligned(target).filter(Match::is_worth_it);
    if let Some(prefix) = copied {
        writer.copy(prefix);
    }
    let done = writer.written();
    let suffix_length = common_suffix(source, &target[done..]);
    let suffix = Match {
        source: source.len() - suffix_length,
        target: target.len() - suffix_length,
        length: suffix_length,
    };
    let suffix = suffix.aligned(target).filter(Match::is_worth_it);
    let end = suffix.map_or(target.len(), |suffix| suffix.target);
    copy_blocks(source, &target[..end], &mut writer);
    if let Some(suffix) = suffix {
        writer.copy(suffix);
    }
    writer.finish()
}

/// Copies what can be found in `source` of `target`, from where the writer stands. `target` may be
/// shorter than the writer's, but does not end within a character.
fn copy_blocks(source: &[u8], target: &[u8], writer: &mut Writer<'_>) {
    let mut at = writer.written();
    if target.len() - at < BLOCK_BYTES || source.len() < BLOCK_BYTES {
        return;
    }
    let blocks = Blocks::of(source);
    while let Some(block) = target[at..].first_chunk() {
        let matches = blocks.matching(block);
        let longest = matches
            .map(|offset| Match::around(source, offset, target, at, writer.written()))
            .max_by_key(|found| found.length);
        match longest
            .and_then(|found| found.aligned(target))
            .filter(Match::is_worth_it)
        {
            Some(found) => {
                writer.copy(found);
                at = writer.written();
            }
            None => at += 1,
        }
    }
}

/// Bytes that source and target have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Match {
    /// Where they begin in the source.
    source: usize,
    /// Where they begin in the target.
    target: usize,
    /// How many there are.
    length: usize,
}

impl Match {
    /// The longest match that holds the bytes at `source_at` and `target_at` and begins in the
    /// target no earlier than `earliest`.
    fn around(
        source: &[u8],
        source_at: usize,
        target: &[u8],
        target_at: usize,
        earliest: usize,
    ) -> Self {
        let before = common_suffix(&source[..source_at], &target[earliest..target_at]);
        let after = common_prefix(&source[source_at..], &target[target_at..]);
        Self {
            source: source_at - before,
            target: target_at - before,
            length: before + after,
        }
    }

    /// The same match without parts of characters at its ends, if `target` is UTF-8. Of other bytes
    /// it loses no more than a character may have.
    fn aligned(self, target: &[u8]) -> Option<Self> {
        let continues = |byte: &&u8| **byte & 0b1100_0000 == 0b1000_0000;
        let matched = &target[self.target..self.target + self.length];
        let leading = matched
            .iter()
            .take(CONTINUATIONS_MAX)
            .take_while(continues)
            .count();
        // The match ends within a character if what follows it continues one.
        let following = target.get(self.target + self.length);
        let trailing = match following.filter(continues) {
            None => 0,
            Some(_) => {
                let backwards = matched.iter().rev().take(CONTINUATIONS_MAX);
                1 + backwards.take_while(continues).count()
            }
        };
        Some(Self {
            source: self.source + leading,
            target: self.target + leading,
            length: self.length.checked_sub(leading + trailing)?,
        })
    }

    fn is_worth_it(&self) -> bool {
        self.length >= COPY_BYTES_MIN
    }
}
