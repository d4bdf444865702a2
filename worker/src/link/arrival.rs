//! A link on its way from the shard that accepted it to the one that the gateway wants.

use std::io;

use flotilla_shared::link::{Hello, Messages};
use tokio::net::TcpStream;

/// A link whose Hello has been read.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// Belongs to no runtime.
    socket: std::net::TcpStream,
    /// What was read behind the Hello.
    messages: Messages,
    pub(super) hello: Hello,
    pub(super) shard: u32,
    pub(super) shards: u32,
}

impl Arrival {
    /// For the one of the worker's `shards` that the Hello names.
    ///
    /// # Errors
    /// When the system does not let go of the socket.
    pub(crate) fn new(
        socket: TcpStream,
        messages: Messages,
        hello: Hello,
        shards: usize,
    ) -> io::Result<Self> {
        let shards = u32::try_from(shards).unwrap_or(u32::MAX).max(1);
        Ok(Self {
            socket: socket.into_std()?,
            messages,
            shard: hello.shard % shards,
            hello,
            shards,
        })
    }

    /// Which shard it is for.
    pub(crate) fn shard(&self) -> usize {
        self.shard as usize
    }

    /// The socket, on this thread's runtime, and what was read from it.
    pub(super) fn unpack(self) -> io::Result<(TcpStream, Messages)> {
        Ok((TcpStream::from_std(self.socket)?, self.messages))
    }
}
