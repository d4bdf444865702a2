//! What can happen to a session, and what it wants done.

use std::time::Instant;

use bytes::Bytes;
use flotilla_shared::auth::ChannelGrant;
use flotilla_shared::broker::{Append, HistoryQuery, Retention};
use flotilla_shared::channel::Channel;
use flotilla_shared::protocol::codes::{DisconnectCode, ErrorCode};
use flotilla_shared::protocol::types::{Push, Reply, Request};
use smallvec::SmallVec;

use super::{Answered, Ask, Origin};
use crate::closing::Goodbye;
use crate::hub::{Joined, Subscribing};
use crate::metrics::Unpublished;
use crate::rates::Limit;
use crate::roll::Attachment;

/// The time, as an argument: a session never asks a clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// For deadlines.
    pub(crate) at: Instant,
    /// For the times in tokens: seconds since 1970.
    pub(crate) unix_seconds: u64,
}

/// What can happen to a session.
#[derive(Debug)]
pub(crate) enum Event {
    /// A command of the client; `id` is 0 where the client gave none.
    Request {
        /// What the reply has to carry.
        id: u32,
        /// The command's body.
        request: Request,
    },
    /// The client answered a ping, or says so: in a message, or by the transport's means.
    Pong(Pings),
    /// The client sent what is no command.
    Malformed,
    /// The hub's answer to [`Action::Subscribe`].
    Subscribed {
        /// The channel that was asked for.
        channel: Channel,
        /// What the client has as a member, if it is one now.
        result: Result<Joined, ErrorCode>,
    },
    /// Messages of this channel have been lost on their way here.
    Insufficient(Channel),
    /// The broker's answer to [`Action::Publish`].
    Published {
        /// The command's id.
        id: u32,
        /// Whether the broker has taken it.
        result: Result<(), ErrorCode>,
    },
    /// The answer to [`Action::LookUp`], as the client is to have it.
    Found(Box<Reply>),
    /// The application, or an operator, wants something of this client.
    Command(ServerCommand),
    /// The back end's answer to [`Action::Ask`], or that there is none.
    Answered(Box<Answered>),
    /// A deadline may have passed.
    Timer,
}

/// What a session wants done, in this order.
#[derive(Debug)]
pub(crate) enum Action {
    /// Send this to the client.
    Reply(Box<Reply>),
    /// Send a ping of this kind.
    Ping(Pings),
    /// Make the client a member of the channel and answer with [`Event::Subscribed`]; nothing of the channel may
    /// reach the client before the reply to that event.
    Subscribe(Channel, Box<Subscribing>),
    /// End the membership.
    Unsubscribe(Channel),
    /// Hand this to the broker and answer with [`Event::Published`]. The client's next command waits for it, so that
    /// a publisher's order is kept.
    Publish(Box<Publish>),
    /// Tell the channel's subscribers, wherever they are; nobody waits for that.
    Announce(Channel, Box<Push>, Attachment),
    /// Find this out and answer with [`Event::Found`]. The client's next command does not wait.
    LookUp(Box<LookUp>),
    /// Ask the back end and answer with [`Event::Answered`]. [`About::is_in_order`] says whether the client's next command
    /// waits for it.
    Ask(Box<Ask>),
    /// Tell the worker that had the session before that it is here now.
    Arrived(Box<Origin>),
    /// Count that the client has come up against this.
    Limited(Limit),
    /// Count that the client's publication in this channel, whose namespace exists, is refused.
    Unpublished(Channel, Unpublished),
    /// Disconnect the client. Nothing follows.
    Close(DisconnectCode),
    /// Disconnect the client in the application's words. Nothing follows.
    Dismiss(Goodbye),
}

/// A publication on its way to the broker.
#[derive(Debug)]
pub(crate) struct Publish {
    /// The command's id.
    pub(crate) id: u32,
    /// Where it goes.
    pub(crate) channel: Channel,
    /// What goes there; its `channel` is empty, since the topic says it.
    pub(crate) push: Push,
    /// How much is kept of the channel; `None`: nothing.
    pub(crate) retention: Option<Retention>,
    /// What the channel's stream is asked for besides; its payload is empty, since `push` is that.
    pub(crate) append: Append,
}

/// What a client wants to know and only others do.
#[derive(Debug)]
pub(crate) struct LookUp {
    /// The command's id.
    pub(crate) id: u32,
    /// Where.
    pub(crate) channel: Channel,
    /// What.
    pub(crate) subject: Subject,
}

/// What a client can want to know of a channel.
#[derive(Debug)]
pub(crate) enum Subject {
    /// Who is there.
    Presence,
    /// How many are there.
    PresenceStats,
    /// What was published.
    History {
        /// How much is kept.
        retention: Retention,
        /// What is asked for.
        query: HistoryQuery,
        /// The epoch that the stream has to have; empty: any.
        epoch: String,
    },
}

/// What the application, or an operator, can want of a client.
#[derive(Clone, Debug)]
pub(crate) enum ServerCommand {
    /// Subscribe it to a channel, unless it is.
    Subscribe(Box<ServerSubscribe>),
    /// End its subscription to the channel, if it has one.
    Unsubscribe(Channel),
    /// Disconnect it.
    Disconnect(Goodbye),
    /// Change when the connection expires.
    Refresh(ServerRefresh),
}

/// A subscription that the client did not ask for.
#[derive(Clone, Debug)]
pub(crate) struct ServerSubscribe {
    /// To what.
    pub(crate) channel: Channel,
    /// What it comes with.
    pub(crate) grant: ChannelGrant,
    /// When it ends, in seconds since 1970; `None`: never.
    pub(crate) expire_at: Option<u64>,
    /// Offset and epoch from which the client gets what it has missed.
    pub(crate) recover_since: Option<(u64, String)>,
}

/// A connection's expiry as the application wants it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerRefresh {
    /// It is over now.
    pub(crate) expired: bool,
    /// When it is over, in seconds since 1970; `None`: never.
    pub(crate) expire_at: Option<u64>,
    /// What others learn of the connection from now on; `None`: as before.
    pub(crate) info: Option<Bytes>,
}

/// The actions of one event; most events have one.
pub(crate) type Actions = SmallVec<[Action; 2]>;

/// How a client wants to be pinged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pings {
    /// By messages of the client protocol, which the connect result announces.
    #[default]
    Messages,
    /// By whatever the transport has for it, which the client's library answers by itself.
    Transport,
}
