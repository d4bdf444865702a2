//! What gateway and worker both speak.
//!
//! | module | owns |
//! |---|---|
//! | [`protocol`] | the client protocol: messages, both encodings, the table of codes |
//! | [`channel`] | channel and namespace names |
//! | [`delta`] | what makes a payload out of the one before |
//! | [`filter`] | which publications a subscriber wants, by their tags |
//! | [`http`] | request heads and bodies, answers, origins, paths |
//! | [`websocket`] | the upgrade check, server frames |
//! | [`link`] | sessions over one connection between gateway and worker |
//! | [`broker`] | the seam to the pub/sub system, its adapters, their conformance suite |
//! | [`roster`] | who is in the fleet, and how loaded |
//! | [`auth`] | tokens of clients, passports between the tiers |
//! | [`config`], [`secret`] | layered configuration, secrets that do not show |
//! | [`outbound`] | which servers the processes ask, and whom they trust |
//! | [`lifecycle`], [`limits`], [`tcp`], [`clock`], [`wheel`] | a process' phases, signals, open files, sockets and time |
//! | [`metrics`], [`admin`], [`telemetry`] | what a process tells its operators |
//!
//! Nothing here knows a client's socket, Pingora, or what a process is for.

pub mod admin;
pub mod auth;
pub mod broker;
pub mod channel;
pub mod clock;
pub mod config;
pub mod delta;
pub mod filter;
pub mod http;
pub mod lifecycle;
pub mod limits;
pub mod link;
pub mod metrics;
pub mod outbound;
pub mod protocol;
pub mod roster;
pub mod secret;
pub mod tcp;
pub mod telemetry;
pub mod websocket;
pub mod wheel;
