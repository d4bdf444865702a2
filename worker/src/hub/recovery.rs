//! Recovery: what a member missed while it was away, proved to be everything, or not given at all.
//!
//! Owns: the way of a member to be, from read to read. A member that is recovering gets nothing live; the moment it
//! becomes a member it has been given everything up to the channel's position, so that what follows is exactly the rest.

use std::rc::Rc;
use std::time::Instant;

use flotilla_shared::broker::{
    Epoch, HistoryPage, HistoryQuery, StoredPublication, StreamPosition,
};
use flotilla_shared::channel::Channel;
use flotilla_shared::protocol::types::Publication;

use super::doubt::Learnt;
use super::joining::Fetched;
use super::judgement::{Found, Judgement, Read};
use super::slot::Slot;
use super::stream::Stream;
use super::{Delivery, Fetch, Hub, Joined, Member, Recover, RecoveryKind, slot_of};
use crate::stored::read_marked;

/// How much longer than asked for a read may be: what is published meanwhile must not make it incomplete.
const READ_AHEAD: usize = 64;

/// Most reads for one member: a broker that is behind has caught up by then.
const READS_MAX: u8 = 8;

/// A member to be.
#[derive(Debug)]
pub(super) struct Recovering<M> {
    pub(super) member: Rc<M>,
    pub(super) delivery: Delivery,
    pub(super) recover: Recover,
    pub(super) phase: Phase,
    /// Reads that have proved nothing.
    pub(super) reads: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The shard reads the history, with this ticket; for others, too, maybe.
    Fetching(u32),
    /// Somebody else's read is under way; the next one is for all who wait for it.
    Queued,
    /// This shard is behind what the member has, or behind what was read: it waits for the broker to deliver.
    Waiting {
        until: u64,
        /// Since when, once the hub has looked at the time.
        since: Option<Instant>,
    },
    /// Continuity was lost meanwhile; to be told at the end of the tick.
    Failed,
}

impl Recover {
    pub(super) fn query(&self) -> HistoryQuery {
        match self.kind {
            RecoveryKind::Stream => HistoryQuery {
                limit: self.limit.saturating_add(READ_AHEAD),
                since: Some(self.offset),
                reverse: false,
            },
            RecoveryKind::Cache => HistoryQuery {
                limit: 1,
                since: None,
                reverse: true,
            },
        }
    }
}

impl<M> Stream<M> {
    /// Continuity is lost: whoever waits for what was still to come waits in vain.
    pub(super) fn fail_waiting(&mut self) {
        for recovering in &mut self.recovering {
            if let Phase::Waiting { .. } = recovering.phase {
                recovering.phase = Phase::Failed;
            }
        }
    }

    /// Something is missing, it is not known what: nothing that was read before proves anything.
    pub(super) fn fail_recovering(&mut self) {
        for recovering in &mut self.recovering {
            recovering.phase = Phase::Failed;
        }
    }

    /// Takes out whoever needs not wait any longer. Who has waited, and for whom nothing is kept here, waits for the next
    /// read.
    pub(super) fn take_settled(&mut self, now: Instant) -> Vec<(Recovering<M>, Found)> {
        let here = self.position.offset;
        let is_settled = |recovering: &mut Recovering<M>| match recovering.phase {
            Phase::Fetching(_) | Phase::Queued => false,
            Phase::Waiting { until, .. } => until <= here,
            Phase::Failed => true,
        };
        let mut settled = Vec::new();
        let waited: Vec<_> = self.recovering.extract_if(.., is_settled).collect();
        for mut recovering in waited {
            let found = match recovering.phase {
                Phase::Failed => Some(None),
                _ => self.find(&recovering.recover, now),
            };
            if found.is_none() && recovering.reads < READS_MAX {
                recovering.reads += 1;
                recovering.phase = Phase::Queued;
                self.recovering.push(recovering);
            } else {
                settled.push((recovering, found.flatten()));
            }
        }
        settled
    }

    /// Whether somebody waits for the next read, and none of its kind is under way.
    pub(super) fn kind_to_read(&self) -> Option<RecoveryKind> {
        let queued = self
            .recovering
            .iter()
            .filter(|recovering| recovering.phase == Phase::Queued);
        queued
            .map(|recovering| recovering.recover.kind)
            .find(|kind| !self.is_being_read(*kind))
    }

    /// Takes in a member to be. What is to be read for it, if nothing is being read yet that it can wait for.
    pub(super) fn await_recovery(
        &mut self,
        member: &Rc<M>,
        delivery: Delivery,
        recover: Recover,
        ticket: u32,
    ) -> Option<HistoryQuery> {
        let phase = if self.is_being_read(recover.kind) {
            Phase::Queued
        } else {
            Phase::Fetching(ticket)
        };
        let query = (phase != Phase::Queued).then(|| recover.query());
        self.recovering.push(Recovering {
            member: member.clone(),
            delivery,
            recover,
            phase,
            reads: 0,
        });
        query
    }

    /// Whether a read of this kind is under way, for somebody who still waits for it.
    fn is_being_read(&self, kind: RecoveryKind) -> bool {
        self.recovering.iter().any(|recovering| {
            recovering.recover.kind == kind && matches!(recovering.phase, Phase::Fetching(_))
        })
    }

