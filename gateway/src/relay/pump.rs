//! One direction of a relayed connection.
//!
//! An idle pump owns no buffer: bytes are read into a scratch buffer that the thread's connections
//! share, and go from there to the other socket. Only what that socket does not take at once is
//! copied, and nothing more is read until it is gone; so a pump holds at most one scratch buffer's
//! worth, and a slow reader slows its own peer and nobody else.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::tracker::{CARRY_MAX, Scan, Tracker};

/// Most bytes read at once, and so the most that one pump can hold.
const SCRATCH_BYTES: usize = 64 * 1024;

thread_local! {
    /// The space in front takes an incomplete header left over from the last read. Borrowed only
    /// inside a poll, never across one.
    static SCRATCH: RefCell<Box<[u8]>> =
        RefCell::new(vec![0; CARRY_MAX + SCRATCH_BYTES].into_boxed_slice());
}

/// How far a pump goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// Until the source ends.
    End,
    /// Until what was passed on ends with a frame; what was read beyond it is dropped.
    Boundary,
}

/// Which socket failed. How does not matter: peers come and go in many ways.
#[derive(Debug)]
pub(super) enum Broken {
    Source,
    Sink,
}

/// The state of one direction.
#[derive(Default)]
pub(super) struct Pump {
    /// Where frames end, if there are frames.
    tracker: Option<Tracker>,
    /// Bytes the sink has not taken yet, from `written` on. No allocation while empty.
    out: Vec<u8>,
    written: usize,
    /// An incomplete frame header, which is passed on once it is complete.
    carry: [u8; CARRY_MAX],
    carried: u8,
    unflushed: bool,
    ended: bool,
    /// Bytes the sink has taken so far.
    passed: u64,
}

impl Pump {
    /// A pump of frames whose first bytes have been read already: they came together with a head.
    pub(super) fn starting_with(early: &[u8]) -> Self {
        let mut pump = Self {
            tracker: Some(Tracker::default()),
            ..Self::default()
        };
        let forward = pump.scan(early).forward;
        pump.out.extend_from_slice(&early[..forward]);
        pump.keep(&early[forward..]);
        pump
    }

    /// The same for bytes that are no frames: nothing of our own may follow them.
    pub(super) fn of_bytes(early: Vec<u8>) -> Self {
        Self {
            out: early,
            ..Self::default()
        }
    }

    /// Whether another frame may be appended.
    pub(super) fn at_boundary(&self) -> bool {
        self.tracker.as_ref().is_some_and(Tracker::at_boundary)
    }

    /// The status code of the Close frame that went this way, if one has.
    pub(super) fn close(&self) -> Option<u16> {
        self.tracker.as_ref().and_then(Tracker::close)
    }

    /// Whether the source has ended.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Whether bytes wait for the sink.
    pub(super) fn is_blocked(&self) -> bool {
        self.written < self.out.len() || self.unflushed
    }

    /// Bytes the sink has taken so far.
    pub(super) fn passed(&self) -> u64 {
        self.passed
    }

    /// Appends a frame of our own, behind whatever still waits. Only at a boundary; an incomplete
    /// header that was read is dropped, as nothing can follow our frame.
    pub(super) fn append(&mut self, frame: &[u8]) {
        debug_assert!(self.at_boundary());
        self.carried = 0;
        self.out.extend_from_slice(frame);
    }

    /// Passes bytes on until neither socket can go further. Ready when everything up to `until` has
    /// been handed to the sink and flushed.
    pub(super) fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut R,
        sink: &mut W,
        until: Until,
    ) -> Poll<Result<(), Broken>>
    where
        R: AsyncRead + Unpin + ?Sized,
        W: AsyncWrite + Unpin + ?Sized,
    {
        loop {
            ready!(self.poll_flush(cx, sink))?;
            if self.ended || (until == Until::Boundary && self.at_boundary()) {
                return Poll::Ready(Ok(()));
            }
            ready!(
                SCRATCH.with_borrow_mut(|scratch| {
                    self.poll_step(cx, source, sink, until, scratch)
                })
            )?;
        }
    }

    /// Hands what waits to the sink. Ready when nothing waits any more.
    pub(super) fn poll_flush<W>(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut W,
    ) -> Poll<Result<(), Broken>>
    where
        W: AsyncWrite + Unpin + ?Sized,
    {
        while self.written < self.out.len() {
            let taken = ready!(poll_write(cx, sink, &self.out[self.written..]))?;
            self.written += taken;
            self.passed += taken as u64;
            self.unflushed = true;
        }
        if !self.out.is_empty() {
            self.out = Vec::new();
            self.written = 0;
        }
        if self.unflushed {
            ready!(Pin::new(sink).poll_flush(cx)).map_err(|_| Broken::Sink)?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// One read, and as much of it written as the sink takes.
    fn poll_step<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut R,
        sink: &mut W,
        until: Until,
        scratch: &mut [u8],
    ) -> Poll<Result<(), Broken>>
    where
        R: AsyncRead + Unpin + ?Sized,
        W: AsyncWrite + Unpin + ?Sized,
    {
        let mut space = ReadBuf::new(&mut scratch[CARRY_MAX..]);
        ready!(Pin::new(source).poll_read(cx, &mut space)).map_err(|_| Broken::Source)?;
        let read = space.filled().len();
        if read == 0 {
            self.ended = true;
            return Poll::Ready(Ok(()));
        }
        let carried = usize::from(self.carried);
        let start = CARRY_MAX - carried;
        scratch[start..CARRY_MAX].copy_from_slice(&self.carry[..carried]);
        let bytes = &scratch[start..CARRY_MAX + read];
        let scan = self.scan(bytes);
        let mut forward = &bytes[..scan.forward];
        match (until, scan.boundary) {
            (Until::Boundary, Some(boundary)) => {
                forward = &bytes[..boundary];
                if let Some(tracker) = &mut self.tracker {
                    tracker.drop_partial_frame();
                }
                self.carried = 0;
            }
            _ => self.keep(&bytes[scan.forward..]),
        }
        while !forward.is_empty() {
            match poll_write(cx, sink, forward)? {
                Poll::Ready(taken) => {
                    forward = &forward[taken..];
                    self.passed += taken as u64;
                    self.unflushed = true;
                }
                Poll::Pending => {
                    self.out.extend_from_slice(forward);
                    break;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn scan(&mut self, bytes: &[u8]) -> Scan {
        match &mut self.tracker {
            Some(tracker) => tracker.scan(bytes),
            None => Scan {
                forward: bytes.len(),
                boundary: None,
            },
        }
    }

    fn keep(&mut self, header: &[u8]) {
        self.carry[..header.len()].copy_from_slice(header);
        self.carried = header.len() as u8;
    }
}

fn poll_write<W>(cx: &mut Context<'_>, sink: &mut W, bytes: &[u8]) -> Poll<Result<usize, Broken>>
where
    W: AsyncWrite + Unpin + ?Sized,
{
    match ready!(Pin::new(sink).poll_write(cx, bytes)) {
        Ok(0) | Err(_) => Poll::Ready(Err(Broken::Sink)),
        Ok(taken) => Poll::Ready(Ok(taken)),
    }
}
