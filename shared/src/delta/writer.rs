//! Writes a delta, operation by operation.

use super::Match;

/// The digits, by value.
const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~";

/// Writes the delta of one target from its beginning to its end. What is not copied is inserted.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    target: &'a [u8],
    /// Bytes of the target that the operations so far make.
    written: usize,
    delta: Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(target: &'a [u8]) -> Self {
        let mut writer = Self {
            target,
            written: 0,
            delta: Vec::new(),
        };
        writer.number(target.len());
        writer.delta.push(b'\n');
        writer
    }

    /// Bytes of the target that the operations so far make.
    pub(super) fn written(&self) -> usize {
        self.written
    }

    /// Copies a match that begins no earlier than where the writer stands.
    pub(super) fn copy(&mut self, found: Match) {
        self.insert_until(found.target);
        self.number(found.length);
        self.delta.push(b'@');
        self.number(found.source);
        self.delta.push(b',');
        self.written += found.length;
    }

    /// The finished delta.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.insert_until(self.target.len());
        self.number(checksum(self.target) as usize);
        self.delta.push(b';');
        self.delta
    }

    fn insert_until(&mut self, end: usize) {
        let inserted = &self.target[self.written..end];
        if !inserted.is_empty() {
            self.number(inserted.len());
            self.delta.push(b':');
            self.delta.extend_from_slice(inserted);
            self.written = end;
        }
    }

    /// Appends a number in base 64, the most significant digit first.
    fn number(&mut self, value: usize) {
        let digits = value.checked_ilog2().unwrap_or(0) / 6;
        for place in (0..=digits).rev() {
            self.delta.push(DIGITS[value >> (6 * place) & 63]);
        }
    }
}

/// The sum of the bytes taken as big-endian words, with zeros at the end of the last.
fn checksum(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    words
        .iter()
        .chain([&last])
        .map(|word| u32::from_be_bytes(*word))
        .fold(0, u32::wrapping_add)
}
