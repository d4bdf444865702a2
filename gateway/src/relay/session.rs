//! One relayed WebSocket, from the 101 to the last byte.
//!
//! The task of an idle connection is this struct and little more. Whatever is rare, the timer of a
//! stalled socket and everything that happens once the relay is over, is boxed when it is needed.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use prometheus::IntCounter;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Sleep, sleep, timeout};

use super::close::{GOING_AWAY, going_away, masked_close, worker_lost};
use super::pump::{Broken, Pump, Until};
use super::{Initiator, Order, Outcome, Reason, Relay, Seat};
use crate::socket::see_off;

/// How long a connection may stand still.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    /// How long a socket may take no byte while bytes wait for it, and how long a client that has
    /// closed its sending side may go on without receiving anything.
    pub(crate) write: Duration,
    /// How long the rest may take after a Close frame.
    pub(crate) close: Duration,
}

/// A client and a worker, connected by a WebSocket.
pub(crate) struct Session<C, W> {
    client: C,
    worker: W,
    /// From the client to the worker.
    upward: Pump,
    /// From the worker to the client.
    downward: Pump,
    /// The worker takes no more bytes: the client has ended its side, or the worker's socket broke.
    upward_over: bool,
    /// Who sent the first Close frame, and its code.
    first_close: Option<(Initiator, u16)>,
    watchdog: Option<Box<Watchdog>>,
    timeouts: Timeouts,
    traffic: Traffic,
    seat: Seat,
}

/// Where relayed bytes are counted.
#[derive(Clone)]
pub(crate) struct Traffic {
    /// From clients to workers.
    pub(crate) inbound: IntCounter,
    /// From workers to clients.
    pub(crate) outbound: IntCounter,
}

/// Why relaying stopped.
enum End {
    Ordered(Order),
    ClientLost,
    WorkerEnded,
    ClientStalled,
    WorkerStalled,
    /// The sides did not finish in time after a Close, or after the client ended its side.
    Overdue,
}

/// What is left to say once relaying has stopped.
enum Farewell {
    /// Nothing, or nobody who would listen.
    None,
    /// Everything has been said: the client is only given the time to read it.
    Silent,
    /// The client is told that its worker is lost.
    WorkerLost,
    /// Client and worker are told that the gateway leaves.
    Both,
}

/// Runs while a socket is blocked, or while a connection is ending.
struct Watchdog {
    sleep: Pin<Box<Sleep>>,
    /// Progress does not extend it: a Close frame has passed.
    last_call: bool,
    upward: u64,
    downward: u64,
}

impl<C, W> Relay for Session<C, W>
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    W: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    async fn run(&mut self) -> Outcome {
        let end = poll_fn(|cx| self.poll_relay(cx)).await;
        Box::pin(self.finish(end)).await
    }
}

