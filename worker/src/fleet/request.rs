//! What workers ask of each other.
//!
//! Owns: the requests' form on the wire, which is Protobuf: fields that a reader does not know are passed over, and a
//! request that it does not know reads as none, so that versions can be mixed while a fleet is upgraded. Numbers are
//! never used again for something else.

use bytes::Bytes;
use flotilla_shared::auth::Switch;
use flotilla_shared::protocol::types::StreamPosition;
use prost::{Message, Oneof};

use crate::revocation::Revocation;

/// One request.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Request {
    /// `None`: one that this version does not know.
    #[prost(
        oneof = "Question",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14"
    )]
    pub(crate) question: Option<Question>,
}

/// What is asked.
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Question {
    /// Subscribe connections to a channel.
    #[prost(message, tag = "1")]
    Subscribe(Subscribe),
    /// Take connections out of a channel.
    #[prost(message, tag = "2")]
    Unsubscribe(Unsubscribe),
    /// End connections.
    #[prost(message, tag = "3")]
    Disconnect(Disconnect),
    /// Change when connections expire.
    #[prost(message, tag = "4")]
    Refresh(Refresh),
    /// Who is in a channel.
    #[prost(message, tag = "5")]
    Presence(InChannel),
    /// How many connections of which user are in a channel.
    #[prost(message, tag = "6")]
    PresenceStats(InChannel),
    /// Which channels there are.
    #[prost(message, tag = "7")]
    Channels(Channels),
    /// Which connections there are.
    #[prost(message, tag = "8")]
    Connections(Connections),
    /// What the worker is and how loaded.
    #[prost(message, tag = "9")]
    Info(Info),
    /// Take what a client sent for a session.
    #[prost(message, tag = "10")]
    Emulate(Emulate),
    /// Take revocations in, and end the connections that they are about.
    #[prost(message, tag = "11")]
    Revoke(Revocations),
    /// Tell the revocations that are in force.
    #[prost(message, tag = "12")]
    Revocations(KnownRevocations),
    /// Who is in channels, of those who are announced to the channels' subscribers.
    #[prost(message, tag = "13")]
    Roll(RollCall),
    /// Let go of sessions that are at the asker now.
    #[prost(message, tag = "14")]
    Moved(Moved),
}

/// Which connections a command is for: those of a user, fewer if more is said.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Target {
    /// Empty: those of nobody in particular, not those of everybody.
    #[prost(string, tag = "1")]
    pub(crate) user: String,
    /// Only the one with this id. Empty: any.
    #[prost(string, tag = "2")]
    pub(crate) client: String,
    /// Only the one with this session id. Empty: any.
    #[prost(string, tag = "3")]
    pub(crate) session: String,
}

/// See [`Question::Subscribe`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Subscribe {
    #[prost(message, required, tag = "1")]
    pub(crate) target: Target,
    #[prost(string, tag = "2")]
    pub(crate) channel: String,
    /// What others learn of the subscription.
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) info: Bytes,
    /// Goes to the client.
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) data: Bytes,
    /// Unix seconds; 0: never.
    #[prost(uint64, tag = "5")]
    pub(crate) expire_at: u64,
    /// Publications from here on are sent first.
    #[prost(message, optional, tag = "6")]
    pub(crate) recover_since: Option<StreamPosition>,
    #[prost(message, required, tag = "7")]
    pub(crate) overrides: Overrides,
}

/// Options of a namespace that are other for one subscription.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Overrides {
    #[prost(bool, optional, tag = "1")]
    pub(crate) presence: Option<bool>,
    #[prost(bool, optional, tag = "2")]
    pub(crate) join_leave: Option<bool>,
    #[prost(bool, optional, tag = "3")]
    pub(crate) force_push_join_leave: Option<bool>,
    #[prost(bool, optional, tag = "4")]
    pub(crate) force_positioning: Option<bool>,
    #[prost(bool, optional, tag = "5")]
    pub(crate) force_recovery: Option<bool>,
}

/// See [`Question::Unsubscribe`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Unsubscribe {
    #[prost(message, required, tag = "1")]
    pub(crate) target: Target,
    #[prost(string, tag = "2")]
    pub(crate) channel: String,
}

