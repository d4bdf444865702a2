//! A connection's place in the shard, from its beginning to its end.

use std::rc::Rc;

use bytes::Bytes;
use flotilla_shared::auth::Passport;
use tokio::net::TcpStream;
use uuid::Uuid;

use super::Accepted;
use crate::capacity::Permit;
use crate::closing::Ending;
use crate::connection::Connection;
use crate::intake::{Intake, Source};
use crate::outbox::Outbox;
use crate::session::Session;
use crate::shard::Shard;

/// Dropping it, also by a panic, leaves nothing of the connection behind.
pub(super) struct Attached {
    shard: Rc<Shard>,
    id: u32,
    connection: Rc<Connection>,
    _permit: Permit,
}

/// The session of a client that has just come.
pub(super) fn newcomer(shard: &Shard, accepted: &mut Accepted) -> Session {
    Session::new(
        shard.policy().clone(),
        Uuid::new_v4(),
        accepted.passport.identity.take(),
        std::mem::take(&mut accepted.transport),
        shard.now(),
    )
}

/// Takes a client in, and begins to answer it by way of what `outbox` makes of the response. What the client says is
/// still to be listened to, at the source.
pub(super) fn attach(
    shard: &Rc<Shard>,
    accepted: Accepted,
    session: Session,
    outbox: impl FnOnce(Vec<u8>) -> Outbox,
) -> (Attached, Source) {
    let client = session.client();
    let wire = accepted.wire;
    let Passport {
        client_address,
        request_id,
        ..
    } = accepted.passport;
    let transport = wire.label();
    tracing::debug!(%client, request_id, client_address, transport, "client connected");
    let outbox = outbox(accepted.response);
    let caller = accepted.caller;
    let (id, connection) =
        shard.attach(|id| Connection::new(id, wire, shard.clone(), outbox, session, caller));
    let counts = &shard.metrics().process().connections;
    counts.opened.inc();
    counts.open.inc();
    let attached = Attached {
        shard: shard.clone(),
        id,
        connection,
        _permit: accepted.permit,
    };
    (attached, accepted.source)
}

/// The outbox of an accepted socket, which has been told so.
pub(super) fn answered_outbox(socket: TcpStream, shard: &Shard, response: Vec<u8>) -> Outbox {
    let outbox = Outbox::new(socket, shard.limits().outbox_max_bytes);
    outbox.push(&Bytes::from(response));
    outbox
}

impl Attached {
    pub(super) fn connection(&self) -> &Rc<Connection> {
        &self.connection
    }

    /// Where what the client says comes from.
    pub(super) async fn intake(&self, source: Source) -> Intake {
        self.connection.intake(source).await
    }

    /// Serves the client until its connection ends.
    pub(super) async fn run(self, intake: Intake) {
        self.connection.run(intake).await;
    }
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
