//! One client's connection: the task that owns the socket, and the handle that the shard keeps of it.
//!
//! Owns: the session and the outbox of one client, and the loop that reads the socket. Everything runs on the shard's
//! one thread, so a [`Connection`] may be driven by its own task, by the hub when a channel opens, and by the timer,
//! without a lock. Only the task reads the socket and only the task ends the connection; others ask it to.

mod asks;
mod deadlines;
mod held;
mod linked;
mod moved;
mod only;
mod pace;
mod wait;

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use flotilla_shared::clock::unix_millis;
use flotilla_shared::protocol::codes::DisconnectCode;
use flotilla_shared::protocol::types::{Command, Reply, Request};
use flotilla_shared::protocol::{DecodeError, Messages, commands};
use flotilla_shared::websocket::{Opcode, append_frame};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::Error as WsError;

use crate::closing::{Ending, close};
use crate::hooks::Caller;
use crate::hub::Member;
use crate::intake::{Input, Intake, Source};
use crate::link::Seat;
use crate::metrics::SentType;
use crate::outbox::{Fate, Outbox, Pushed};
use crate::session::{Action, Actions, Ask, Event, Pings, Publish, Session};
use crate::shard::Shard;
use crate::wire::Wire;
use asks::Asks;
use held::Held;
use wait::Turns;

/// What the client's next command has to wait for.
enum Wait {
    /// The broker takes a publication.
    Broker(Box<Publish>),
    /// The back end says whether something may be published.
    BackEnd(Box<Ask>),
    /// A command before it is answered: see [`Session::is_settling`].
    Settled,
    /// The socket takes answers to commands before.
    Room,
}

/// See the module's documentation.
pub(crate) struct Connection {
    id: u32,
    wire: Wire,
    shard: Rc<Shard>,
    outbox: Outbox,
    session: RefCell<Session>,
    /// The tick of the wheel in which this connection looks at its deadlines.
    armed_tick: Cell<u64>,
    /// Set once, by whoever decides first that the connection ends.
    ending: OnceCell<Ending>,
    /// What channels have delivered before the client was told that it is connected.
    held: Held,
    /// Since when it is connected, and in the shard's list of users; Unix milliseconds. 0: not yet.
    connected_at_ms: Cell<u64>,
    /// It is in no channel any more.
    has_left: Cell<bool>,
    /// The task looks again whenever there is news.
    is_waiting: Cell<bool>,
    /// Whose turn it is among this client's questions; no memory before the first.
    look_ups: OnceCell<Rc<Turns>>,
    /// What the back end gets to know of the client's transport.
    caller: RefCell<Caller>,
    asks: Asks,
    pinged_at: Cell<Option<Instant>>,
}

impl Connection {
    pub(crate) fn new(
        id: u32,
        wire: Wire,
        shard: Rc<Shard>,
        outbox: Outbox,
        session: Session,
        caller: Caller,
    ) -> Self {
        Self {
            id,
            wire,
            shard,
            outbox,
            session: RefCell::new(session),
            armed_tick: Cell::new(0),
            ending: OnceCell::new(),
            held: Held::default(),
            connected_at_ms: Cell::new(0),
            has_left: Cell::new(false),
            is_waiting: Cell::new(false),
            look_ups: OnceCell::new(),
            caller: RefCell::new(caller),
            asks: Asks::default(),
            pinged_at: Cell::new(None),
        }
    }

    pub(crate) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// How it carries messages.
    pub(crate) fn wire(&self) -> Wire {
        self.wire
    }

    pub(crate) fn session(&self) -> &RefCell<Session> {
        &self.session
    }

    /// Whether this was called before: a connection leaves its channels once.
    pub(crate) fn has_left(&self) -> bool {
        self.has_left.replace(true)
    }

    /// How the connection ends, once that is decided.
    pub(crate) fn ending(&self) -> Option<&Ending> {
        self.ending.get()
    }

