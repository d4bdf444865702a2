//! Which loopback ports the fleet's public doors get.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

use anyhow::{Context, Result};

use crate::args::DEFAULT_PORT;

/// A loopback address.
pub(crate) fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// The gateway's port: the one asked for, or the usual one if it is free, or any.
///
/// It is free when this returns, but not reserved: the gateway may be another process, and its
/// configuration needs the number before that process exists.
///
/// # Errors
/// When the port asked for is taken.
pub(crate) fn for_gateway(asked: Option<u16>) -> Result<u16> {
    match asked {
        Some(port) => free(port).with_context(|| format!("port {port} of --port")),
        None => free(DEFAULT_PORT)
            .or_else(|_| free(0))
            .context("no free port"),
    }
}

/// The demo page's listener: on the port after the gateway's, or on any.
///
/// # Errors
/// When no port is free.
pub(crate) fn for_demo(gateway: u16) -> io::Result<TcpListener> {
    let next = gateway.checked_add(1).unwrap_or(0);
    TcpListener::bind(loopback(next)).or_else(|_| TcpListener::bind(loopback(0)))
}

fn free(port: u16) -> io::Result<u16> {
    Ok(TcpListener::bind(loopback(port))?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_that_was_asked_for_is_refused_by_number() {
        let taken = TcpListener::bind(loopback(0)).expect("binds");
        let port = taken.local_addr().expect("has an address").port();
        let error = for_gateway(Some(port)).expect_err("is taken");
        assert!(error.to_string().contains(&port.to_string()), "{error}");
    }

    #[test]
    fn the_demo_page_gives_way_when_its_port_is_taken() {
        let taken = TcpListener::bind(loopback(0)).expect("binds");
        let port = taken.local_addr().expect("has an address").port();
        let demo = for_demo(port - 1).expect("finds another");
        assert_ne!(demo.local_addr().expect("has an address").port(), port);
    }
}
