//! The WebSocket handshake and frame encoding (RFC 6455) as both sides of the fleet speak it.
//!
//! Pure functions over bytes: nothing here reads a socket, and nothing here knows what a frame
//! carries. The gateway uses it towards clients, the worker towards whoever connects to it.

/// Where workers take clients, and gateways by default. A gateway's own path is between it and its clients; it asks
/// workers at this one.
pub const PATH: &str = "/connection/websocket";

pub mod frame;
pub mod upgrade;

pub use frame::{Opcode, append_frame, close_frame};
pub use upgrade::{Upgrade, UpgradeError, accept_key, switching_protocols, upgrade};
