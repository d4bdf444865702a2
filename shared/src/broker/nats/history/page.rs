//! What was read of a stream, and what that proves.
//!
//! Pure: no requests are made here. Messages are displaced by newer ones, expire, and are purged, always from the old
//! end of a channel. So if a message is there, everything behind it is.

use std::time::SystemTime;

use super::stored::Stored;
use crate::broker::{
    Epoch, HistoryPage, HistoryQuery, Retention, StoredPublication, StreamPosition,
};

/// Messages of one channel, one after another.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    pub(super) messages: Vec<Stored>,
    /// How many there were from the first one on.
    pub(super) total: u64,
    /// More was appended while they were read, so that some may have been displaced before their turn came.
    pub(super) may_have_gaps: bool,
    /// They have been, and are left out with what was before them.
    pub(super) is_torn: bool,
}

impl Scanned {
    /// This is the first message that was still there when all had been read; `None`: none was. Behind it, nothing can
    /// have been displaced before its turn came.
    pub(super) fn forget_before(&mut self, kept: Option<u64>) {
        let before = self.messages.len();
        self.messages
            .retain(|stored| kept.is_some_and(|kept| stored.sequence >= kept));
        let forgotten = before - self.messages.len();
        self.total = self.total.saturating_sub(forgotten as u64);
        self.is_torn |= forgotten > 0;
    }
}

/// The answer, if where the channel ends is all that is needed for it.
pub(super) fn of_the_end(
    last: Option<&Stored>,
    epoch: Epoch,
    retention: Retention,
    query: HistoryQuery,
) -> Option<HistoryPage> {
    let offset = last.map_or(0, |last| last.sequence);
    let end = StreamPosition { offset, epoch };
    let is_forward = !query.reverse;
    let page = |publications: Vec<StoredPublication>, is_complete| {
        Some(HistoryPage {
            publications,
            end,
            is_complete,
        })
    };
    let Some(last) = last else {
        return page(Vec::new(), is_forward && query.since == Some(0));
    };
    if last.removed.is_some() {
        let has_seen_all = query.since == Some(offset) || query.since == last.removed;
        return page(Vec::new(), is_forward && has_seen_all);
    }
    let is_behind = is_forward && query.since.is_some_and(|since| since >= offset);
    if query.limit == 0 || is_behind {
        return page(Vec::new(), is_forward && query.since == Some(offset));
    }
    if query.reverse && query.since.is_none() && query.limit == 1 {
        let newest = (!is_expired(last, retention)).then(|| publication(last.clone()));
        return page(newest.into_iter().collect(), false);
    }
    None
}

/// Whether what is there proves that nothing behind the position is missing.
fn has_proof(scanned: &Scanned, query: HistoryQuery) -> bool {
    let Some(since) = query.since.filter(|_| !query.reverse) else {
        return false;
    };
    let removal = removal(scanned).and_then(|at| scanned.messages.get(at));
    match removal {
        Some(removal) => removal.sequence == since || removal.removed == Some(since),
        None => {
            let first = scanned.messages.first();
            first.is_some_and(|first| first.sequence == since)
        }
    }
}

/// The answer, for a channel whose messages were read up to `end` if the limit did not come before.
pub(super) fn of(
    scanned: Scanned,
    end: u64,
    epoch: Epoch,
    size_min: u64,
    retention: Retention,
    query: HistoryQuery,
) -> HistoryPage {
    let is_from_the_beginning = query.since == Some(0)
        && !scanned.is_torn
        && removal(&scanned).is_none()
        && scanned.total <= size_min.min(u64::from(retention.size));
    let is_proven = has_proof(&scanned, query) || is_from_the_beginning;
    let last = scanned.messages.last().map_or(0, |last| last.sequence);
    let mut is_complete = !query.reverse && is_proven && last >= end;
    let hidden = scanned.total.saturating_sub(u64::from(retention.size));
    let removed = removal(&scanned).map_or(0, |at| at + 1);
    let mut publications = Vec::new();
    for (at, stored) in scanned.messages.into_iter().enumerate() {
        let is_asked_for = match query.since {
            None => true,
            Some(since) if query.reverse => stored.sequence < since,
            Some(since) => stored.sequence > since,
        };
        if !is_asked_for || at < removed {
            continue;
        }
        if (at as u64) < hidden || is_expired(&stored, retention) {
            is_complete = false;
            continue;
        }
        publications.push(publication(stored));
    }
    if query.reverse {
        publications.reverse();
    }
    is_complete &= publications.len() <= query.limit;
    publications.truncate(query.limit);
    let offset = end.max(last);
    HistoryPage {
        publications,
        end: StreamPosition { offset, epoch },
        is_complete,
    }
}

/// The place of the last removal.
fn removal(scanned: &Scanned) -> Option<usize> {
    let messages = &scanned.messages;
    messages.iter().rposition(|stored| stored.removed.is_some())
}

/// By this machine's clock, against the server's.
fn is_expired(stored: &Stored, retention: Retention) -> bool {
    let age = SystemTime::now().duration_since(stored.time);
    age.is_ok_and(|age| age >= retention.ttl)
}

