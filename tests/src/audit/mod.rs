//! Whether clients were given what was published: all of it, once, and in order.
//!
//! Publishers note in a [`Ledger`] what was acknowledged, and at which place of the stream. Each client notes in a
//! [`Record`] what it was given and what it was told. The ledger then judges every record.
//!
//! Pure: knows neither clients nor the network.

mod judge;
mod ledger;
mod record;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use judge::Losses;
pub use ledger::Ledger;
pub use record::{Event, Record};

/// What is published, as its payload says it: the numbers of one publisher grow by one, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Message {
    /// Whose it is. Each publisher writes to one channel only.
    pub publisher: usize,
    /// Its number among this publisher's messages.
    pub number: u64,
}

impl fmt::Display for Message {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}#{}", self.publisher, self.number)
    }
}

/// A place in a channel's stream, as publishers and clients are told it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Position {
    /// Which life of the stream.
    pub epoch: String,
    /// Of the publication that it is just behind; 0: before the first.
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} of {:?}", self.offset, self.epoch)
    }
}
