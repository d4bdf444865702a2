//! The hub: one shard's map of channel → subscribers.
//!
//! Owns: each channel's state, its set of members and its position in the channel's stream. Knows nothing of sockets (a
//! member is anything that takes ready-made frames) and nothing of the broker's kind: it says which topic to open or
//! leave and what history to read, the shard does it.
//!
//! A channel is `Opening` (the broker has been asked; joiners wait for its barrier) → `Live` → `Lingering` (empty; it
//! leaves the broker only after [`LINGER`], so that churn does not reach it) → gone. Broker messages carry a token
//! made of the slot's index and generation, so that a late message of an earlier life finds nobody.
//!
//! A live channel with history has a position. Whoever is a member has got everything up to it, or was never promised
//! it: a publication that is not the next one is dropped, or shows a gap. What is behind a gap waits until the gap is
//! filled; if that cannot be, no positioned member sees it. No state is kept per member.

mod doubt;
mod fanout;
mod filters;
mod forms;
mod groups;
mod held;
mod joining;
mod judgement;
mod line;
mod mode;
mod on_links;
mod patience;
mod recovery;
mod repair;
mod ring;
mod rolls;
mod room;
mod slot;
mod stream;
mod upkeep;

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flotilla_shared::channel::Channel;

use crate::link::Seat;
use crate::wire::Wire;
use held::HeldBytes;
use line::Line;
use rolls::Rolls;
use room::RingBytes;
use slot::{Entry, Slot, State};

pub(crate) use doubt::EndQuery;
pub(crate) use fanout::Fanout;
pub(crate) use groups::Delivery;
pub(crate) use joining::{
    Fetch, History, Join, Joined, Opened, Recover, Recovery, RecoveryKind, Settled, Subscribing,
};
pub(crate) use mode::Mode;
pub(crate) use repair::{Gap, GapQuery};
pub(crate) use rolls::{Account, RollAnswer, RollQuestion};

/// How long an empty channel stays subscribed at the broker.
pub(crate) const LINGER: Duration = Duration::from_secs(1);

