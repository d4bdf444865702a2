//! From a fresh socket to a running connection: read the head, admit, answer 101.
//!
//! Owns: what is checked before there is a session, and the HTTP answer to what fails it. Knows nothing of channels.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use flotilla_shared::auth::Passport;
use flotilla_shared::auth::passport::PASSPORT_HEADER;
use flotilla_shared::http::{RequestHead, origin_is_allowed, parse_head, refusal};
use flotilla_shared::lifecycle::Phase;
use flotilla_shared::protocol::Format;
use flotilla_shared::websocket::{self, Upgrade, switching_protocols, upgrade};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::capacity::Permit;
use crate::closing::Ending;
use crate::connection::Connection;
use crate::echo::echo;
use crate::handshakes::Place;
use crate::metrics::Rejected;
use crate::outbox::Outbox;
use crate::session::{Pings, Session};
use crate::shard::Shard;
use crate::wire::Wire;

/// How long a refused client is told to wait, in seconds.
const RETRY_AFTER_SECONDS: &str = "1";

/// How long a client may take to read its answer and to end its side.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// A handshake that succeeded.
struct Accepted {
    /// The 101.
    response: Vec<u8>,
    format: Format,
    pings: Pings,
    /// What the gateway vouches for; nothing, for a client that came without one.
    passport: Passport,
    /// What came behind the head.
    rest: Vec<u8>,
}

/// A request that gets an HTTP answer instead.
struct Answer {
    response: Vec<u8>,
    reason: Rejected,
}

/// Serves one accepted socket until it is closed. `place` is held while hands are shaken.
pub(crate) async fn serve(socket: TcpStream, shard: Rc<Shard>, place: Place) {
    // Boxed, so that the task of an idle connection has no room for its past.
    let Some((attached, rest)) = Box::pin(received(socket, shard, place)).await else {
        return;
    };
    attached.connection.run(rest).await;
}

async fn received(
    socket: TcpStream,
    shard: Rc<Shard>,
    place: Place,
) -> Option<(Attached, Vec<u8>)> {
    let established = place.hold(establish(socket, shard.clone())).await;
    established.unwrap_or_else(|| {
        let counts = &shard.metrics().process().connections;
        counts.rejected(Rejected::Timeout);
        None
    })
}

/// Answers the request; a connection, with what came behind the head, if it is a client's and there is room.
async fn establish(mut socket: TcpStream, shard: Rc<Shard>) -> Option<(Attached, Vec<u8>)> {
    let counts = &shard.metrics().process().connections;
    let handshake = handshake(&mut socket, &shard);
    let answered = match tokio::time::timeout(shard.limits().head_timeout, handshake).await {
        Ok(answered) => answered.ok()?,
        Err(_) => {
            counts.rejected(Rejected::Timeout);
            return None;
        }
    };
    let room = |accepted| match shard.admission().capacity.take() {
        Some(permit) => Ok((accepted, permit)),
        None => Err(reject(
            Rejected::Capacity,
            unavailable("the worker is full"),
        )),
    };
    match answered.and_then(room) {
        Ok((accepted, permit)) if shard.admission().echoes => {
            let limit = shard.limits().message_max_bytes;
            let outbox = answered_outbox(socket, &shard, accepted.response);
            tokio::task::spawn_local(echo(outbox, accepted.rest, limit, permit));
            None
        }
        Ok((accepted, permit)) => Some(attach(socket, &shard, accepted, permit)),
        Err(answer) => {
            counts.rejected(answer.reason);
            dismiss(&mut socket, &answer.response).await;
            None
        }
    }
}

/// Sends a whole answer and ends the connection. What the client still sends is read and thrown away for a while: a
/// socket that is closed with unread input is reset, and the reset would overtake the answer.
async fn dismiss(socket: &mut TcpStream, response: &[u8]) {
    let exchange = async {
        socket.write_all(response).await?;
        socket.shutdown().await?;
        let mut discarded = [0; 512];
        while socket.read(&mut discarded).await? > 0 {}
        io::Result::Ok(())
    };
    // The client may be gone already, or never go.
    let _ = tokio::time::timeout(FAREWELL_TIMEOUT, exchange).await;
}

