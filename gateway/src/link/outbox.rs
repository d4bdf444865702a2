//! A client's bounded queue towards its stream.
//!
//! Owns: the client's stream and what it has not taken yet. Knows nothing of sessions and links: what it is given are whole,
//! ready-made frames, shared between all the clients they go to.
//!
//! What comes over a link is first gathered ([`Outbox::gather`]) and written once the link has nothing more
//! ([`Outbox::write`]), so that a client costs one write for whatever came in one wake-up. What the stream does not take is
//! kept, and is the business of the client's task from then on ([`Outbox::poll_write`]). A queue that would grow beyond its
//! bound is marked [`Fate::Overflowed`]. An empty outbox holds no heap memory.
//!
//! It is the worker's outbox again for a stream that is not a TCP socket: TLS cannot be written to by `try_write`.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::queue::Queue;

/// Chunks given to one vectored write.
const CHUNKS_PER_WRITE: usize = 32;

/// What a queued chunk costs beyond its bytes, roughly: tiny frames must fill a queue, too.
const CHUNK_OVERHEAD: usize = 64;

/// What has become of an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Takes frames.
    Open,
    /// More was queued than the bound allows. Takes nothing more; the client is to be closed as slow.
    Overflowed,
    /// Holds its last frames, a Close among them; takes nothing more.
    Closing,
    /// The stream failed, or the connection is over. Takes nothing more.
    Broken,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Outbox<S> {
    stream: RefCell<S>,
    queue: RefCell<Queue>,
    max_bytes: Cell<usize>,
    /// `max_bytes`, and the largest answer that was queued since the queue was empty.
    limit_bytes: Cell<usize>,
    fate: Cell<Fate>,
    /// Since when the stream has taken nothing although something is queued. The client's task writes then.
    stalled_since: Cell<Option<Instant>>,
    wake: Notify,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Outbox<S> {
    /// With no bound yet: see [`Outbox::limit`].
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream: RefCell::new(stream),
            queue: RefCell::new(Queue::default()),
            max_bytes: Cell::new(usize::MAX),
            limit_bytes: Cell::new(usize::MAX),
            fate: Cell::new(Fate::Open),
            stalled_since: Cell::new(None),
            wake: Notify::new(),
        }
    }

    /// Most bytes that may wait from now on.
    pub(super) fn limit(&self, max_bytes: usize) {
        self.max_bytes.set(max_bytes);
        self.limit_bytes.set(max_bytes);
    }

    /// Queues whole frames, to be written by [`Outbox::write`]. An answer, for which the client has asked, comes on top of
    /// the bound until all is taken: one that is too large would be asked for again and again. Whether the caller has
    /// to see to it that they are written; false also if they are not taken, see [`Fate`].
    pub(super) fn gather(&self, frames: Bytes, is_answer: bool) -> bool {
        if self.fate.get() != Fate::Open || frames.is_empty() {
            return false;
        }
        if is_answer {
            let with_answer = self.max_bytes.get().saturating_add(frames.len());
            self.limit_bytes
                .set(self.limit_bytes.get().max(with_answer));
        }
        if !self.has_room(frames.len()) {
            // What was gathered may only wait because nobody has tried yet.
            if self.stalled_since.get().is_none() {
                self.write();
            }
            if !self.has_room(frames.len()) {
                if self.fate.get() == Fate::Open {
                    self.fail(Fate::Overflowed);
                }
                return false;
            }
        }
        let mut queue = self.queue.borrow_mut();
        let is_first = queue.is_empty();
        queue.push(frames);
        is_first
    }

    fn has_room(&self, more: usize) -> bool {
        let queue = self.queue.borrow();
        let overhead = queue.chunks() * CHUNK_OVERHEAD;
        queue.is_empty() || queue.bytes() + more + overhead <= self.limit_bytes.get()
    }

    /// Queues whole frames and leaves it to the client's task to write them.
    pub(super) fn push(&self, frames: Bytes) -> bool {
        self.gather(frames, false);
        self.wake.notify_one();
        self.fate.get() == Fate::Open
    }

    /// Writes what has been gathered, as far as the stream takes it at once. If it does not take everything, the client's
    /// task is woken to go on.
    pub(super) fn write(&self) {
        if self.stalled_since.get().is_some() {
            return;
        }
        // Whoever is told that there is room again is the client's task, once it has asked.
        match self.poll_write(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) | Poll::Pending => self.wake.notify_one(),
        }
    }

    /// Writes as much as the stream takes; ready when nothing is left.
    ///
    /// # Errors
    /// The stream's error; the outbox is [`Fate::Broken`] from then on.
    pub(super) fn poll_write(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut queue = self.queue.borrow_mut();
        let mut stream = self.stream.borrow_mut();
        let mut stream = Pin::new(&mut *stream);
        while !queue.is_empty() {
            let poll = if queue.chunks() == 1 {
                stream.as_mut().poll_write(cx, queue.front())
            } else {
                let mut slices = [IoSlice::new(&[]); CHUNKS_PER_WRITE];
                let used = queue.slices(&mut slices);
                let slices = slices.get(..used).unwrap_or_default();
                stream.as_mut().poll_write_vectored(cx, slices)
            };
            match poll {
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(self.broken(io::ErrorKind::WriteZero.into()));
                }
                Poll::Ready(Ok(written)) => {
                    if self.stalled_since.get().is_some() {
                        self.stalled_since.set(Some(Instant::now()));
                    }
                    queue.taken(written);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(self.broken(error)),
                Poll::Pending => return self.stall(),
            }
        }
        self.limit_bytes.set(self.max_bytes.get());
        // Under TLS it may be that a record has not left yet.
        match stream.poll_flush(cx) {
            Poll::Ready(Ok(())) => {
                self.stalled_since.set(None);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(self.broken(error)),
            Poll::Pending => self.stall(),
        }
    }

    fn stall<T>(&self) -> Poll<T> {
        if self.stalled_since.get().is_none() {
            self.stalled_since.set(Some(Instant::now()));
        }
        Poll::Pending
    }

    fn broken(&self, error: io::Error) -> io::Result<()> {
        self.fail(Fate::Broken);
        Err(error)
    }

    /// Queues `last` as the final bytes, whatever the bound, and takes nothing more. With `drop_queued`, what has not
    /// begun to leave is dropped first; a chunk that the stream took a part of stays, so that `last` begins at a frame
    /// boundary.
    pub(super) fn close_with(&self, last: Bytes, drop_queued: bool) {
        if matches!(self.fate.get(), Fate::Broken | Fate::Closing) {
            return;
        }
        self.fate.set(Fate::Closing);
        let mut queue = self.queue.borrow_mut();
        if drop_queued {
            queue.keep_what_has_begun();
        }
        queue.push(last);
    }

    /// Ends our side, once everything is written.
    pub(super) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write(cx))?;
        Pin::new(&mut *self.stream.borrow_mut()).poll_shutdown(cx)
    }

    /// Reads from the stream.
    pub(super) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_read(cx, buf)
    }

    fn fail(&self, fate: Fate) {
        self.fate.set(fate);
        self.wake.notify_one();
    }

    /// Wakes the client's task.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Resolves when the task has to look again: something waits for the stream, the fate changed, or [`Outbox::wake`]
    /// was called. Cancel-safe.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    pub(super) fn fate(&self) -> Fate {
        self.fate.get()
    }

    /// Whether everything has been written.
    pub(super) fn is_idle(&self) -> bool {
        self.stalled_since.get().is_none() && self.queue.borrow().is_empty()
    }

    /// Whether so much waits that the client should ask for nothing more before it has taken some of it.
    pub(super) fn is_behind(&self) -> bool {
        self.stalled_since.get().is_some() && self.queue.borrow().bytes() > self.max_bytes.get() / 2
    }

    /// Since when nothing could be written although something waits.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        self.stalled_since.get()
    }
}

#[cfg(test)]
mod tests;