fn publication(stored: Stored) -> StoredPublication {
    StoredPublication {
        offset: stored.sequence,
        payload: stored.payload,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RETENTION: Retention = Retention {
        size: 3,
        ttl: Duration::from_secs(60),
        meta_ttl: Duration::from_secs(600),
    };

    fn message(sequence: u64) -> Stored {
        Stored {
            sequence,
            time: SystemTime::now(),
            payload: "x".into(),
            removed: None,
            version: 0,
            version_epoch: String::new(),
        }
    }

    fn removal(sequence: u64, removed: u64) -> Stored {
        Stored {
            removed: Some(removed),
            ..message(sequence)
        }
    }

    fn since(since: u64) -> HistoryQuery {
        HistoryQuery {
            limit: usize::MAX,
            since: Some(since),
            reverse: false,
        }
    }

    /// What is read since a position of a channel with these messages, and whether it is complete.
    fn read(messages: &[Stored], query: HistoryQuery) -> (Vec<u64>, bool) {
        let from = query.since.filter(|_| !query.reverse).unwrap_or_default();
        let found = messages.iter().filter(|stored| stored.sequence >= from);
        let messages: Vec<Stored> = found.cloned().collect();
        let end = messages.last().map_or(0, |last| last.sequence);
        let scanned = Scanned {
            total: messages.len() as u64,
            messages,
            ..Scanned::default()
        };
        let page = of(scanned, end, Epoch(1), 3, RETENTION, query);
        let offsets = page.publications.iter().map(|stored| stored.offset);
        (offsets.collect(), page.is_complete)
    }

    #[test]
    fn a_position_that_is_there_proves_all_behind_it() {
        let messages = [4, 7, 9, 12].map(message);
        assert_eq!(read(&messages, since(4)), (vec![7, 9, 12], true));
        assert_eq!(read(&messages, since(9)), (vec![12], true));
        assert_eq!(read(&messages, since(3)), (vec![7, 9, 12], false));
        assert_eq!(read(&messages, since(8)), (vec![9, 12], false));
    }

    #[test]
    fn from_the_beginning_fewer_than_could_be_kept_are_all() {
        assert_eq!(
            read(&[4, 7, 9].map(message), since(0)),
            (vec![4, 7, 9], true)
        );
        assert_eq!(
            read(&[4, 7, 9, 12].map(message), since(0)),
            (vec![7, 9, 12], false)
        );
    }

    #[test]
    fn a_removal_hides_what_was_before_it_and_proves_all_behind_it() {
        let messages = [message(2), message(4), removal(5, 4), message(9)];
        assert_eq!(read(&messages, since(4)), (vec![9], true));
        assert_eq!(read(&messages, since(5)), (vec![9], true));
        assert_eq!(read(&messages, since(2)), (vec![9], false));
        assert_eq!(read(&messages, since(0)), (vec![9], false));
        let purged = &messages[2..];
        assert_eq!(read(purged, since(4)), (vec![9], true));
        assert_eq!(read(purged, since(2)), (vec![9], false));
    }

    #[test]
    fn what_was_displaced_while_it_was_read_is_missing_and_nothing_before_it_is_given() {
        let read = |kept, query| {
            let mut scanned = Scanned {
                messages: [4, 9, 12].map(message).to_vec(),
                total: 3,
                may_have_gaps: true,
                is_torn: false,
            };
            scanned.forget_before(Some(kept));
            let page = of(scanned, 9, Epoch(1), 3, RETENTION, query);
            assert_eq!(page.end.offset, 12, "more was appended meanwhile");
            let offsets = page.publications.iter().map(|stored| stored.offset);
            (offsets.collect::<Vec<_>>(), page.is_complete)
        };
        assert_eq!(read(4, since(4)), (vec![9, 12], true));
        assert_eq!(read(4, since(0)), (vec![4, 9, 12], true));
        // Between 4 and 9 there may have been another one.
        assert_eq!(read(9, since(4)), (vec![9, 12], false));
        assert_eq!(read(9, since(0)), (vec![9, 12], false));
        assert_eq!(read(9, since(3)), (vec![9, 12], false));
        assert_eq!(read(9, since(9)), (vec![12], true));
    }

    #[test]
    fn what_has_expired_is_missing_and_the_position_may_have() {
        let old = Stored {
            time: SystemTime::now() - RETENTION.ttl,
            ..message(4)
        };
        let messages = [old, message(7)];
        assert_eq!(read(&messages, since(4)), (vec![7], true));
        assert_eq!(read(&messages, since(0)), (vec![7], false));
    }

    #[test]
    fn where_the_channel_ends_answers_what_asks_for_no_more() {
        let at_end =
            |last: Option<Stored>, query| of_the_end(last.as_ref(), Epoch(1), RETENTION, query);
        let complete = |page: Option<HistoryPage>| page.map(|page| page.is_complete);
        assert_eq!(complete(at_end(None, since(0))), Some(true));
        assert_eq!(complete(at_end(None, since(1))), Some(false));
        assert_eq!(complete(at_end(Some(message(7)), since(7))), Some(true));
        assert_eq!(complete(at_end(Some(message(7)), since(8))), Some(false));
        assert_eq!(complete(at_end(Some(message(7)), since(6))), None);
        assert_eq!(complete(at_end(Some(removal(7, 4)), since(4))), Some(true));
        assert_eq!(complete(at_end(Some(removal(7, 4)), since(3))), Some(false));
    }
}
