//! Clients' sockets: their options, and how they are left.

use flotilla_shared::tcp::{PROBE_AFTER, PROBE_INTERVAL, PROBES, USER_TIMEOUT};
use pingora::protocols::TcpKeepalive;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

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
