//! What passes between the hub and the shard when members come: what they want, and what they got.

use std::rc::Rc;

use flotilla_shared::broker::{Epoch, HistoryQuery, Retention, StreamPosition};
use flotilla_shared::channel::Channel;
use flotilla_shared::protocol::types::Publication;

use super::Delivery;

/// What a member wants when it joins.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subscribing {
    /// From then on.
    pub(crate) delivery: Delivery,
    /// Of what was before.
    pub(crate) recover: Option<Recover>,
}

/// What a member saw last, and what it wants of the rest.
#[derive(Clone, Debug)]
pub(crate) struct Recover {
    /// The last publication that it has.
    pub(crate) offset: u64,
    /// The stream's life in which it got that one; `None`: any.
    pub(crate) epoch: Option<Epoch>,
    /// What it wants.
    pub(crate) kind: RecoveryKind,
    /// Most publications; if there are more, it gets none.
    pub(crate) limit: usize,
}

/// What recovering means in a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecoveryKind {
    /// Every publication that was missed.
    Stream,
    /// The latest publication, unless the member has it.
    Cache,
}

/// What [`super::Hub::join`] asks of the shard.
#[derive(Debug, PartialEq)]
pub(crate) enum Join {
    /// The member is in: it gets everything from now on.
    Joined(Joined),
    /// Waiting for a broker subscription, or for a read of the history, that was asked for before.
    Waiting,
    /// Waiting; the shard has to subscribe the channel's topic with this token, read where the channel's stream ends
    /// if it has one, and report to [`super::Hub::opened`].
    Open(u64),
    /// Waiting for the channel's history.
    Fetch(Fetch),
    /// Not a member: the channel has as many tags filters as it may have.
    Refused,
}

/// Asks the shard to read the channel's history and to report to [`super::Hub::fetched`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fetch {
    /// The channel's.
    pub(crate) token: u64,
    /// This read's own.
    pub(crate) ticket: u32,
    /// What to read.
    pub(crate) query: HistoryQuery,
}

/// What the broker has of a channel that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct History {
    /// Where the channel's stream ended.
    pub(crate) end: StreamPosition,
    /// How much of it is kept.
    pub(crate) retention: Retention,
}

/// What a member got when it joined.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Joined {
    /// Everything behind this will be delivered; `None`: the channel has no history.
    pub(crate) position: Option<StreamPosition>,
    /// `None`: it did not ask.
    pub(crate) recovery: Option<Recovery>,
}

/// What became of a recovery.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Recovery {
    /// What the member wanted, oldest first.
    Recovered(Vec<Publication>),
    /// It cannot be proved that nothing is missing.
    Unrecoverable,
}

/// What came of opening a channel.
#[derive(Debug)]
pub(crate) struct Opened<M> {
    /// Members now. Whoever runs this writes their replies before anything else is delivered.
    pub(crate) joined: Vec<(Rc<M>, Joined)>,
    /// For those who wait further.
    pub(crate) fetches: Vec<Fetch>,
    /// The channel is gone, and these are not members.
    pub(crate) refused: Vec<Rc<M>>,
}

/// What came of a [`Fetch`].
#[derive(Debug)]
pub(crate) struct Fetched<M> {
    /// Who is to be answered: a member now, or, with an error, not one.
    pub(crate) answers: Vec<(Rc<M>, Result<Joined, ()>)>,
    /// What is to be read next, for those who have come meanwhile.
    pub(crate) again: Option<Fetch>,
}

/// What happened to a member without anyone having asked; see [`super::Hub::take_settled`].
#[derive(Debug)]
pub(crate) enum Settled<M> {
    /// It waited, and is in now.
    Joined(Channel, Rc<M>, Joined),
    /// Publications are missing: it relied on getting everything, so that it is out now.
    Insufficient(Channel, Rc<M>),
}
