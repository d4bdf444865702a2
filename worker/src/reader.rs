//! What a client sends, message by message: the WebSocket library at work on the connection's socket.
//!
//! Owns: the library's stream and the memory it keeps. Reading takes bytes from the socket of the owner's outbox. Writing
//! puts the library's frames (pongs, close echoes) into that outbox, the same queue that fan-out uses. The library
//! always hands over whole frames, and the outbox always takes or refuses a whole push, so the two interleave only at
//! frame boundaries.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::outbox::{Outbox, Pushed};

/// What one read takes at most. The library keeps a buffer of this size per connection and clears it before each
/// read, so it has to be small; command traffic is.
const READ_BUFFER_BYTES: usize = 512;

/// The library's buffer grows to the largest message and never shrinks. After a message of this size the library is
/// replaced by a fresh one, which costs nothing else, so that a client cannot pin the memory of its largest message.
const LARGE_MESSAGE_BYTES: usize = 4 * 1024;

/// See the module's documentation. `T` is whose socket it is.
pub(crate) struct Reader<T: AsRef<Outbox>> {
    socket: WebSocketStream<OutboxIo<T>>,
    /// Bytes of the frames that the messages returned so far came in, at least: a fragmented message, or a length that is
    /// not encoded in the shortest way, makes it less than the library has consumed.
    accounted: u64,
    message_max_bytes: usize,
}

impl<T: AsRef<Outbox>> Reader<T> {
    /// Reads from the socket of `owner`, beginning with `rest`, which was read behind the upgrade's head.
    pub(crate) async fn new(owner: Rc<T>, rest: Vec<u8>, message_max_bytes: usize) -> Self {
        let io = OutboxIo {
            owner,
            handed: rest.len() as u64,
        };
        let config = config(message_max_bytes);
        let socket =
            WebSocketStream::from_partially_read(io, rest, Role::Server, Some(config)).await;
        Self {
            socket,
            accounted: 0,
            message_max_bytes,
        }
    }

    /// The next message; control frames are among them and have been answered. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Result<Message, Error>> {
        let message = self.socket.next().await?;
        if let Ok(message) = &message {
            let payload = message.len();
            self.accounted += payload as u64 + masked_header_bytes(payload);
            // Nothing is left in the library exactly when it has consumed what it was handed.
            if payload >= LARGE_MESSAGE_BYTES && self.accounted == self.socket.get_ref().handed {
                let owner = self.socket.get_ref().owner.clone();
                // It never waits, and it must not: the message would be lost if this future were dropped meanwhile.
                if let Some(fresh) =
                    Self::new(owner, Vec::new(), self.message_max_bytes).now_or_never()
                {
                    *self = fresh;
                }
            }
        }
        Some(message)
    }

    /// Writes what the library has still to say, which is its answer to a Close. Never waits, as the outbox never does.
    pub(crate) async fn flush(&mut self) {
        // If the outbox is broken there is nobody to answer.
        let _ = self.socket.flush().await;
    }
}

/// The shortest header of a client's frame (RFC 6455 §5.2).
fn masked_header_bytes(payload: usize) -> u64 {
    match payload {
        0..126 => 6,
        126..65_536 => 8,
        _ => 14,
    }
}

fn config(message_max_bytes: usize) -> WebSocketConfig {
    // Nothing is buffered for writing: every frame goes to the outbox at once.
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(message_max_bytes))
        .max_frame_size(Some(message_max_bytes))
}

/// The stream that the library sees.
struct OutboxIo<T> {
    owner: Rc<T>,
    /// Bytes handed to the library.
    handed: u64,
}

impl<T: AsRef<Outbox>> OutboxIo<T> {
    fn outbox(&self) -> &Outbox {
        T::as_ref(&self.owner)
    }
}

impl<T: AsRef<Outbox>> AsyncRead for OutboxIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let Some(socket) = self.outbox().socket() else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            ready!(socket.poll_read_ready(cx))?;
            match socket.try_read(buf.initialize_unfilled()) {
                Ok(read) => {
                    buf.advance(read);
                    self.handed += read as u64;
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl<T: AsRef<Outbox>> AsyncWrite for OutboxIo<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.outbox().push(&Bytes::copy_from_slice(buf)) {
            Pushed::Written | Pushed::Queued => Poll::Ready(Ok(buf.len())),
            Pushed::Refused => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
