//! The seam between Flotilla and the pub/sub system that joins its workers.
//!
//! Owns the contract: a broker carries opaque payloads between processes, topic by topic. It knows neither
//! clients nor the protocol they speak, and nothing outside this module knows which system is behind it.
//! `conformance` holds every adapter to what is promised here.
//!
//! # The contract
//! - **Delivery** is at most once. What is lost is told: [`BrokerEvent::Overflow`] for one subscription,
//!   [`BrokerEvent::Disconnected`] for all of them.
//! - **Order**: messages of one publisher on one topic arrive in the order in which they were published. Nothing is
//!   promised across topics, nor between messages and the other events.
//! - **Interest only**: a connection receives a topic's messages only while it subscribes to it. A publisher that
//!   subscribes receives its own.
//! - **Bounded**: every queue has a limit, and says above what happens when it is full. Nobody's publish waits for
//!   somebody else's subscription.
//! - **Tokens** are the caller's numbers. One may be used again as soon as [`Broker::unsubscribe`] returned: batches
//!   gathered after that hold nothing of the old subscription.

pub mod conformance;
mod history;
mod memory;
mod metrics;
mod nats;
mod options;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::channel::Channel;

pub use history::{
    Append, Appended, Epoch, HistoryPage, HistoryQuery, IDEMPOTENCY_WINDOW, Retention, Stamp,
    StoredPublication, StreamPosition,
};
pub use memory::{MemoryBus, MemoryLimits};
pub use metrics::BrokerMetrics;
pub use nats::{NatsConfig, NatsHistory, NatsLogin, NatsSecret, NatsTls, is_subject_prefix};
pub use options::{
    BrokerKind, BrokerOptions, MemoryOptions, NatsHistoryOptions, NatsOptions, NatsStorage,
    NatsTlsOptions,
};

/// A batch stops growing at this number of events, so that one wake-up's work stays short.
pub const BATCH_EVENTS_MAX: usize = 1024;

/// A batch stops growing once its payloads hold this many bytes.
pub const BATCH_BYTES_MAX: usize = 256 * 1024;

/// What can be published and subscribed to: a closed set, so that no client can name a topic of the fleet's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Topic {
    /// The publications of one channel.
    Channel(Channel),
    /// The fleet's talk about itself: see [`crate::roster`].
    Roster,
    /// What is meant for one worker, by its id, which is not empty.
    Worker(String),
}

/// One connection to the pub/sub system, the half that acts.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// Starts the delivery of `topic`; `token` comes back with each of its messages.
    ///
    /// Returns only after a barrier: what anyone publishes afterwards, through the server this connection uses, is
    /// delivered. Messages may already arrive before it returned. Two subscriptions to one topic, under two tokens,
    /// both receive.
    ///
    /// Cancel-safe: dropping the future leaves no subscription behind.
    ///
    /// # Errors
    /// After an error nothing is subscribed. [`BrokerError::Disconnected`] and [`BrokerError::Timeout`] are worth a
    /// retry; a token that is in use, or a topic that cannot be spelled, is [`BrokerError::Refused`].
    async fn subscribe(&self, topic: &Topic, token: u64) -> Result<(), BrokerError>;

    /// Ends a subscription, also one that is still opening (whose `subscribe` then fails). Never waits. Unknown
    /// tokens are ignored.
    fn unsubscribe(&self, token: u64);

    /// Hands `payload` to everyone who subscribes to `topic`. `Ok` means that it was taken for sending, not that
    /// anyone received it.
    ///
    /// Waits, for a bounded time, only if the connection itself cannot keep up. Cancel-safe: a dropped future has
    /// published either everything or nothing.
    ///
    /// # Errors
    /// [`BrokerError::TooLarge`] for a payload above the system's limit; [`BrokerError::Disconnected`] at once while
    /// there is no connection (nothing is stored for later); [`BrokerError::Timeout`] after the bounded wait.
    async fn publish(&self, topic: &Topic, payload: Bytes) -> Result<(), BrokerError>;

    /// Appends to the channel's stream and hands the message to everyone who subscribes to the channel, as
    /// [`BrokerEvent::StreamMessage`]. Subscribers receive a stream's messages in the order of their offsets.
    ///
    /// # Errors
    /// As [`Broker::publish`]; after a [`BrokerError::Timeout`] it is not known whether it was appended, and only an
    /// idempotency key makes a second try safe. [`BrokerError::Refused`] for a channel that no history was
    /// configured for: see [`Brokers::keep_history`].
    async fn append(
        &self,
        channel: &Channel,
        retention: Retention,
        append: Append,
    ) -> Result<Appended, BrokerError>;

    /// Reads the channel's stream. What was appended before is seen.
    ///
    /// # Errors
    /// As [`Broker::append`]; reading again is always safe.
    async fn history(
        &self,
        channel: &Channel,
        retention: Retention,
        query: HistoryQuery,
    ) -> Result<HistoryPage, BrokerError>;

    /// Where these channels' streams end, in the order asked for. What was appended before is seen. Takes few requests
    /// for many channels.
    ///
    /// # Errors
    /// As [`Broker::history`].
    async fn ends(&self, channels: &[Channel]) -> Result<Vec<StreamPosition>, BrokerError>;

    /// Forgets the publications of the channel's stream; its numbering and its epoch go on. The removal takes a place in
    /// the stream, just as an append does, and whoever subscribes to the channel is told with
    /// [`BrokerEvent::HistoryRemoved`], so that nobody goes on handing out copies. Where there is nothing to remove,
    /// nothing happens.
    ///
    /// # Errors
    /// As [`Broker::history`]; removing again is always safe.
    async fn remove_history(&self, channel: &Channel) -> Result<(), BrokerError>;

    /// Whether messages flow at this moment: connected, and every topic subscribed.
    fn is_connected(&self) -> bool;
}

