//! Those members of a group that are on links.
//!
//! Owns: who of the group is on which link, and how far what they got has brought them. What everyone takes whole is cast
//! once for each link. What only some take as it comes (deltas, what passes a filter) is sent to each, with its place.

use std::rc::Rc;

use bytes::Bytes;
use indexmap::IndexMap;

use super::{Fanout, Member};
use crate::link::{Seat, Topic};

/// See the module's documentation. Never empty.
#[derive(Debug)]
pub(super) struct OnLinks<M> {
    /// The last publication that was said to them; `None`: the channel has no positions, or nothing was.
    pub(super) offset: Option<u64>,
    audiences: Vec<Audience<M>>,
}

/// The members on one link.
#[derive(Debug)]
struct Audience<M> {
    topic: Rc<Topic>,
    members: IndexMap<u32, Rc<M>>,
}

impl<M> OnLinks<M> {
    pub(super) const fn new() -> Self {
        Self {
            offset: None,
            audiences: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        let audiences = self.audiences.iter();
        audiences.map(|audience| audience.members.len()).sum()
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &Rc<M>> {
        let audiences = self.audiences.iter();
        audiences.flat_map(|audience| audience.members.values())
    }

    /// What is cast on the link on which `seat` is, if somebody is there.
    pub(super) fn topic(&self, seat: &Seat) -> Option<&Rc<Topic>> {
        let mut topics = self.audiences.iter().map(|audience| &audience.topic);
        topics.find(|topic| topic.is_near(seat))
    }

    /// Adds a member that has joined the topic.
    pub(super) fn insert(&mut self, id: u32, member: Rc<M>, topic: Rc<Topic>) {
        let known = self.audiences.iter_mut();
        let mut known = known.filter(|audience| Rc::ptr_eq(&audience.topic, &topic));
        if let Some(audience) = known.next() {
            audience.members.insert(id, member);
            return;
        }
        self.audiences.push(Audience {
            topic,
            members: IndexMap::from([(id, member)]),
        });
    }

    /// Takes in those of a group that has become like this one. Both are in the same topics.
    pub(super) fn absorb(&mut self, other: Self) {
        self.offset = self.offset.or(other.offset);
        for audience in other.audiences {
            for (id, member) in audience.members {
                self.insert(id, member, audience.topic.clone());
            }
        }
    }
}

impl<M: Member> OnLinks<M> {
    /// Whether the member was in.
    pub(super) fn remove(&mut self, id: u32) -> bool {
        for (at, audience) in self.audiences.iter_mut().enumerate() {
            if let Some(member) = audience.members.swap_remove(&id) {
                audience.leave(&member);
                if audience.members.is_empty() {
                    self.audiences.swap_remove(at);
                }
                return true;
            }
        }
        false
    }

    /// Everyone leaves.
    pub(super) fn into_members(self) -> impl Iterator<Item = Rc<M>> {
        self.audiences.into_iter().flat_map(|mut audience| {
            let members = std::mem::take(&mut audience.members);
            members.values().for_each(|member| audience.leave(member));
            members.into_values()
        })
    }

    /// Says this tick's frames, so many messages, once for each link, or else to each member.
    pub(super) fn flush(&self, frames: &Bytes, messages: u64, casts: bool, fanout: &mut Fanout) {
        for audience in &self.audiences {
            // Whoever is left there is not lost yet: it may have been taken elsewhere, where it gets what it missed.
            if !audience.topic.is_heard() {
                continue;
            }
            let mut copies = 1;
            if casts {
                audience.topic.cast(frames, self.offset);
            } else {
                copies = audience.members.len();
                for seat in audience.members.values().filter_map(|member| member.seat()) {
                    audience.topic.send(seat, frames, self.offset);
                }
            }
            fanout.delivered += messages * audience.members.len() as u64;
            fanout.linked_bytes += copies * frames.len();
        }
    }
}

impl<M: Member> Audience<M> {
    fn leave(&self, member: &M) {
        if let Some(seat) = member.seat() {
            self.topic.leave(seat);
        }
    }
}
