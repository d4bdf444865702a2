//! A TCP link that can be cut, stalled and mended, to put between two processes.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What a [`Link`] does with the bytes that pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Connections stay, nothing passes: a network that swallows packets.
    Stalled,
    /// Connections are closed, new ones too.
    Cut,
}

/// A relay in front of `target`; connect to [`Link::address`] instead.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    state: watch::Sender<State>,
}

impl Link {
    /// Opens a link to `target` (`host:port`). It ends when dropped.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn to(target: String) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (state, states) = watch::channel(State::Open);
        tokio::spawn(accept(listener, target, states));
        Ok(Self { address, state })
    }

    /// Where to connect instead of the target: `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Closes all connections, and every new one, until [`Link::mend`].
    pub fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// Lets nothing pass, without closing anything, until [`Link::mend`].
    pub fn stall(&self) {
        self.state.send_replace(State::Stalled);
    }

    /// Works again.
    pub fn mend(&self) {
        self.state.send_replace(State::Open);
    }
}

/// Accepts until the link is dropped.
async fn accept(listener: TcpListener, target: String, mut states: watch::Receiver<State>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            changed = states.changed() => if changed.is_ok() { continue } else { return },
        };
        let Ok((near, _)) = accepted else { return };
        if *states.borrow() == State::Cut {
            continue;
        }
        if let Ok(far) = TcpStream::connect(&target).await {
            let (near_read, near_write) = near.into_split();
            let (far_read, far_write) = far.into_split();
            tokio::spawn(pump(near_read, far_write, states.clone()));
            tokio::spawn(pump(far_read, near_write, states.clone()));
        }
    }
}

/// Copies one direction until either end closes, the link is cut, or it is dropped.
async fn pump(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut states: watch::Receiver<State>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let state = *states.borrow_and_update();
        if state == State::Cut {
            return;
        }
        let read = tokio::select! {
            read = from.read(&mut buffer), if state == State::Open => read,
            changed = states.changed() => if changed.is_ok() { continue } else { return },
        };
        match read {
            Ok(0) | Err(_) => return,
            Ok(count) if to.write_all(&buffer[..count]).await.is_err() => return,
            Ok(_) => {}
        }
    }
}
