//! The streams of all channels, within one bound of memory.
//!
//! Time is an argument, and must not go back. Whatever has a time to live is dropped after it: when its own channel is
//! spoken of, or in passing when another one is. Nothing needs a task of its own; a bus that nobody speaks to keeps
//! what it has.
//!
//! When all of it together grows beyond the bound, what would have expired first is dropped at once. As a publication
//! is only ever missing at the old end of its stream, that never makes an incomplete answer look complete.

use std::collections::{BTreeSet, HashMap};

use tokio::time::Instant;

use super::stream::{Part, Stream};
use crate::broker::{
    Append, Appended, Epoch, HistoryPage, HistoryQuery, Retention, Stamp, StreamPosition,
};
use crate::channel::Channel;

/// How many other streams a call looks after in passing: more than one, to catch up; few, to stay short.
const SWEPT_PER_CALL: usize = 4;

/// After so many forgotten streams, the channels that have none begin new lives altogether.
const FORGOTTEN_MAX: usize = 16 * 1024;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Streams {
    streams: HashMap<Channel, Stream>,
    /// Each stream once, by the time when it loses something next.
    due: BTreeSet<(Instant, Channel)>,
    bytes: usize,
    bytes_max: usize,
    /// The epoch in which a stream begins that was never there before. Without it, reading a channel would have to
    /// create something.
    fresh: Epoch,
    /// The epochs in which those begin that were there before.
    forgotten: HashMap<Channel, Epoch>,
}

/// What came of an append to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) appended: Appended,
    /// Publications that were dropped before their time to make room.
    pub(super) evicted: u64,
}

impl Streams {
    /// No streams yet, and at most about `bytes_max` of memory for them.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            streams: HashMap::new(),
            due: BTreeSet::new(),
            bytes: 0,
            bytes_max,
            fresh: new_epoch(),
            forgotten: HashMap::new(),
        }
    }

    /// Appends to a channel's stream, which begins with it if there is none.
    pub(super) fn append(
        &mut self,
        channel: &Channel,
        retention: Retention,
        append: &Append,
        now: Instant,
    ) -> Stored {
        self.sweep(now);
        let mut stream = match self.take_current(channel, Some(retention), now) {
            Some(stream) => stream,
            None => {
                let StreamPosition { epoch, .. } = self.start(channel);
                self.forgotten.remove(channel);
                Stream::new(epoch, retention, now)
            }
        };
        let appended = stream.append(append, now);
        self.put(channel, stream);
        Stored {
            appended,
            evicted: self.evict(),
        }
    }

    /// Reads a channel's stream. A channel that has none has an empty one.
    pub(super) fn read(
        &mut self,
        channel: &Channel,
        retention: Retention,
        query: HistoryQuery,
        now: Instant,
    ) -> HistoryPage {
        self.sweep(now);
        let Some(stream) = self.take_current(channel, Some(retention), now) else {
            return HistoryPage {
                publications: Vec::new(),
                end: self.start(channel),
                is_complete: query.since == Some(0) && !query.reverse,
            };
        };
        let page = stream.read(query);
        self.put(channel, stream);
        page
    }

    /// Where a channel's stream ends.
    pub(super) fn end(&mut self, channel: &Channel, now: Instant) -> StreamPosition {
        let Some(stream) = self.take_current(channel, None, now) else {
            return self.start(channel);
        };
        let end = stream.end();
        self.put(channel, stream);
        end
    }

    /// Forgets the publications of a channel's stream, and says where that stands in it; `None` if there are none.
    pub(super) fn clear(&mut self, channel: &Channel, now: Instant) -> Option<Stamp> {
        let mut stream = self.take_current(channel, None, now)?;
        let stamp = stream.clear(now);
        self.put(channel, stream);
        stamp
    }

    /// Where the stream of a channel that has none begins.
    fn start(&self, channel: &Channel) -> StreamPosition {
        StreamPosition {
            offset: 0,
            epoch: *self.forgotten.get(channel).unwrap_or(&self.fresh),
        }
    }

    /// Takes a stream out, to be changed. Whoever does puts it back, or forgets it.
    fn take(&mut self, channel: &Channel) -> Option<Stream> {
        let (channel, stream) = self.streams.remove_entry(channel)?;
        self.bytes -= cost(&channel, &stream);
        self.due.remove(&(stream.due(), channel));
        Some(stream)
    }

    /// Takes a stream out as it is by now, under a new retention if there is one; forgets it if nothing is left.
    fn take_current(
        &mut self,
        channel: &Channel,
        retention: Option<Retention>,
        now: Instant,
    ) -> Option<Stream> {
        let mut stream = self.take(channel)?;
        if let Some(retention) = retention {
            stream.retain(retention);
        }
        if stream.expire(now) {
            return Some(stream);
        }
        self.forget(channel);
        None
    }

    fn put(&mut self, channel: &Channel, stream: Stream) {
        self.bytes += cost(channel, &stream);
        self.due.insert((stream.due(), channel.clone()));
        self.streams.insert(channel.clone(), stream);
    }

    /// Sees to it that the channel's next stream is told from the one that was taken out.
    fn forget(&mut self, channel: &Channel) {
        if self.forgotten.len() >= FORGOTTEN_MAX {
            self.forgotten.clear();
            self.fresh = new_epoch();
        }
        self.forgotten.insert(channel.clone(), new_epoch());
    }

    /// Drops what is over, of some streams.
    fn sweep(&mut self, now: Instant) {
        for _ in 0..SWEPT_PER_CALL {
            let Some((_, channel)) = self.due.first().filter(|(due, _)| *due <= now).cloned()
            else {
                break;
            };
            if let Some(stream) = self.take_current(&channel, None, now) {
                self.put(&channel, stream);
            }
        }
    }

    /// Drops what is due next until all fits; counts the publications.
    fn evict(&mut self) -> u64 {
        let mut evicted = 0;
        while self.bytes > self.bytes_max {
            let Some((_, channel)) = self.due.first().cloned() else {
                break;
            };
            let Some(mut stream) = self.take(&channel) else {
                break;
            };
            match stream.drop_first() {
                Part::Publication => evicted += 1,
                Part::Key => {}
                Part::Numbering => {
                    self.forget(&channel);
                    continue;
                }
            }
            self.put(&channel, stream);
        }
        evicted
    }
}

/// What a channel's stream costs in memory, roughly.
fn cost(channel: &Channel, stream: &Stream) -> usize {
    channel.as_str().len() + stream.bytes()
}

/// Never 0, and not to be guessed.
fn new_epoch() -> Epoch {
    Epoch(rand::random_range(1..=u64::MAX))
}

#[cfg(test)]
mod tests;
