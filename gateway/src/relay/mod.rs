//! After the 101: bytes between one client and one worker.
//!
//! The relay knows where frames end and what a Close frame is, nothing else of what it carries. It
//! reads no timer and holds no buffer while a connection is idle.

mod close;
mod pump;
mod registry;
mod session;
mod tracker;

#[cfg(test)]
mod tests;

pub(crate) use close::{Initiator, Outcome, Reason};
pub(crate) use registry::{Order, Registry, Seat};
pub(crate) use session::{Session, Timeouts, Traffic};
