//! What the benchmark programs share: workers and gateways as processes of their own, and plain clients of it.
//!
//! Clients are blocking sockets with frames made by hand. They cost little and allocate nothing, so
//! that a program with thousands of them measures those and not itself.

pub(crate) mod client;
pub(crate) mod server;
pub(crate) mod worker;

use anyhow::Result;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Whether this is `cargo bench`. Anything else (`cargo test --benches`) only wants to see that the
/// program works, and gets a run that is too short to mean anything.
pub(crate) fn is_real() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// Allows this process and its children as many open files as the system lets them have.
fn allow_files() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}
