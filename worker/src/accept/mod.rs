//! From a fresh socket to a running connection, or to the one answer that was asked for.
//!
//! Owns: the way of a request: read its head, see what is at its path, check who asks, answer. Each kind of request has
//! a file of its own. Knows nothing of channels.

mod admit;
mod answer;
mod api;
mod attached;
mod early;
mod emulation;
mod endpoint;
mod link;
mod linked;
mod stream;
mod websocket;

use std::io;
use std::rc::Rc;

use flotilla_shared::auth::Passport;
use flotilla_shared::http::{Persistence, RequestHead, parse_head, preflight};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::capacity::Permit;
use crate::echo::echo;
use crate::handshakes::Place;
use crate::hooks::Caller;
use crate::intake::{Intake, Source};
use crate::metrics::Rejected;
use crate::session::Transport;
use crate::shard::Shard;
use crate::wire::Wire;
use answer::{Answer, dismiss};
use api::Call;
use attached::{Attached, answered_outbox, attach, newcomer};
use emulation::Post;
use endpoint::Endpoint;

pub(crate) use early::turn_away;
pub(crate) use linked::open;

/// A request whose head has been read.
struct Request {
    head: RequestHead,
    /// What was read behind the head.
    rest: Vec<u8>,
}

/// What is to be done about a request that is as it should be.
enum Task {
    Connect(Box<Accepted>),
    Emulate(Post),
    Call(Call),
    /// A gateway's link.
    Link(link::Opening),
    /// Nothing more: this is the answer.
    Answer(Vec<u8>),
}

impl Task {
    fn connect(accepted: Accepted) -> Self {
        Self::Connect(Box::new(accepted))
    }
}

/// A client that may connect.
struct Accepted {
    /// The head of the answer; a whole one, if the answer has no body.
    response: Vec<u8>,
    wire: Wire,
    transport: Transport,
    /// What the gateway vouches for; nothing, for a client that came without one.
    passport: Passport,
    source: Source,
    permit: Permit,
    /// What the back end gets to know of the request.
    caller: Caller,
}

/// What the back end gets to know of a request.
fn caller(head: &RequestHead, wire: Wire, shard: &Shard) -> Caller {
    let headers = head.headers.iter().map(|(name, value)| (&**name, &**value));
    let endpoints = shard.hooks().endpoints();
    Caller::new(wire.label(), wire.format().label(), headers, endpoints)
}

/// Serves one accepted socket until it is closed. `place` is held until the client is connected, or answered.
pub(crate) async fn serve(socket: TcpStream, shard: Rc<Shard>, place: Place) {
    // Boxed, so that the task of an idle connection has no room for its past.
    let Some((attached, intake)) = Box::pin(received(socket, shard, place)).await else {
        return;
    };
    attached.run(intake).await;
}

async fn received(socket: TcpStream, shard: Rc<Shard>, place: Place) -> Option<(Attached, Intake)> {
    let established = place.hold(establish(socket, shard.clone())).await;
    established.unwrap_or_else(|| {
        let counts = &shard.metrics().process().connections;
        counts.rejected(Rejected::Timeout);
        None
    })
}

/// Answers the request; a connection, and where what it says comes from, if it is a client's and there is room.
async fn establish(mut socket: TcpStream, shard: Rc<Shard>) -> Option<(Attached, Intake)> {
    let counts = &shard.metrics().process().connections;
    let received = receive(&mut socket, &shard);
    let task = match tokio::time::timeout(shard.limits().head_timeout, received).await {
        Ok(received) => received.ok()?,
        Err(_) => {
            counts.rejected(Rejected::Timeout);
            return None;
        }
    };
    let answered = match task {
        Ok(Task::Connect(accepted)) => return connect(socket, &shard, *accepted).await,
        Ok(Task::Link(opening)) => {
            opening.hand_over(socket, &shard).await;
            return None;
        }
        Ok(Task::Emulate(post)) => post.deliver(&shard).await,
        Ok(Task::Call(call)) => Ok(call.answer().await),
        Ok(Task::Answer(response)) => Ok(response),
        Err(answer) => Err(answer),
    };
    let response = answered.unwrap_or_else(|answer| {
        counts.rejected(answer.reason);
        answer.response()
    });
    dismiss(&mut socket, &response).await;
    None
}

