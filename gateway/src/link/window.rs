//! What a client has said and no worker has acknowledged yet: numbered for the session's whole life, in order, and bounded.

use std::collections::VecDeque;

use bytes::Bytes;
use flotilla_shared::link::{UNACKED_MAX, UNACKED_MAX_BYTES};

/// One message of the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Numbered {
    pub(super) number: u64,
    pub(super) payload: Bytes,
}

/// See the module's documentation. An empty one has no heap memory.
#[derive(Debug, Default)]
pub(super) struct Window {
    kept: VecDeque<Numbered>,
    bytes: usize,
    /// The number of the last message that came.
    last: u64,
    /// The number of the last message that the session's worker has been given.
    given: u64,
}

impl Window {
    /// Whether the client is not to be read until something is acknowledged.
    pub(super) fn is_full(&self) -> bool {
        let first = self.kept.front().map_or(0, |first| first.payload.len());
        self.kept.len() >= UNACKED_MAX || self.bytes - first >= UNACKED_MAX_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Keeps a message, and gives it its number.
    pub(super) fn push(&mut self, payload: Bytes) {
        self.last += 1;
        self.bytes += payload.len();
        self.kept.push_back(Numbered {
            number: self.last,
            payload,
        });
    }

    /// Another worker has been given nothing yet.
    pub(super) fn begin_anew(&mut self) {
        self.given = 0;
    }

    /// What the worker can be given now, in order; from now on it has been. A worker takes no more than [`UNACKED_MAX_BYTES`]
    /// beyond the first message, and the last one that was read may be beyond that: it waits for an acknowledgement.
    pub(super) fn give(&mut self) -> Vec<Numbered> {
        let mut given = Vec::new();
        let first = self.kept.front().map_or(0, |first| first.payload.len());
        let mut bytes = 0;
        for kept in &self.kept {
            bytes += kept.payload.len();
            if bytes - first > UNACKED_MAX_BYTES {
                break;
            }
            if kept.number > self.given {
                self.given = kept.number;
                given.push(kept.clone());
            }
        }
        given
    }

    /// Forgets a message. False if the worker cannot know it.
    pub(super) fn acknowledge(&mut self, number: u64) -> bool {
        if number == 0 || number > self.given {
            return false;
        }
        // Nearly always the first one. One that is not kept was acknowledged by the worker before.
        if let Ok(at) = self.kept.binary_search_by_key(&number, |kept| kept.number)
            && let Some(gone) = self.kept.remove(at)
        {
            self.bytes -= gone.payload.len();
        }
        if self.kept.is_empty() {
            self.kept = VecDeque::new();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(window: &mut Window) -> Vec<u64> {
        let given = window.give();
        given.iter().map(|message| message.number).collect()
    }

    #[test]
    fn numbers_go_on_and_what_is_acknowledged_is_gone() {
        let mut window = Window::default();
        for _ in 0..3 {
            window.push(Bytes::from_static(b"x"));
        }
        assert_eq!(given(&mut window), [1, 2, 3]);
        assert!(window.acknowledge(2));
        window.push(Bytes::new());
        assert_eq!(given(&mut window), [4]);
        window.begin_anew();
        assert_eq!(given(&mut window), [1, 3, 4]);
        // Again, which another worker may say.
        assert!(window.acknowledge(2));
        for number in [1, 3, 4] {
            assert!(window.acknowledge(number));
        }
        assert!(window.is_empty());
        window.push(Bytes::new());
        assert_eq!(given(&mut window), [5]);
    }

    #[test]
    fn what_was_never_given_cannot_be_acknowledged() {
        let mut window = Window::default();
        window.push(Bytes::new());
        assert!(!window.acknowledge(1));
        window.give();
        assert!(window.acknowledge(1));
        assert!(!window.acknowledge(0) && !window.acknowledge(2));
    }

    #[test]
    fn it_is_bounded_in_messages_and_in_bytes_beyond_the_first() {
        let mut window = Window::default();
        window.push(Bytes::from(vec![0; 2 * UNACKED_MAX_BYTES]));
        assert!(!window.is_full());
        window.push(Bytes::from(vec![0; UNACKED_MAX_BYTES]));
        assert!(window.is_full());
        assert_eq!(given(&mut window), [1, 2]);
        window.acknowledge(1);
        assert!(!window.is_full());
        for _ in 1..UNACKED_MAX {
            assert!(!window.is_full());
            window.push(Bytes::new());
        }
        assert!(window.is_full());
    }

    #[test]
    fn what_a_worker_would_not_take_waits_for_an_acknowledgement() {
        let mut window = Window::default();
        window.push(Bytes::from_static(b"x"));
        window.push(Bytes::from(vec![0; UNACKED_MAX_BYTES - 1]));
        assert!(!window.is_full());
        window.push(Bytes::from(vec![0; UNACKED_MAX_BYTES]));
        assert!(window.is_full());
        assert_eq!(given(&mut window), [1, 2]);
        assert!(!window.acknowledge(3));
        assert!(window.acknowledge(2));
        assert_eq!(given(&mut window), [3]);
    }
}
