//! What the hub does where nobody asks it to: continuity that is lost, waiting that is in vain, channels that are empty.

use std::time::Instant;

use bytes::BytesMut;
use flotilla_shared::broker::Stamp;
use flotilla_shared::channel::Channel;

use super::patience::Waiting;
use super::repair::Gap;
use super::slot::State;
use super::stream::{Continuity, Stream};
use super::{Fanout, Hub, LINGER, Member, Settled, slot_of};

impl<M: Member> Hub<M> {
    /// What has been settled since this was asked last. To be looked at after every tick, after [`Hub::fetched`] and
    /// after [`Hub::sweep`], before anything else is delivered.
    pub(crate) fn take_settled(&mut self) -> Vec<Settled<M>> {
        std::mem::take(&mut self.settled)
    }

    pub(super) fn linger_if_empty(&mut self, token: u64, now: Instant) {
        if let Some((_, slot)) = slot_of(&mut self.slots, token)
            && slot.is_empty()
            && matches!(slot.state, State::Live)
        {
            slot.state = State::Lingering { since: now };
            slot.roll = None;
            self.lingering.push_back((now, token));
        }
    }

    /// The channel of this subscription, while there is one.
    pub(crate) fn channel(&mut self, token: u64) -> Option<Channel> {
        slot_of(&mut self.slots, token)?.1.channel.clone()
    }

    /// The broker dropped messages of this subscription. Like [`Hub::receive`], a part of a tick.
    pub(crate) fn overflowed(&mut self, token: u64) {
        let Some((_, slot)) = slot_of(&mut self.slots, token) else {
            return;
        };
        if let State::Opening { is_doubtful, .. } = &mut slot.state {
            *is_doubtful = true;
        } else if let Some(stream) = &mut slot.stream
            && stream.doubt(false)
        {
            self.doubted.push_back(token);
        }
    }

    /// Messages of this channel are lost for good, and it is not known which.
    pub(super) fn lose(&mut self, token: u64) {
        let slot = slot_of(&mut self.slots, token).map(|(_, slot)| slot);
        if let Some(stream) = slot.and_then(|slot| slot.stream.as_mut()) {
            stream.fail_recovering();
            if stream.doubt(true) {
                self.doubted.push_back(token);
            }
            self.lose_continuity(token);
        }
    }

    /// The history of this subscription's channel was removed. Like [`Hub::receive`], a part of a tick.
    pub(crate) fn history_removed(
        &mut self,
        token: u64,
        stamp: Stamp,
        scratch: &mut BytesMut,
        fanout: &mut Fanout,
        now: Instant,
    ) {
        let slot = slot_of(&mut self.slots, token).map(|(_, slot)| slot);
        if slot.is_some_and(|slot| slot.must_hold(stamp, now)) {
            self.hold(token, stamp, None, scratch, fanout, now);
        } else {
            self.take_removal(token, stamp, now);
        }
    }

    /// What a removal means for those who have followed the stream so far, if nothing has to come before it.
    pub(super) fn take_removal(&mut self, token: u64, stamp: Stamp, now: Instant) {
        let Some((index, slot)) = slot_of(&mut self.slots, token) else {
            return;
        };
        match (&slot.state, &mut slot.stream) {
            // Nobody has followed it yet.
            (State::Opening { .. }, stream) => {
                let rings = &self.ring_bytes;
                let stream =
                    stream.get_or_insert_with(|| Box::new(Stream::at(stamp.position, rings, now)));
                stream.removed(stamp, now);
            }
            (_, Some(stream)) => match stream.removed(stamp, now) {
                // Someone may have waited for it.
                Continuity::Next => slot.touch(index, &mut self.dirty),
                Continuity::Repeated => {}
                Continuity::Broken => self.lose_continuity(token),
            },
            // To this worker's mind the channel has no history.
            (_, None) => {}
        }
    }

    /// The connection to the broker is lost. Until it is back nobody tells what is removed, so that nothing is given out
    /// of the shard's own memory: neither what is there, nor what still comes of what was on its way.
    pub(crate) fn disconnected(&mut self) {
        self.ring_bytes.close();
        let streams = self
            .slots
            .iter_mut()
            .filter_map(|slot| slot.stream.as_mut());
        streams.for_each(|stream| stream.ring.clear());
    }

    /// Tells everyone who relied on getting everything; those who wait are told at the end of the tick.
    pub(super) fn lose_continuity(&mut self, token: u64) {
        if let Some((index, slot)) = slot_of(&mut self.slots, token) {
            let told = slot.lose_continuity(&mut self.settled);
            if let Some(channel) = &slot.channel
                && told > 0
            {
                self.gaps_seen.push((channel.clone(), Gap::Unrecoverable));
            }
            self.subscriptions -= told;
            // Where nobody is left who wants to know, nobody notes any more who leaves.
            self.rolls.keep(index, slot);
            self.emptied.push(token);
            slot.touch(index, &mut self.dirty);
        }
    }

    /// To be called now and then, between ticks: gives up on what the broker does not deliver, and lets go of the
    /// channels that have been empty for [`LINGER`]; returns the tokens to unsubscribe.
    pub(crate) fn sweep(&mut self, now: Instant) -> Vec<u64> {
        for token in self.later_gaps.drain(..) {
            self.gaps.push(token);
        }
        self.look_around(now);
        self.look_after_the_waiting(now);
        for token in std::mem::take(&mut self.emptied) {
            self.linger_if_empty(token, now);
        }
        let mut left = Vec::new();
        while let Some(&(since, token)) = self.lingering.front() {
            if now.saturating_duration_since(since) < LINGER {
                break;
            }
            self.lingering.pop_front();
            if let Some((index, slot)) = slot_of(&mut self.slots, token)
                && matches!(slot.state, State::Lingering { since: began } if began == since)
            {
                self.release(index);
                left.push(token);
            }
        }
        left
    }

    fn look_after_the_waiting(&mut self, now: Instant) {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.sort_unstable();
        waiting.dedup();
        for token in waiting {
            let slot = slot_of(&mut self.slots, token).map(|(_, slot)| slot);
            let stream = slot.and_then(|slot| slot.stream.as_mut());
            match stream.and_then(|stream| stream.look_at_the_time(now)) {
                // It may be on its way; if not, it can be read.
                Some(Waiting::Yet) => {
                    self.waiting.push(token);
                    self.read_on(token, now);
                }
                Some(Waiting::InVain) => self.lose(token),
                None => {}
            }
        }
        // Between ticks there are no frames: this lets in those whose waiting was in vain.
        self.flush(&mut Fanout::default(), now);
    }
}
