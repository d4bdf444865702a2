//! A connection's bounded queue towards its socket, or its seat on a link.
//!
//! Owns: the socket's write side and what the socket has not taken yet. Knows nothing of sessions, channels or the
//! protocol: what it is given are whole, ready-made frames, shared between all the connections they go to. On a link
//! nothing is queued here: it is the gateway that keeps what a client does not take.
//!
//! Nothing here ever waits. [`Outbox::push`] writes straight to the socket when nothing is queued; what the socket
//! refuses is kept (shared bytes, counted) until the connection's task finds the socket writable and calls
//! [`Outbox::flush`]. A queue that would grow beyond its bound is marked [`Fate::Overflowed`]: the connection's task
//! then closes the client as slow. An empty outbox holds no heap memory.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::time::Instant;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::link::Seat;

/// Chunks given to one vectored write.
const CHUNKS_PER_WRITE: usize = 32;

/// What a queued chunk costs beyond its bytes, roughly: tiny frames must fill a queue, too.
const CHUNK_OVERHEAD: usize = 64;

/// What has become of an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Takes frames.
    Open,
    /// More was queued than the bound allows. Takes nothing more; the client is to be closed as slow.
    Overflowed,
    /// Holds its last frames, a Close among them; takes nothing more.
    Closing,
    /// The socket failed, or the connection is over. Takes nothing more.
    Broken,
    /// The link is gone, but the session may be somewhere else, so that it stays for a while. Takes nothing more.
    Orphaned,
}

/// What [`Outbox::push`] did with the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// All bytes are in the socket's buffer.
    Written,
    /// Queued behind what the socket has not taken.
    Queued,
    /// Not taken: see [`Fate`].
    Refused,
}

/// Where frames go.
#[derive(Debug)]
enum Way {
    Socket(TcpStream),
    Link(Box<Seat>),
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Outbox {
    way: Way,
    max_bytes: usize,
    /// `max_bytes`, and the largest answer that was queued since the queue was empty.
    limit_bytes: Cell<usize>,
    queue: RefCell<VecDeque<Bytes>>,
    queued_bytes: Cell<usize>,
    /// The socket has taken a part of the queue's front chunk, which therefore begins in the middle of a frame.
    front_is_cut: Cell<bool>,
    fate: Cell<Fate>,
    /// Since when the socket has taken nothing although something is queued.
    stalled_since: Cell<Option<Instant>>,
    wake: Notify,
}

impl Outbox {
    pub(crate) fn new(socket: TcpStream, max_bytes: usize) -> Self {
        Self::of(Way::Socket(socket), max_bytes)
    }

    /// For a session on a link.
    pub(crate) fn on_link(seat: Seat) -> Self {
        Self::of(Way::Link(Box::new(seat)), usize::MAX)
    }

    fn of(way: Way, max_bytes: usize) -> Self {
        Self {
            way,
            max_bytes,
            limit_bytes: Cell::new(max_bytes),
            queue: RefCell::new(VecDeque::new()),
            queued_bytes: Cell::new(0),
            front_is_cut: Cell::new(false),
            fate: Cell::new(Fate::Open),
            stalled_since: Cell::new(None),
            wake: Notify::new(),
        }
    }

    /// The socket, for reading; `None` on a link.
    pub(crate) fn socket(&self) -> Option<&TcpStream> {
        match &self.way {
            Way::Socket(socket) => Some(socket),
            Way::Link(_) => None,
        }
    }

    /// The seat, for a session on a link.
    pub(crate) fn seat(&self) -> Option<&Seat> {
        match &self.way {
            Way::Socket(_) => None,
            Way::Link(seat) => Some(seat),
        }
    }