    /// Asks the connection's task to end it. The first to ask decides how, and is counted.
    pub(crate) fn end(&self, ending: Ending) {
        if self.ending.get().is_none() {
            self.shard.metrics().process().connections.closed(&ending);
            // Nobody is in between: it was empty.
            let _ = self.ending.set(ending);
            self.asks.break_off();
            if let Some(seat) = self.outbox.seat() {
                seat.ending();
            }
            self.outbox.wake();
            self.tell_waiting();
        }
    }

    /// Feeds the session an event that has no follow-up (not a command) and sends what comes of it. Nothing comes of it
    /// once the connection ends: it would enter channels that it has left for good.
    pub(crate) fn notify(self: &Rc<Self>, event: Event) {
        if self.ending.get().is_some() {
            return;
        }
        let mut frames = BytesMut::new();
        self.step(event, &mut frames);
        self.send(&mut frames);
        self.arm();
    }

    /// Runs the session and performs its actions; frames for the client are appended to `frames`. What the client's next
    /// command waits for is handed back, since only the connection's task may wait.
    fn step(self: &Rc<Self>, event: Event, frames: &mut BytesMut) -> Option<Wait> {
        if let Event::Subscribed { channel, result } = &event
            && let Ok(joined) = result
        {
            if let Some(recovery) = &joined.recovery {
                self.shard.metrics().recovered(channel, recovery);
            }
            if let Some(seat) = self.outbox.seat() {
                seat.entered(channel);
            }
        }
        let mut actions = Actions::new();
        self.session
            .borrow_mut()
            .handle(event, self.shard.now(), &mut actions);
        self.perform(actions, frames)
    }

    /// Performs what a session wants done; see [`Connection::step`].
    fn perform(self: &Rc<Self>, actions: Actions, frames: &mut BytesMut) -> Option<Wait> {
        let mut wait = None;
        for action in actions {
            match action {
                Action::Reply(reply) => self.encode(&reply, frames),
                Action::Ping(kind) => self.ping(kind, frames),
                Action::Subscribe(channel, subscribing) => {
                    if let Some(result) = self.shard.join(&channel, self, *subscribing) {
                        self.step(Event::Subscribed { channel, result }, frames);
                    }
                }
                Action::Unsubscribe(channel) => self.shard.leave(&channel, self),
                Action::Publish(publish) => wait = Some(Wait::Broker(publish)),
                Action::Announce(channel, push, attachment) => {
                    self.shard.announce(&channel, &push, attachment);
                }
                Action::Arrived(origin) => self.arrived(*origin),
                Action::LookUp(wanted) => self.look_up(wanted),
                Action::Ask(ask) if ask.about.is_in_order() => wait = Some(Wait::BackEnd(ask)),
                Action::Ask(ask) => self.ask(ask),
                Action::Limited(limit) => self.shard.metrics().limited(limit),
                Action::Unpublished(channel, why) => {
                    self.shard.metrics().unpublished(&channel, why);
                }
                Action::Close(code) => self.end(Ending::Disconnect(code)),
                Action::Dismiss(goodbye) => self.end(Ending::Dismissed(Rc::new(goodbye))),
            }
        }
        self.follow_connect();
        wait
    }

    /// Holds back what channels deliver while the client does not know yet that it is connected, and lists the client
    /// under its user once it does.
    fn follow_connect(&self) {
        let session = self.session.borrow();
        if session.is_connecting() {
            self.held.begin();
        }
        if !session.is_connected() || self.connected_at_ms.get() > 0 {
            return;
        }
        self.connected_at_ms.set(unix_millis());
        self.shard.list(self.id, session.user());
        let personal = &self.shard.policy().client.personal_channel;
        if personal.as_ref().is_some_and(|own| own.single_connection) {
            self.stay_alone();
        }
    }

