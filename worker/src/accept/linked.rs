//! Clients that come by a link: the same checks as for a WebSocket, but for what the gateway has done already.

use std::rc::Rc;

use flotilla_shared::http::RequestHead;
use flotilla_shared::link::{ForGateway, Message, Open, Opened, Refused};

use super::answer::Answer;
use super::attached::attach;
use super::websocket::{negotiate, pings};
use super::{Accepted, admit, caller};
use crate::intake::Source;
use crate::link::{Link, Misuse, Seat};
use crate::metrics::Rejected;
use crate::outbox::Outbox;
use crate::session::Transport;
use crate::shard::Shard;
use crate::wire::Wire;

/// Takes a session in, or says why not. It is served by a task of its own.
///
/// # Errors
/// When the gateway sends more with it than was agreed on.
pub(crate) fn open(open: Open, link: &Rc<Link>, shard: &Rc<Shard>) -> Result<(), Misuse> {
    let session = open.session;
    match accept(&open, shard) {
        Ok((accepted, protocol)) => {
            link.say(ForGateway::Opened(Opened {
                session,
                protocol: protocol.map(str::to_owned),
                // As on a socket, what is JSON may come in either kind of frame.
                is_text: false,
            }));
            attend(open, accepted, link, shard)
        }
        Err(answer) => {
            shard
                .metrics()
                .process()
                .connections
                .rejected(answer.reason);
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

/// Every check, and the subprotocol that was chosen.
fn accept(open: &Open, shard: &Shard) -> Result<(Accepted, Option<&'static str>), Answer> {
    let head = head(open);
    admit::is_open(shard)?;
    let passport = admit::visitor(&head, shard)?.passport;
    let has_state = |restore: &flotilla_shared::link::Restore| !restore.state.is_empty();
    if open.restore.as_ref().is_some_and(has_state) {
        return Err(Answer::new(
            Rejected::BadRequest,
            400,
            "sessions are not restored",
        ));
    }
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
    Ok((accepted, protocol))
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

/// Makes a connection of it.
fn attend(
    open: Open,
    accepted: Accepted,
    link: &Rc<Link>,
    shard: &Rc<Shard>,
) -> Result<(), Misuse> {
    let messages: Option<Vec<Message>> = open.restore.map(|restore| restore.messages);
    let first = messages.is_none().then_some(1);
    let seat = Seat::new(link.clone(), open.session, first);
    for message in messages.unwrap_or_default() {
        seat.take(&message)?;
    }
    let (attached, source) = attach(shard, accepted, |_| Outbox::on_link(seat));
    link.carry(open.session, attached.connection());
    tokio::task::spawn_local(async move {
        let intake = attached.intake(source).await;
        attached.run(intake).await;
    });
    Ok(())
}
