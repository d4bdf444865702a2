//! Gaps: what the broker has not delivered of a stream is read from its history, and delivered in its place.
//!
//! Owns: what is held back meanwhile, so that the order stays, and when a gap is given up. Nobody's position moves while
//! something is held, so that members may come, go and recover as ever. What can be repaired is told nobody; what
//! cannot be is told everyone who relied on it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use flotilla_shared::broker::{HistoryPage, HistoryQuery, Stamp, StreamPosition};
use flotilla_shared::channel::Channel;

use super::slot::{Slot, State};
use super::stream::{Continuity, Stream};
use super::{Fanout, Hub, Member, slot_of};

/// Most publications of one gap. Who has missed more is better served by a fresh start.
const READ_MAX: usize = 1000;

/// Most bytes of what is held back in one channel, with [`HELD_OVERHEAD`] for each message.
const HELD_MAX_BYTES: usize = 256 * 1024;

/// What a message that is held back costs beyond its payload, roughly.
const HELD_OVERHEAD: usize = 2 * size_of::<Held>();

/// How long a gap is tried to be repaired. A broker that is away may come back, one that is behind may catch up.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What became of a gap, for the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gap {
    /// It was filled.
    Repaired,
    /// It was not, and whoever relied on it is told.
    Unrecoverable,
}

impl Gap {
    pub(crate) const ALL: [Self; 2] = [Self::Repaired, Self::Unrecoverable];

    /// A metric label.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Repaired => "repaired",
            Self::Unrecoverable => "unrecoverable",
        }
    }
}

/// A gap that is being repaired.
#[derive(Debug)]
pub(super) struct Repair {
    began: Instant,
    /// The read that is under way.
    asked: Option<u32>,
    /// What came behind the gap, in its order.
    held: VecDeque<Held>,
    held_bytes: usize,
}

#[derive(Debug)]
struct Held {
    stamp: Stamp,
    /// `None`: a removal of the history.
    payload: Option<Bytes>,
}

/// Asks the shard to read what is missing, and to report to [`Hub::repaired`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GapQuery {
    pub(crate) channel: Channel,
    /// The channel's.
    pub(crate) token: u64,
    /// This question's own.
    pub(crate) ticket: u32,
    pub(crate) query: HistoryQuery,
}

/// What a page says of a gap.
enum Verdict {
    /// All of it is there.
    Whole(HistoryPage),
    /// It was read from where not everything is known yet, or not at all.
    NotYet,
    Lost,
}

impl Repair {
    fn new(now: Instant) -> Self {
        Self {
            began: now,
            asked: None,
            held: VecDeque::new(),
            held_bytes: 0,
        }
    }

    fn hold(&mut self, stamp: Stamp, payload: Option<&[u8]>) {
        self.held_bytes += HELD_OVERHEAD + payload.map_or(0, <[u8]>::len);
        // A copy: it must not keep a whole read buffer of the broker's alive.
        let payload = payload.map(Bytes::copy_from_slice);
        self.held.push_back(Held { stamp, payload });
    }

    fn judge(&self, here: StreamPosition, page: Option<HistoryPage>) -> Verdict {
        let Some(page) = page else {
            return Verdict::NotYet;
        };
        let ends_before = |first: &Held| page.end.offset < first.stamp.previous;
        if page.end.epoch != here.epoch {
            Verdict::Lost
        } else if page.end.offset < here.offset || self.held.front().is_some_and(ends_before) {
            Verdict::NotYet
        } else if page.is_complete {
            Verdict::Whole(page)
        } else {
            Verdict::Lost
        }
    }
}

impl<M: Member> Slot<M> {
    /// Whether a message has to wait for what is missing before it.
    pub(super) fn must_hold(&self, stamp: Stamp) -> bool {
        let Some(stream) = &self.stream else {
            return false;
        };
        stream.repair.is_some()
            || stream.continuity(stamp) == Continuity::Broken
                && stamp.position.epoch == stream.position.epoch
                && matches!(self.state, State::Live)
                && !self.is_empty()
    }
}

impl<M> Stream<M> {
    /// Begins with the repair of what is missing behind the position, unless that is under way.
    #[must_use]
    fn begin_repair(&mut self, now: Instant) -> bool {
        let is_new = self.repair.is_none();
        self.repair
            .get_or_insert_with(|| Box::new(Repair::new(now)));
        is_new
    }
}

impl<M: Member> Hub<M> {
    /// Holds a message back; `None` for the payload: a removal of the history.
    pub(super) fn hold(
        &mut self,
        token: u64,
        stamp: Stamp,
        payload: Option<&[u8]>,
        scratch: &mut BytesMut,
        fanout: &mut Fanout,
        now: Instant,
    ) {
        let slot = slot_of(&mut self.slots, token).map(|(_, slot)| slot);
        let Some(stream) = slot.and_then(|slot| slot.stream.as_mut()) else {
            return;
        };
        if payload.is_none() {
            stream.ring.remove_until(stamp.position.offset);
        }
        if stream.begin_repair(now) {
            self.gaps.push(token);
        }
        if let Some(repair) = &mut stream.repair {
            repair.hold(stamp, payload);
            if repair.held_bytes > HELD_MAX_BYTES {
                self.give_up(token, scratch, fanout, now);
            }
        }
    }

    /// Something is missing behind the position of this channel, and nothing has come that shows it.
    pub(super) fn read_on(&mut self, token: u64, now: Instant) {
        let slot = slot_of(&mut self.slots, token).map(|(_, slot)| slot);
        if let Some(stream) = slot.and_then(|slot| slot.stream.as_mut())
            && !stream.is_unreadable
            && stream.begin_repair(now)
        {
            self.gaps.push(token);
        }
    }

