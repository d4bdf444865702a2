//! What the launcher knows of each process of the fleet, to show it.

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
