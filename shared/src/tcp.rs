//! What every TCP connection of ours has in common.
//!
//! Owns: the options that decide how soon a small message leaves and how soon a dead peer is noticed.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// A peer that is silent for this long is asked whether it is still there. Nothing else would find a peer whose network
/// or machine is gone while no message is under way.
pub const PROBE_AFTER: Duration = Duration::from_secs(60);

/// Time between two such questions.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(15);

/// Questions without an answer after which the peer is gone.
pub const PROBES: u32 = 4;

/// How long sent bytes may stay unacknowledged.
pub const USER_TIMEOUT: Duration = Duration::from_secs(90);

/// Sends without delay, since messages are small and somebody waits for each; and finds out when the peer is gone.
///
/// # Errors
/// When the system does not take an option, as for a socket that is closed already.
pub fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let probes = TcpKeepalive::new()
        .with_time(PROBE_AFTER)
        .with_interval(PROBE_INTERVAL)
        .with_retries(PROBES);
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&probes)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_prepared_connection_is_probed_and_does_not_wait() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        prepare(&stream).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap() && stream.nodelay().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), PROBE_AFTER);
    }
}
