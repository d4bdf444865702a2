//! What the launcher knows of each process of the fleet, to show it and to ask it.

use std::net::SocketAddr;

/// A worker or a gateway that is up.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// Such as `worker-1`.
    pub(crate) name: String,
    /// Its process; `None` if it is a part of this one.
    pub(crate) pid: Option<i32>,
    /// Where it listens for others than clients.
    pub(crate) listening: Listening,
}

/// What a process says when it listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listening {
    /// Its metrics and health.
    pub(crate) admin: SocketAddr,
    /// The server API, where there is one.
    pub(crate) api: Option<SocketAddr>,
}

/// A nats-server that was started for the fleet and listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NatsServer {
    /// Its process.
    pub(crate) pid: i32,
    /// Its client URL.
    pub(crate) url: String,
}
