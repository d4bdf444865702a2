//! Recovery: what a member missed while it was away, proved to be everything, or not given at all.
//!
//! Owns: the judgement of what is known of a stream against what a member last saw. A member that is recovering gets
//! nothing live; the moment it becomes a member it has been given everything up to the channel's position, so that
//! what follows is exactly the rest.

use std::rc::Rc;
use std::time::{Duration, Instant};

use flotilla_shared::broker::{
    Epoch, HistoryPage, HistoryQuery, StoredPublication, StreamPosition,
};
use flotilla_shared::protocol::types::Publication;

use super::doubt::{Check, Learnt};
use super::stream::Stream;
use super::{Delivery, Hub, Joined, Member, Recover, RecoveryKind, slot_of};
use crate::stored::read_marked;

/// How much longer than asked for a read may be: what is published meanwhile must not make it incomplete.
const READ_AHEAD: usize = 64;

/// How long the broker may take to deliver what it is known to have. After that it has lost it.
const PATIENCE: Duration = Duration::from_secs(2);

/// A member to be.
#[derive(Debug)]
pub(super) struct Recovering<M> {
    pub(super) member: Rc<M>,
    pub(super) delivery: Delivery,
    pub(super) recover: Recover,
    pub(super) ticket: u32,
    pub(super) phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The shard reads the history.
    Fetching,
    /// This shard is behind what the member has, or behind what was read: it waits for the broker to deliver.
    Waiting {
        until: u64,
        /// Since when, once the hub has looked at the time.
        since: Option<Instant>,
    },
    /// Continuity was lost meanwhile; to be told at the end of the tick.
    Failed,
}

/// What is to be given to a member; `None`: unrecoverable.
pub(super) type Found = Option<Vec<StoredPublication>>;

enum Judgement {
    Done(Found),
    WaitUntil(u64),
}

impl Recover {
    fn is_of(&self, life: Epoch) -> bool {
        self.epoch.is_none_or(|epoch| epoch == life)
    }

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
    /// What can be said without asking the broker.
    pub(super) fn find(&self, recover: &Recover, now: Instant) -> Option<Found> {
        if self.doubt.is_some() {
            return None;
        }
        let here = self.position;
        let is_of_this_life = recover.is_of(here.epoch);
        if is_of_this_life && recover.offset == here.offset {
            return Some(Some(Vec::new()));
        }
        match recover.kind {
            RecoveryKind::Stream if !is_of_this_life => Some(None),
            RecoveryKind::Stream if recover.offset > here.offset => None,
            RecoveryKind::Stream => {
                let missed: Vec<_> = self.ring.since(recover.offset, now)?.cloned().collect();
                Some((missed.len() <= recover.limit).then_some(missed))
            }
            RecoveryKind::Cache => {
                let newest = self.ring.newest(now)?;
                Some(Some(vec![newest.clone()]))
            }
        }
    }

    /// What can be said now that the broker has been asked.
    fn judge(&self, recover: &Recover, page: HistoryPage, now: Instant) -> Judgement {
        if let Some(found) = self.find(recover, now) {
            return Judgement::Done(found);
        }
        if page.end.epoch != self.position.epoch {
            return Judgement::Done(None);
        }
        match recover.kind {
            RecoveryKind::Stream if !recover.is_of(page.end.epoch) => Judgement::Done(None),
            RecoveryKind::Stream => self.judge_stream(recover, page, now),
            RecoveryKind::Cache => self.judge_cache(page),
        }
    }

    fn judge_stream(&self, recover: &Recover, page: HistoryPage, now: Instant) -> Judgement {
        let (since, here, end) = (recover.offset, self.position.offset, page.end.offset);
        if since > end {
            // Nobody can have seen that; or the read came from where it is not known yet.
            return Judgement::Done(None);
        }
        if since > here {
            return Judgement::WaitUntil(since);
        }
        if !page.is_complete {
            return Judgement::Done(None);
        }
        // What is newer will be delivered; what is newer than the page, the ring may have.
        let mut missed = page.publications;
        missed.retain(|publication| (since + 1..=here).contains(&publication.offset));
        if end < here {
            match self.ring.since(end, now) {
                Some(rest) => missed.extend(rest.cloned()),
                None => return Judgement::Done(None),
            }
        }
        Judgement::Done((missed.len() <= recover.limit).then_some(missed))
    }

