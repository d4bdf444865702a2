//! A channel's stream as this shard has followed it.
//!
//! Owns: the position, and the decision whether a message continues it. Whoever is told nothing can rely on that.

use std::time::Instant;

use flotilla_shared::broker::{Stamp, StreamPosition};

use super::doubt::Doubt;
use super::recovery::Recovering;
use super::repair::Repair;
use super::ring::Ring;
use super::room::RingBytes;

#[derive(Debug)]
pub(super) struct Stream<M> {
    /// What is up to here has been delivered; what is behind it will be.
    pub(super) position: StreamPosition,
    /// Ends at `position`, or is empty.
    pub(super) ring: Ring,
    /// Messages may be missing without one behind them that shows it: the broker has to be asked where the stream ends.
    pub(super) doubt: Option<Doubt>,
    /// Members to be, who get nothing yet.
    pub(super) recovering: Vec<Recovering<M>>,
    /// What is behind `position` is being read.
    pub(super) repair: Option<Box<Repair>>,
    /// What is behind `position` was asked for, and could not be read.
    pub(super) is_unreadable: bool,
    /// Whether anything new came since the hub looked for quiet channels.
    pub(super) was_heard: bool,
}

/// How a message relates to what came before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Continuity {
    /// It is the next one.
    Next,
    /// It was here before.
    Repeated,
    /// Something between is missing, or this is another life of the stream.
    Broken,
}

impl<M> Stream<M> {
    pub(super) fn at(position: StreamPosition, rings: &RingBytes) -> Self {
        Self {
            position,
            ring: Ring::new(rings),
            doubt: None,
            recovering: Vec::new(),
            repair: None,
            was_heard: false,
            is_unreadable: false,
        }
    }

    /// Begins with a message before the end of the stream is known.
    pub(super) fn seen(stamp: Stamp, payload: &[u8], rings: &RingBytes, now: Instant) -> Self {
        let mut stream = Self::at(stamp.position, rings);
        stream.restart(stamp, payload, now);
        stream
    }

    /// Moves on to a message, unless it is a repeated one.
    pub(super) fn follow(&mut self, stamp: Stamp, payload: &[u8], now: Instant) -> Continuity {
        let here = self.position;
        let continuity = self.continuity(stamp);
        self.was_heard |= continuity != Continuity::Repeated;
        match continuity {
            Continuity::Next => {}
            Continuity::Repeated => return continuity,
            Continuity::Broken => {
                self.restart(stamp, payload, now);
                return continuity;
            }
        }
        // Not the stamp's own idea of what came before: that is 0 if everything has aged out.
        let offset = stamp.position.offset;
        self.ring.push(here.offset, offset, payload, now);
        self.position = stamp.position;
        self.is_unreadable = false;
        Continuity::Next
    }

    pub(super) fn continuity(&self, stamp: Stamp) -> Continuity {
        let here = self.position;
        if stamp.position.epoch != here.epoch || stamp.previous > here.offset {
            Continuity::Broken
        } else if stamp.position.offset <= here.offset {
            Continuity::Repeated
        } else {
            Continuity::Next
        }
    }

    fn restart(&mut self, stamp: Stamp, payload: &[u8], now: Instant) {
        self.move_to(stamp.position);
        // 0 may also say that everything before has aged out.
        if stamp.previous > 0 {
            let offset = stamp.position.offset;
            self.ring.push(stamp.previous, offset, payload, now);
        }
    }

    /// Goes on from somewhere else.
    pub(super) fn move_to(&mut self, position: StreamPosition) {
        if position.epoch == self.position.epoch {
            self.ring.clear();
        } else {
            self.ring.restart();
        }
        self.position = position;
        self.is_unreadable = false;
    }

    /// Moves on to a removal of the channel's history, unless it is a repeated one.
    pub(super) fn removed(&mut self, stamp: Stamp) -> Continuity {
        let continuity = self.continuity(stamp);
        match continuity {
            Continuity::Next => self.position = stamp.position,
            Continuity::Repeated => {}
            Continuity::Broken => self.move_to(stamp.position),
        }
        self.ring.remove_until(stamp.position.offset);
        continuity
    }

    /// Learns where the stream ended when the broker had confirmed the subscription, before anyone follows it.
    pub(super) fn ended_at(&mut self, end: StreamPosition) {
        if end.epoch != self.position.epoch || end.offset > self.position.offset {
            self.move_to(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use flotilla_shared::broker::Epoch;

    use super::*;

    fn position(epoch: u64, offset: u64) -> StreamPosition {
        StreamPosition {
            offset,
            epoch: Epoch(epoch),
        }
    }

    #[test]
    fn every_message_continues_repeats_or_breaks_the_stream() {
        let check = |epoch, previous, offset, expected, after| {
            let mut stream = Stream::<()>::at(position(1, 5), &RingBytes::default());
            let stamp = Stamp {
                position: position(epoch, offset),
                previous,
            };
            let continuity = stream.follow(stamp, b"x", Instant::now());
            assert_eq!(continuity, expected, "{stamp:?}");
            assert_eq!(stream.position, after, "{stamp:?}");
        };
        check(1, 5, 6, Continuity::Next, position(1, 6));
        check(1, 5, 9, Continuity::Next, position(1, 9));
        check(1, 0, 9, Continuity::Next, position(1, 9));
        check(1, 4, 5, Continuity::Repeated, position(1, 5));
        check(1, 0, 1, Continuity::Repeated, position(1, 5));
        check(1, 6, 7, Continuity::Broken, position(1, 7));
        check(2, 5, 6, Continuity::Broken, position(2, 6));
        check(2, 0, 1, Continuity::Broken, position(2, 1));
    }
}
