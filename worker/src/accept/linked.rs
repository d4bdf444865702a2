//! Clients that come by a link: the same checks as for a WebSocket, but for what the gateway has done already.
//!
//! Some have been at another worker before, and their sessions go on here.

use std::rc::Rc;

use bytes::Bytes;
use flotilla_shared::http::RequestHead;
use flotilla_shared::link::{Close, ForGateway, Open, Opened, Refused, Restore};
use flotilla_shared::protocol::codes::DisconnectCode;

use super::answer::Answer;
use super::attached::{attach, newcomer};
use super::websocket::{negotiate, pings};
use super::{Accepted, admit, caller};
use crate::intake::Source;
use crate::link::{Link, Misuse, Seat};
use crate::metrics::Rejected;
use crate::outbox::Outbox;
use crate::session::{Actions, Restored, Session, Snapshot, Transport};
use crate::shard::Shard;
use crate::wire::Wire;

/// A session that may be opened.
struct Opening {
    accepted: Accepted,
    /// The subprotocol that was chosen.
    protocol: Option<&'static str>,
    /// What the session was, if it has been at another worker.
    snapshot: Option<Snapshot>,
}

/// Takes a session in, or says why not. It is served by a task of its own.
///
/// # Errors
/// When the gateway sends more with it than was agreed on.
pub(crate) fn open(open: Open, link: &Rc<Link>, shard: &Rc<Shard>) -> Result<(), Misuse> {
    let session = open.session;
    match accept(&open, shard) {
        Ok(opening) => {
            link.say(ForGateway::Opened(Opened {
                session,
                protocol: opening.protocol.map(str::to_owned),
                // As on a socket, what is JSON may come in either kind of frame.
                is_text: false,
            }));
            attend(open, opening, link, shard)
        }
        Err(answer) => {
            let counts = &shard.metrics().process().connections;
            counts.rejected(answer.reason);
            link.say(ForGateway::Refused(Refused {
                session,
                status: u32::from(answer.status()),
                elsewhere: answer.is_temporary(),
                answer: answer.response().into(),
            }));
            Ok(())
        }
    }
}

/// Every check.
fn accept(open: &Open, shard: &Shard) -> Result<Opening, Answer> {
    let head = head(open);
    admit::is_open(shard)?;
    let passport = admit::visitor(&head, shard)?.passport;
    let restore = open.restore.as_ref();
    // Who was not connected before begins afresh.
    let restore = restore.filter(|restore| !restore.state.is_empty());
    let snapshot = restore.map(|restore| read(restore, shard)).transpose()?;
    let (protocol, format) = negotiate(&open.protocols, &head);
    let wire = Wire::WebSocket(format);
    let accepted = Accepted {
        response: Vec::new(),
        wire,
        caller: caller(&head, wire, shard),
        transport: Transport {
            pings: pings(&head),
            is_kept_alive: true,
            ..Transport::default()
        },
        passport,
        source: Source::Link,
        permit: admit::room(shard)?,
    };
    Ok(Opening {
        accepted,
        protocol,
        snapshot,
    })
}

/// The client's request, as far as it matters here: the gateway has answered for the rest.
fn head(open: &Open) -> RequestHead {
    let (path, query) = match open.path.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (&*open.path, None),
    };
    let headers = open.headers.iter();
    RequestHead {
        method: "GET".to_owned(),
        path: path.to_owned(),
        query,
        version_minor: 1,
        headers: headers
            .map(|header| (header.name.clone(), header.value.clone()))
            .collect(),
    }
}

/// What a worker of this fleet has written.
fn read(restore: &Restore, shard: &Shard) -> Result<Snapshot, Answer> {
    let refused = |message| Answer::new(Rejected::BadRequest, 400, message);
    let keys = shard.admission().passport_keys.as_ref();
    let keys = keys.ok_or_else(|| refused("this worker has no key to verify a state with"))?;
    let written = keys.unseal(&restore.state);
    let written = written.map_err(|_| refused("the state is not of this fleet"))?;
    Snapshot::read(written).map_err(|_| refused("the state cannot be read"))
}

/// Makes a connection of it.
fn attend(open: Open, opening: Opening, link: &Rc<Link>, shard: &Rc<Shard>) -> Result<(), Misuse> {
    let Opening {
        mut accepted,
        snapshot,
        ..
    } = opening;
    let restore = open.restore.unwrap_or_default();
    // A client that is new begins with its first message.
    let first = (snapshot.is_none() && restore.messages.is_empty()).then_some(1);
    let seat = Seat::new(link.clone(), open.session, first);
    for message in &restore.messages {
        seat.take(message, true)?;
    }
    let connected_at_ms = snapshot.as_ref().map(|snapshot| snapshot.connected_at_ms);
    let mut actions = Actions::new();
    let session = match snapshot {
        None => {
            let mut session = newcomer(shard, &mut accepted);
            session.attached(open.generation);
            session
        }
        Some(snapshot) => {
            let positions = positions(&restore);
            let restored = Restored {
                snapshot,
                positions: &positions,
                generation: open.generation,
                edge: accepted.passport.identity.take(),
            };
            let transport = std::mem::take(&mut accepted.transport);
            let policy = shard.policy().clone();
            match Session::restore(policy, restored, transport, shard.now(), &mut actions) {
                Ok(session) => session,
                Err(code) => {
                    link.say(closed(open.session, code));
                    return Ok(());
                }
            }
        }
    };
    let (attached, source) = attach(shard, accepted, session, |_| Outbox::on_link(seat));
    link.carry(open.session, attached.connection());
    if let Some(connected_at_ms) = connected_at_ms {
        attached.connection().restored(connected_at_ms, actions);
    }
    tokio::task::spawn_local(async move {
        let intake = attached.intake(source).await;
        attached.run(intake).await;
    });
    Ok(())
}

fn positions(restore: &Restore) -> Vec<(Bytes, u64)> {
    let positions = restore.positions.iter();
    positions
        .map(|position| (position.topic.clone(), position.offset))
        .collect()
}

/// What a client is told that is not welcome any more.
fn closed(session: u64, code: DisconnectCode) -> ForGateway {
    ForGateway::Close(Close {
        session,
        code: u32::from(code.code()),
        reason: code.text().to_owned(),
    })
}
