//! The edge gateway of a Flotilla fleet.
//!
//! It faces the internet: it ends TLS, checks every request, finds out who asks, picks a worker,
//! and relays the WebSocket's bytes from then on. It knows HTTP, frames and the addresses of
//! workers; it never looks into a message.
//!
//! The data path, in the order in which it is read: `listen` → `edge` (with `admit`, `identify`,
//! `route`, `upstream`) → `relay`, or `link` where WebSockets end at the gateway. What is known of the workers comes from `route::membership` and
//! `health`; `drain` lets everybody go; `error` is what refused clients are told.

mod admit;
mod announce;
pub mod cli;
pub mod config;
mod drain;
mod edge;
mod endpoint;
mod error;
mod fields;
mod gateway;
mod health;
mod identify;
mod link;
mod listen;
mod metrics;
mod relay;
mod route;
mod socket;
mod tls;
mod upstream;

pub use config::{Config, RawConfig};
pub use gateway::{BindError, Gateway, ServeError};
