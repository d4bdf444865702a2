//! What a broker remembers of a channel: its stream of publications, and positions in it.
//!
//! Owns: the words in which streams are spoken of. A stream gives every publication an offset; offsets grow, and need
//! not be dense. Each message of a stream says which offset came before it, so that whoever listens sees every gap. An
//! epoch names one life of a stream: a stream that has lost what it knew begins a new one, and no old position is ever
//! taken for a new one.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;

/// One life of a stream. To clients it is an opaque text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:x}", self.0)
    }
}

impl FromStr for Epoch {
    type Err = std::num::ParseIntError;

    /// Reads what [`Epoch`] displays. Whatever does not read was never an epoch of ours.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

/// A place in a channel's stream: just behind the publication with this offset, or behind a removal of the history,
/// which takes an offset, too; offset 0 is before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamPosition {
    /// Of the publication, from 1.
    pub offset: u64,
    /// The stream's life.
    pub epoch: Epoch,
}

/// Where a live message, or a removal of the history, stands in its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Its own place.
    pub position: StreamPosition,
    /// The offset of what is before it in this stream; 0: nothing that is kept.
    pub previous: u64,
}

/// How much of a channel is kept. The same for every call about one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Most publications; at least 1.
    pub size: u32,
    /// How long a publication can be read.
    pub ttl: Duration,
    /// How long the stream's numbering outlives its last publication; at least `ttl`.
    pub meta_ttl: Duration,
}

/// What is appended to a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Append {
    /// The publication, opaque.
    pub payload: Bytes,
    /// Appending the same key again within [`IDEMPOTENCY_WINDOW`] gives the first result and appends nothing. Empty: none.
    pub idempotency_key: String,
    /// A publication of a version that is not newer than the stream's is dropped. 0: none.
    pub version: u64,
    /// Versions of different epochs do not compare: the newcomer is taken.
    pub version_epoch: String,
}

/// How long an idempotency key is remembered.
pub const IDEMPOTENCY_WINDOW: Duration = Duration::from_secs(5 * 60);

/// What came of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is in the stream, and on its way to the subscribers.
    Published(StreamPosition),
    /// It was there already, at this place.
    Repeated(StreamPosition),
    /// Its version is not newer than the stream's, whose end is here.
    Outdated(StreamPosition),
}

impl Appended {
    /// The place that a publisher is told.
    #[must_use]
    pub fn position(self) -> StreamPosition {
        match self {
            Self::Published(position) | Self::Repeated(position) | Self::Outdated(position) => {
                position
            }
        }
    }
}

/// Which publications are asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Most publications; 0 asks for the stream's end only.
    pub limit: usize,
    /// Only what is behind (`reverse`: before) this offset. `None`: from the stream's beginning (`reverse`: its end).
    pub since: Option<u64>,
    /// Newest first.
    pub reverse: bool,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryPage {
    /// In the order that was asked for.
    pub publications: Vec<StoredPublication>,
    /// The stream's end at that time. A stream that nobody has appended to has an end, too: offset 0.
    pub end: StreamPosition,
    /// Whether the publications are all that lie between `since` and the end: nothing in between had been dropped or
    /// removed before, and nothing is left out by the limit. Only for a query with `since` that is not `reverse`.
    pub is_complete: bool,
}

/// One publication of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPublication {
    /// Its place.
    pub offset: u64,
    /// As it was appended.
    pub payload: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_reads_back() {
        for epoch in [0, 1, 255, u64::MAX] {
            assert_eq!(Epoch(epoch).to_string().parse(), Ok(Epoch(epoch)));
        }
    }

    #[test]
    fn what_clients_send_for_no_epoch_is_none() {
        for text in ["", "_", "xyz", "-1", "ffffffffffffffffff"] {
            assert!(text.parse::<Epoch>().is_err(), "{text:?}");
        }
    }
}
