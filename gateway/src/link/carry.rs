//! The task of a client, from its arrival to its end.
//!
//! Owns: the answer to the handshake, reading, writing what waits, and the last words.

use std::future::poll_fn;
use std::rc::Rc;

use tokio::sync::OwnedSemaphorePermit;
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

/// What a connection holds until its end.
struct Held {
    seat: Seat,
    _permit: OwnedSemaphorePermit,
    _gauges: [Gauged; 2],
}

/// Has a client answered, and serves it if a worker takes it.
pub(super) async fn serve(thread: Rc<Thread>, arrival: Arrival) {
    let Some((client, early, limits, held)) = Box::pin(open(&thread, arrival)).await else {
        return;
    };
    let begun = Instant::now();
    let reader = Reader::new(client.clone(), early, limits.message_max_bytes).await;
    let ending = carry(&thread, &client, reader, &held.seat).await;
    client.close(&ending);
    thread.leave(&client);
    Box::pin(farewell(&thread, &client, &ending, &held.seat)).await;
    let outcome = ending.outcome();
    thread.edge.metrics.closed(outcome, begun.elapsed());
    tracing::debug!(
        initiator = outcome.initiator.label(),
        reason = outcome.reason.label(),
        "closed"
    );
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
async fn carry(thread: &Thread, client: &Rc<Client>, mut reader: Reader, seat: &Seat) -> Ending {
    loop {
        if let Some(ending) = client.ending() {
            return ending;
        }
        if client.outbox.stalled_since().is_some() {
            thread.arm(client);
        }
        let may_read = client.may_read();
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
async fn farewell(thread: &Thread, client: &Client, ending: &Ending, seat: &Seat) {
    let limit = thread.edge.config.relay.close;
    tokio::select! {
        () = ending::say(&client.outbox, ending, limit) => {}
        () = seat.dropped() => {}
    }
}
