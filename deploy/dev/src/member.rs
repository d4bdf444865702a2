//! What the launcher knows of each process of the fleet, to show it and to ask it.

use std::net::SocketAddr;

/// A worker or a gateway that is up.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// Such as `worker-1`.
    pub(crate) name: String,
    /// Its process; `None` if it is a part of this one.
    pub(crate) pid: Option<i32>,
    /// Its metrics and health.
    pub(crate) admin: SocketAddr,
}

/// A nats-server that was started for the fleet and listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NatsServer {
    /// Its process.
    pub(crate) pid: i32,
    /// Its client URL.
    pub(crate) url: String,
}
