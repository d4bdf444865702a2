//! What another worker has to know to go on with a session: its snapshot.
//!
//! Owns: the form on the wire, which is Protobuf. Fields that a reader does not know are passed over, so that versions
//! can be mixed while a fleet is upgraded; numbers are never used again for something else. Times are absolute, since
//! an [`Instant`] means nothing elsewhere.

use std::time::{Duration, Instant};

use bytes::Bytes;
use flotilla_shared::protocol::types::FilterNode;
use prost::{Enumeration, Message};

use super::subscription::{End, Subscription, Takes};
use super::{Expiry, Now, Renewal, Session};

/// The form that this version writes. A higher one cannot be read; what a form may only gain does not change it.
const VERSION: u32 = 1;

/// Who writes a snapshot, and what is known there besides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Writer {
    /// The worker's id.
    pub(crate) worker: String,
    /// Which of that name it is.
    pub(crate) life: u64,
    /// Since when the client is connected; Unix milliseconds.
    pub(crate) connected_at_ms: u64,
}

/// See the module's documentation.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Snapshot {
    #[prost(uint32, tag = "1")]
    pub(super) version: u32,
    /// The client's id, as its 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) client: Bytes,
    #[prost(string, tag = "3")]
    pub(super) user: String,
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) info: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    pub(super) meta: Bytes,
    /// What its token can be told by, if it can.
    #[prost(message, optional, tag = "6")]
    pub(super) token: Option<Token>,
    /// `None`: never.
    #[prost(message, optional, tag = "7")]
    pub(super) expiry: Option<Expires>,
    /// Unix milliseconds.
    #[prost(uint64, tag = "8")]
    pub(crate) connected_at_ms: u64,
    #[prost(message, repeated, tag = "9")]
    pub(super) subscriptions: Vec<Subscribed>,
    /// The id of the worker that wrote it.
    #[prost(string, tag = "10")]
    pub(crate) worker: String,
    /// Which of that name it was.
    #[prost(fixed64, tag = "11")]
    pub(crate) life: u64,
    /// How often the session had been attached.
    #[prost(uint32, tag = "12")]
    pub(crate) generation: u32,
}

/// What a token can be told by.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Token {
    #[prost(string, optional, tag = "1")]
    pub(super) id: Option<String>,
    #[prost(uint64, optional, tag = "2")]
    pub(super) issued_at: Option<u64>,
}

/// Whose business an expiry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub(super) enum By {
    Client = 0,
    Server = 1,
    /// The back end is asked.
    Hook = 2,
}

/// When something ends.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Expires {
    #[prost(enumeration = "By", tag = "1")]
    pub(super) by: i32,
    /// Unix seconds, with all the time that is given beyond it.
    #[prost(uint64, tag = "2")]
    pub(super) at: u64,
    /// When the back end is to be asked, in Unix seconds; 0: it has been, and is once more.
    #[prost(uint64, tag = "3")]
    pub(super) ask_at: u64,
}

/// One subscription.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Subscribed {
    #[prost(string, tag = "1")]
    pub(super) channel: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) info: Bytes,
    #[prost(bool, tag = "3")]
    pub(super) is_server_side: bool,
    #[prost(bool, tag = "4")]
    pub(super) positioned: bool,
    #[prost(bool, tag = "5")]
    pub(super) recoverable: bool,
    #[prost(bool, tag = "6")]
    pub(super) presence: bool,
    #[prost(bool, tag = "7")]
    pub(super) join_leave: bool,
    #[prost(bool, tag = "8")]
    pub(super) hears_join_leave: bool,
    #[prost(bool, tag = "9")]
    pub(super) takes_deltas: bool,
    #[prost(message, optional, tag = "10")]
    pub(super) filter: Option<FilterNode>,
    /// `None`: never.
    #[prost(message, optional, tag = "11")]
    pub(super) end: Option<Expires>,
    #[prost(bool, tag = "12")]
    pub(super) is_refreshed_by_client: bool,
    /// Of the channel's stream, if the client is told of gaps.
    #[prost(fixed64, optional, tag = "13")]
    pub(super) epoch: Option<u64>,
}

/// What cannot be read as a snapshot, or only by a newer version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the state of a session cannot be read")]
pub(crate) struct Unreadable;

