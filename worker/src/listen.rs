//! The client listener: one socket per shard, all on one port.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait to be accepted, per shard.
const ACCEPT_BACKLOG: i32 = 4096;

/// Opens one listener per shard on the same port; the kernel spreads new connections over them.
///
/// # Errors
/// When the port is taken, also by another worker, or may not be used.
pub(crate) fn listen(address: SocketAddr, shards: usize) -> io::Result<Vec<StdListener>> {
    // SO_REUSEPORT would let a second worker share the port in silence: find that out first.
    let probe = socket(address)?;
    probe.bind(&address.into())?;
    let address = probe.local_addr()?.as_socket().unwrap_or(address);
    drop(probe);
    (0..shards)
        .map(|_| {
            let socket = socket(address)?;
            socket.set_reuse_port(true)?;
            socket.set_nonblocking(true)?;
            socket.bind(&address.into())?;
            socket.listen(ACCEPT_BACKLOG)?;
            Ok(socket.into())
        })
        .collect()
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A restarted worker takes its port back although old connections are still in TIME_WAIT.
    socket.set_reuse_address(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_share_a_port_and_a_second_worker_does_not() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let first = listen(any, 3).unwrap();
        let address = first[0].local_addr().unwrap();
        assert!(
            first
                .iter()
                .all(|listener| listener.local_addr().unwrap() == address)
        );
        assert_eq!(
            listen(address, 1).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
    }
}