    fn judge_cache(&self, page: HistoryPage) -> Judgement {
        let (here, end) = (self.position.offset, page.end.offset);
        match page.publications.into_iter().next() {
            // As the latest one here it would come twice: once now, and once when it is delivered.
            Some(newest) if newest.offset > here => Judgement::WaitUntil(newest.offset),
            Some(newest) if end >= here => Judgement::Done(Some(vec![newest])),
            _ => Judgement::Done(None),
        }
    }

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

    /// Takes out whoever needs not wait any longer.
    pub(super) fn take_settled(&mut self, now: Instant) -> Vec<(Recovering<M>, Found)> {
        let here = self.position.offset;
        let settled = self
            .recovering
            .extract_if(.., |recovering| match recovering.phase {
                Phase::Fetching => false,
                Phase::Waiting { until, .. } => until <= here,
                Phase::Failed => true,
            });
        let settled: Vec<_> = settled.collect();
        settled
            .into_iter()
            .map(|recovering| {
                let is_failed = recovering.phase == Phase::Failed;
                let found = if is_failed {
                    None
                } else {
                    self.find(&recovering.recover, now).flatten()
                };
                (recovering, found)
            })
            .collect()
    }

    /// Whether anyone waits for the broker to deliver, and whether in vain.
    pub(super) fn look_at_the_time(&mut self, now: Instant) -> Option<Waiting> {
        let mut looked = None;
        for recovering in &mut self.recovering {
            if let Phase::Waiting { since, .. } = &mut recovering.phase {
                let began = *since.get_or_insert(now);
                let is_over = now.saturating_duration_since(began) >= PATIENCE;
                looked = looked.max(Some(if is_over {
                    Waiting::InVain
                } else {
                    Waiting::Yet
                }));
            }
        }
        looked.max(self.look_at_the_doubt(now))
    }

    fn look_at_the_doubt(&mut self, now: Instant) -> Option<Waiting> {
        let Check::Behind { until, since } = self.doubt?.check else {
            return None;
        };
        let here = self.position;
        let is_delivered = until.epoch == here.epoch && until.offset <= here.offset;
        if is_delivered {
            self.doubt = None;
            return None;
        }
        let is_over = now.saturating_duration_since(since) >= PATIENCE;
        Some(if is_over {
            Waiting::InVain
        } else {
            Waiting::Yet
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Waiting {
    Yet,
    InVain,
}

impl<M: Member> Hub<M> {
    /// The history that a [`Fetch`] asked for; `None`: it could not be read. Returns who is to be answered: a member
    /// now, or, with an error, not one. Nobody if it has to wait further or has left. Whoever runs this writes the
    /// reply before anything else is delivered.
    pub(crate) fn fetched(
        &mut self,
        token: u64,
        ticket: u32,
        page: Option<HistoryPage>,
        now: Instant,
    ) -> Option<(Rc<M>, Result<Joined, ()>)> {
        let (index, slot) = slot_of(&mut self.slots, token)?;
        let stream = slot.stream.as_deref_mut()?;
        let is_asked = |recovering: &Recovering<M>| recovering.ticket == ticket;
        let at = stream.recovering.iter().position(is_asked)?;
        let Some(page) = page else {
            let recovering = stream.recovering.swap_remove(at);
            self.emptied.push(token);
            return Some((recovering.member, Err(())));
        };
        let is_other_life = page.end.epoch != stream.position.epoch;
        // After a lost connection, the page may have been read before that.
        let is_behind = !is_other_life
            && stream.has_loss()
            && stream.learn(page.end, now) == Learnt::SomethingIsLost;
        // Which of the two lives is the older one is not known here.
        if is_other_life && stream.doubt.is_none() && stream.doubt(false) {
            self.doubted.push_back(token);
        }
        let recover = &stream.recovering.get(at)?.recover;
        let judgement = stream.judge(recover, page, now);
        if is_behind {
            self.lose_continuity(token);
        }
        let (_, slot) = slot_of(&mut self.slots, token)?;
        let stream = slot.stream.as_deref_mut()?;
        match judgement {
            Judgement::WaitUntil(until) => {
                let since = None;
                stream.recovering.get_mut(at)?.phase = Phase::Waiting { until, since };
                self.waiting.push(token);
                None
            }
            Judgement::Done(found) => {
                let recovering = stream.recovering.swap_remove(at);
                let joined = slot.enter(&recovering.member, recovering.delivery, Some(found));
                self.subscriptions += 1;
                self.rolls.keep(index, slot);
                Some((recovering.member, Ok(joined)))
            }
        }
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