    /// Waits until the socket takes something, or the link is not behind any more.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        match &self.way {
            Way::Socket(socket) => socket.writable().await,
            Way::Link(seat) => {
                seat.link().caught_up().await;
                Ok(())
            }
        }
    }

    /// Writes or queues whole frames for which the client has asked, however many bytes they are: an answer that is too
    /// large for the bound would be asked for again and again. It comes on top of the bound until all is taken.
    pub(crate) fn push_answer(&self, frames: &Bytes) -> Pushed {
        if let Way::Link(seat) = &self.way {
            return self.hand_over(seat, frames, true);
        }
        let limit = self.limit_bytes.get();
        self.limit_bytes
            .set(limit.max(self.max_bytes + frames.len()));
        let pushed = self.push(frames);
        if pushed == Pushed::Written {
            self.limit_bytes.set(self.max_bytes);
        }
        pushed
    }

    /// Writes or queues whole frames.
    pub(crate) fn push(&self, frames: &Bytes) -> Pushed {
        if self.fate.get() != Fate::Open {
            return Pushed::Refused;
        }
        if self.queued_bytes.get() > 0 {
            return self.enqueue(frames.clone());
        }
        let socket = match &self.way {
            Way::Socket(socket) => socket,
            Way::Link(seat) => return self.hand_over(seat, frames, false),
        };
        match socket.try_write(frames) {
            Ok(written) if written == frames.len() => Pushed::Written,
            Ok(written) => {
                let pushed = self.enqueue(frames.slice(written..));
                self.front_is_cut.set(true);
                pushed
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.enqueue(frames.clone()),
            Err(_) => {
                self.fail(Fate::Broken);
                Pushed::Refused
            }
        }
    }

    fn hand_over(&self, seat: &Seat, frames: &Bytes, is_answer: bool) -> Pushed {
        if self.fate.get() != Fate::Open {
            return Pushed::Refused;
        }
        seat.send(frames, is_answer);
        Pushed::Written
    }

    fn enqueue(&self, frames: Bytes) -> Pushed {
        let mut queue = self.queue.borrow_mut();
        let bytes = self.queued_bytes.get() + frames.len();
        if bytes + queue.len() * CHUNK_OVERHEAD > self.limit_bytes.get() && !queue.is_empty() {
            self.fail(Fate::Overflowed);
            return Pushed::Refused;
        }
        if queue.is_empty() {
            self.front_is_cut.set(false);
            self.stalled_since.set(Some(Instant::now()));
            // The connection's task has to learn that it must wait for the socket now.
            self.wake.notify_one();
        }
        queue.push_back(frames);
        self.queued_bytes.set(bytes);
        Pushed::Queued
    }

    /// Writes as much of the queue as the socket takes; true when nothing is left.
    ///
    /// # Errors
    /// The socket's error; the outbox is [`Fate::Broken`] from then on.
    pub(crate) fn flush(&self) -> io::Result<bool> {
        let Way::Socket(socket) = &self.way else {
            return Ok(true);
        };
        let mut queue = self.queue.borrow_mut();
        while !queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); CHUNKS_PER_WRITE];
            let used = slices
                .iter_mut()
                .zip(queue.iter())
                .map(|(slice, chunk)| *slice = IoSlice::new(chunk))
                .count();
            match socket.try_write_vectored(slices.get(..used).unwrap_or_default()) {
                Ok(written) => {
                    self.stalled_since.set(Some(Instant::now()));
                    self.taken(&mut queue, written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => {
                    self.fail(Fate::Broken);
                    return Err(error);
                }
            }
        }
        // Give the memory back: an idle connection holds no buffer.
        *queue = VecDeque::new();
        self.limit_bytes.set(self.max_bytes);
        self.stalled_since.set(None);
        Ok(true)
    }

    fn taken(&self, queue: &mut VecDeque<Bytes>, mut written: usize) {
        self.queued_bytes.set(self.queued_bytes.get() - written);
        while let Some(front) = queue.front_mut() {
            if written < front.len() {
                if written > 0 {
                    *front = front.slice(written..);
                    self.front_is_cut.set(true);
                }
                return;
            }
            written -= front.len();
            queue.pop_front();
            self.front_is_cut.set(false);
        }
    }

    /// Queues `last` as the final frames, whatever the bound, and takes nothing more. With `drop_queued`, what has
    /// not begun to leave is dropped first; a chunk that the socket took a part of stays, so that `last` begins at a
    /// frame boundary.
    pub(crate) fn close_with(&self, last: Bytes, drop_queued: bool) {
        if matches!(self.fate.get(), Fate::Broken | Fate::Closing) {
            return;
        }
        self.fate.set(Fate::Closing);
        let mut queue = self.queue.borrow_mut();
        if drop_queued {
            queue.truncate(usize::from(self.front_is_cut.get()));
        }
        queue.push_back(last);
        self.queued_bytes.set(queue.iter().map(Bytes::len).sum());
    }

    /// Takes nothing more from now on.
    pub(crate) fn shut(&self) {
        self.fate.set(Fate::Broken);
        *self.queue.borrow_mut() = VecDeque::new();
        self.queued_bytes.set(0);
        self.stalled_since.set(None);
    }

    /// The link is gone.
    pub(crate) fn orphan(&self) {
        if self.fate.get() == Fate::Open {
            self.fail(Fate::Orphaned);
        }
    }

    fn fail(&self, fate: Fate) {
        self.fate.set(fate);
        self.wake.notify_one();
    }

    /// Wakes the connection's task.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Resolves when the task has to look again: something was queued, the fate changed, or [`Outbox::wake`] was
    /// called. Cancel-safe.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    pub(crate) fn fate(&self) -> Fate {
        self.fate.get()
    }

    /// Bytes that the socket has not taken yet.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued_bytes.get()
    }

    /// Whether more than `most` bytes wait, or a link's gateway is behind.
    pub(crate) fn has_beyond(&self, most: usize) -> bool {
        self.queued_bytes.get() > most || self.seat().is_some_and(|seat| seat.link().is_behind())
    }

    /// Since when nothing could be written although something is queued.
    pub(crate) fn stalled_since(&self) -> Option<Instant> {
        self.stalled_since.get()
    }
}

impl AsRef<Outbox> for Outbox {
    fn as_ref(&self) -> &Outbox {
        self
    }
}

#[cfg(test)]
mod tests;
