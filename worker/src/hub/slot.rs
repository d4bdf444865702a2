//! The state of one channel.
//!
//! Owns: how members enter, and what is told when the channel loses its continuity.

use std::rc::Rc;
use std::time::Instant;

use flotilla_shared::broker::{HistoryQuery, StreamPosition};
use flotilla_shared::channel::Channel;

use super::filters::{Filters, TooMany};
use super::groups::Groups;
use super::judgement::Found;
use super::recovery::publication_of;
use super::room::RingBytes;
use super::stream::Stream;
use super::{Delivery, History, Joined, Member, Mode, Recovery, Settled, Subscribing};
use crate::roll::Roll;

#[derive(Debug)]
pub(super) struct Slot<M> {
    pub(super) channel: Option<Channel>,
    pub(super) generation: u32,
    /// Whether the end of the tick has to look at it.
    pub(super) is_dirty: bool,
    pub(super) state: State<M>,
    pub(super) groups: Groups<M>,
    /// Of those who are in or on the way in. Boxed, since most channels have none.
    pub(super) filters: Option<Box<Filters>>,
    /// Of a channel with history; while it opens, what has arrived of it so far. Boxed, since most channels have none.
    pub(super) stream: Option<Box<Stream<M>>>,
    /// Where somebody wants to know who comes and goes. Boxed, since most channels have none.
    pub(super) roll: Option<Box<Roll>>,
}

#[derive(Debug)]
pub(super) enum State<M> {
    Free,
    Opening {
        joiners: Vec<(Rc<M>, Subscribing)>,
        /// Whether the broker dropped messages meanwhile.
        is_doubtful: bool,
    },
    Live,
    Lingering {
        since: Instant,
    },
}

/// How a member enters a live channel.
pub(super) enum Entry {
    In(Joined),
    /// Once the history has been read.
    Recovering(Option<HistoryQuery>),
}

impl<M> Slot<M> {
    pub(super) fn free(generation: u32) -> Self {
        Self {
            channel: None,
            generation,
            is_dirty: false,
            state: State::Free,
            groups: Groups::new(),
            filters: None,
            stream: None,
            roll: None,
        }
    }

    /// Whether nobody is in or on the way in.
    pub(super) fn is_empty(&self) -> bool {
        let recovering = self.stream.as_ref().map(|stream| &stream.recovering);
        self.groups.is_empty() && recovering.is_none_or(Vec::is_empty)
    }

    /// Whether somebody waits for a read that nobody has begun.
    pub(super) fn is_queued(&self) -> bool {
        let stream = self.stream.as_ref();
        stream.is_some_and(|stream| stream.kind_to_read().is_some())
    }

    /// Sees to it that a filter is shared with those who want the same.
    pub(super) fn unify(&mut self, mode: &mut Mode) -> Result<(), TooMany> {
        match mode {
            Mode::Filtered(filter) => self.filters.get_or_insert_default().unify(filter),
            Mode::Full | Mode::Delta => Ok(()),
        }
    }

    /// Has the end of the tick look at it.
    pub(super) fn touch(&mut self, index: u32, dirty: &mut Vec<u32>) {
        if !self.is_dirty {
            self.is_dirty = true;
            dirty.push(index);
        }
    }

    /// The broker confirmed the subscription; after that the channel's stream ended where `history` says, if it has one.
    /// True: it has to be queued for a check.
    pub(super) fn begin(
        &mut self,
        history: Option<History>,
        is_doubtful: bool,
        rings: &RingBytes,
        now: Instant,
    ) -> bool {
        self.state = State::Live;
        let Some(History { end, retention }) = history else {
            self.stream = None;
            return false;
        };
        let stream = self
            .stream
            .get_or_insert_with(|| Box::new(Stream::at(end, rings, now)));
        let is_other_life = stream.position.epoch != end.epoch;
        stream.ended_at(end, now);
        stream.retain(retention);
        // Which of the two lives is the older one is not known here.
        (is_doubtful || is_other_life) && stream.doubt(is_other_life)
    }
}

impl<M: Member> Slot<M> {
    /// Lets a member in, or notes what it waits for.
    pub(super) fn admit(
        &mut self,
        member: &Rc<M>,
        subscribing: Subscribing,
        ticket: u32,
        now: Instant,
    ) -> Entry {
        let Subscribing { delivery, recover } = subscribing;
        let Some(recover) = recover else {
            return Entry::In(self.enter(member, delivery, None));
        };
        let Some(stream) = &mut self.stream else {
            return Entry::In(self.enter(member, delivery, Some(None)));
        };
        if let Some(found) = stream.find(&recover, now) {
            return Entry::In(self.enter(member, delivery, Some(found)));
        }
        let query = stream.await_recovery(member, delivery, recover, ticket);
        Entry::Recovering(query)
    }

    /// Makes it a member: it gets what comes from now on. `found` is what it asked for, if it did.
    pub(super) fn enter(
        &mut self,
        member: &Rc<M>,
        delivery: Delivery,
        found: Option<Found>,
    ) -> Joined {
        let position = self.stream.as_ref().map(|stream| stream.position);
        let mut latest = None;
        let recovery = found.map(|found| match (found, position) {
            (Some(found), Some(StreamPosition { epoch, .. })) => {
                let mut publications = found
                    .into_iter()
                    .filter_map(|stored| publication_of(stored, epoch))
                    .collect();
                latest = delivery
                    .mode
                    .apply(&mut publications, member.wire().format());
                Recovery::Recovered(publications)
            }
            _ => Recovery::Unrecoverable,
        });
        // Where it is another one, a publication that is not kept has come in between.
        let has_base = latest.is_some_and(|latest| self.groups.is_latest(&latest));
        self.groups.insert(member, delivery, has_base);
        Joined { position, recovery }
    }

    /// Publications are missing, and nobody will bring them: takes out whoever relies on getting everything. Returns
    /// how many.
    pub(super) fn lose_continuity(&mut self, settled: &mut Vec<Settled<M>>) -> usize {
        if let Some(stream) = &mut self.stream {
            stream.fail_waiting();
        }
        let Some(channel) = &self.channel else {
            return 0;
        };
        let lost = self.groups.take_positioned();
        let count = lost.len();
        settled.extend(
            lost.into_iter()
                .map(|member| Settled::Insufficient(channel.clone(), member)),
        );
        count
    }

    /// Lets in whoever has waited for what the tick brought. Returns how many.
    pub(super) fn settle(&mut self, settled: &mut Vec<Settled<M>>, now: Instant) -> usize {
        let (Some(channel), Some(stream)) = (self.channel.clone(), &mut self.stream) else {
            return 0;
        };
        let ready = stream.take_settled(now);
        let count = ready.len();
        for (recovering, found) in ready {
            let joined = self.enter(&recovering.member, recovering.delivery, Some(found));
            settled.push(Settled::Joined(channel.clone(), recovering.member, joined));
        }
        count
    }
}