/// The client's connection; none where messages only come back.
async fn connect(
    socket: TcpStream,
    shard: &Rc<Shard>,
    accepted: Accepted,
) -> Option<(Attached, Intake)> {
    match accepted {
        Accepted {
            source: Source::WebSocket(rest),
            response,
            permit,
            ..
        } if shard.admission().echoes => {
            let limit = shard.limits().message_max_bytes;
            let outbox = answered_outbox(socket, shard, response);
            tokio::task::spawn_local(echo(outbox, rest, limit, permit));
            None
        }
        mut accepted => {
            let session = newcomer(shard, &mut accepted);
            let (attached, source) = attach(shard, accepted, session, |response| {
                answered_outbox(socket, shard, response)
            });
            let intake = attached.intake(source).await;
            Some((attached, intake))
        }
    }
}

/// Reads a request, and sees whether it may be made.
async fn receive(socket: &mut TcpStream, shard: &Shard) -> io::Result<Result<Task, Answer>> {
    Ok(match read_head(socket).await? {
        Ok(request) => consider(socket, request, shard).await,
        Err(answer) => Err(answer),
    })
}

async fn read_head(socket: &mut TcpStream) -> io::Result<Result<Request, Answer>> {
    let mut rest = Vec::with_capacity(512);
    loop {
        if socket.read_buf(&mut rest).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match parse_head(&rest) {
            Ok(Some((head, used))) => {
                let rest = rest.split_off(used);
                return Ok(Ok(Request { head, rest }));
            }
            // The parser stops a head that is too long.
            Ok(None) => {}
            Err(error) => return Ok(Err(error.into())),
        }
    }
}

/// What is to be done about it, after every check, the cheapest first.
async fn consider(socket: &mut TcpStream, request: Request, shard: &Shard) -> Result<Task, Answer> {
    match Endpoint::at(&request.head.path).ok_or_else(Answer::not_found)? {
        Endpoint::WebSocket => websocket::accept(request, shard).map(Task::connect),
        Endpoint::Api if shard.common().api.is_none() => Err(Answer::not_found()),
        Endpoint::Link => link::Opening::new(request, shard).map(Task::Link),
        Endpoint::UniWebSocket => websocket::accept_one_way(request, shard).map(Task::connect),
        endpoint => consider_http(socket, request, shard, endpoint).await,
    }
}

/// The same for what is no handshake.
async fn consider_http(
    socket: &mut TcpStream,
    request: Request,
    shard: &Shard,
    endpoint: Endpoint,
) -> Result<Task, Answer> {
    let head = &request.head;
    if !endpoint.allows(&head.method) {
        return Err(Answer::method_not_allowed(endpoint.methods()));
    }
    let visitor = admit::visitor(head, shard)?;
    if head.method == "OPTIONS" {
        let answer = preflight(head, endpoint.methods(), Persistence::Close);
        return Ok(Task::Answer(answer));
    }
    let cors = visitor.cors.clone();
    let considered = match (endpoint, &shard.common().api) {
        (Endpoint::Emulation, _) => {
            let post = emulation::read(socket, request, shard, visitor.cors).await;
            post.map(Task::Emulate)
        }
        (Endpoint::Api, Some(service)) => {
            let call = api::read(socket, request, service, visitor.cors).await;
            call.map(Task::Call)
        }
        _ => {
            let accepted = stream::accept(socket, request, shard, endpoint, visitor).await;
            accepted.map(Task::connect)
        }
    };
    // A page may read why it was refused.
    considered.map_err(|answer| answer.readable(&cors))
}

#[cfg(test)]
mod tests;
