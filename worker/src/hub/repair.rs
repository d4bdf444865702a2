//! Gaps: what the broker has not delivered of a stream is read from its history, and delivered in its place.
//!
//! Owns: how many are read at the same time, and when a gap is given up. What follows one is held back meanwhile, so that
//! the order stays. Nobody's position moves while something is held, so that members may come, go and recover as ever.
//! What can be repaired is told nobody; what cannot be is told everyone who relied on it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use flotilla_shared::broker::{HistoryPage, HistoryQuery, Stamp, StreamPosition};
use flotilla_shared::channel::Channel;

use super::held::{Held, HeldBytes, Message};
use super::slot::{Slot, State};
use super::stream::{Continuity, Stream};
use super::{Fanout, Hub, Member, slot_of};

/// Most publications of one gap. Who has missed more is better served by a fresh start.
const READ_MAX: usize = 1000;

/// Most gaps that are read at the same time. After a loss many channels may have one: all their reads at once would wait
/// for each other until all of them are given up.
const READS_MAX: usize = 8;

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
    held: Held,
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
    fn new(held: &HeldBytes, now: Instant) -> Self {
        Self {
            began: now,
            asked: None,
            held: Held::new(held),
        }
    }

    /// What shows the gap, if anything does.
    pub(super) fn first(&self) -> Option<Stamp> {
        self.held.first()
    }

    fn is_overdue(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.began) >= TIMEOUT
    }

    /// `is_fresh`: what came behind the position cannot have been forgotten altogether.
    fn judge(&self, here: StreamPosition, is_fresh: bool, page: Option<HistoryPage>) -> Verdict {
        let Some(page) = page else {
            return Verdict::NotYet;
        };
        // From the beginning all is there that has been kept; whether more has been is known by the time only.
        let first = page.publications.first();
        let is_proof = here.offset > 0 || is_fresh || first.is_some_and(|first| first.offset == 1);
        // Who does not say what was before it proves nothing of that: the page has to have the message itself.
        let ends_before = |first: Stamp| match first.previous {
            0 => page.end.offset < first.position.offset,
            previous => page.end.offset < previous,
        };
        if page.end.epoch != here.epoch {
            Verdict::Lost
        } else if page.end.offset < here.offset || self.first().is_some_and(ends_before) {
            Verdict::NotYet
        } else if page.is_complete && is_proof {
            Verdict::Whole(page)
        } else {
            Verdict::Lost
        }
    }
}

impl<M: Member> Slot<M> {
    /// Whether a message has to wait for what is missing before it.
    pub(super) fn must_hold(&self, stamp: Stamp, now: Instant) -> bool {
        let Some(stream) = &self.stream else {
            return false;
        };
        stream.repair.is_some()
            || stream.continuity(stamp, now) == Continuity::Broken
                && stamp.position.epoch == stream.position.epoch
                && matches!(self.state, State::Live)
                && !self.is_empty()
    }
}

impl<M> Stream<M> {
    /// Begins with the repair of what is missing behind the position, unless that is under way.
    #[must_use]
    fn begin_repair(&mut self, held: &HeldBytes, now: Instant) -> bool {
        let is_new = self.repair.is_none();
        self.repair
            .get_or_insert_with(|| Box::new(Repair::new(held, now)));
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
        if stream.begin_repair(&self.held_bytes, now) {
            self.gaps.push(token);
        }
        if let Some(repair) = &mut stream.repair {
            repair.held.push(stamp, payload);
            if repair.held.is_too_much() {
                self.give_up(token, scratch, fanout, now);
            }
        }
    }

    /// Something is missing behind the position of this channel, and nothing has come that shows it.
    pub(super) fn read_on(&mut self, token: u64, now: Instant) {
        let slot = slot_of(&mut self.slots, token).map(|(_, slot)| slot);
        if let Some(stream) = slot.and_then(|slot| slot.stream.as_mut())
            && !stream.is_unreadable
            && stream.begin_repair(&self.held_bytes, now)
        {
            self.gaps.push(token);
        }
    }

