//! What every socket of the gateway has in common.

use std::io;
use std::time::Duration;

use pingora::protocols::TcpKeepalive;
use socket2::{SockRef, TcpKeepalive as Probes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// A peer that is silent for this long is asked whether it is still there. Nothing else would find
/// a peer whose network or machine is gone while no message is under way.
const PROBE_AFTER: Duration = Duration::from_secs(60);
const PROBE_INTERVAL: Duration = Duration::from_secs(15);
const PROBES: u32 = 4;
/// How long sent bytes may stay unacknowledged.
const USER_TIMEOUT: Duration = Duration::from_secs(90);

/// Keep-alive for sockets that Pingora accepts.
pub(crate) fn keepalive() -> TcpKeepalive {
    TcpKeepalive {
        idle: PROBE_AFTER,
        interval: PROBE_INTERVAL,
        count: PROBES as usize,
        #[cfg(target_os = "linux")]
        user_timeout: USER_TIMEOUT,
    }
}

/// The same for a socket that the gateway has opened, which also sends without delay.
pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let probes = Probes::new()
        .with_time(PROBE_AFTER)
        .with_interval(PROBE_INTERVAL)
        .with_retries(PROBES);
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&probes)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(())
}

/// Ends our side and waits until the peer has ended its own: closing a socket that still has bytes
/// to read resets it, and the peer could lose what it has not read yet. The caller bounds the time.
pub(crate) async fn see_off<S>(socket: &mut S)
where
    S: AsyncRead + AsyncWrite + Unpin + ?Sized,
{
    if socket.shutdown().await.is_err() {
        return;
    }
    let mut ignored = [0; 512];
    while matches!(socket.read(&mut ignored).await, Ok(1..)) {}
}
