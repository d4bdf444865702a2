//! The opening handshake of a WebSocket, and what is negotiated in it.

use flotilla_shared::auth::Passport;
use flotilla_shared::http::RequestHead;
use flotilla_shared::protocol::Format;
use flotilla_shared::websocket::{Upgrade, switching_protocols, upgrade};

use super::answer::Answer;
use super::stream::{connect_parameter, introduced};
use super::{Accepted, Request, admit, caller};
use crate::emulation::session_id;
use crate::intake::Source;
use crate::session::{Pings, Transport};
use crate::shard::Shard;
use crate::wire::Wire;

/// For a client that speaks.
pub(super) fn accept(request: Request, shard: &Shard) -> Result<Accepted, Answer> {
    let (upgrade, passport) = admit(&request.head, shard)?;
    let (protocol, format) = negotiate(&upgrade.protocols, &request.head);
    let wire = Wire::WebSocket(format);
    Ok(Accepted {
        response: switching_protocols(&upgrade.key, protocol),
        wire,
        caller: caller(&request.head, wire, shard),
        transport: Transport {
            pings: pings(&request.head),
            ..Transport::default()
        },
        passport,
        source: Source::WebSocket(request.rest),
        permit: admit::room(shard)?,
    })
}

/// For a client that only listens: it says who it is in its first message, or already in the query.
pub(super) fn accept_one_way(request: Request, shard: &Shard) -> Result<Accepted, Answer> {
    let (upgrade, passport) = admit(&request.head, shard)?;
    let first = connect_parameter(&request.head);
    let first = first.as_deref().map(introduced).transpose()?;
    Ok(Accepted {
        response: switching_protocols(&upgrade.key, None),
        wire: Wire::UniWebSocket,
        caller: caller(&request.head, Wire::UniWebSocket, shard),
        transport: Transport {
            pings: pings(&request.head),
            session: Some(session_id()),
            is_one_way: true,
            is_kept_alive: false,
        },
        passport,
        source: Source::UniWebSocket {
            first,
            rest: request.rest,
        },
        permit: admit::room(shard)?,
    })
}

/// Every check before the 101.
fn admit(head: &RequestHead, shard: &Shard) -> Result<(Upgrade, Passport), Answer> {
    let upgrade = upgrade(head)?;
    admit::is_open(shard)?;
    let visitor = admit::visitor(head, shard)?;
    Ok((upgrade, visitor.passport))
}

pub(super) fn pings(head: &RequestHead) -> Pings {
    if asks(head, &["cf_ws_frame_ping_pong=true"]) {
        Pings::Transport
    } else {
        Pings::Messages
    }
}

/// Which subprotocol is echoed, and the encoding. Most clients of the JSON encoding offer none.
pub(super) fn negotiate(
    protocols: &[String],
    head: &RequestHead,
) -> (Option<&'static str>, Format) {
    let offered = protocols
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