fn attach(
    socket: TcpStream,
    shard: &Rc<Shard>,
    accepted: Accepted,
    permit: Permit,
) -> (Attached, Vec<u8>) {
    let client = Uuid::new_v4();
    let Passport {
        identity,
        client_address,
        request_id,
    } = accepted.passport;
    tracing::debug!(%client, request_id, client_address, "client connected");
    let session = Session::new(
        shard.policy().clone(),
        client,
        identity,
        accepted.pings,
        shard.now(),
    );
    let outbox = answered_outbox(socket, shard, accepted.response);
    let wire = Wire::WebSocket(accepted.format);
    let (id, connection) =
        shard.attach(|id| Connection::new(id, wire, shard.clone(), outbox, session));
    let counts = &shard.metrics().process().connections;
    counts.opened.inc();
    counts.open.inc();
    let attached = Attached {
        shard: shard.clone(),
        id,
        connection,
        _permit: permit,
    };
    (attached, accepted.rest)
}

/// The outbox of an accepted socket, which has been told so.
fn answered_outbox(socket: TcpStream, shard: &Shard, response: Vec<u8>) -> Outbox {
    let outbox = Outbox::new(socket, shard.limits().outbox_max_bytes);
    outbox.push(&Bytes::from(response));
    outbox
}

/// A connection's place in the shard. Dropping it, also by a panic, leaves nothing behind.
struct Attached {
    shard: Rc<Shard>,
    id: u32,
    connection: Rc<Connection>,
    _permit: Permit,
}

impl Drop for Attached {
    fn drop(&mut self) {
        let counts = &self.shard.metrics().process().connections;
        if std::thread::panicking() {
            counts.panics.inc();
        }
        self.connection.end(Ending::Gone);
        counts.open.dec();
        self.shard.detach(self.id, &self.connection);
    }
}