impl<C, W> Session<C, W>
where
    C: AsyncRead + AsyncWrite + Unpin,
    W: AsyncRead + AsyncWrite + Unpin,
{
    /// Connects the two. `from_client` and `from_worker` came together with their heads.
    pub(crate) fn new(
        (client, from_client): (C, &[u8]),
        (worker, from_worker): (W, &[u8]),
        timeouts: Timeouts,
        traffic: Traffic,
        seat: Seat,
    ) -> Self {
        Self {
            client,
            worker,
            upward: Pump::starting_with(from_client),
            downward: Pump::starting_with(from_worker),
            upward_over: false,
            first_close: None,
            watchdog: None,
            timeouts,
            traffic,
            seat,
        }
    }

    fn poll_relay(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        match self.seat.control().order(cx.waker()) {
            // A connection that is closing already has its own deadline.
            Order::GoAway if self.first_close.is_none() => {
                return Poll::Ready(End::Ordered(Order::GoAway));
            }
            Order::Drop => return Poll::Ready(End::Ordered(Order::Drop)),
            _ => {}
        }
        if let Some(end) = self.relay_upward(cx) {
            return Poll::Ready(end);
        }
        if let Some(end) = self.relay_downward(cx) {
            return Poll::Ready(end);
        }
        self.poll_watchdog(cx)
    }

    fn relay_upward(&mut self, cx: &mut Context<'_>) -> Option<End> {
        if self.upward_over {
            return None;
        }
        let before = self.upward.passed();
        let poll = self
            .upward
            .poll(cx, &mut self.client, &mut self.worker, Until::End);
        count(&self.traffic.inbound, self.upward.passed() - before);
        if self.first_close.is_none() {
            self.first_close = self.upward.close().map(|code| (Initiator::Client, code));
        }
        match poll {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => {
                // The client may still listen: the worker is told that no more comes, and what it
                // says is still delivered. Ending the sending side of a TCP socket does not wait.
                let _ = Pin::new(&mut self.worker).poll_shutdown(cx);
                self.upward_over = true;
            }
            Poll::Ready(Err(Broken::Source)) => return Some(End::ClientLost),
            // What the worker said before it went is still delivered.
            Poll::Ready(Err(Broken::Sink)) => self.upward_over = true,
        }
        None
    }

    fn relay_downward(&mut self, cx: &mut Context<'_>) -> Option<End> {
        let before = self.downward.passed();
        let poll = self
            .downward
            .poll(cx, &mut self.worker, &mut self.client, Until::End);
        count(&self.traffic.outbound, self.downward.passed() - before);
        if self.first_close.is_none() {
            self.first_close = self.downward.close().map(|code| (Initiator::Worker, code));
        }
        match poll {
            Poll::Pending => None,
            Poll::Ready(Ok(()) | Err(Broken::Source)) => Some(End::WorkerEnded),
            Poll::Ready(Err(Broken::Sink)) => Some(End::ClientLost),
        }
    }

    fn poll_watchdog(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let closing = self.first_close.is_some();
        let upward_waits = !self.upward_over && self.upward.is_blocked();
        if !(closing || self.upward_over || upward_waits || self.downward.is_blocked()) {
            self.watchdog = None;
            return Poll::Pending;
        }
        loop {
            let current = self.watchdog.take().filter(|dog| dog.last_call == closing);
            let mut dog = current.unwrap_or_else(|| {
                let limit = if closing {
                    self.timeouts.close
                } else {
                    self.timeouts.write
                };
                Box::new(Watchdog {
                    sleep: Box::pin(sleep(limit)),
                    last_call: closing,
                    upward: self.upward.passed(),
                    downward: self.downward.passed(),
                })
            });
            if dog.sleep.as_mut().poll(cx).is_pending() {
                self.watchdog = Some(dog);
                return Poll::Pending;
            }
            if closing {
                return Poll::Ready(End::Overdue);
            }
            let downward_stands = dog.downward == self.downward.passed();
            if self.downward.is_blocked() && downward_stands {
                return Poll::Ready(End::ClientStalled);
            }
            if upward_waits && dog.upward == self.upward.passed() {
                return Poll::Ready(End::WorkerStalled);
            }
            if self.upward_over && downward_stands {
                return Poll::Ready(End::Overdue);
            }
            // There was progress: another round.
        }
    }

    /// Everything after the relay. Bounded by the close timeout, and by the order to drop.
    async fn finish(&mut self, end: End) -> Outcome {
        let limit = self.timeouts.close;
        let control = self.seat.control().clone();
        let first_close = self
            .first_close
            .map(|(initiator, code)| Outcome::closed(initiator, code));
        let gateway = |reason| Outcome::new(Initiator::Gateway, reason);
        let (outcome, farewell) = match end {
            End::Ordered(Order::GoAway) => (gateway(Reason::Drain), Farewell::Both),
            End::Ordered(_) => (gateway(Reason::Drain), Farewell::None),
            End::ClientStalled => (gateway(Reason::SlowConsumer), Farewell::None),
            End::WorkerStalled => (gateway(Reason::Timeout), Farewell::WorkerLost),
            End::WorkerEnded if first_close.is_none() && !self.upward.ended() => (
                Outcome::new(Initiator::Worker, Reason::WorkerLost),
                Farewell::WorkerLost,
            ),
            End::ClientLost | End::Overdue | End::WorkerEnded => {
                let abandoned = Outcome::new(Initiator::Client, Reason::Abnormal);
                let is_there = matches!(end, End::WorkerEnded);
                let farewell = if is_there {
                    Farewell::Silent
                } else {
                    Farewell::None
                };
                (first_close.unwrap_or(abandoned), farewell)
            }
        };
        let said = async {
            match farewell {
                Farewell::None => {}
                Farewell::Silent => self.see_client_off().await,
                Farewell::WorkerLost => self.report_lost_worker().await,
                Farewell::Both => self.say_goodbye().await,
            }
        };
        tokio::select! {
            _ = timeout(limit, said) => {}
            () = control.dropped() => {}
        }
        outcome
    }

    async fn see_client_off(&mut self) {
        if self.upward.close().is_some() {
            // Both have said goodbye: nothing more can come.
            let _ = self.client.shutdown().await;
        } else {
            see_off(&mut self.client).await;
        }
    }

    /// Tells the client by a Close frame, if a frame can be sent: in the middle of one of the
    /// worker's, all that is left is to end the connection.
    async fn report_lost_worker(&mut self) {
        if self.downward.at_boundary() {
            self.downward.append(&worker_lost());
            let flush = poll_fn(|cx| self.downward.poll_flush(cx, &mut self.client));
            if flush.await.is_err() {
                return;
            }
        }
        see_off(&mut self.client).await;
    }

    /// Finishes the frame that is under way in each direction, and sends a Close behind it.
    async fn say_goodbye(&mut self) {
        let (mut client_told, mut worker_told) = (false, self.upward_over);
        poll_fn(|cx| {
            let (client, worker) = (&mut self.client, &mut self.worker);
            if !client_told
                && self
                    .downward
                    .poll(cx, worker, client, Until::Boundary)
                    .is_ready()
            {
                client_told = true;
                if self.downward.at_boundary() {
                    self.downward.append(&going_away());
                }
            }
            if !worker_told
                && self
                    .upward
                    .poll(cx, client, worker, Until::Boundary)
                    .is_ready()
            {
                worker_told = true;
                if self.upward.at_boundary() {
                    self.upward.append(&masked_close(GOING_AWAY));
                }
            }
            let client_done = client_told && self.downward.poll_flush(cx, client).is_ready();
            let worker_done = worker_told && self.upward.poll_flush(cx, worker).is_ready();
            if client_done && worker_done {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        tokio::join!(see_off(&mut self.client), see_off(&mut self.worker));
    }
}

/// Every connection counts on the same two counters: most wakes move bytes one way only, and should
/// not disturb the other cores for the other.
pub(super) fn count(counter: &IntCounter, bytes: u64) {
    if bytes > 0 {
        counter.inc_by(bytes);
    }
}
