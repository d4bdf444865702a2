//! Opening a stream: an HTTP answer that goes on, for clients that cannot have a WebSocket.
//!
//! What a client begins with comes in the request: its connect command, and more if it likes. Where it only listens, the
//! request says who it is, in the form of that command's body.

use bytes::Bytes;
use flotilla_shared::http::{RequestHead, is_asked_by_script, read_body, stream_head};
use flotilla_shared::protocol::{Format, commands, types};
use tokio::net::TcpStream;

use super::admit::{self, Visitor};
use super::answer::Answer;
use super::endpoint::Endpoint;
use super::{Accepted, Request, caller};
use crate::emulation::session_id;
use crate::intake::Source;
use crate::introduction::introduction;
use crate::metrics::Rejected;
use crate::session::Transport;
use crate::shard::Shard;
use crate::wire::Wire;

/// The query parameter in which a browser's `EventSource` says what others say in a body.
const CONNECT_PARAMETER: &str = "cf_connect";

/// What comes before the first event, so that whatever is in between passes the head on: an empty line means nothing.
const EVENTS_BEGIN: &[u8] = b"\r\n";

/// Reads what the client begins with, and every check before its stream.
pub(super) async fn accept(
    socket: &mut TcpStream,
    request: Request,
    shard: &Shard,
    endpoint: Endpoint,
    visitor: Visitor,
) -> Result<Accepted, Answer> {
    admit::is_open(shard)?;
    // The gateway has looked at that, and does not pass it on.
    if request.head.method == "GET" && !is_asked_by_script(&request.head) {
        let message = "a stream is for scripts, not for links and images";
        return Err(Answer::new(Rejected::Origin, 403, message));
    }
    let wire = wire(endpoint, &request.head);
    let caller = caller(&request.head, wire, shard);
    let first = first_words(socket, request, shard.limits().message_max_bytes).await?;
    let (first, posts) = if wire.is_one_way() {
        (introduced(&first)?, None)
    } else {
        (first, Some(shard.common().sessions.open()))
    };
    let session = posts
        .as_ref()
        .map_or_else(session_id, |posts| posts.id().into());
    let mut response = stream_head(content_type(wire), &visitor.cors);
    if matches!(wire, Wire::Sse | Wire::UniSse) {
        response.extend_from_slice(EVENTS_BEGIN);
    }
    Ok(Accepted {
        response,
        wire,
        transport: Transport {
            session: Some(session),
            is_one_way: wire.is_one_way(),
            is_kept_alive: false,
            ..Transport::default()
        },
        passport: visitor.passport,
        source: Source::Stream { first, posts },
        caller,
        permit: admit::room(shard)?,
    })
}

fn wire(endpoint: Endpoint, head: &RequestHead) -> Wire {
    match endpoint {
        Endpoint::UniSse => Wire::UniSse,
        Endpoint::UniHttpStream => Wire::UniHttpStream,
        Endpoint::HttpStream => Wire::HttpStream(body_format(head)),
        _ => Wire::Sse,
    }
}

/// The encoding of a request's body, by its type.
pub(super) fn body_format(head: &RequestHead) -> Format {
    let is_binary = head.header("Content-Type").is_some_and(|content_type| {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case(Format::Protobuf.content_type())
    });
    if is_binary {
        Format::Protobuf
    } else {
        Format::Json
    }
}

fn content_type(wire: Wire) -> &'static str {
    match wire {
        Wire::Sse | Wire::UniSse => "text/event-stream",
        _ => wire.format().content_type(),
    }
}

/// What the request says: in its query, or in its body.
async fn first_words(
    socket: &mut TcpStream,
    Request { head, rest }: Request,
    max_bytes: usize,
) -> Result<Bytes, Answer> {
    let is_get = head.method == "GET";
    let limit = if is_get { 0 } else { max_bytes };
    let body = read_body(socket, &head, rest, limit).await?;
    if !body.rest.is_empty() {
        let message = "nothing may follow a request whose answer goes on";
        return Err(Answer::bad_request(message));
    }
    let words = if is_get {
        connect_parameter(&head).unwrap_or_default()
    } else {
        body.bytes
    };
    if words.is_empty() {
        let message = "the request has to say what to connect with: in its body, or in cf_connect";
        return Err(Answer::bad_request(message));
    }
    if is_get && !is_safe(&words) {
        let message = "an address may connect and subscribe, and nothing else: use a body";
        return Err(Answer::bad_request(message));
    }
    Ok(words.into())
}

/// Whether these commands change nothing (RFC 9110 §9.2.1). Any page can make a browser open an address, with the user's
/// cookies and without saying who asks; it cannot read the answer. What is malformed is no command.
fn is_safe(words: &[u8]) -> bool {
    let mut commands = commands(Format::Json, words).map_while(Result::ok);
    commands.all(|command| {
        matches!(
            command.into_request(),
            None | Some(types::Request::Connect(_) | types::Request::Subscribe(_))
        )
    })
}

pub(super) fn connect_parameter(head: &RequestHead) -> Option<Vec<u8>> {
    let query = head.query.as_deref()?.as_bytes();
    form_urlencoded::parse(query)
        .find(|(name, _)| name == CONNECT_PARAMETER)
        .map(|(_, value)| value.into_owned().into_bytes())
}

/// What a client that only listens says of itself, as the command that others send.
pub(super) fn introduced(words: &[u8]) -> Result<Bytes, Answer> {
    introduction(words)
        .ok_or_else(|| Answer::bad_request("what to connect with is not a connect request"))
}
