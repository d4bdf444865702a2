//! What a member to be can be given: proved to be everything that it missed, or nothing.
//!
//! Owns: the judgement of what is known of a stream, here and by a page of its history, against what the member last saw.

use std::time::Instant;

use flotilla_shared::broker::{Epoch, HistoryPage, HistoryQuery, StoredPublication};

use super::stream::Stream;
use super::{Recover, RecoveryKind};

/// What is to be given to a member; `None`: unrecoverable.
pub(super) type Found = Option<Vec<StoredPublication>>;

/// What a page says for one member to be.
pub(super) enum Judgement {
    Done(Found),
    WaitUntil(u64),
    /// It was read from where not everything is known yet, too early, or from further back than this member needs.
    ReadAgain,
}

/// A page, and what it was asked for; for several, maybe.
#[derive(Clone, Copy)]
pub(super) struct Read<'a> {
    pub(super) query: HistoryQuery,
    pub(super) page: &'a HistoryPage,
}

impl Read<'_> {
    /// Whether it has all that is behind `since`.
    fn is_complete_from(&self, since: u64) -> bool {
        let page = self.page;
        // From the beginning all is there that has been kept, and nothing says that more has been. Whoever has seen something
        // can have it better.
        if page.is_complete && (since == 0 || self.query.since != Some(0)) {
            return true;
        }
        // What goes first is the oldest: where something as old is kept, nothing behind it has gone. How many there are
        // says nothing, since the limit may have counted what has expired. No removal stands behind the newest: it
        // would have taken that along.
        let (oldest, newest) = (page.publications.first(), page.publications.last());
        oldest.is_some_and(|oldest| oldest.offset <= since)
            && newest.is_some_and(|newest| newest.offset >= page.end.offset)
    }
}

impl Recover {
    fn is_of(&self, life: Epoch) -> bool {
        self.epoch.is_none_or(|epoch| epoch == life)
    }
}

impl<M> Stream<M> {
    /// What can be said without asking the broker.
    pub(super) fn find(&self, recover: &Recover, now: Instant) -> Option<Found> {
        if !self.is_certain(now) {
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
    pub(super) fn judge(&self, recover: &Recover, read: Read<'_>, now: Instant) -> Judgement {
        let page = read.page;
        if let Some(found) = self.find(recover, now) {
            return Judgement::Done(found);
        }
        if page.end.epoch != self.position.epoch {
            return Judgement::Done(None);
        }
        match recover.kind {
            RecoveryKind::Stream if !recover.is_of(page.end.epoch) => Judgement::Done(None),
            RecoveryKind::Stream => self.judge_stream(recover, read, now),
            RecoveryKind::Cache => self.judge_cache(page),
        }
    }

    fn judge_stream(&self, recover: &Recover, read: Read<'_>, now: Instant) -> Judgement {
        let Read { query, page } = read;
        let (since, here, end) = (recover.offset, self.position.offset, page.end.offset);
        if since > end {
            // Nobody can have seen that; or the read came from where it is not known yet.
            return Judgement::ReadAgain;
        }
        if since > here {
            return Judgement::WaitUntil(since);
        }
        if !read.is_complete_from(since) {
            return if query.since == Some(since) {
                Judgement::Done(None)
            } else {
                Judgement::ReadAgain
            };
        }
        // What is newer will be delivered; what is newer than the page, the ring may have.
        let mut missed = page.publications.clone();
        missed.retain(|publication| (since + 1..=here).contains(&publication.offset));
        if end < here {
            match self.ring.since(end, now) {
                Some(rest) => missed.extend(rest.cloned()),
                None => return Judgement::ReadAgain,
            }
        }
        Judgement::Done((missed.len() <= recover.limit).then_some(missed))
    }

    fn judge_cache(&self, page: &HistoryPage) -> Judgement {
        let (here, end) = (self.position.offset, page.end.offset);
        match page.publications.first() {
            // As the latest one here it would come twice: once now, and once when it is delivered.
            Some(newest) if newest.offset > here => Judgement::WaitUntil(newest.offset),
            _ if end < here => Judgement::ReadAgain,
            newest => Judgement::Done(newest.map(|newest| vec![newest.clone()])),
        }
    }
}