    fn ping(&self, kind: Pings, frames: &mut BytesMut) {
        self.pinged_at.set(Some(Instant::now()));
        match kind {
            Pings::Messages => self.wire.append_ping(frames),
            Pings::Transport => append_frame(Opcode::Ping, &[], frames),
        }
        self.shard.metrics().sent(SentType::Ping);
    }

    fn encode(&self, reply: &Reply, frames: &mut BytesMut) {
        self.note_answer(reply.id);
        let mut scratch = BytesMut::new();
        match self.wire.append(reply, frames, &mut scratch) {
            Ok(()) => self.shard.metrics().replied(reply),
            Err(_) => self.inexpressible(),
        }
    }

    fn send(&self, frames: &mut BytesMut) {
        self.say_state();
        if !frames.is_empty() {
            let frames = std::mem::take(frames).freeze();
            self.shard.metrics().sent_bytes(frames.len());
            // A refusal shows in the outbox' fate, which the task looks at.
            self.outbox.push_answer(&frames);
        }
        if self.held.is_begun() && !self.session.borrow().is_connecting() {
            let held = self.held.end();
            // Who was refused is not to see any of it.
            if self.session.borrow().is_connected() {
                for frames in held {
                    self.outbox.push(&frames);
                }
            }
        }
        self.follow_up();
        if self.is_waiting.get() {
            self.outbox.wake();
        }
        self.tell_waiting();
    }

    /// Those of the client's questions that wait look again.
    fn tell_waiting(&self) {
        if let Some(turns) = self.look_ups.get() {
            turns.wake();
        }
    }

    /// Where what the client says comes from.
    pub(crate) async fn intake(self: &Rc<Self>, source: Source) -> Intake {
        let limit = self.shard.limits().message_max_bytes;
        Intake::new(self.clone(), source, limit).await
    }

    /// Listens to the client until the connection ends, then ends it.
    pub(crate) async fn run(self: &Rc<Self>, mut intake: Intake) {
        self.arm();
        let ending = self.listen(&mut intake).await;
        self.end(ending.clone());
        self.shard.leave_all(self);
        intake.flush().await;
        drop(intake);
        let goodbye = |code, reason: &str| self.wire.goodbye(code, reason);
        Box::pin(close(&self.outbox, &ending, goodbye)).await;
    }

    async fn listen(self: &Rc<Self>, intake: &mut Intake) -> Ending {
        loop {
            if let Some(ending) = self.ending.get() {
                return ending.clone();
            }
            match self.outbox.fate() {
                Fate::Open | Fate::Orphaned => {}
                Fate::Overflowed => return Ending::Slow,
                Fate::Closing | Fate::Broken => return Ending::Gone,
            }
            let pending = self.outbox.queued_bytes() > 0;
            tokio::select! {
                input = intake.next() => {
                    let pause = input.bytes().and_then(|bytes| self.metered(bytes));
                    if let Some(ending) = self.input(input).await {
                        return ending;
                    }
                    if let Some(until) = pause {
                        Box::pin(self.pause(until)).await;
                    }
                }
                writable = self.outbox.writable(), if pending => {
                    if writable.is_err() || self.outbox.flush().is_err() {
                        return Ending::Gone;
                    }
                }
                () = self.outbox.woken() => self.arm(),
            }
        }
    }

    async fn input(self: &Rc<Self>, input: Input) -> Option<Ending> {
        match input {
            Input::Message(message) => self.message(message).await,
            Input::Commands(commands) => {
                self.frame(&commands).await;
                None
            }
            Input::Numbered(said, message) => {
                self.numbered(said, &message).await;
                None
            }
            Input::HandOver => {
                self.hand_over();
                None
            }
            Input::End(ending) => Some(ending),
        }
    }

