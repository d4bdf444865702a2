//! A port of the loopback interface for a process that is still to be started, or that comes back.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use tokio::net::TcpSocket;

/// A port that nobody is given who asks for any, as long as this is held.
#[derive(Debug)]
pub struct Reserved {
    address: SocketAddr,
    /// Bound, and never listens: the system lets a listener take its place.
    _socket: TcpSocket,
}

impl Reserved {
    /// Reserves a free port.
    ///
    /// # Errors
    /// When there is none.
    pub fn port() -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        Ok(Self {
            address: socket.local_addr()?,
            _socket: socket,
        })
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}