    /// One read for all who have waited for another one of this kind, unless there is one.
    fn next_read(&mut self, kind: RecoveryKind, ticket: u32) -> Option<HistoryQuery> {
        if self.is_being_read(kind) {
            return None;
        }
        let mut read: Option<HistoryQuery> = None;
        for recovering in &mut self.recovering {
            if recovering.phase == Phase::Queued && recovering.recover.kind == kind {
                recovering.phase = Phase::Fetching(ticket);
                let own = recovering.recover.query();
                read = Some(read.map_or(own, |others| HistoryQuery {
                    limit: others.limit.max(own.limit),
                    since: others.since.min(own.since),
                    reverse: own.reverse,
                }));
            }
        }
        read
    }
}

impl<M: Member> Hub<M> {
    /// The history that a [`Fetch`] asked for; `None`: it could not be read. Whoever runs this writes the replies before
    /// anything else is delivered.
    pub(crate) fn fetched(
        &mut self,
        fetch: Fetch,
        page: Option<&HistoryPage>,
        now: Instant,
    ) -> Fetched<M> {
        let mut fetched = Fetched {
            answers: Vec::new(),
            again: None,
        };
        let token = fetch.token;
        if let Some(page) = page {
            self.learn_from(token, page.end, now);
        }
        self.tickets = self.tickets.wrapping_add(1);
        let ticket = self.tickets;
        let kind = if fetch.query.reverse {
            RecoveryKind::Cache
        } else {
            RecoveryKind::Stream
        };
        let Some((index, slot)) = slot_of(&mut self.slots, token) else {
            return fetched;
        };
        let Some(stream) = &mut slot.stream else {
            return fetched;
        };
        let is_asked =
            |recovering: &mut Recovering<M>| recovering.phase == Phase::Fetching(fetch.ticket);
        let asked: Vec<_> = stream.recovering.extract_if(.., is_asked).collect();
        for recovering in asked {
            let joined = match page {
                Some(page) => slot.recovered(
                    recovering,
                    Read {
                        query: fetch.query,
                        page,
                    },
                    now,
                ),
                None => Some((recovering.member, Err(()))),
            };
            self.subscriptions += usize::from(matches!(joined, Some((_, Ok(_)))));
            fetched.answers.extend(joined);
        }
        self.rolls.keep(index, slot);
        let next = slot.stream.as_mut();
        let next = next.and_then(|stream| stream.next_read(kind, ticket));
        fetched.again = next.map(|query| Fetch {
            token,
            ticket,
            query,
        });
        self.waiting.push(token);
        self.emptied.push(token);
        fetched
    }

    /// What to read for those who have waited in vain for it to be delivered. To be called after every tick.
    pub(crate) fn due_fetches(&mut self) -> Vec<(Channel, Fetch)> {
        let mut fetches = Vec::new();
        for token in std::mem::take(&mut self.queued) {
            let Some((_, slot)) = slot_of(&mut self.slots, token) else {
                continue;
            };
            let (Some(channel), Some(stream)) = (&slot.channel, &mut slot.stream) else {
                continue;
            };
            while let Some(kind) = stream.kind_to_read() {
                self.tickets = self.tickets.wrapping_add(1);
                let ticket = self.tickets;
                let query = stream.next_read(kind, ticket);
                fetches.extend(query.map(|query| {
                    let fetch = Fetch {
                        token,
                        ticket,
                        query,
                    };
                    (channel.clone(), fetch)
                }));
            }
        }
        fetches
    }

    /// Learns from a page where the stream ends, as far as that is not known for sure.
    fn learn_from(&mut self, token: u64, end: StreamPosition, now: Instant) {
        let slot = slot_of(&mut self.slots, token).map(|(_, slot)| slot);
        let Some(stream) = slot.and_then(|slot| slot.stream.as_mut()) else {
            return;
        };
        let is_other_life = end.epoch != stream.position.epoch;
        // After a lost connection, the page may have been read before that.
        if !is_other_life && stream.has_loss() && stream.learn(end, now) == Learnt::SomethingIsLost
        {
            self.lose_continuity(token);
        } else if is_other_life && !stream.is_doubtful() && stream.doubt(false) {
            // Which of the two lives is the older one is not known here.
            self.doubted.push_back(token);
        }
    }
}

impl<M: Member> Slot<M> {
    /// What a page says for one member to be: it is in, or waits further.
    fn recovered(
        &mut self,
        mut recovering: Recovering<M>,
        read: Read<'_>,
        now: Instant,
    ) -> Option<(Rc<M>, Result<Joined, ()>)> {
        let stream = self.stream.as_deref_mut()?;
        let found = match stream.judge(&recovering.recover, read, now) {
            Judgement::Done(found) => found,
            Judgement::ReadAgain if recovering.reads >= READS_MAX => None,
            Judgement::ReadAgain => {
                recovering.reads += 1;
                recovering.phase = Phase::Queued;
                stream.recovering.push(recovering);
                return None;
            }
            Judgement::WaitUntil(until) => {
                recovering.phase = Phase::Waiting { until, since: None };
                stream.recovering.push(recovering);
                return None;
            }
        };
        let Recovering {
            member, delivery, ..
        } = recovering;
        let joined = self.enter(&member, delivery, Some(found));
        Some((member, Ok(joined)))
    }
}

/// Reads a publication of the stream with its place and its mark for deltas; `None` if it is none of ours.
pub(super) fn publication_of(stored: StoredPublication, epoch: Epoch) -> Option<Publication> {
    let offset = stored.offset;
    let mut publication = read_marked(stored)?;
    place(&mut publication, StreamPosition { offset, epoch });
    Some(publication)
}

/// Says where a publication stands.
pub(super) fn place(publication: &mut Publication, position: StreamPosition) {
    publication.offset = position.offset;
    if position.offset == 1 {
        publication.epoch = position.epoch.to_string();
    }
}
