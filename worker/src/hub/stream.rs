//! A channel's stream as this shard has followed it.
//!
//! Owns: the position, and the decision whether a message continues it. Whoever is told nothing can rely on that.

use std::time::{Duration, Instant};

use flotilla_shared::broker::{Retention, Stamp, StreamPosition};

use super::doubt::Doubt;
use super::recovery::Recovering;
use super::repair::Repair;
use super::ring::Ring;
use super::room::RingBytes;

#[derive(Debug)]
pub(super) struct Stream<M> {
    /// What is up to here has been delivered; what is behind it will be.
    pub(super) position: StreamPosition,
    /// When it was known last that nothing was behind `position`.
    proved: Instant,
    /// How long the broker remembers of what it has stored that it was there.
    memory: Duration,
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
    /// Something between is missing, or may be; or this is another life of the stream.
    Broken,
}

impl<M> Stream<M> {
    /// Nobody has been promised anything of what is before `position`.
    pub(super) fn at(position: StreamPosition, rings: &RingBytes, now: Instant) -> Self {
        Self {
            position,
            proved: now,
            memory: Duration::MAX,
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
        let mut stream = Self::at(stamp.position, rings, now);
        stream.restart(stamp, payload, now);
        stream
    }

    /// Moves on to a message, unless it is a repeated one.
    pub(super) fn follow(&mut self, stamp: Stamp, payload: &[u8], now: Instant) -> Continuity {
        let continuity = self.continuity(stamp, now);
        self.was_heard |= continuity != Continuity::Repeated;
        match continuity {
            Continuity::Next => self.advance(stamp.position, payload, now),
            Continuity::Repeated => {}
            Continuity::Broken => self.restart(stamp, payload, now),
        }
        continuity
    }

    pub(super) fn continuity(&self, stamp: Stamp, now: Instant) -> Continuity {
        let here = self.position;
        let offset = stamp.position.offset;
        if stamp.position.epoch != here.epoch || stamp.previous > here.offset {
            Continuity::Broken
        } else if offset <= here.offset {
            Continuity::Repeated
        } else if stamp.previous == 0 && offset > 1 && !self.is_certain(now) {
            Continuity::Broken
        } else {
            Continuity::Next
        }
    }

    /// Whether nothing can have come behind `position` and be forgotten again: a message that says that nothing kept is
    /// before it (0, also if there was something) follows it then, and an end before `position` is no loss.
    ///
    /// The broker forgets nothing before its time, which is `memory`. So what came after the last proof is still there
    /// as long as that proof is younger, whatever was lost on the way here, and what comes next would name it. Half of the
    /// time is for the proof's own way: a message's, also while it was held back, or an answer's. Quiet streams are proved
    /// anew twice a minute, so that this holds for them as well. In doubt it is not relied on: the history may have been
    /// purged by hand meanwhile, which does not wait for any time to pass.
    pub(super) fn is_certain(&self, now: Instant) -> bool {
        !self.is_doubtful() && self.is_fresh(now)
    }

    /// Whether the last proof is young enough: see [`Stream::is_certain`].
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.proved) < self.memory / 2
    }

    /// Nothing is behind `position` at this time.
    pub(super) fn prove(&mut self, now: Instant) {
        self.proved = now;
    }

    /// How much of the channel is kept, and for how long.
    pub(super) fn retain(&mut self, retention: Retention) {
        self.memory = retention.meta_ttl;
        self.ring.retain(retention);
    }

    /// Moves on to a message of which it is known that it is the next one.
    pub(super) fn advance(&mut self, to: StreamPosition, payload: &[u8], now: Instant) {
        // Not the stamp's own idea of what came before: that is 0 if everything has aged out.
        self.ring
            .push(self.position.offset, to.offset, payload, now);
        self.position = to;
        self.is_unreadable = false;
        self.prove(now);
    }

    fn restart(&mut self, stamp: Stamp, payload: &[u8], now: Instant) {
        self.move_to(stamp.position, now);
        // 0 may also say that everything before has aged out.
        if stamp.previous > 0 {
            let offset = stamp.position.offset;
            self.ring.push(stamp.previous, offset, payload, now);
        }
    }

    /// Goes on from somewhere else.
    pub(super) fn move_to(&mut self, position: StreamPosition, now: Instant) {
        if position.epoch == self.position.epoch {
            self.ring.clear();
        } else {
            self.ring.restart();
        }
        self.position = position;
        self.is_unreadable = false;
        self.prove(now);
    }

    /// Moves on to a removal of the channel's history, unless it is a repeated one.
    pub(super) fn removed(&mut self, stamp: Stamp, now: Instant) -> Continuity {
        let continuity = self.continuity(stamp, now);
        match continuity {
            Continuity::Next => {
                self.position = stamp.position;
                self.prove(now);
            }
            Continuity::Repeated => {}
            Continuity::Broken => self.move_to(stamp.position, now),
        }
        self.ring.remove_until(stamp.position.offset);
        continuity
    }

    /// Learns where the stream ended when the broker had confirmed the subscription, before anyone follows it.
    pub(super) fn ended_at(&mut self, end: StreamPosition, now: Instant) {
        if end.epoch != self.position.epoch || end.offset > self.position.offset {
            self.move_to(end, now);
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
    fn that_nothing_is_before_a_message_is_believed_while_it_is_certain() {
        let retention = Retention {
            size: 1,
            ttl: Duration::from_secs(1),
            meta_ttl: Duration::from_secs(100),
        };
        let check = |seconds, is_in_doubt, offset, expected| {
            let now = Instant::now();
            let mut stream = Stream::<()>::at(position(1, 0), &RingBytes::default(), now);
            stream.retain(retention);
            if is_in_doubt {
                assert!(stream.doubt(false));
            }
            let stamp = Stamp {
                position: position(1, offset),
                previous: 0,
            };
            let continuity = stream.continuity(stamp, now + Duration::from_secs(seconds));
            assert_eq!(continuity, expected, "{seconds} {is_in_doubt} {offset}");
        };
        check(49, false, 9, Continuity::Next);
        check(50, false, 9, Continuity::Broken);
        check(0, true, 9, Continuity::Broken);
        // Nothing can be before the first one of all.
        check(50, true, 1, Continuity::Next);
    }

    #[test]
    fn every_message_continues_repeats_or_breaks_the_stream() {
        let check = |epoch, previous, offset, expected, after| {
            let now = Instant::now();
            let mut stream = Stream::<()>::at(position(1, 5), &RingBytes::default(), now);
            let stamp = Stamp {
                position: position(epoch, offset),
                previous,
            };
            let continuity = stream.follow(stamp, b"x", now);
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
