//! Which loopback ports the fleet's public doors get.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

use anyhow::{Context, Result};
use socket2::{Domain, Socket, Type};

use crate::args::DEFAULT_PORT;

/// A loopback address.
pub(crate) fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A port that nobody is given who asks for any, but that can be listened on.
#[derive(Debug)]
pub(crate) struct Reserved {
    pub(crate) port: u16,
    /// Bound, and never listens: the system lets a listener take its place.
    _socket: Socket,
}

/// Where a worker listens.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct WorkerPorts {
    /// For clients. As the others: 0 takes any free port.
    pub(crate) clients: u16,
    /// For metrics and health.
    pub(crate) admin: u16,
    /// For the server API.
    pub(crate) api: u16,
}

/// Ports for a worker that is another process. As long as they are reserved, it finds them free when it is started again.
///
/// # Errors
/// When none are free.
pub(crate) fn for_worker() -> Result<(WorkerPorts, [Reserved; 3])> {
    let any = || reserve(0).context("no free port");
    let reserved = [any()?, any()?, any()?];
    let [clients, admin, api] = &reserved;
    let ports = WorkerPorts {
        clients: clients.port,
        admin: admin.port,
        api: api.port,
    };
    Ok((ports, reserved))
}

/// The gateway's port: the one asked for, or the usual one if it is free, or any. It is reserved as long as this is held:
/// the gateway may be another process, and its configuration needs the number before that process exists.
///
/// # Errors
/// When the port asked for is taken.
pub(crate) fn for_gateway(asked: Option<u16>) -> Result<Reserved> {
    match asked {
        Some(port) => reserve(port).with_context(|| format!("port {port} of --port")),
        None => reserve(DEFAULT_PORT)
            .or_else(|_| reserve(0))
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

fn reserve(port: u16) -> io::Result<Reserved> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&loopback(port).into())?;
    let address = socket.local_addr()?.as_socket();
    Ok(Reserved {
        port: address.map_or(port, |address| address.port()),
        _socket: socket,
    })
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
    fn a_reserved_port_can_be_listened_on_and_is_given_to_nobody_who_asks_for_any() {
        let reserved = for_gateway(Some(0)).expect("finds one");
        for _ in 0..1000 {
            let other = TcpListener::bind(loopback(0)).expect("binds");
            assert_ne!(other.local_addr().expect("has one").port(), reserved.port);
        }
        TcpListener::bind(loopback(reserved.port)).expect("listens");
    }

    #[test]
    fn the_demo_page_gives_way_when_its_port_is_taken() {
        let taken = TcpListener::bind(loopback(0)).expect("binds");
        let port = taken.local_addr().expect("has an address").port();
        let demo = for_demo(port - 1).expect("finds another");
        assert_ne!(demo.local_addr().expect("has an address").port(), port);
    }
}