    /// What to read now. To be called after every tick, and now and then.
    pub(crate) fn due_repairs(&mut self) -> Vec<GapQuery> {
        let mut queries = Vec::new();
        for token in std::mem::take(&mut self.gaps) {
            self.tickets = self.tickets.wrapping_add(1);
            let ticket = self.tickets;
            if let Some((_, slot)) = slot_of(&mut self.slots, token)
                && let Some(channel) = &slot.channel
                && let Some(stream) = &mut slot.stream
                && let Some(repair) = &mut stream.repair
            {
                repair.asked = Some(ticket);
                queries.push(GapQuery {
                    channel: channel.clone(),
                    token,
                    ticket,
                    query: HistoryQuery {
                        limit: READ_MAX,
                        since: Some(stream.position.offset),
                        reverse: false,
                    },
                });
            }
        }
        queries
    }

    /// The history that a [`GapQuery`] asked for; `None`: it could not be read. A tick of its own.
    pub(crate) fn repaired(
        &mut self,
        token: u64,
        ticket: u32,
        page: Option<HistoryPage>,
        scratch: &mut BytesMut,
        fanout: &mut Fanout,
        now: Instant,
    ) {
        let Some((_, slot)) = slot_of(&mut self.slots, token) else {
            return;
        };
        let Some(stream) = &mut slot.stream else {
            return;
        };
        let here = stream.position;
        let Some(repair) = &mut stream.repair else {
            return;
        };
        if repair.asked != Some(ticket) {
            return;
        }
        repair.asked = None;
        match repair.judge(here, page) {
            Verdict::NotYet if now.saturating_duration_since(repair.began) < TIMEOUT => {
                self.later_gaps.push(token);
            }
            Verdict::NotYet | Verdict::Lost => self.give_up(token, scratch, fanout, now),
            Verdict::Whole(page) => self.fill(token, page, scratch, fanout, now),
        }
    }

    /// Delivers what was missing, and what was held back.
    fn fill(
        &mut self,
        token: u64,
        page: HistoryPage,
        scratch: &mut BytesMut,
        fanout: &mut Fanout,
        now: Instant,
    ) {
        let Some(repair) = self.take_repair(token) else {
            return;
        };
        if let Some((_, slot)) = slot_of(&mut self.slots, token)
            && let Some(channel) = &slot.channel
            && !page.publications.is_empty()
        {
            self.gaps_seen.push((channel.clone(), Gap::Repaired));
        }
        for publication in page.publications {
            let Some(here) = self.position(token) else {
                return;
            };
            let stamp = Stamp {
                position: StreamPosition {
                    offset: publication.offset,
                    epoch: here.epoch,
                },
                previous: here.offset,
            };
            self.receive(
                token,
                publication.payload,
                Some(stamp),
                scratch,
                fanout,
                now,
            );
        }
        if let Some((index, slot)) = slot_of(&mut self.slots, token)
            && let Some(stream) = &mut slot.stream
        {
            // Behind the last publication there may be a removal of what was before.
            if page.end.offset > stream.position.offset {
                stream.move_to(page.end);
            }
            // Someone may have waited for it.
            slot.touch(index, &mut self.dirty);
        }
        self.replay(token, repair.held, scratch, fanout, now);
    }

    /// What is missing cannot be had: everyone who relied on it is told, and the stream goes on behind it. If nothing shows
    /// yet that it will not come by itself, it is waited for.
    fn give_up(&mut self, token: u64, scratch: &mut BytesMut, fanout: &mut Fanout, now: Instant) {
        let Some(repair) = self.take_repair(token) else {
            return;
        };
        if let Some((_, slot)) = slot_of(&mut self.slots, token)
            && let Some(stream) = &mut slot.stream
        {
            let here = stream.position;
            let first = repair.held.front().map(|first| first.stamp);
            let behind = first
                .filter(|first| first.position.epoch == here.epoch && first.previous > here.offset);
            stream.is_unreadable = behind.is_none();
            if let Some(Stamp { previous, .. }) = behind {
                stream.move_to(StreamPosition {
                    offset: previous,
                    ..here
                });
                slot.write(fanout);
                self.lose_continuity(token);
            }
        }
        self.replay(token, repair.held, scratch, fanout, now);
    }

    fn replay(
        &mut self,
        token: u64,
        held: VecDeque<Held>,
        scratch: &mut BytesMut,
        fanout: &mut Fanout,
        now: Instant,
    ) {
        for Held { stamp, payload } in held {
            // What was read already is no repetition of the broker's.
            if self.position(token).is_some_and(|here| {
                here.epoch == stamp.position.epoch && stamp.position.offset <= here.offset
            }) {
                continue;
            }
            match payload {
                Some(payload) => {
                    self.receive(token, payload, Some(stamp), scratch, fanout, now);
                }
                None => self.history_removed(token, stamp, scratch, fanout, now),
            }
        }
    }

    /// What became of gaps since this was asked last.
    pub(crate) fn take_gaps(&mut self) -> Vec<(Channel, Gap)> {
        std::mem::take(&mut self.gaps_seen)
    }

    fn take_repair(&mut self, token: u64) -> Option<Box<Repair>> {
        let (_, slot) = slot_of(&mut self.slots, token)?;
        slot.stream.as_mut()?.repair.take()
    }

    fn position(&mut self, token: u64) -> Option<StreamPosition> {
        let (_, slot) = slot_of(&mut self.slots, token)?;
        Some(slot.stream.as_ref()?.position)
    }
}
