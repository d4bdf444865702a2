//! The members of one channel, by what they are sent.
//!
//! Owns: who is in a channel, and the frames of the current tick. Members who get the same bytes are one group, so
//! that a message costs one encoding for each group and one write for each member. Most channels have one group.
//!
//! Deltas need no state for each member either: all who have got a publication can read a delta against it, and who has
//! not got any yet is in a group of its own until it has.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use indexmap::IndexMap;

use flotilla_shared::channel::Channel;

use super::mode::delta;
use super::on_links::OnLinks;
use super::{Fanout, Member, Mode};
use crate::link::{Seat, Topic};
use crate::wire::Wire;

/// How a member takes what happens in a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// In what form it takes publications.
    pub(crate) mode: Mode,
    /// Whether it is told who comes and goes.
    pub(crate) join_leave: bool,
    /// Whether it may rely on getting every publication: where one is missing, nothing later reaches it.
    pub(crate) positioned: bool,
}

#[derive(Debug)]
pub(super) struct Group<M> {
    pub(super) wire: Wire,
    pub(super) delivery: Delivery,
    /// Of members that take deltas: whether they have the channel's latest publication.
    pub(super) has_base: bool,
    /// Those who are sent everything by themselves.
    members: IndexMap<u32, Rc<M>>,
    /// Those on links. Boxed, since most channels have none.
    on_links: Option<Box<OnLinks<M>>>,
    /// What this tick has for each member.
    pub(super) frames: BytesMut,
    /// Messages in `frames`.
    pub(super) unflushed: u32,
}

/// Groups that get the same bytes stand next to each other: first by their wire, then by what can be said to them.
#[derive(Debug)]
pub(super) struct Groups<M> {
    list: Vec<Group<M>>,
    /// The channel's latest publication, where somebody takes deltas. A copy, for the reason that the ring's are.
    base: Option<Box<[u8]>>,
    /// Whether there are groups that do not differ any longer.
    are_alike: bool,
}

