//! Chunks of bytes in a row, shared with other rows.
//!
//! One chunk, which is what a client that keeps up has at most, takes no heap memory.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem;

use bytes::{Buf as _, Bytes};

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Empty if there is nothing at all.
    front: Bytes,
    rest: VecDeque<Bytes>,
    bytes: usize,
    /// A part of the front chunk has gone, so that it begins in the middle of a frame.
    front_is_cut: bool,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.front.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn chunks(&self) -> usize {
        usize::from(!self.is_empty()) + self.rest.len()
    }

    pub(super) fn front(&self) -> &[u8] {
        &self.front
    }

    /// Adds a chunk at the end. An empty one is none.
    pub(super) fn push(&mut self, chunk: Bytes) {
        self.bytes += chunk.len();
        if self.is_empty() {
            self.front = chunk;
        } else if !chunk.is_empty() {
            self.rest.push_back(chunk);
        }
    }

    /// Puts the chunks into `slices`, as many as there is room for; how many these are.
    pub(super) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let chunks = std::iter::once(&self.front).chain(&self.rest);
        let filled = slices.iter_mut().zip(chunks);
        filled
            .map(|(slice, chunk)| *slice = IoSlice::new(chunk))
            .count()
    }

    /// The first `count` bytes have gone.
    pub(super) fn taken(&mut self, mut count: usize) {
        self.bytes -= count.min(self.bytes);
        while count >= self.front.len() && !self.is_empty() {
            count -= self.front.len();
            self.next();
        }
        if count > 0 && !self.is_empty() {
            self.front.advance(count);
            self.front_is_cut = true;
        }
    }

    fn next(&mut self) {
        self.front_is_cut = false;
        self.front = self.rest.pop_front().unwrap_or_default();
        if self.rest.is_empty() {
            self.rest = VecDeque::new();
        }
    }

    /// Drops everything but the rest of a chunk whose beginning has gone.
    pub(super) fn keep_what_has_begun(&mut self) {
        let front = mem::take(&mut self.front);
        let is_cut = self.front_is_cut;
        *self = Self::default();
        if is_cut {
            self.push(front);
            self.front_is_cut = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_is_taken_the_rest_stays_in_order(
            chunks in vec(vec(any::<u8>(), 0..6), 0..8),
            takes in vec(0_usize..9, 0..12),
        ) {
            let mut queue = Queue::default();
            let mut model: VecDeque<u8> = VecDeque::new();
            for chunk in &chunks {
                queue.push(Bytes::copy_from_slice(chunk));
                model.extend(chunk);
            }
            for take in takes {
                let take = take.min(model.len());
                queue.taken(take);
                model.drain(..take);
                let mut slices = [IoSlice::new(&[]); 16];
                let used = queue.slices(&mut slices);
                let left: Vec<u8> = slices[..used].iter().flat_map(|slice| slice.to_vec()).collect();
                prop_assert_eq!(&left, &Vec::from(model.clone()));
                prop_assert_eq!(queue.bytes(), left.len());
                prop_assert_eq!(queue.is_empty(), left.is_empty());
            }
        }
    }

    #[test]
    fn only_what_has_begun_to_leave_is_kept() {
        let mut queue = Queue::default();
        queue.push(Bytes::from_static(b"abc"));
        queue.push(Bytes::from_static(b"def"));
        queue.taken(1);
        queue.keep_what_has_begun();
        assert_eq!((queue.front(), queue.bytes()), (&b"bc"[..], 2));
        queue.keep_what_has_begun();
        assert_eq!(queue.front(), b"bc");
        let mut queue = Queue::default();
        queue.push(Bytes::from_static(b"abc"));
        queue.keep_what_has_begun();
        assert!(queue.is_empty() && queue.bytes() == 0);
    }
}
