//! After the handshake: bytes between one client and one worker, of a WebSocket ([`Session`]) or of
//! an answer that goes on ([`StreamSession`]).
//!
//! The relay knows where frames end and what a Close frame is, nothing else of what it carries. It
//! reads no timer and holds no buffer while a connection is idle.

mod close;
mod pump;
mod registry;
mod session;
mod stream;
mod tracker;

#[cfg(test)]
mod tests;

pub(crate) use close::{GOING_AWAY, Initiator, Outcome, Reason, going_away, worker_lost};
pub(crate) use registry::{Order, Registry, Seat};
pub(crate) use session::{Session, Timeouts, Traffic};
pub(crate) use stream::StreamSession;
pub(crate) use tracker::NO_STATUS;

/// A connection that is relayed.
pub(crate) trait Relay: Send + 'static {
    /// Relays until the connection is over, and says how it ended.
    fn run(&mut self) -> impl Future<Output = Outcome> + Send;
}
