//! One stateless worker of a Flotilla fleet.
//!
//! A worker takes clients that speak the Centrifuge protocol, over WebSockets or HTTP, and joins them with the clients
//! of every other worker through the broker. Everything it holds can be rebuilt; any worker serves any client. It knows
//! sockets, channels and the `Broker` trait, and nothing of Pingora, of other workers or of NATS.
//!
//! The data path, in the order in which it is read: `accept` → `connection` → `session` → (broker) → `hub` →
//! `outbox`. Each `shard` is one thread that runs all of it; shards share nothing while they deliver.

mod accept;
mod announce;
mod api;
mod bucket;
mod capacity;
pub mod cli;
mod closing;
pub mod config;
mod connection;
mod control;
mod drain;
mod echo;
mod emulation;
mod fleet;
mod glob;
mod handshakes;
mod hooks;
mod hub;
mod intake;
mod introduction;
mod link;
mod listen;
mod look_up;
mod metrics;
pub mod namespace;
mod operations;
mod outbox;
mod policy;
mod process;
mod rates;
mod reader;
mod revocation;
mod roll;
mod rounds;
mod session;
mod shard;
mod stored;
mod thread;
mod user_capacity;
mod wire;

pub use config::{Config, RawConfig};
pub use process::{BindError, ServeError, Worker};
