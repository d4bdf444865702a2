//! Listeners: bound by us, served by Pingora.
//!
//! Pingora's `Server` owns its process: it installs signal handlers, makes runtimes, and at the
//! first signal closes its listeners and sleeps. A gateway shares its process with others (tests,
//! the one-command fleet) and has its own way of leaving, so Pingora's listener service runs as a
//! task on the runtime it is started on. It would bind the address itself, but neither say which
//! port it got nor, if the port is taken, do anything but panic; so the socket is bound here, and
//! passed on the way a restarting Pingora gets the sockets of its predecessor.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;
use std::sync::Arc;

use pingora::apps::ServerApp;
use pingora::listeners::tls::TlsSettings;
use pingora::listeners::{ListenerConfig, TcpSocketOptions};
use pingora::protocols::l4::stream::L4BufferSettings;
use pingora::server::{Fds, ListenFds, ShutdownWatch};
use pingora::services::Service as _;
use pingora::services::listening::Service;

use crate::socket::keepalive;

/// A bound address.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds `address`; port 0 takes a free one.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Accepts until `shutdown` turns true. Connections that were accepted go on.
    pub(crate) async fn serve<A>(self, tls: Option<TlsSettings>, app: A, shutdown: ShutdownWatch)
    where
        A: ServerApp + Send + Sync + 'static,
    {
        let name = self.address.to_string();
        let mut options = TcpSocketOptions::default();
        options.tcp_keepalive = Some(keepalive());
        // The relay reads and writes in large pieces: buffers of the stream's own would only cost
        // memory on every idle connection.
        let mut config = ListenerConfig::tcp(&name)
            .tcp_socket_options(options)
            .l4_buffer(L4BufferSettings::unbuffered());
        if let Some(settings) = tls {
            config = config.tls(settings);
        }
        let mut fds = Fds::new();
        fds.add(name.clone(), self.socket.into_raw_fd());
        let fds: ListenFds = Arc::new(fds.into());
        let mut service = Service::new(name, app);
        service.add_listener(config);
        service.start_service(Some(fds), shutdown, 1).await;
    }
}