impl<M> Groups<M> {
    pub(super) const fn new() -> Self {
        Self {
            list: Vec::new(),
            base: None,
            are_alike: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Group<M>> {
        self.list.iter_mut()
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &Rc<M>> {
        self.list.iter().flat_map(Group::members)
    }

    /// Whether somebody is told who comes and goes.
    pub(super) fn hear_of_others(&self) -> bool {
        self.list.iter().any(|group| group.delivery.join_leave)
    }

    /// What makes `payload` out of the channel's latest publication, if somebody can read that and it is worth it.
    pub(super) fn delta(&self, payload: &[u8]) -> Option<Bytes> {
        let base = self.base.as_deref()?;
        let is_readable = self.list.iter().any(|group| group.has_base);
        is_readable.then(|| delta(base, payload)).flatten()
    }

    /// Notes the publication that everyone has got now.
    pub(super) fn rebase(&mut self, payload: &[u8]) {
        let mut is_needed = false;
        for group in self.list.iter_mut().filter(|group| group.takes_deltas()) {
            is_needed = true;
            self.are_alike |= !group.has_base;
            group.has_base = true;
        }
        if is_needed {
            self.base = Some(payload.into());
        }
    }

    /// Whether `payload` is the channel's latest publication, as far as that is known here.
    pub(super) fn is_latest(&mut self, payload: &[u8]) -> bool {
        // Before anybody takes deltas nobody has another base.
        **self.base.get_or_insert_with(|| payload.into()) == *payload
    }

    /// Puts a group where it belongs.
    fn place(&mut self, group: Group<M>) {
        let is_akin = |other: &Group<M>| other.wire == group.wire;
        let start = self.list.iter().position(is_akin);
        let start = start.unwrap_or(self.list.len());
        let akin = self.list.iter().skip(start);
        let before = akin.take_while(|other| is_akin(other) && other.rank() <= group.rank());
        let at = start + before.count();
        if self.list.is_empty() {
            self.list.reserve_exact(1);
        }
        self.list.insert(at, group);
    }

    /// Makes one of those groups that have become alike. What this tick had for them has been written.
    fn unite(&mut self) {
        let apart: Vec<_> = self
            .list
            .extract_if(.., |group| group.takes_deltas())
            .collect();
        for group in apart {
            match self.list.iter_mut().find(|other| other.is_like(&group)) {
                Some(other) => other.absorb(group),
                None => self.place(group),
            }
        }
    }

    fn forget_what_nobody_needs(&mut self) {
        if !self.list.iter().any(Group::takes_deltas) {
            self.base = None;
        }
        if self.list.is_empty() {
            self.list = Vec::new();
        }
    }
}

impl<M: Member> Groups<M> {
    /// Takes out everyone who relies on getting everything; what this tick had for them is dropped.
    pub(super) fn take_positioned(&mut self) -> Vec<Rc<M>> {
        let lost = self
            .list
            .extract_if(.., |group| group.delivery.positioned)
            .flat_map(Group::into_members)
            .collect();
        self.forget_what_nobody_needs();
        lost
    }

    /// Gives a member that was sent everything by itself so far its place among those on its link.
    ///
    /// Those who take no casts are in one topic of the channel, whatever they take: it only says how far they have come,
    /// so that whoever goes from one group to another stays where it is.
    pub(super) fn seat(&mut self, id: u32, seat: &Seat, channel: &Channel, offset: Option<u64>) {
        let is_its_own = |group: &Group<M>| group.members.contains_key(&id);
        let Some(at) = self.list.iter().position(is_its_own) else {
            return;
        };
        let takes_casts = self.list.get(at).is_some_and(Group::takes_casts);
        let mut akin = self
            .list
            .iter()
            .enumerate()
            .filter(|(other, group)| *other == at || !takes_casts && !group.takes_casts());
        let topic = akin.find_map(|(_, group)| group.on_links.as_ref()?.topic(seat).cloned());
        let topic = topic.unwrap_or_else(|| Topic::new(seat, channel));
        topic.join(seat, offset, takes_casts);
        if let Some(group) = self.list.get_mut(at)
            && let Some(member) = group.members.swap_remove(&id)
        {
            let on_links = &mut group.on_links;
            let on_links = on_links.get_or_insert_with(|| Box::new(OnLinks::new()));
            on_links.insert(id, member, topic);
        }
    }

    /// Adds a member that is not in yet. `has_base`: it takes deltas and has the channel's latest publication.
    pub(super) fn insert(&mut self, member: &Rc<M>, delivery: Delivery, has_base: bool) {
        let mut own = Group::new(member.wire(), delivery, has_base);
        match self.list.iter_mut().find(|group| group.is_like(&own)) {
            Some(group) => {
                group.members.insert(member.id(), member.clone());
            }
            None => {
                own.members.insert(member.id(), member.clone());
                self.place(own);
            }
        }
    }

    /// Whether the member was in.
    pub(super) fn remove(&mut self, id: u32) -> bool {
        let left = self.list.iter_mut().position(|group| group.remove(id));
        if let Some(at) = left
            && self.list.get(at).is_some_and(|group| group.len() == 0)
        {
            self.list.remove(at);
            self.forget_what_nobody_needs();
        }
        left.is_some()
    }

    /// Writes this tick's frames to everyone; returns how many copies were refused.
    pub(super) fn flush(&mut self, fanout: &mut Fanout) -> u64 {
        let refused = self.list.iter_mut().map(|group| group.flush(fanout)).sum();
        if std::mem::take(&mut self.are_alike) {
            self.unite();
        }
        refused
    }
}

impl<M> Group<M> {
    fn new(wire: Wire, delivery: Delivery, has_base: bool) -> Self {
        Self {
            wire,
            delivery,
            has_base,
            members: IndexMap::new(),
            on_links: None,
            frames: BytesMut::new(),
            unflushed: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        let on_links = self.on_links.as_ref();
        self.members.len() + on_links.map_or(0, |on_links| on_links.len())
    }

    fn members(&self) -> impl Iterator<Item = &Rc<M>> {
        let on_links = self.on_links.iter();
        let on_links = on_links.flat_map(|on_links| on_links.members());
        self.members.values().chain(on_links)
    }

    /// Whether all of its members get the same, always: it may be cast.
    fn takes_casts(&self) -> bool {
        self.delivery.mode == Mode::Full
    }

    /// What this tick has for each member ends with this publication of the channel's stream.
    pub(super) fn reach(&mut self, offset: u64) {
        if let Some(on_links) = &mut self.on_links {
            on_links.offset = Some(offset);
        }
    }

    pub(super) fn takes_deltas(&self) -> bool {
        self.delivery.mode == Mode::Delta
    }

    /// Whether its members are to get the same as those of `other`.
    fn is_like(&self, other: &Self) -> bool {
        self.wire == other.wire
            && self.has_base == other.has_base
            && self.delivery == other.delivery
    }

    /// Orders the groups of one wire.
    fn rank(&self) -> (bool, bool) {
        (self.takes_deltas(), self.has_base)
    }

    /// Takes in the members of a group that is like it, by moving the fewer ones.
    fn absorb(&mut self, mut other: Self) {
        if self.members.len() < other.members.len() {
            std::mem::swap(&mut self.members, &mut other.members);
        }
        self.members.extend(other.members);
        match (&mut self.on_links, other.on_links) {
            (Some(own), Some(other)) => own.absorb(*other),
            (own @ None, other) => *own = other,
            (Some(_), None) => {}
        }
    }
}

impl<M: Member> Group<M> {
    fn into_members(self) -> impl Iterator<Item = Rc<M>> {
        let on_links = self.on_links.into_iter();
        let on_links = on_links.flat_map(|on_links| on_links.into_members());
        self.members.into_values().chain(on_links)
    }

    fn remove(&mut self, id: u32) -> bool {
        let members = &mut self.members;
        let is_removed = members.swap_remove(&id).is_some();
        if is_removed && members.capacity() > 64 && members.len() < members.capacity() / 4 {
            members.shrink_to(members.len() * 2);
        }
        if is_removed {
            return true;
        }
        let Some(on_links) = &mut self.on_links else {
            return false;
        };
        let was_on_link = on_links.remove(id);
        if on_links.len() == 0 {
            self.on_links = None;
        }
        was_on_link
    }

    /// A message cannot be expressed on this wire.
    pub(super) fn inexpressible(&self) {
        self.members().for_each(|member| member.inexpressible());
    }

    /// Returns how many copies were refused.
    pub(super) fn flush(&mut self, fanout: &mut Fanout) -> u64 {
        let messages = u64::from(std::mem::take(&mut self.unflushed));
        if self.frames.is_empty() {
            return 0;
        }
        let mut refused = 0;
        let frames = std::mem::take(&mut self.frames).freeze();
        for member in self.members.values() {
            if member.deliver(&frames) {
                fanout.delivered += messages;
            } else {
                refused += messages;
            }
        }
        if let Some(on_links) = &self.on_links {
            on_links.flush(&frames, messages, self.takes_casts(), fanout);
        }
        refused
    }
}