    /// What to read now; each of it has to be reported to [`Hub::repaired`], whatever comes of it, since no more than
    /// [`READS_MAX`] are open. To be called after every tick, after every report, and now and then.
    pub(crate) fn due_repairs(&mut self) -> Vec<GapQuery> {
        let mut queries = Vec::new();
        while self.open_reads.len() < READS_MAX {
            let Some(token) = self.gaps.pop() else {
                break;
            };
            self.tickets = self.tickets.wrapping_add(1);
            let ticket = self.tickets;
            if let Some((_, slot)) = slot_of(&mut self.slots, token)
                && let Some(channel) = &slot.channel
                && let Some(stream) = &mut slot.stream
                && let Some(repair) = &mut stream.repair
            {
                repair.asked = Some(ticket);
                self.open_reads.push(ticket);
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
        self.open_reads.retain(|open| *open != ticket);
        let slot = slot_of(&mut self.slots, token).map(|(_, slot)| slot);
        let Some(stream) = slot.and_then(|slot| slot.stream.as_mut()) else {
            return;
        };
        let (here, is_fresh) = (stream.position, stream.is_fresh(now));
        let Some(repair) = &mut stream.repair else {
            return;
        };
        if repair.asked != Some(ticket) {
            return;
        }
        repair.asked = None;
        let end = page.as_ref().map(|page| page.end);
        match repair.judge(here, is_fresh, page) {
            Verdict::NotYet if !repair.is_overdue(now) => self.later_gaps.push(token),
            Verdict::Whole(page) => self.fill(token, page, scratch, fanout, now),
            Verdict::NotYet | Verdict::Lost => {
                self.give_up(token, scratch, fanout, now);
                // What is still to come of what was seen there is not forgotten with it.
                let slot = slot_of(&mut self.slots, token).map(|(_, slot)| slot);
                if let Some(stream) = slot.and_then(|slot| slot.stream.as_mut())
                    && end.is_some_and(|end| stream.reaches_to(end, now))
                {
                    self.waiting.push(token);
                }
            }
        }
    }

    /// Gives up the gaps whose turn has not come in time. To be called now and then, as a tick of its own.
    pub(crate) fn give_up_overdue(
        &mut self,
        scratch: &mut BytesMut,
        fanout: &mut Fanout,
        now: Instant,
    ) {
        let waiting: Vec<u64> = self.gaps.iter().collect();
        for token in waiting {
            let slot = slot_of(&mut self.slots, token).map(|(_, slot)| slot);
            let stream = slot.and_then(|slot| slot.stream.as_ref());
            let repair = stream.and_then(|stream| stream.repair.as_ref());
            if repair.is_some_and(|repair| repair.is_overdue(now)) {
                self.give_up(token, scratch, fanout, now);
            }
        }
        self.flush(fanout, now);
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
        let Some(held) = self.end_repair(token) else {
            return;
        };
        if let Some((_, slot)) = slot_of(&mut self.slots, token)
            && let Some(channel) = &slot.channel
            && !page.publications.is_empty()
        {
            self.gaps_seen.push((channel.clone(), Gap::Repaired));
        }
        for publication in page.publications {
            let slot = slot_of(&mut self.slots, token).map(|(_, slot)| slot);
            let Some(stream) = slot.and_then(|slot| slot.stream.as_mut()) else {
                return;
            };
            let here = stream.position;
            if publication.offset <= here.offset {
                continue;
            }
            let position = StreamPosition {
                offset: publication.offset,
                ..here
            };
            let stamp = Stamp {
                position,
                previous: here.offset,
            };
            stream.advance(position, &publication.payload, now);
            self.pass_on(
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
                stream.move_to(page.end, now);
            }
            // Someone may have waited for it.
            slot.touch(index, &mut self.dirty);
        }
        self.replay(token, held, scratch, fanout, now);
    }

    /// What is missing cannot be had: everyone who relied on it is told, and the stream goes on behind it. If nothing shows
    /// yet that it will not come by itself, it is waited for.
    fn give_up(&mut self, token: u64, scratch: &mut BytesMut, fanout: &mut Fanout, now: Instant) {
        let Some(mut held) = self.end_repair(token) else {
            return;
        };
        if let Some((_, slot)) = slot_of(&mut self.slots, token)
            && let Some(stream) = &mut slot.stream
        {
            stream.is_unreadable = true;
        }
        // What shows the gap is not held back again: it is where the stream goes on.
        match held.pop_front() {
            Some(first) if self.has_had(token, first.stamp) => {}
            Some(Message { stamp, payload }) => match payload {
                Some(payload) => {
                    self.take(token, payload, Some(stamp), scratch, fanout, now);
                }
                None => self.take_removal(token, stamp, now),
            },
            None => {}
        }
        self.replay(token, held, scratch, fanout, now);
    }

    fn replay(
        &mut self,
        token: u64,
        held: VecDeque<Message>,
        scratch: &mut BytesMut,
        fanout: &mut Fanout,
        now: Instant,
    ) {
        for Message { stamp, payload } in held {
            match payload {
                // What was read already is no repetition of the broker's.
                _ if self.has_had(token, stamp) => {}
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

    /// What was held back, if there was anything to repair.
    fn end_repair(&mut self, token: u64) -> Option<VecDeque<Message>> {
        let (_, slot) = slot_of(&mut self.slots, token)?;
        let mut repair = slot.stream.as_mut()?.repair.take()?;
        Some(repair.held.take())
    }

    /// Whether the stream has come as far as that.
    fn has_had(&mut self, token: u64, stamp: Stamp) -> bool {
        let slot = slot_of(&mut self.slots, token).map(|(_, slot)| slot);
        let stream = slot.and_then(|slot| slot.stream.as_ref());
        stream.is_some_and(|stream| {
            let (here, there) = (stream.position, stamp.position);
            here.epoch == there.epoch && there.offset <= here.offset
        })
    }
}
