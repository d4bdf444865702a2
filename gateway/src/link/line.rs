//! A link's connection: bytes in, bytes out, and whether the other side is still there.
//!
//! Owns: the socket. What is said means nothing here; when the connection has ended, the sessions that were there are given
//! back to the thread.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::{Buf as _, BytesMut};
use flotilla_shared::link::{HEARTBEAT_INTERVAL, LinkError, Messages, SILENCE_MAX, ToGateway};
use tokio::net::TcpStream;
use tokio::task::{unconstrained, yield_now};
use tokio::time::{MissedTickBehavior, interval};

use super::peer::{Nonsense, Peer};
use super::thread::Thread;

/// What one read takes at most.
const READ_BYTES: usize = 64 * 1024;

/// How often the topics in which nobody is any more are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// Why a link has ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    #[error("the connection was ended")]
    Ended,
    #[error("the connection is broken: {0}")]
    Broken(#[from] io::Error),
    #[error("nothing was heard for {SILENCE_MAX:?}")]
    Silent,
    #[error("the worker has said what cannot be read: {0}")]
    Unreadable(#[from] LinkError),
    #[error("the worker has said what makes no sense: {0}")]
    Nonsense(#[from] Nonsense),
}

/// Serves a link until it ends. `messages` holds what was read behind the welcome.
pub(super) async fn serve(
    thread: Rc<Thread>,
    peer: Rc<Peer>,
    socket: TcpStream,
    messages: Messages,
) {
    let gauge = thread.metrics().link_up();
    let mut line = Line {
        thread: &thread,
        peer: &peer,
        socket: &socket,
        messages,
        out: BytesMut::new(),
    };
    // Fan-out writes to more streams in one go than the runtime's budget for a task allows, and would find the rest
    // unwilling for no reason of theirs; the line yields by itself.
    let Err(error) = unconstrained(line.run()).await;
    tracing::warn!(worker = peer.worker.label(), thread = thread.index(), %error, "a link has ended");
    drop(gauge);
    thread.link_ended(&peer);
}

struct Line<'a> {
    thread: &'a Rc<Thread>,
    peer: &'a Rc<Peer>,
    socket: &'a TcpStream,
    messages: Messages,
    /// What is being sent.
    out: BytesMut,
}

impl Line<'_> {
    async fn run(&mut self) -> Result<std::convert::Infallible, LineError> {
        let mut beats = interval(HEARTBEAT_INTERVAL);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sweeps = interval(SWEEP_INTERVAL);
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        self.listen()?;
        loop {
            tokio::select! {
                biased;
                // First: whoever was stopped for a while has to hear what came meanwhile, before he judges.
                ready = self.socket.readable() => {
                    ready?;
                    if self.read()? {
                        heard = Instant::now();
                        self.listen()?;
                        yield_now().await;
                    }
                }
                ready = self.socket.writable(), if !self.out.is_empty() => {
                    ready?;
                    self.write()?;
                }
                () = self.peer.waiting(), if self.out.is_empty() => {
                    self.out = self.peer.unsent();
                    self.write()?;
                }
                _ = beats.tick() => {
                    if heard.elapsed() > SILENCE_MAX {
                        return Err(LineError::Silent);
                    }
                    self.peer.beat();
                }
                _ = sweeps.tick() => self.peer.topics.borrow_mut().sweep(),
            }
        }
    }

    /// Reads what is there, or as much as one read takes. Whether something was.
    fn read(&mut self) -> Result<bool, LineError> {
        let buffer = self.messages.buffer();
        buffer.reserve(READ_BYTES);
        match self.socket.try_read_buf(buffer) {
            Ok(0) => Err(LineError::Ended),
            Ok(read) => {
                self.thread.counts.link_read(read);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes every message that is there, then has everything written that these were about.
    fn listen(&mut self) -> Result<(), LineError> {
        let heard = self.hear();
        self.thread.write_gathered();
        heard
    }

    fn hear(&mut self) -> Result<(), LineError> {
        while let Some(message) = self.messages.next::<ToGateway>()? {
            self.peer.hear(self.thread, message)?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), LineError> {
        while !self.out.is_empty() {
            match self.socket.try_write(&self.out) {
                Ok(written) => {
                    self.thread.counts.link_written(written);
                    self.out.advance(written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        self.peer.drained();
        Ok(())
    }
}
