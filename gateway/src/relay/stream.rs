//! One relayed answer that goes on, from its head to the last byte.
//!
//! Nothing of a client is passed on here: its request has been made, and whatever it sends behind
//! that could be nothing but a second one that has been checked by nobody. The answer passes as it
//! comes, and ends where the worker ends it.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep, timeout};

use super::pump::{Broken, Pump, Until};
use super::session::count;
use super::{Initiator, Order, Outcome, Reason, Relay, Seat, Timeouts, Traffic};
use crate::socket::see_off;

/// A client and the worker that answers it.
pub(crate) struct StreamSession<C, W> {
    client: C,
    worker: W,
    answer: Pump,
    /// The client has ended its side: it will not ask anything else.
    client_ended: bool,
    watchdog: Option<Box<Watchdog>>,
    timeouts: Timeouts,
    traffic: Traffic,
    seat: Seat,
}

/// Runs while the client takes nothing, or once it has ended its side.
struct Watchdog {
    sleep: Pin<Box<Sleep>>,
    passed: u64,
}

/// Why relaying stopped.
enum End {
    Ordered(Order),
    ClientLost,
    /// It sent something in the middle of its answer.
    ClientSpoke,
    ClientStalled,
    WorkerEnded,
    WorkerLost,
}

impl<C, W> Relay for StreamSession<C, W>
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    W: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    async fn run(&mut self) -> Outcome {
        let end = poll_fn(|cx| self.poll_relay(cx)).await;
        Box::pin(self.finish(end)).await
    }
}

impl<C, W> StreamSession<C, W>
where
    C: AsyncRead + AsyncWrite + Unpin,
    W: AsyncRead + AsyncWrite + Unpin,
{
    /// Connects the two. `early` is the answer's beginning, which has been read already.
    pub(crate) fn new(
        client: C,
        (worker, early): (W, Vec<u8>),
        timeouts: Timeouts,
        traffic: Traffic,
        seat: Seat,
    ) -> Self {
        Self {
            client,
            worker,
            answer: Pump::of_bytes(early),
            client_ended: false,
            watchdog: None,
            timeouts,
            traffic,
            seat,
        }
    }

    fn poll_relay(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        match self.seat.control().order(cx.waker()) {
            Order::Carry => {}
            order => return Poll::Ready(End::Ordered(order)),
        }
        if let Some(end) = self.listen_to_client(cx) {
            return Poll::Ready(end);
        }
        let before = self.answer.passed();
        let (worker, client) = (&mut self.worker, &mut self.client);
        let poll = self.answer.poll(cx, worker, client, Until::End);
        count(&self.traffic.outbound, self.answer.passed() - before);
        match poll {
            Poll::Pending => self.poll_watchdog(cx),
            Poll::Ready(Ok(())) => Poll::Ready(End::WorkerEnded),
            Poll::Ready(Err(Broken::Source)) => Poll::Ready(End::WorkerLost),
            Poll::Ready(Err(Broken::Sink)) => Poll::Ready(End::ClientLost),
        }
    }

    /// A client that ends its side may have gone, or may have nothing more to ask: the worker is
    /// told that no more comes, and what it still says is delivered.
    fn listen_to_client(&mut self, cx: &mut Context<'_>) -> Option<End> {
        if self.client_ended {
            return None;
        }
        let mut space = [0];
        let mut buffer = ReadBuf::new(&mut space);
        match Pin::new(&mut self.client).poll_read(cx, &mut buffer) {
            Poll::Pending => None,
            Poll::Ready(Err(_)) => Some(End::ClientLost),
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                // Ending the sending side of a TCP socket does not wait.
                let _ = Pin::new(&mut self.worker).poll_shutdown(cx);
                self.client_ended = true;
                None
            }
            Poll::Ready(Ok(())) => Some(End::ClientSpoke),
        }
    }

    fn poll_watchdog(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if !(self.client_ended || self.answer.is_blocked()) {
            self.watchdog = None;
            return Poll::Pending;
        }
        loop {
            let mut dog = self.watchdog.take().unwrap_or_else(|| {
                Box::new(Watchdog {
                    sleep: Box::pin(sleep(self.timeouts.write)),
                    passed: self.answer.passed(),
                })
            });
            if dog.sleep.as_mut().poll(cx).is_pending() {
                self.watchdog = Some(dog);
                return Poll::Pending;
            }
            if dog.passed == self.answer.passed() {
                return Poll::Ready(if self.answer.is_blocked() {
                    End::ClientStalled
                } else {
                    End::ClientLost
                });
            }
            // There was progress: another round.
        }
    }

    /// Everything after the relay. Bounded by the close timeout, and by the order to drop.
    async fn finish(&mut self, end: End) -> Outcome {
        let outcome = match end {
            End::Ordered(_) => Outcome::new(Initiator::Gateway, Reason::Drain),
            End::ClientStalled => Outcome::new(Initiator::Gateway, Reason::SlowConsumer),
            End::ClientSpoke => Outcome::new(Initiator::Client, Reason::ProtocolError),
            End::ClientLost | End::WorkerEnded | End::WorkerLost if self.client_ended => {
                Outcome::new(Initiator::Client, Reason::Normal)
            }
            End::ClientLost => Outcome::new(Initiator::Client, Reason::Abnormal),
            End::WorkerEnded => Outcome::new(Initiator::Worker, Reason::Normal),
            End::WorkerLost => Outcome::new(Initiator::Worker, Reason::WorkerLost),
        };
        let is_there = !matches!(
            end,
            End::Ordered(Order::Drop) | End::ClientLost | End::ClientStalled
        );
        if is_there {
            let control = self.seat.control().clone();
            let last_words = async {
                let flush = poll_fn(|cx| self.answer.poll_flush(cx, &mut self.client));
                if flush.await.is_ok() {
                    see_off(&mut self.client).await;
                }
            };
            tokio::select! {
                _ = timeout(self.timeouts.close, last_words) => {}
                () = control.dropped() => {}
            }
        }
        outcome
    }
}
