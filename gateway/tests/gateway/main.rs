//! The gateway in this process, between real sockets: what it promises to clients and workers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that fails may panic anywhere"
)]

mod common;
mod drain;
mod fallback;
mod handshake;
mod http_worker;
mod link;
mod link_worker;
mod process;
mod relay;
mod route;
mod tls;
mod worker;