/// Who can be a member of a channel.
pub(crate) trait Member {
    /// Unique within the shard while the member lives.
    fn id(&self) -> u32;
    /// How this member takes frames; it never changes.
    fn wire(&self) -> Wire;
    /// Takes ready-made frames, never waiting. False when they were refused.
    fn deliver(&self, frames: &Bytes) -> bool;
    /// Where it sits, if a link carries it: what all of a group get is cast once for each link.
    fn seat(&self) -> Option<&Seat> {
        None
    }
    /// A publication cannot be expressed in this member's format; it is to be disconnected.
    fn inexpressible(&self);
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Hub<M> {
    slots: Vec<Slot<M>>,
    free: Vec<u32>,
    names: HashMap<Channel, u32>,
    /// Channels that became empty, oldest first. An entry of an earlier state is skipped.
    lingering: VecDeque<(Instant, u64)>,
    /// Channels that may have become empty where nobody knew the time.
    emptied: Vec<u64>,
    /// Channels in which members may wait for the broker to deliver.
    waiting: Vec<u64>,
    /// Channels whose streams have to be checked.
    doubted: VecDeque<u64>,
    /// Channels in which somebody may wait for the next read.
    queued: Vec<u64>,
    /// Channels of which something is to be read as soon as there is room, and when the hub has looked at the time.
    gaps: Line,
    later_gaps: Vec<u64>,
    /// Reads of gaps whose answers have not come yet.
    open_reads: Vec<u32>,
    held_bytes: HeldBytes,
    /// What became of gaps.
    gaps_seen: Vec<(Channel, Gap)>,
    /// Channels that were opened a little while ago.
    fresh: VecDeque<(Instant, u64)>,
    /// Where and when looking for quiet channels has come to.
    quiet_hand: usize,
    looked_at: Instant,
    /// Questions whose answers have not come yet.
    open_checks: usize,
    /// Slots to be looked at when this tick ends.
    dirty: Vec<u32>,
    settled: Vec<Settled<M>>,
    ring_bytes: RingBytes,
    rolls: Rolls,
    /// Where making room for rings goes on.
    ring_hand: usize,
    /// The last ticket that was given to a question to the broker.
    tickets: u32,
    subscriptions: usize,
}

fn token_of(index: u32, generation: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(index)
}

impl<M: Member> Hub<M> {
    pub(crate) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            names: HashMap::new(),
            lingering: VecDeque::new(),
            emptied: Vec::new(),
            waiting: Vec::new(),
            doubted: VecDeque::new(),
            queued: Vec::new(),
            gaps: Line::default(),
            later_gaps: Vec::new(),
            open_reads: Vec::new(),
            held_bytes: HeldBytes::default(),
            gaps_seen: Vec::new(),
            fresh: VecDeque::new(),
            quiet_hand: 0,
            looked_at: Instant::now(),
            open_checks: 0,
            dirty: Vec::new(),
            settled: Vec::new(),
            ring_bytes: RingBytes::default(),
            rolls: Rolls::default(),
            ring_hand: 0,
            tickets: 0,
            subscriptions: 0,
        }
    }

    /// Channels that are subscribed, or being subscribed, at the broker.
    pub(crate) fn channels(&self) -> usize {
        self.names.len()
    }

    /// Members over all channels.
    pub(crate) fn subscriptions(&self) -> usize {
        self.subscriptions
    }

    /// Who is in `channel` at this moment.
    pub(crate) fn members(&self, channel: &Channel) -> impl Iterator<Item = &Rc<M>> {
        let index = self.names.get(channel);
        let slot = index.and_then(|index| self.slots.get(*index as usize));
        slot.into_iter().flat_map(|slot| slot.groups.members())
    }

    /// How many members each channel has that has any.
    pub(crate) fn population(&self) -> Vec<(Channel, usize)> {
        let slots = self.slots.iter().filter_map(|slot| {
            let members = slot.groups.members().count();
            Some((slot.channel.clone()?, members))
        });
        slots.filter(|(_, members)| *members > 0).collect()
    }

    /// Adds `member` to `channel`, in which it is not yet: at once, or when the broker's barrier has been passed and
    /// what it wants to recover is there.
    pub(crate) fn join(
        &mut self,
        channel: &Channel,
        member: &Rc<M>,
        mut subscribing: Subscribing,
        now: Instant,
    ) -> Join {
        let Some(&index) = self.names.get(channel) else {
            return Join::Open(self.open(channel, member, subscribing));
        };
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return Join::Waiting;
        };
        if slot.unify(&mut subscribing.delivery.mode).is_err() {
            return Join::Refused;
        }
        if let State::Opening { joiners, .. } = &mut slot.state {
            joiners.push((member.clone(), subscribing));
            return Join::Waiting;
        }
        slot.state = State::Live;
        let token = token_of(index, slot.generation);
        self.tickets = self.tickets.wrapping_add(1);
        let ticket = self.tickets;
        match slot.admit(member, subscribing, ticket, now) {
            Entry::In(joined) => {
                self.subscriptions += 1;
                self.rolls.keep(index, slot);
                Join::Joined(joined)
            }
            Entry::Recovering(None) => Join::Waiting,
            Entry::Recovering(Some(query)) => Join::Fetch(Fetch {
                token,
                ticket,
                query,
            }),
        }
    }

    fn open(&mut self, channel: &Channel, member: &Rc<M>, mut subscribing: Subscribing) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::free(0));
            (self.slots.len() - 1) as u32
        });
        self.names.insert(channel.clone(), index);
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return 0;
        };
        slot.channel = Some(channel.clone());
        slot.generation = slot.generation.wrapping_add(1);
        // The first filter of a channel is never too much.
        let _ = slot.unify(&mut subscribing.delivery.mode);
        slot.state = State::Opening {
            joiners: vec![(member.clone(), subscribing)],
            is_doubtful: false,
        };
        token_of(index, slot.generation)
    }

    /// The broker's answer for a channel that was opening: the channel's stream, read when the subscription had been
    /// confirmed, `None` if it has no history; or that it could not be opened.
    pub(crate) fn opened(
        &mut self,
        token: u64,
        result: Result<Option<History>, ()>,
        now: Instant,
    ) -> Opened<M> {
        let mut opened = Opened {
            joined: Vec::new(),
            fetches: Vec::new(),
            refused: Vec::new(),
        };
        let Some((index, slot)) = slot_of(&mut self.slots, token) else {
            return opened;
        };
        let State::Opening {
            joiners,
            is_doubtful,
        } = &mut slot.state
        else {
            return opened;
        };
        let (joiners, is_doubtful) = (std::mem::take(joiners), *is_doubtful);
        let Ok(history) = result else {
            opened.refused = joiners.into_iter().map(|(member, _)| member).collect();
            self.release(index);
            return opened;
        };
        if slot.begin(history, is_doubtful, &self.ring_bytes, now) {
            self.doubted.push_back(token);
        }
        if slot.stream.is_some() {
            self.fresh.push_back((now, token));
        }
        for (member, subscribing) in joiners {
            self.tickets = self.tickets.wrapping_add(1);
            let ticket = self.tickets;
            match slot.admit(&member, subscribing, ticket, now) {
                Entry::In(joined) => {
                    self.subscriptions += 1;
                    opened.joined.push((member, joined));
                }
                Entry::Recovering(query) => {
                    opened.fetches.extend(query.map(|query| Fetch {
                        token,
                        ticket,
                        query,
                    }));
                }
            }
        }
        self.rolls.keep(index, slot);
        self.linger_if_empty(token, now);
        opened
    }

    /// Takes `member` out of `channel`, whether it is in or still waiting. Unknown members are ignored.
    pub(crate) fn leave(&mut self, channel: &Channel, member: &M, now: Instant) {
        let Some(&index) = self.names.get(channel) else {
            return;
        };
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return;
        };
        if let State::Opening { joiners, .. } = &mut slot.state {
            joiners.retain(|(joiner, _)| joiner.id() != member.id());
            return;
        }
        if slot.groups.remove(member.id()) {
            self.subscriptions -= 1;
            self.rolls.keep(index, slot);
        } else if let Some(stream) = &mut slot.stream {
            let recovering = &mut stream.recovering;
            recovering.retain(|recovering| recovering.member.id() != member.id());
        }
        let token = token_of(index, slot.generation);
        self.linger_if_empty(token, now);
    }

    /// `member` has been told that it is in `channel`, and has got everything up to the channel's position. If it is on a
    /// link, it gets from now on what is cast there.
    pub(crate) fn seat(&mut self, channel: &Channel, member: &M) {
        let index = self.names.get(channel);
        if let Some(slot) = index.and_then(|index| self.slots.get_mut(*index as usize))
            && let Some(seat) = member.seat()
        {
            let offset = slot.stream.as_ref().map(|stream| stream.position.offset);
            slot.groups.seat(member.id(), seat, channel, offset);
        }
    }

    fn release(&mut self, index: u32) {
        if let Some(slot) = self.slots.get_mut(index as usize) {
            if let Some(channel) = slot.channel.take() {
                self.names.remove(&channel);
            }
            *slot = Slot::free(slot.generation);
            self.free.push(index);
        }
    }
}

fn slot_of<M>(slots: &mut [Slot<M>], token: u64) -> Option<(u32, &mut Slot<M>)> {
    let index = token as u32;
    let slot = slots.get_mut(index as usize)?;
    (token_of(index, slot.generation) == token).then_some((index, slot))
}

#[cfg(test)]
mod tests;