    async fn message(self: &Rc<Self>, message: Option<Result<Message, WsError>>) -> Option<Ending> {
        match message {
            Some(Ok(Message::Text(text))) => self.frame(text.as_bytes()).await,
            Some(Ok(Message::Binary(payload))) => self.frame(&payload).await,
            Some(Ok(Message::Close(frame))) => {
                return Some(Ending::ByClient(frame.map(|frame| u16::from(frame.code))));
            }
            Some(Ok(Message::Pong(_))) => self.notify(self.pong(Pings::Transport)),
            Some(Ok(Message::Ping(_) | Message::Frame(_))) => {}
            Some(Err(error)) => return Some(Ending::of(&error, self.outbox.fate())),
            None => return Some(Ending::Gone),
        }
        None
    }

    /// Handles the commands of one frame in their order.
    async fn frame(self: &Rc<Self>, payload: &[u8]) {
        self.shard.metrics().received_bytes(payload.len());
        if !self.is_listening() {
            return;
        }
        let mut frames = BytesMut::new();
        let mut commands = commands(self.wire.format(), payload);
        let mut is_empty = true;
        while let Some(wait) = self.advance(&mut commands, &mut is_empty, &mut frames) {
            // Boxed, so that the task of an idle connection has no room for it.
            Box::pin(self.settle(wait, &mut frames)).await;
        }
        if is_empty {
            self.step(Event::Malformed, &mut frames);
        }
        self.note_handled();
        self.send(&mut frames);
        self.arm();
    }

    /// Whether what the client says still matters: how the connection ends is not decided, also not by its outbox.
    fn is_listening(&self) -> bool {
        self.ending.get().is_none() && self.outbox.fate() == Fate::Open
    }

    /// Runs commands up to the next one that has to be waited for, or to the end of the frame or of the connection.
    fn advance(
        self: &Rc<Self>,
        commands: &mut Messages<'_, Command>,
        is_empty: &mut bool,
        frames: &mut BytesMut,
    ) -> Option<Wait> {
        while self.is_listening() {
            let command = commands.next()?;
            *is_empty = false;
            let wait = self.step(self.event_of(command), frames);
            if wait.is_some() {
                return wait;
            }
            if self.session.borrow().is_settling() {
                return Some(Wait::Settled);
            }
            if self.is_behind(frames.len()) {
                return Some(Wait::Room);
            }
        }
        None
    }

    fn event_of(&self, command: Result<Command, DecodeError>) -> Event {
        let Ok(command) = command else {
            self.shard.metrics().received("malformed");
            return Event::Malformed;
        };
        if command.is_pong() {
            return self.pong(Pings::Messages);
        }
        let id = command.id;
        match command.into_request() {
            Some(request) => {
                self.note_command(id);
                self.shard.metrics().received(request.label());
                if let Request::Connect(connect) = &request {
                    self.emulate(&connect.headers);
                }
                Event::Request { id, request }
            }
            None => {
                self.shard.metrics().received("malformed");
                Event::Malformed
            }
        }
    }

    fn pong(&self, kind: Pings) -> Event {
        self.shard.metrics().received("pong");
        if let Some(pinged) = self.pinged_at.take() {
            self.shard.metrics().ping_answered(pinged.elapsed());
        }
        Event::Pong(kind)
    }
}

impl AsRef<Outbox> for Connection {
    fn as_ref(&self) -> &Outbox {
        &self.outbox
    }
}

impl Member for Connection {
    fn id(&self) -> u32 {
        self.id
    }

    fn wire(&self) -> Wire {
        self.wire
    }

    fn deliver(&self, frames: &Bytes) -> bool {
        self.shard.metrics().sent_bytes(frames.len());
        if self.held.is_begun() {
            let fits = self.held.hold(frames, self.shard.limits().outbox_max_bytes);
            if !fits {
                self.end(Ending::Slow);
            }
            return fits;
        }
        self.outbox.push(frames) != Pushed::Refused
    }

    fn seat(&self) -> Option<&Seat> {
        self.outbox.seat()
    }

    fn inexpressible(&self) {
        self.end(Ending::Disconnect(DisconnectCode::InappropriateProtocol));
    }
}

#[cfg(test)]
pub(crate) mod tests;
