//! The task of a client, from its arrival to its end.
//!
//! Owns: the answer to the handshake, reading, writing what waits, and the last words.

use std::future::poll_fn;
use std::rc::Rc;

use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_local;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::arrival::Arrival;
use super::attach::attach;
use super::client::Client;
use super::ending::{self, Ending};
use super::peer::Limits;
use super::reader::Reader;
use super::thread::Thread;
use crate::edge::answer::FAREWELL_TIMEOUT;
use crate::endpoint::Transport;
use crate::metrics::Gauged;
use crate::relay::Seat;

/// What a connection holds until its end, which may be a panic.
struct Held {
    _present: Present,
    seat: Seat,
    _permit: OwnedSemaphorePermit,
    _gauges: [Gauged; 2],
}

/// A client's entry in its thread and at its worker.
struct Present {
    thread: Rc<Thread>,
    client: Rc<Client>,
}

impl Drop for Present {
    fn drop(&mut self) {
        // Nothing is left of it, unless the task has crashed.
        self.client.close(&Ending::Gone);
        self.thread.leave(&self.client);
    }
}

/// Has a client answered, and serves it if a worker takes it.
pub(super) async fn receive(thread: Rc<Thread>, arrival: Arrival) {
    if let Some((client, early, limits, held)) = open(&thread, arrival).await {
        let reader = Reader::new(client.clone(), early, limits.message_max_bytes).await;
        // A task of its own, so that the memory of everything up to here is free again.
        spawn_local(carry(thread, client, reader, held));
    }
}

/// The task of a client, until its end. What it holds while the client is idle is what a client costs:
/// `an_idle_client_is_small`. (An `async fn` would hold its arguments twice.)
fn carry(
    thread: Rc<Thread>,
    client: Rc<Client>,
    mut reader: Reader,
    held: Held,
) -> impl Future<Output = ()> {
    let begun = Instant::now();
    async move {
        let ending = serve(&thread, &client, &mut reader, &held.seat).await;
        // The library's memory is not needed for the rest.
        drop(reader);
        Box::pin(farewell(&thread, &client, ending, begun, &held.seat)).await;
        // Named as a whole, so that the task holds all of it until here.
        drop(held);
    }
}

/// Finds a worker and answers the handshake. `None`: the client was refused.
async fn open(
    thread: &Rc<Thread>,
    arrival: Arrival,
) -> Option<(Rc<Client>, Vec<u8>, Limits, Held)> {
    let client = Client::new(
        thread.next_session(),
        arrival.client,
        arrival.facts,
        arrival.upgrade,
    );
    let metrics = &thread.edge.metrics;
    match attach(thread, &client, arrival.candidates).await {
        Ok(peer) => {
            thread.enter(&client);
            let _ = arrival.answered.send(Ok(()));
            let held = Held {
                _present: Present {
                    thread: thread.clone(),
                    client: client.clone(),
                },
                seat: thread.edge.connections.enter(),
                _permit: arrival.permit,
                _gauges: [
                    metrics.connection(arrival.is_tls, Transport::WebSocket),
                    thread.metrics().session(),
                ],
            };
            Some((client, arrival.early, peer.limits, held))
        }
        Err(refusal) => {
            drop(arrival.permit);
            let overload_response = thread.edge.config.overload_response;
            client.turn_away(&arrival.cors, &refusal, overload_response);
            let _ = arrival.answered.send(Err(refusal));
            ending::see_off(&client.outbox, FAREWELL_TIMEOUT).await;
            None
        }
    }
}

/// Serves a client until it is to go, and says why.
async fn serve(thread: &Thread, client: &Rc<Client>, reader: &mut Reader, seat: &Seat) -> Ending {
    loop {
        if let Some(ending) = client.ending() {
            return ending;
        }
        if client.outbox.stalled_since().is_some() {
            thread.arm(client);
        }
        let may_read = client.listens();
        let writes = !client.outbox.is_idle();
        tokio::select! {
            biased;
            () = client.outbox.woken() => {}
            () = seat.told_to_go() => return Ending::GoingAway,
            // What comes of it is seen in the outbox.
            _ = poll_fn(|cx| client.outbox.poll_write(cx)), if writes => {}
            message = reader.next(), if may_read => match message {
                Some(Ok(Message::Close(close))) => {
                    reader.flush().await;
                    return Ending::ByClient(close.map(|close| close.code.into()));
                }
                Some(Ok(message)) => heard(thread, client, message),
                Some(Err(error)) => return failed(client, &error),
                None => return Ending::Gone,
            }
        }
    }
}

fn heard(thread: &Thread, client: &Client, message: Message) {
    match message {
        Message::Pong(_) => client.ponged(),
        Message::Text(text) => client.said(thread, text.into(), true),
        Message::Binary(bytes) => client.said(thread, bytes, false),
        // The library has answered, and whole frames are all there is.
        Message::Ping(_) | Message::Close(_) | Message::Frame(_) => {}
    }
}

fn failed(client: &Client, error: &Error) -> Ending {
    let known = client.ending();
    known.unwrap_or_else(|| Ending::of(error, client.outbox.fate()))
}

/// The last exchange, which ends at once when the gateway does not wait any longer.
async fn farewell(thread: &Thread, client: &Client, ending: Ending, begun: Instant, seat: &Seat) {
    client.close(&ending);
    thread.leave(client);
    let limit = thread.edge.config.relay.close;
    tokio::select! {
        () = ending::say(&client.outbox, &ending, limit) => {}
        () = seat.dropped() => {}
    }
    let outcome = ending.outcome();
    thread.edge.metrics.closed(outcome, begun.elapsed());
    tracing::debug!(
        initiator = outcome.initiator.label(),
        reason = outcome.reason.label(),
        "closed"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_client_is_small() {
        /// The size of what a function of four arguments returns, without calling it.
        fn size_of_result<A, B, C, D, F>(_function: impl FnOnce(A, B, C, D) -> F) -> usize {
            size_of::<F>()
        }
        let task = size_of_result(carry);
        assert!(task <= 800, "{task} bytes");
        let client = size_of::<Client>();
        assert!(client <= 600, "{client} bytes");
    }
}
