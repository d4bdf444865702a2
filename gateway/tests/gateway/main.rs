//! The gateway in this process, between real sockets: what it promises to clients and workers.

mod common;
mod drain;
mod handshake;
mod relay;
mod route;
mod tls;
mod worker;