/// The same connection, the half that listens. One owner: whoever runs the hub.
#[async_trait]
pub trait BrokerEvents: Send {
    /// Waits for at least one event, then appends what is there, up to [`BATCH_EVENTS_MAX`] and
    /// [`BATCH_BYTES_MAX`]. `false` says that the connection is closed for good and nothing was appended.
    ///
    /// Payloads may share a larger buffer with each other: copy what outlives the batch by much.
    ///
    /// Cancel-safe: a dropped future takes nothing.
    async fn next_batch(&mut self, batch: &mut Vec<BrokerEvent>) -> bool;
}

/// What a connection has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokerEvent {
    /// One message of the subscription that was opened with `token`.
    Message {
        /// The caller's number for the subscription.
        token: u64,
        /// What was published, byte for byte.
        payload: Bytes,
    },
    /// One message of the subscription that was opened with `token`, appended to the channel's stream.
    StreamMessage {
        /// The caller's number for the subscription.
        token: u64,
        /// What was appended, byte for byte.
        payload: Bytes,
        /// Where it stands in the stream.
        stamp: Stamp,
    },
    /// The history of the channel that was subscribed with `token` was removed. Comes in the order of the stream.
    HistoryRemoved {
        /// The caller's number for the subscription.
        token: u64,
        /// Where the removal stands in the stream: the publications before it cannot be read any more.
        stamp: Stamp,
    },
    /// The connection is lost: messages are missed from now on. It is being restored.
    Disconnected,
    /// Connected again, every topic subscribed again and confirmed by a barrier. What was published since
    /// [`BrokerEvent::Disconnected`] may be lost.
    Reconnected,
    /// The queue of this subscription was full: messages are missing.
    Overflow {
        /// The caller's number for the subscription.
        token: u64,
        /// At least so many are missing. 0: the adapter cannot tell whether this subscription lost any.
        dropped: u64,
    },
}

/// A fresh connection, both halves. Dropping either closes it.
pub struct BrokerConnection {
    /// The half that acts; share it freely.
    pub broker: Arc<dyn Broker>,
    /// The half that listens.
    pub events: Box<dyn BrokerEvents>,
}

impl fmt::Debug for BrokerConnection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("BrokerConnection")
            .field("connected", &self.broker.is_connected())
            .finish_non_exhaustive()
    }
}

/// Why the broker did not do as asked. Never the fault of the client whose command led here, except `TooLarge`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// No connection could be made in the first place.
    #[error("cannot connect to the broker: {0}")]
    Unreachable(String),
    /// There is no connection at this moment; it is being restored.
    #[error("not connected to the broker")]
    Disconnected,
    /// The broker did not take or confirm it within the configured time.
    #[error("the broker did not answer in time")]
    Timeout,
    /// The system is there, but cannot do it at the moment: it has no leader, or no room.
    #[error("the broker cannot do it now: {0}")]
    Unavailable(String),
    /// The payload is above the system's limit.
    #[error("a payload of {size} bytes is above the broker's limit of {limit}")]
    TooLarge {
        /// Size of the payload, in bytes.
        size: usize,
        /// Largest payload that the system takes, in bytes.
        limit: usize,
    },
    /// This connection was closed by its owner.
    #[error("the broker connection is closed")]
    Closed,
    /// It would be refused again.
    #[error("refused by the broker: {0}")]
    Refused(String),
}

impl BrokerError {
    fn token_in_use(token: u64) -> Self {
        Self::Refused(format!("token {token} is in use"))
    }

    fn no_history() -> Self {
        Self::Refused("this connection was not made for history".to_owned())
    }

    /// Whether the same call may succeed a little later.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Disconnected | Self::Timeout | Self::Unavailable(_) => {
                true
            }
            Self::TooLarge { .. } | Self::Closed | Self::Refused(_) => false,
        }
    }
}

/// Where connections come from. Each worker shard and each gateway opens its own.
#[derive(Debug, Clone)]
pub enum Brokers {
    /// Within this process: tests, and a fleet in one process.
    Memory(MemoryBus),
    /// A NATS server or cluster.
    Nats(NatsConfig),
}

impl Brokers {
    /// Opens a connection. `name` tells it from others in the broker's own monitoring.
    ///
    /// Call it on the runtime that will use the connection: its tasks live there, be it current-thread or
    /// multi-thread.
    ///
    /// # Errors
    /// One attempt is made; when the error [`is_temporary`](BrokerError::is_temporary), the caller may try again. Once
    /// connected, a lost connection is restored for as long as it takes.
    pub async fn connect(
        &self,
        name: &str,
        metrics: &BrokerMetrics,
    ) -> Result<BrokerConnection, BrokerError> {
        match self {
            Self::Memory(bus) => Ok(bus.connect(metrics)),
            Self::Nats(config) => nats::connect(config, name, metrics).await,
        }
    }

    /// Connections are to keep histories, of the channels in these namespaces (empty: those without one). Has to be said
    /// before the first one is opened; without it, [`Broker::append`] and what belongs to it may be refused.
    pub fn keep_history(&mut self, namespaces: Vec<(String, Retention)>) {
        match self {
            Self::Memory(_) => {}
            Self::Nats(config) => config.history.namespaces = namespaces,
        }
    }

    /// The address under which whoever uses the same broker is likely to reach this machine; `None` if there is no way
    /// to the broker. May look up a name.
    #[must_use]
    pub fn local_address(&self) -> Option<IpAddr> {
        match self {
            Self::Memory(_) => Some(Ipv4Addr::LOCALHOST.into()),
            Self::Nats(config) => nats::local_address(config),
        }
    }
}
