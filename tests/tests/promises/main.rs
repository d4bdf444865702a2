//! What the fleet promises, each promise tried on real processes.
//!
//! One binary for all subjects, because linking one per file would take longer than the tests.

mod channel_names;
mod codes;
mod config;
mod degraded;
mod delivery;
mod delta;
mod drain;
mod fallback;
mod filter;
mod forged_passport;
mod hooks;
mod hostile_commands;
mod hostile_frames;
mod http;
mod jwks;
mod large_messages;
mod lost_nats;
mod lost_worker;
mod metrics;
mod nats_login;
mod openapi;
mod operations;
mod overflow;
mod overload;
mod permissions;
mod pings;
mod presence_loss;
mod rates;
mod recovery;
mod roster;
mod server_api;
mod slow_reader;
mod tls;
mod tokens;
