//! What a connection on a link does besides: it says when something of its client has been done for good.
//!
//! Everything here does nothing on a socket, and costs it one look.

use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flotilla_shared::link::KeepAlive;
use flotilla_shared::protocol::codes::DisconnectCode;
use flotilla_shared::websocket::{Opcode, append_frame};
use prost::Message as _;

use super::{Connection, Wait};
use crate::link::{Said, Seat};
use crate::session::{Actions, Pings, Writer};

impl Connection {
    /// Goes on with a session that another worker has had before. Nobody is told that it has come.
    pub(crate) fn restored(self: &Rc<Self>, connected_at_ms: u64, actions: Actions) {
        self.connected_at_ms.set(connected_at_ms.max(1));
        self.shard.list(self.id, self.session.borrow().user());
        let mut frames = BytesMut::new();
        self.perform(actions, &mut frames);
        self.send(&mut frames);
        self.arm();
    }

    /// Handles a message of a client on a link, once the session is what it was.
    pub(super) async fn numbered(self: &Rc<Self>, said: Said, message: &Bytes) {
        if self.session.borrow().is_settling() {
            Box::pin(self.settle(Wait::Settled, &mut BytesMut::new())).await;
        }
        let Said { number, is_repeat } = said;
        self.session.borrow_mut().begin_message(number, is_repeat);
        self.frame(message).await;
    }

    /// Tells the gateway what another worker would have to know, if that has changed.
    pub(super) fn say_state(&self) {
        let (Some(seat), Some(keys)) = (self.outbox.seat(), &self.shard.admission().passport_keys)
        else {
            return;
        };
        let mut session = self.session.borrow_mut();
        if !session.take_changed() {
            return;
        }
        let fleet = self.shard.fleet();
        let writer = Writer {
            worker: fleet.id().to_owned(),
            life: fleet.life().0,
            connected_at_ms: self.connected_at_ms.get(),
        };
        if let Some(snapshot) = session.snapshot(&writer, self.shard.now()) {
            seat.state(keys.seal(&snapshot.encode_to_vec()));
        }
    }

    /// A command of the message that is being handled awaits its answer. The others have no id.
    pub(super) fn note_command(&self, id: u32) {
        if let Some(seat) = self.outbox.seat().filter(|_| id > 0) {
            seat.asked(id);
        }
    }

    /// An answer is on its way; a push has no id.
    pub(super) fn note_answer(&self, id: u32) {
        if let Some(seat) = self.outbox.seat().filter(|_| id > 0) {
            seat.answered(id);
        }
    }

    /// The message that was being handled has been, unless the connection ends: then it may be broken off.
    pub(super) fn note_handled(&self) {
        if let Some(seat) = self.outbox.seat().filter(|_| self.is_listening()) {
            seat.handled();
        }
    }

    /// Says what follows from what the client has just been sent.
    ///
    /// Until a client has been told of a channel it is a member by itself. It takes its seat in the channel's topic here,
    /// behind the reply and behind what was held back for a connect command; nothing has been delivered in between.
    pub(super) fn follow_up(&self) {
        let Some(seat) = self.outbox.seat() else {
            return;
        };
        if !self.held.is_begun() {
            for channel in seat.take_entered() {
                self.shard.seat(&channel, self);
            }
            self.keep_alive(seat);
        }
        seat.acknowledge();
    }

    /// Once the client is connected, its pings are the gateway's business.
    fn keep_alive(&self, seat: &Seat) {
        let session = self.session.borrow();
        if seat.is_kept_alive() || !session.is_connected() {
            return;
        }
        let mut ping = BytesMut::new();
        let pong = match session.pings() {
            Pings::Messages => {
                self.wire.append_ping(&mut ping);
                Bytes::from_static(self.wire.format().ping())
            }
            Pings::Transport => {
                append_frame(Opcode::Ping, &[], &mut ping);
                Bytes::new()
            }
        };
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let options = &self.shard.policy().client;
        let code = DisconnectCode::NoPong;
        seat.keep_alive(KeepAlive {
            session: seat.session(),
            interval_ms: millis(options.ping_interval),
            timeout_ms: millis(options.pong_timeout),
            ping: ping.freeze(),
            pong,
            code: u32::from(code.code()),
            reason: code.text().to_owned(),
        });
    }
}
