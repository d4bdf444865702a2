//! The WebSocket handshake and frame encoding (RFC 6455) as both sides of the fleet speak it.
//!
//! Pure functions over bytes: nothing here reads a socket, and nothing here knows what a frame
//! carries. The gateway uses it towards clients, the worker towards whoever connects to it.

/// Where workers take clients, and gateways by default. A gateway's own path is between it and its clients; it asks
/// workers at this one.
pub const PATH: &str = "/connection/websocket";

pub mod frame;
pub mod head;
pub mod origin;
pub mod upgrade;

pub use frame::{Opcode, append_frame, close_frame};
pub use head::{HEAD_MAX_BYTES, HeadError, RequestHead, parse_head};
pub use origin::{origin_entry_problem, origin_is_allowed};
pub use upgrade::{Upgrade, UpgradeError, accept_key, refusal, switching_protocols, upgrade};