/// See [`Question::Disconnect`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Disconnect {
    #[prost(message, required, tag = "1")]
    pub(crate) target: Target,
    /// Ids of connections that stay.
    #[prost(string, repeated, tag = "2")]
    pub(crate) whitelist: Vec<String>,
    #[prost(uint32, tag = "3")]
    pub(crate) code: u32,
    #[prost(string, tag = "4")]
    pub(crate) reason: String,
    /// Only those that were there before this one. `None`: all.
    #[prost(message, optional, tag = "5")]
    pub(crate) newcomer: Option<Newcomer>,
}

/// A connection that its user's other ones give way to.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Newcomer {
    #[prost(string, tag = "1")]
    pub(crate) client: String,
    /// Unix milliseconds, by the clock of its worker.
    #[prost(uint64, tag = "2")]
    pub(crate) connected_at_ms: u64,
}

/// See [`Question::Refresh`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Refresh {
    #[prost(message, required, tag = "1")]
    pub(crate) target: Target,
    /// The connections have expired, now.
    #[prost(bool, tag = "2")]
    pub(crate) expired: bool,
    /// Unix seconds; 0: never.
    #[prost(uint64, tag = "3")]
    pub(crate) expire_at: u64,
    /// What others learn of the connections from now on; empty: as before.
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) info: Bytes,
}

/// Names a channel.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct InChannel {
    #[prost(string, tag = "1")]
    pub(crate) channel: String,
}

/// See [`Question::Roll`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RollCall {
    #[prost(string, repeated, tag = "1")]
    pub(crate) channels: Vec<String>,
}

/// See [`Question::Moved`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Moved {
    #[prost(message, repeated, tag = "1")]
    pub(crate) sessions: Vec<MovedSession>,
}

/// A session that is elsewhere now.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct MovedSession {
    /// The client's id.
    #[prost(string, tag = "1")]
    pub(crate) client: String,
    /// Its user, by which it is found.
    #[prost(string, tag = "2")]
    pub(crate) user: String,
    /// How often it has been attached where it is. Where it was attached less often, it is not any more.
    #[prost(uint32, tag = "3")]
    pub(crate) generation: u32,
}

/// See [`Question::Channels`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Channels {
    /// A glob; empty: all.
    #[prost(string, tag = "1")]
    pub(crate) pattern: String,
}

/// See [`Question::Connections`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Connections {
    /// Only this user's; `None`: everybody's.
    #[prost(string, optional, tag = "1")]
    pub(crate) user: Option<String>,
    /// Only those whose id is behind this one.
    #[prost(string, tag = "2")]
    pub(crate) after: String,
    /// Most connections, in the order of their ids.
    #[prost(uint32, tag = "3")]
    pub(crate) limit: u32,
}

/// See [`Question::Info`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Info {}

/// See [`Question::Emulate`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Emulate {
    /// The session's id.
    #[prost(string, tag = "1")]
    pub(crate) session: String,
    /// A frame of commands, in the session's own encoding.
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) commands: Bytes,
}

/// A list of revocations.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Revocations {
    #[prost(message, repeated, tag = "1")]
    pub(crate) revocations: Vec<Revocation>,
}

/// See [`Question::Revocations`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct KnownRevocations {
    /// The digest of what the asker knows: the answer is empty if it is all there is.
    #[prost(fixed64, tag = "1")]
    pub(crate) digest: u64,
}

impl From<Question> for Request {
    fn from(question: Question) -> Self {
        Self {
            question: Some(question),
        }
    }
}

impl From<flotilla_shared::auth::Overrides> for Overrides {
    fn from(overrides: flotilla_shared::auth::Overrides) -> Self {
        let value = |switch: Option<Switch>| switch.map(|switch| switch.value);
        Self {
            presence: value(overrides.presence),
            join_leave: value(overrides.join_leave),
            force_push_join_leave: value(overrides.force_push_join_leave),
            force_positioning: value(overrides.force_positioning),
            force_recovery: value(overrides.force_recovery),
        }
    }
}

impl From<&Overrides> for flotilla_shared::auth::Overrides {
    fn from(overrides: &Overrides) -> Self {
        let switch = |value: Option<bool>| value.map(|value| Switch { value });
        Self {
            presence: switch(overrides.presence),
            join_leave: switch(overrides.join_leave),
            force_push_join_leave: switch(overrides.force_push_join_leave),
            force_positioning: switch(overrides.force_positioning),
            force_recovery: switch(overrides.force_recovery),
        }
    }
}
