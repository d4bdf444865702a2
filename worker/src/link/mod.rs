//! The worker's end of links: gateways that carry many sessions over one connection.
//!
//! Owns: a link from its Hello to its end, what is said on it, and each session's seat there. A link is served by one
//! shard, which the gateway names; its sessions are connections of that shard like any other, so nothing here knows of
//! commands, and channels are names.
//!
//! What is said to a gateway is appended to the link's one buffer, in the order in which it happened; the link's task
//! writes what has gathered whenever it is woken. That order is what the gateway's bookkeeping relies on: a session's
//! state before what it changed, answers before acknowledgements, a reply before the membership that it tells of.

mod arrival;
mod carrier;
mod outgoing;
mod seat;
mod task;
mod topic;
mod window;

use std::time::Duration;

pub(crate) use arrival::Arrival;
pub(crate) use carrier::Link;
pub(crate) use seat::{Due, Seat, Word};
pub(crate) use task::serve;
pub(crate) use topic::Topic;
pub(crate) use window::{Misuse, Said};

/// How long the sessions of a link that broke stay where they are, silently. By then another worker has them, or their
/// gateway is gone, and their clients with it.
pub(crate) const ORPHAN_GRACE: Duration = Duration::from_secs(3);

/// How long a session that another worker has stays listed here. By then what that worker has announced of it is known
/// wherever somebody asks this one who is there.
pub(crate) const ELSEWHERE_GRACE: Duration = Duration::from_secs(1);

/// How long what a session waits for may take once it is to be handed over. What is not answered by then is said again
/// to the next worker.
pub(crate) const DETACH_PATIENCE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests;