impl Snapshot {
    /// Reads what [`Message::encode_to_vec`] wrote, here or elsewhere.
    ///
    /// # Errors
    /// When it is none, or one whose form is newer than what this version knows.
    pub(crate) fn read(written: Bytes) -> Result<Self, Unreadable> {
        let snapshot = Self::decode(written).map_err(|_| Unreadable)?;
        let is_known = (1..=VERSION).contains(&snapshot.version) && snapshot.client.len() == 16;
        is_known.then_some(snapshot).ok_or(Unreadable)
    }
}

impl Session {
    /// What another worker has to know to go on; `None` until the client is connected. To be told again whenever
    /// [`Session::take_changed`] says so.
    pub(crate) fn snapshot(&self, writer: &Writer, now: Now) -> Option<Snapshot> {
        if !self.is_connected() {
            return None;
        }
        // Who is being taken over is in its channels, even if they are not open here yet.
        let own = |own: &&Subscription| own.is_active() || own.is_being_restored();
        let subscriptions = self.subscriptions.iter().filter(own);
        Some(Snapshot {
            version: VERSION,
            client: Bytes::copy_from_slice(self.client.as_bytes()),
            user: self.user.to_string(),
            info: self.info.clone(),
            meta: self.meta.clone(),
            token: self.token.as_deref().map(|token| token.to_token()),
            expiry: match self.expiry {
                Expiry::Never => None,
                Expiry::ByClient(at) => Some(Expires::when(By::Client, at, now)),
                Expiry::ByServer(at) => Some(Expires::when(By::Server, at, now)),
                Expiry::ByHook(renewal) => Some(Expires::by_hook(renewal, now)),
            },
            connected_at_ms: writer.connected_at_ms,
            subscriptions: subscriptions.map(|own| Subscribed::of(own, now)).collect(),
            worker: writer.worker.clone(),
            life: writer.life,
            generation: self.generation,
        })
    }

    /// Whether something has changed since this was asked last that is in a [`Snapshot`].
    pub(crate) fn take_changed(&mut self) -> bool {
        self.is_connected() && std::mem::take(&mut self.is_changed)
    }
}

impl Subscribed {
    fn of(own: &Subscription, now: Now) -> Self {
        let features = own.features;
        Self {
            channel: own.channel.as_str().to_owned(),
            info: own.info.clone(),
            is_server_side: features.is_server_side,
            positioned: features.positioned,
            recoverable: features.recoverable,
            presence: features.presence,
            join_leave: features.join_leave,
            hears_join_leave: features.hears_join_leave,
            takes_deltas: own.takes == Takes::Deltas,
            filter: match &own.takes {
                Takes::Filtered(filter) => Some((**filter).clone()),
                Takes::Everything | Takes::Deltas => None,
            },
            end: match &own.end {
                End::Never => None,
                End::At(at) => Some(Expires::when(By::Client, *at, now)),
                End::ByHook(renewal) => Some(Expires::by_hook(**renewal, now)),
            },
            is_refreshed_by_client: own.is_refreshed_by_client,
            epoch: own.epoch.map(|epoch| epoch.0),
        }
    }
}

impl Expires {
    fn when(by: By, at: Instant, now: Now) -> Self {
        Self {
            by: by.into(),
            at: unix_seconds(at, now),
            ask_at: 0,
        }
    }

    fn by_hook(renewal: Renewal, now: Now) -> Self {
        let (ask_at, until) = renewal.times();
        Self {
            ask_at: ask_at.map_or(0, |at| unix_seconds(at, now)),
            ..Self::when(By::Hook, until, now)
        }
    }

    /// The end, and when the back end is to be asked before it.
    pub(super) fn instants(self, now: Now) -> (Instant, Instant) {
        (instant(self.at, now), instant(self.ask_at, now))
    }
}

/// Rounded up: nobody loses time by being moved.
fn unix_seconds(at: Instant, now: Now) -> u64 {
    let left = at.saturating_duration_since(now.at);
    let over = now.at.saturating_duration_since(at);
    let ahead = left.as_secs() + u64::from(left.subsec_nanos() > 0);
    (now.unix_seconds + ahead).saturating_sub(over.as_secs())
}

/// What has passed is now.
fn instant(unix_seconds: u64, now: Now) -> Instant {
    let left = unix_seconds.saturating_sub(now.unix_seconds);
    now.at + Duration::from_secs(left.min(super::TTL_MAX_SECONDS * 2))
}
