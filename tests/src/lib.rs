//! A fleet for tests: real `flotilla-worker` and `flotilla-gateway` processes over a real
//! nats-server, each on ports of its own, and the clients, tokens and faults to try them with.
//!
//! Start reading at [`fleet`]. The tests themselves are in `tests/`, one file per subject, each
//! test named after what it promises. `tests/run` builds the binaries before it runs them.
//!
//! Everything here returns an error that says what was waited for and what came instead, and
//! every wait has a deadline. Nothing outlives a test: dropping a [`fleet::Fleet`] kills its
//! processes, and what they logged is printed, which the test harness shows if the test failed.
//!
//! This crate must not reach into the processes: it sees what a user of them sees.

pub mod audit;
pub mod back_end;
pub mod client;
pub mod dev;
pub mod emulated;
pub mod eventually;
pub mod fault;
pub mod fleet;
pub mod issuer;
pub mod nats;
pub mod port;
pub mod process;
pub mod publisher;
pub mod raw;
pub mod scrape;
pub mod service;
pub mod speaker;
pub mod subscriber;
pub mod token;

use std::time::Duration;

/// How long a test waits for anything that should happen soon. Generous, because a slow machine
/// must not fail a test; nobody waits this long when things work.
pub const SOON: Duration = Duration::from_secs(20);
