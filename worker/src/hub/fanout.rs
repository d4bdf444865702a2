//! Fan-out by tick: what the broker delivered in one wake-up is encoded once per channel and group into one buffer,
//! and the same bytes are written to each member.
//!
//! Owns: the encoding of what happens in a channel into frames, and the order of one tick. Knows nothing of who the
//! members are.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use flotilla_shared::broker::Stamp;
use flotilla_shared::channel::Channel;
use flotilla_shared::protocol::types::{Push, Reply};
use prost::Message as _;

use super::forms::{Form, Forms};
use super::recovery::place;
use super::room::RingBytes;
use super::slot::{Slot, State};
use super::stream::{Continuity, Stream};
use super::{Hub, Member, Mode, slot_of, token_of};

/// A group's frames are written out when they reach this size, even within a tick, so that one busy channel cannot
/// make a buffer of any size.
const TICK_MAX_BYTES: usize = 128 * 1024;

/// What one tick did, for the metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fanout {
    /// Copies put into members' sockets or outboxes.
    pub(crate) delivered: u64,
    /// Copies that members' outboxes refused, and of which channel.
    pub(crate) refused: Vec<(Channel, u64)>,
    /// The channel of each broker payload that is nothing of ours.
    pub(crate) malformed: Vec<Channel>,
    /// Bytes said on links.
    pub(crate) linked_bytes: usize,
    /// Publications of a stream that the broker had delivered before.
    pub(crate) repeated: u64,
}

impl Fanout {
    fn refused(&mut self, channel: &Channel, copies: u64) {
        if copies > 0 {
            self.refused.push((channel.clone(), copies));
        }
    }
}

impl<M: Member> Hub<M> {
    /// Takes one message off the broker: encodes it for the groups that want it, and returns how many members there
    /// are in these. `scratch` is empty before and after.
    pub(crate) fn receive(
        &mut self,
        token: u64,
        payload: Bytes,
        stamp: Option<Stamp>,
        scratch: &mut BytesMut,
        fanout: &mut Fanout,
        now: Instant,
    ) -> usize {
        let Some((_, slot)) = slot_of(&mut self.slots, token) else {
            return 0;
        };
        if let Some(stamp) = stamp.filter(|stamp| slot.must_hold(*stamp)) {
            self.hold(token, stamp, Some(&payload), scratch, fanout, now);
            return 0;
        }
        let rings = &self.ring_bytes;
        let follow = |stamp| slot.follow(stamp, &payload, rings, now);
        match stamp.map_or(Continuity::Next, follow) {
            Continuity::Next => {}
            Continuity::Repeated => {
                fanout.repeated += 1;
                return 0;
            }
            Continuity::Broken => {
                slot.write(fanout);
                self.lose_continuity(token);
            }
        }
        let Some((index, slot)) = slot_of(&mut self.slots, token) else {
            return 0;
        };
        if slot.is_empty() {
            return 0;
        }
        slot.touch(index, &mut self.dirty);
        if slot.groups.is_empty() {
            return 0;
        }
        let announced = slot.roll.is_some().then(|| payload.clone());
        let Ok(push) = Push::decode(payload) else {
            fanout.malformed.extend(slot.channel.clone());
            return 0;
        };
        if let Some(payload) = announced
            && push.publication.is_none()
            && !self.rolls.note((slot, token), &push, payload, now)
        {
            return 0;
        }
        slot.spread(push, stamp, scratch, fanout)
    }

    /// Ends the tick: writes what was received since the last one, and lets in who waited for it.
    pub(crate) fn flush(&mut self, fanout: &mut Fanout, now: Instant) {
        for index in self.dirty.drain(..) {
            if let Some(slot) = self.slots.get_mut(index as usize) {
                slot.is_dirty = false;
                slot.write(fanout);
                let settled = slot.settle(&mut self.settled, now);
                if settled > 0 {
                    self.subscriptions += settled;
                    self.rolls.keep(index, slot);
                }
                if slot.is_queued() {
                    self.queued.push(token_of(index, slot.generation));
                }
            }
        }
        self.bound_rings();
    }
}

impl<M: Member> Slot<M> {
    /// The one place that decides what a stream's message means for those who have followed it so far.
    fn follow(
        &mut self,
        stamp: Stamp,
        payload: &[u8],
        rings: &RingBytes,
        now: Instant,
    ) -> Continuity {
        match (&self.state, &mut self.stream) {
            (State::Opening { .. }, stream @ None) => {
                *stream = Some(Box::new(Stream::seen(stamp, payload, rings, now)));
                Continuity::Next
            }
            (State::Opening { .. }, Some(stream)) => {
                // Nobody has followed it: where it begins for joiners is said by `begin`.
                stream.follow(stamp, payload, now);
                Continuity::Next
            }
            (_, Some(stream)) => stream.follow(stamp, payload, now),
            // To this worker's mind the channel has no history, so that nobody was given a position.
            (_, None) => Continuity::Next,
        }
    }

    /// Writes this tick's frames to everyone.
    pub(super) fn write(&mut self, fanout: &mut Fanout) {
        let refused = self.groups.flush(fanout);
        if let Some(channel) = &self.channel {
            fanout.refused(channel, refused);
        }
    }

    /// Encodes a message for the groups that want it; returns how many members they have.
    pub(super) fn spread(
        &mut self,
        mut push: Push,
        stamp: Option<Stamp>,
        scratch: &mut BytesMut,
        fanout: &mut Fanout,
    ) -> usize {
        let Some(channel) = &self.channel else {
            return 0;
        };
        channel.as_str().clone_into(&mut push.channel);
        let mut payload = None;
        let mut delta = None;
        if let Some(publication) = &mut push.publication {
            if std::mem::take(&mut publication.delta) {
                delta = self.groups.delta(&publication.data);
            }
            if let Some(stamp) = stamp {
                place(publication, stamp.position);
            }
            if let Some(filters) = &mut self.filters {
                filters.apply(&publication.tags);
            }
            payload = Some(publication.data.clone());
        } else if push.join.is_none() && push.leave.is_none() {
            fanout.malformed.push(channel.clone());
            return 0;
        }
        let reply = Reply {
            push: Some(push),
            ..Reply::default()
        };
        let (mut recipients, mut refused) = (0, 0);
        let mut forms = Forms::new(reply, delta, scratch);
        for group in self.groups.iter_mut() {
            let delivery = &group.delivery;
            let form = match &delivery.mode {
                _ if payload.is_none() && delivery.join_leave => Form::Plain,
                _ if payload.is_none() => continue,
                Mode::Full => Form::Plain,
                Mode::Delta => forms.in_chain(group.wire, group.has_base),
                Mode::Filtered(filter) if filter.is_passed() => Form::Plain,
                Mode::Filtered(_) => continue,
            };
            recipients += group.len();
            let Some(message) = forms.encode(group.wire, form) else {
                group.inexpressible();
                continue;
            };
            group.wire.frame(message, &mut group.frames);
            group.unflushed += 1;
            if let Some(stamp) = stamp.filter(|_| payload.is_some()) {
                group.reach(stamp.position.offset);
            }
            if group.frames.len() >= TICK_MAX_BYTES {
                refused += group.flush(fanout);
            }
        }
        fanout.refused(channel, refused);
        scratch.clear();
        if let Some(payload) = payload {
            self.groups.rebase(&payload);
        }
        recipients
    }
}
