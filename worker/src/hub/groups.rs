//! The members of one channel, by what they are sent.
//!
//! Owns: who is in a channel, and the frames of the current tick. Members who get the same bytes are one group, so
//! that a message costs one encoding for each group and one write for each member. Most channels have one group.

use std::rc::Rc;

use bytes::BytesMut;
use indexmap::IndexMap;

use super::{Fanout, Member};
use crate::wire::Wire;

/// How a member takes what happens in a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Delivery {
    /// Whether it is told who comes and goes.
    pub(crate) join_leave: bool,
    /// Whether it may rely on getting every publication: where one is missing, nothing later reaches it.
    pub(crate) positioned: bool,
}

#[derive(Debug)]
pub(super) struct Group<M> {
    pub(super) wire: Wire,
    pub(super) delivery: Delivery,
    members: IndexMap<u32, Rc<M>>,
    /// What this tick has for each member.
    pub(super) frames: BytesMut,
    /// Messages in `frames`.
    pub(super) unflushed: u32,
}

/// Groups with the same wire stand next to each other.
#[derive(Debug)]
pub(super) struct Groups<M>(Vec<Group<M>>);

impl<M> Groups<M> {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Group<M>> {
        self.0.iter_mut()
    }

    /// Takes out everyone who relies on getting everything; what this tick had for them is dropped.
    pub(super) fn take_positioned(&mut self) -> Vec<Rc<M>> {
        let lost = self.0.extract_if(.., |group| group.delivery.positioned);
        lost.flat_map(|group| group.members.into_values()).collect()
    }
}

impl<M: Member> Groups<M> {
    /// Adds a member that is not in yet.
    pub(super) fn insert(&mut self, member: &Rc<M>, delivery: Delivery) {
        let wire = member.wire();
        let fits = |group: &Group<M>| group.wire == wire && group.delivery == delivery;
        let at = self.0.iter().position(fits).unwrap_or_else(|| {
            if self.0.is_empty() {
                self.0.reserve_exact(1);
            }
            let akin = self.0.iter().rposition(|group| group.wire == wire);
            let at = akin.map_or(self.0.len(), |at| at + 1);
            self.0.insert(at, Group::new(wire, delivery));
            at
        });
        if let Some(group) = self.0.get_mut(at) {
            group.members.insert(member.id(), member.clone());
        }
    }

    /// Whether the member was in.
    pub(super) fn remove(&mut self, id: u32) -> bool {
        let left = self.0.iter_mut().position(|group| group.remove(id));
        if let Some(at) = left
            && self.0.get(at).is_some_and(|group| group.len() == 0)
        {
            self.0.remove(at);
            if self.0.is_empty() {
                self.0 = Vec::new();
            }
        }
        left.is_some()
    }

    /// Writes this tick's frames to everyone.
    pub(super) fn flush(&mut self, fanout: &mut Fanout) {
        for group in &mut self.0 {
            group.flush(fanout);
        }
    }
}

impl<M> Group<M> {
    fn new(wire: Wire, delivery: Delivery) -> Self {
        Self {
            wire,
            delivery,
            members: IndexMap::new(),
            frames: BytesMut::new(),
            unflushed: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }
}

impl<M: Member> Group<M> {
    fn remove(&mut self, id: u32) -> bool {
        let members = &mut self.members;
        let is_removed = members.swap_remove(&id).is_some();
        if is_removed && members.capacity() > 64 && members.len() < members.capacity() / 4 {
            members.shrink_to(members.len() * 2);
        }
        is_removed
    }

    /// A message cannot be expressed on this wire.
    pub(super) fn inexpressible(&self) {
        self.members
            .values()
            .for_each(|member| member.inexpressible());
    }

    pub(super) fn flush(&mut self, fanout: &mut Fanout) {
        let messages = u64::from(std::mem::take(&mut self.unflushed));
        if self.frames.is_empty() {
            return;
        }
        let frames = std::mem::take(&mut self.frames).freeze();
        for member in self.members.values() {
            if member.deliver(&frames) {
                fanout.delivered += messages;
            } else {
                fanout.refused += messages;
            }
        }
    }
}
