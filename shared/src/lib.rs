//! To be written.

pub mod lifecycle;
pub mod websocket;
pub mod auth;
pub mod config;
pub mod secret;
pub mod protocol;
pub mod broker;
pub mod channel;
pub mod admin;
pub mod limits;
pub mod metrics;
pub mod telemetry;
pub mod roster;
