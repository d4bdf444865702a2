//! The link: how a gateway and a worker carry sessions, many over one connection.
//!
//! Owns: the messages of both directions, their encoding and their limits. Pure: nothing here reads a socket, knows what a
//! client says, or decides anything. The gateway ends clients' WebSockets and knows neither channels nor commands: to it
//! topics are numbers with opaque names, states are opaque bytes, and frames are ready-made.
//!
//! A link is opened like a WebSocket, by an HTTP request to the worker's client listener: [`PATH`] with
//! `Upgrade: ` [`PROTOCOL`]. Behind the 101 both sides send messages, each behind its length. The gateway's first one is
//! [`Hello`], the worker's [`Welcome`]. Whoever has nothing to say for [`HEARTBEAT_INTERVAL`] sends an empty message;
//! whoever hears nothing for [`SILENCE_MAX`] takes the link for dead. Any byte is heard: a long message may take longer
//! than that to come.
//!
//! A tag means one thing for good, and bodies and fields that a side does not know are passed over: that is how versions
//! live side by side. The bytes are in `golden/`.

mod codec;
mod to_gateway;
mod to_worker;

use std::ops::RangeInclusive;
use std::time::Duration;

pub use codec::{LinkError, Messages, append};
pub use to_gateway::{
    Ack, Cast, Close, Condition, Detached, ForGateway, Join, KeepAlive, Leave, Opened, Placed,
    Refused, Release, Send, State, ToGateway, Topic, Welcome,
};
pub use to_worker::{
    Closed, Detach, ForWorker, Header, Hello, Message, Open, Position, Restore, ToWorker,
};

/// Where workers take links.
pub const PATH: &str = "/link";

/// The token of the `Upgrade` header.
pub const PROTOCOL: &str = "flotilla-link";

/// The versions that this build speaks. Both sides use the highest one that they share; what a version adds, the one
/// before has to be able to do without.
pub const VERSIONS: RangeInclusive<u32> = 1..=1;

/// How long a side that has nothing to say is silent before it sends an empty message.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);

/// How long the other side may be silent before the link is taken for dead.
pub const SILENCE_MAX: Duration = Duration::from_secs(2);

/// Longest message, in bytes. The largest ones are a worker's answer to a client, and a session that is opened with
/// everything that its client has said and nobody has acknowledged. Neither is bounded by this otherwise: limits of clients'
/// messages and of histories are configured. What is longer is not sent, see [`append`].
pub const MESSAGE_MAX_BYTES: usize = 64 * 1024 * 1024;

/// Most messages of one client that are not acknowledged yet. Until one is, the gateway does not read that client.
pub const UNACKED_MAX: usize = 32;

/// Most bytes of the same, beyond the first message.
pub const UNACKED_MAX_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests;
