//! The hub: one shard's map of channel → subscribers.
//!
//! Owns: each channel's state and its set of members. Knows nothing of sockets (a member is anything that takes
//! ready-made frames) and nothing of the broker's kind: it says which topic to open or leave, the shard does it.
//!
//! A channel is `Opening` (the broker has been asked; joiners wait for its barrier) → `Live` → `Lingering` (empty; it
//! leaves the broker only after [`LINGER`], so that churn does not reach it) → gone. Broker messages carry a token
//! made of the slot's index and generation, so that a late message of an earlier life finds nobody.

mod fanout;

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use flotilla_shared::channel::Channel;
use flotilla_shared::protocol::Format;
use indexmap::IndexMap;

pub(crate) use fanout::Fanout;

/// How long an empty channel stays subscribed at the broker.
pub(crate) const LINGER: Duration = Duration::from_secs(1);

/// Who can be a member of a channel.
pub(crate) trait Member {
    /// Unique within the shard while the member lives.
    fn id(&self) -> u32;
    /// The wire format in which this member takes frames.
    fn format(&self) -> Format;
    /// Takes ready-made frames, never waiting. False when they were refused.
    fn deliver(&self, frames: &Bytes) -> bool;
    /// A publication cannot be expressed in this member's format; it is to be disconnected.
    fn inexpressible(&self);
}

/// What [`Hub::join`] asks of the shard.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Join {
    /// The member is in: it gets everything from now on.
    Joined,
    /// Waiting for a broker subscription that was asked for before.
    Waiting,
    /// Waiting; the shard has to subscribe the channel's topic with this token and report to [`Hub::opened`].
    Open(u64),
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Hub<M> {
    slots: Vec<Slot<M>>,
    free: Vec<u32>,
    names: HashMap<Channel, u32>,
    /// Channels that became empty, oldest first. An entry of an earlier state is skipped.
    lingering: VecDeque<(Instant, u64)>,
    /// Slots with frames to be written at the end of this tick.
    dirty: Vec<u32>,
    subscriptions: usize,
}

#[derive(Debug)]
struct Slot<M> {
    channel: Option<Channel>,
    generation: u32,
    state: State<M>,
    members: [Members<M>; 2],
    /// Frames of this tick, by wire format.
    tick: [BytesMut; 2],
    /// Messages in `tick`.
    unflushed: u64,
    is_dirty: bool,
}

type Members<M> = IndexMap<u32, Rc<M>>;

#[derive(Debug)]
enum State<M> {
    Free,
    Opening { joiners: Vec<Rc<M>> },
    Live,
    Lingering { since: Instant },
}

fn index_of(format: Format) -> usize {
    match format {
        Format::Json => 0,
        Format::Protobuf => 1,
    }
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
            dirty: Vec::new(),
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

    /// Adds `member` to `channel`, at once or when the broker's barrier has been passed.
    pub(crate) fn join(&mut self, channel: &Channel, member: &Rc<M>) -> Join {
        let Some(&index) = self.names.get(channel) else {
            return Join::Open(self.open(channel, member));
        };
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return Join::Waiting;
        };
        if let State::Opening { joiners } = &mut slot.state {
            joiners.push(member.clone());
            return Join::Waiting;
        }
        slot.state = State::Live;
        self.subscriptions += slot.insert(member);
        Join::Joined
    }

    fn open(&mut self, channel: &Channel, member: &Rc<M>) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::free());
            (self.slots.len() - 1) as u32
        });
        self.names.insert(channel.clone(), index);
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return 0;
        };
        slot.channel = Some(channel.clone());
        slot.generation = slot.generation.wrapping_add(1);
        slot.state = State::Opening {
            joiners: vec![member.clone()],
        };
        token_of(index, slot.generation)
    }

    /// The broker's answer for a channel that was opening. Returns who was waiting; on success they are members
    /// now, and whoever runs this writes their replies before anything else is delivered. On failure the channel is
    /// gone and nobody is a member.
    pub(crate) fn opened(&mut self, token: u64, succeeded: bool, now: Instant) -> Vec<Rc<M>> {
        let Some((index, slot)) = slot_of(&mut self.slots, token) else {
            return Vec::new();
        };
        let State::Opening { joiners } = std::mem::replace(&mut slot.state, State::Live) else {
            return Vec::new();
        };
        if succeeded {
            self.subscriptions += joiners
                .iter()
                .map(|member| slot.insert(member))
                .sum::<usize>();
            if slot.is_empty() {
                slot.state = State::Lingering { since: now };
                self.lingering.push_back((now, token));
            }
        } else {
            self.release(index);
        }
        joiners
    }

    /// Takes `member` out of `channel`, whether it is in or still waiting. Unknown members are ignored.
    pub(crate) fn leave(&mut self, channel: &Channel, member: &M, now: Instant) {
        let Some(&index) = self.names.get(channel) else {
            return;
        };
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return;
        };
        if let State::Opening { joiners } = &mut slot.state {
            joiners.retain(|joiner| joiner.id() != member.id());
            return;
        }
        self.subscriptions -= slot.remove(member);
        if slot.is_empty() && matches!(slot.state, State::Live) {
            slot.state = State::Lingering { since: now };
            self.lingering
                .push_back((now, token_of(index, slot.generation)));
        }
    }

    /// Lets go of the channels that have been empty for [`LINGER`]; returns the tokens to unsubscribe.
    pub(crate) fn sweep(&mut self, now: Instant) -> Vec<u64> {
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

    fn release(&mut self, index: u32) {
        if let Some(slot) = self.slots.get_mut(index as usize) {
            if let Some(channel) = slot.channel.take() {
                self.names.remove(&channel);
            }
            let generation = slot.generation;
            *slot = Slot {
                generation,
                ..Slot::free()
            };
            self.free.push(index);
        }
    }
}

fn slot_of<M>(slots: &mut [Slot<M>], token: u64) -> Option<(u32, &mut Slot<M>)> {
    let index = token as u32;
    let slot = slots.get_mut(index as usize)?;
    (token_of(index, slot.generation) == token).then_some((index, slot))
}

impl<M: Member> Slot<M> {
    /// How many members this added: 0 or 1.
    fn insert(&mut self, member: &Rc<M>) -> usize {
        self.members
            .get_mut(index_of(member.format()))
            .map_or(0, |members| {
                usize::from(members.insert(member.id(), member.clone()).is_none())
            })
    }

    /// How many members this removed: 0 or 1.
    fn remove(&mut self, member: &M) -> usize {
        self.members
            .get_mut(index_of(member.format()))
            .map_or(0, |members| {
                let removed = members.swap_remove(&member.id()).is_some();
                if members.capacity() > 64 && members.len() < members.capacity() / 4 {
                    members.shrink_to(members.len() * 2);
                }
                usize::from(removed)
            })
    }
}

impl<M> Slot<M> {
    fn free() -> Self {
        Self {
            channel: None,
            generation: 0,
            state: State::Free,
            members: [IndexMap::new(), IndexMap::new()],
            tick: [BytesMut::new(), BytesMut::new()],
            unflushed: 0,
            is_dirty: false,
        }
    }

    fn is_empty(&self) -> bool {
        self.members.iter().all(IndexMap::is_empty)
    }
}

#[cfg(test)]
mod tests;