async fn handshake(socket: &mut TcpStream, shard: &Shard) -> io::Result<Result<Accepted, Answer>> {
    let mut buffer = Vec::with_capacity(512);
    let (head, used) = loop {
        if socket.read_buf(&mut buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match parse_head(&buffer) {
            Ok(Some(parsed)) => break parsed,
            // The parser stops a head that is too long.
            Ok(None) => {}
            Err(error) => {
                let response = refusal(error.status(), &error.to_string(), &[]);
                return Ok(Err(reject(Rejected::BadRequest, response)));
            }
        }
    };
    Ok(admit(&head, shard).map(|(upgrade, passport)| {
        let (protocol, format) = negotiate(&upgrade, &head);
        Accepted {
            response: switching_protocols(&upgrade.key, protocol),
            format,
            pings: if asks(&head, &["cf_ws_frame_ping_pong=true"]) {
                Pings::Transport
            } else {
                Pings::Messages
            },
            passport,
            rest: buffer.split_off(used),
        }
    }))
}

fn reject(reason: Rejected, response: Vec<u8>) -> Answer {
    Answer { response, reason }
}

fn unavailable(message: &str) -> Vec<u8> {
    refusal(
        503,
        message,
        &[("Retry-After", RETRY_AFTER_SECONDS.to_owned())],
    )
}

/// Every check before the 101, the cheapest first.
fn admit(head: &RequestHead, shard: &Shard) -> Result<(Upgrade, Passport), Answer> {
    if head.path != websocket::PATH {
        return Err(reject(
            Rejected::NotFound,
            refusal(404, "there is nothing at this path", &[]),
        ));
    }
    let upgrade = upgrade(head).map_err(|error| reject(Rejected::BadRequest, error.response()))?;
    if shard.lifecycle().phase() != Phase::Serving {
        return Err(reject(
            Rejected::Draining,
            unavailable("the worker takes no new clients"),
        ));
    }
    let admission = shard.admission();
    let passport = passport(head, shard)?;
    match passport {
        // The gateway has checked the origin.
        Some(passport) => Ok((upgrade, passport)),
        None if origin_is_allowed(
            upgrade.origin.as_deref(),
            &upgrade.host,
            &admission.allowed_origins,
        ) =>
        {
            Ok((upgrade, Passport::default()))
        }
        None => Err(reject(
            Rejected::Origin,
            refusal(403, "the Origin is not allowed", &[]),
        )),
    }
}

/// What the gateway vouches for, if the client came through one.
fn passport(head: &RequestHead, shard: &Shard) -> Result<Option<Passport>, Answer> {
    let refused = |message| Err(reject(Rejected::Passport, refusal(403, message, &[])));
    let admission = shard.admission();
    let mut presented = head.all(PASSPORT_HEADER);
    match (presented.next(), presented.next(), &admission.passport_keys) {
        (None, _, _) if admission.passport_required => {
            refused("clients connect to the gateway, not to the worker")
        }
        (None, _, _) => Ok(None),
        (Some(_), Some(_), _) => refused("more than one passport"),
        (Some(_), None, None) => refused("this worker has no key to verify a passport with"),
        (Some(passport), None, Some(keys)) => match keys.verify(passport, shard.now().unix_seconds)
        {
            Ok(passport) => Ok(Some(passport)),
            Err(error) => {
                // Only gateways connect here: their keys differ from ours, or their clocks do.
                tracing::warn!(%error, "a passport is refused");
                refused("the passport is not valid")
            }
        },
    }
}

/// Which subprotocol is echoed, and the encoding. Most clients of the JSON encoding offer none.
fn negotiate(upgrade: &Upgrade, head: &RequestHead) -> (Option<&'static str>, Format) {
    let offered = upgrade
        .protocols
        .iter()
        .find_map(|offered| Format::from_subprotocol(offered));
    if let Some(format) = offered {
        return (Some(format.subprotocol()), format);
    }
    if asks(head, &["format=protobuf", "cf_protocol=protobuf"]) {
        (None, Format::Protobuf)
    } else {
        (None, Format::Json)
    }
}

/// Whether the query has one of these parameters with its value.
fn asks(head: &RequestHead, wanted: &[&str]) -> bool {
    let query = head.query.as_deref().unwrap_or_default();
    query.split('&').any(|pair| wanted.contains(&pair))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::task::{LocalSet, spawn_local};

    use super::*;
    use crate::connection::tests::shard;
    use crate::handshakes::Handshakes;

    /// The size of the future that an async function of three arguments returns.
    fn future_bytes<A, B, C, F: Future>(_: fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn the_task_of_an_idle_connection_stays_small() {
        // A thousand connections more or less of this size are a megabyte: whatever is rare is boxed.
        let bytes = future_bytes(serve);
        assert!(bytes <= 1024, "{bytes} bytes");
    }

    /// A client's socket, and ours.
    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn a_client_that_says_too_much_can_finish_and_read_what_is_wrong() {
        let (mut client, socket) = pair().await;
        let shard = shard().await;
        let place = Handshakes::new(1).enter().await;
        let talk = async {
            // Much more than sockets hold.
            let head = format!("GET / HTTP/1.1\r\nX: {}\r\n", "x".repeat(8 << 20));
            client.write_all(head.as_bytes()).await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
            drop(client);
        };
        tokio::join!(serve(socket, shard, place), talk);
    }

    #[tokio::test]
    async fn a_silent_socket_is_closed_when_somebody_else_needs_its_place() {
        let (mut client, socket) = pair().await;
        let shard = shard().await;
        let handshakes = Handshakes::new(1);
        let test = async {
            let place = handshakes.enter().await;
            spawn_local(serve(socket, shard.clone(), place));
            let _other = handshakes.enter().await;
            // Long before the time for a head is over.
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        };
        let limit = shard.limits().head_timeout / 2;
        let tasks = LocalSet::new();
        let test = tokio::time::timeout(limit, test);
        tasks.run_until(test).await.unwrap();
    }
}
