//! One link, once both sides have introduced themselves: what the worker says, and what it is told.
//!
//! Owns: the sessions that are at the other end, the link's topics, and what waits to be sent. What a message does to a
//! client is the client's; reading and writing is `line`'s.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use flotilla_shared::link::{self, ForGateway, ForWorker, KeepAlive, ToGateway, ToWorker, Welcome};
use tokio::sync::Notify;

use super::client::{Client, unpinned};
use super::keepalive::Pulse;
use super::session::LinkNumber;
use super::thread::Thread;
use super::topics::Topics;
use crate::route::{CutOff, Worker};

/// From how many waiting bytes on the clients that feed a link are not read.
const FULL_BYTES: usize = 1024 * 1024;

/// The worker has said something that it cannot have meant. The link ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Nonsense(pub(super) &'static str);

/// What a worker wants of its clients' connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) message_max_bytes: usize,
    pub(super) outbox_max_bytes: usize,
    pub(super) write_timeout: Duration,
}

impl Limits {
    pub(super) fn of(welcome: &Welcome) -> Self {
        let bytes = |wanted: u64| usize::try_from(wanted).unwrap_or(usize::MAX);
        Self {
            message_max_bytes: bytes(welcome.message_max_bytes),
            outbox_max_bytes: bytes(welcome.outbox_max_bytes),
            write_timeout: Duration::from_millis(welcome.write_timeout_ms),
        }
    }
}

/// See the module's documentation.
pub(super) struct Peer {
    pub(super) number: LinkNumber,
    pub(super) worker: Worker,
    pub(super) limits: Limits,
    pub(super) topics: RefCell<Topics<Rc<Client>>>,
    sessions: RefCell<HashMap<u64, Rc<Client>>>,
    /// Sessions that the worker was asked to forget and has not said that it has.
    given_up: RefCell<HashSet<u64>>,
    out: RefCell<BytesMut>,
    /// Something waits to be sent.
    waiting: Notify,
    /// There is room again.
    room: Notify,
    /// Clients that are not read until there is room.
    held_back: RefCell<Vec<Rc<Client>>>,
    is_dead: Cell<bool>,
    /// What the last client was asked by: most are asked the same.
    pulse: RefCell<Option<Rc<Pulse>>>,
    /// While the worker says that it is.
    cut_off: RefCell<Option<CutOff>>,
}

impl Peer {
    pub(super) fn new(number: LinkNumber, worker: Worker, limits: Limits) -> Rc<Self> {
        Rc::new(Self {
            number,
            worker,
            limits,
            topics: RefCell::default(),
            sessions: RefCell::default(),
            given_up: RefCell::default(),
            out: RefCell::default(),
            waiting: Notify::new(),
            room: Notify::new(),
            held_back: RefCell::default(),
            is_dead: Cell::new(false),
            pulse: RefCell::default(),
            cut_off: RefCell::default(),
        })
    }

    // Sessions.

    /// A session is there from now on, or has been asked for.
    pub(super) fn take(&self, client: Rc<Client>) {
        self.sessions.borrow_mut().insert(client.number, client);
    }

    pub(super) fn forget(&self, session: u64) {
        self.sessions.borrow_mut().remove(&session);
    }

    /// The worker is to forget a session that it was asked to take, and did not answer for.
    pub(super) fn give_up(&self, session: u64) {
        self.given_up.borrow_mut().insert(session);
        self.send(link::Detach { session });
    }

    /// Whether it can be asked to take this session. Not while it may still have it.
    pub(super) fn can_take(&self, session: u64) -> bool {
        !self.is_dead() && !self.given_up.borrow().contains(&session)
    }

    /// The sessions that are there, and those that have been asked for.
    pub(super) fn sessions(&self) -> Vec<Rc<Client>> {
        self.sessions.borrow().values().cloned().collect()
    }

    /// The worker can do nothing for its sessions, as far as it has said.
    pub(super) fn is_cut_off(&self) -> bool {
        self.cut_off.borrow().is_some()
    }

    /// The link is gone. The sessions that were there.
    pub(super) fn die(&self) -> Vec<Rc<Client>> {
        self.is_dead.set(true);
        self.cut_off.take();
        self.room.notify_waiters();
        self.wake_held_back();
        let sessions = self.sessions.take();
        sessions.into_values().collect()
    }

    pub(super) fn is_dead(&self) -> bool {
        self.is_dead.get()
    }

    /// The session of this number. One that is not here any more is one that has ended or moved, which the worker has not
    /// heard yet.
    fn session(&self, number: u64) -> Option<Rc<Client>> {
        self.sessions.borrow().get(&number).cloned()
    }

    // What the worker is told.

    /// Queues a message.
    pub(super) fn send(&self, message: impl Into<Said>) {
        if self.is_dead() {
            return;
        }
        let message = ToWorker::from(message.into().0);
        link::append(&message, &mut self.out.borrow_mut());
        self.waiting.notify_one();
    }

    /// A heartbeat, if nothing waits anyway.
    pub(super) fn beat(&self) {
        let mut out = self.out.borrow_mut();
        if out.is_empty() {
            link::append(&ToWorker::default(), &mut out);
            self.waiting.notify_one();
        }
    }

    /// Whether what a client says has room. If not, the client is woken once it has.
    pub(super) fn has_room_for(&self, client: &Rc<Client>) -> bool {
        let has_room = self.out.borrow().len() < FULL_BYTES;
        if !has_room {
            self.held_back.borrow_mut().push(client.clone());
        }
        has_room
    }

    /// Resolves when there is room to ask for another session.
    pub(super) async fn room(&self) {
        while self.out.borrow().len() >= FULL_BYTES && !self.is_dead() {
            self.room.notified().await;
        }
    }

    /// Everything that waits to be sent.
    pub(super) fn unsent(&self) -> BytesMut {
        self.out.borrow_mut().split()
    }

    /// What was taken has been sent.
    pub(super) fn drained(&self) {
        if self.out.borrow().len() < FULL_BYTES {
            self.room.notify_waiters();
            self.wake_held_back();
        }
    }

    fn wake_held_back(&self) {
        let held_back = self.held_back.take();
        held_back.iter().for_each(|client| client.outbox.wake());
    }

    /// Resolves when something waits to be sent.
    pub(super) async fn waiting(&self) {
        self.waiting.notified().await;
    }

    // What the worker says.

    /// Takes one message.
    ///
    /// # Errors
    /// When it makes no sense.
    pub(super) fn hear(
        self: &Rc<Self>,
        thread: &Rc<Thread>,
        message: ToGateway,
    ) -> Result<(), Nonsense> {
        let Some(body) = message.body else {
            return Ok(());
        };
        match body {
            ForGateway::Cast(cast) => return self.cast(thread, cast),
            ForGateway::Topic(topic) => {
                // A copy: it is kept for long.
                let name = bytes::Bytes::copy_from_slice(&topic.name);
                if !self.topics.borrow_mut().name(topic.topic, name) {
                    return Err(Nonsense("more topics than there can be"));
                }
            }
            ForGateway::Release(release) => {
                for session in release.sessions {
                    if let Some(client) = self.session(session) {
                        thread.moves.release(client, self.number);
                    }
                }
            }
            ForGateway::Condition(condition) => self.is_now(thread, condition.is_cut_off),
            ForGateway::Welcome(_) => return Err(Nonsense("a second welcome")),
            body => {
                let number = session_of(&body).unwrap_or_default();
                match self.session(number) {
                    Some(client) => return self.tell(thread, &client, body),
                    None if is_last(&body) => drop(self.given_up.borrow_mut().remove(&number)),
                    None => {}
                }
            }
        }
        Ok(())
    }

    fn is_now(self: &Rc<Self>, thread: &Thread, is_cut_off: bool) {
        if is_cut_off == self.is_cut_off() {
            return;
        }
        let worker = self.worker.label();
        if is_cut_off {
            tracing::warn!(worker, "a worker is cut off from its broker");
            self.cut_off.replace(Some(CutOff::of(&self.worker)));
            thread.cut_off.add(self.clone());
        } else {
            tracing::info!(worker, "a worker is cut off no more");
            self.cut_off.take();
        }
    }

    /// Whatever concerns one session.
    fn tell(
        &self,
        thread: &Rc<Thread>,
        client: &Rc<Client>,
        body: ForGateway,
    ) -> Result<(), Nonsense> {
        match body {
            ForGateway::Send(sent) => {
                let length = sent.frames.len();
                if client.sent(self, sent)? {
                    thread.dirty(client.clone());
                }
                thread.counts.sent(length);
            }
            ForGateway::Ack(ack) => client.acknowledged(self, ack.number)?,
            ForGateway::State(state) => client.became(self, &state.state),
            ForGateway::Join(join) => client.joined(self, join)?,
            ForGateway::Leave(leave) => client.left(self, leave.topic),
            ForGateway::Opened(opened) => {
                if client.opened(self, &opened) {
                    thread.dirty(client.clone());
                }
            }
            ForGateway::Refused(refused) => client.refused(self, refused),
            ForGateway::KeepAlive(wanted) => client.kept_alive(thread, self.pulse(&wanted)),
            ForGateway::Close(close) => client.ended(self, close),
            ForGateway::Detached(_) => {
                if client.detached(self) {
                    thread
                        .moves
                        .released(client.clone(), &self.worker, thread.metrics().moving());
                }
            }
            ForGateway::Welcome(_)
            | ForGateway::Cast(_)
            | ForGateway::Topic(_)
            | ForGateway::Release(_)
            | ForGateway::Condition(_) => {}
        }
        Ok(())
    }

    /// The same bytes for everyone in a topic.
    fn cast(&self, thread: &Rc<Thread>, cast: link::Cast) -> Result<(), Nonsense> {
        let mut topics = self.topics.borrow_mut();
        let Some(members) = topics.cast(cast.topic, cast.offset) else {
            return Err(Nonsense("a cast to a topic that is not there"));
        };
        let frames = unpinned(cast.frames);
        for (_, member) in members {
            if member.outbox.gather(frames.clone(), false) {
                thread.dirty(member.clone());
            }
        }
        thread.counts.cast(members.len(), frames.len());
        Ok(())
    }

    fn pulse(&self, wanted: &KeepAlive) -> Option<Rc<Pulse>> {
        let pulse = Pulse::new(wanted)?;
        let mut last = self.pulse.borrow_mut();
        match &*last {
            Some(same) if **same == pulse => Some(same.clone()),
            _ => {
                let pulse = Rc::new(pulse);
                *last = Some(pulse.clone());
                Some(pulse)
            }
        }
    }
}

/// The session that a message is about.
fn session_of(body: &ForGateway) -> Option<u64> {
    Some(match body {
        ForGateway::Opened(opened) => opened.session,
        ForGateway::Refused(refused) => refused.session,
        ForGateway::Send(sent) => sent.session,
        ForGateway::Ack(ack) => ack.session,
        ForGateway::Join(join) => join.session,
        ForGateway::Leave(leave) => leave.session,
        ForGateway::State(state) => state.session,
        ForGateway::KeepAlive(wanted) => wanted.session,
        ForGateway::Close(close) => close.session,
        ForGateway::Detached(detached) => detached.session,
        ForGateway::Welcome(_)
        | ForGateway::Topic(_)
        | ForGateway::Cast(_)
        | ForGateway::Release(_)
        | ForGateway::Condition(_) => return None,
    })
}

/// Whether nothing comes behind this message for its session.
fn is_last(body: &ForGateway) -> bool {
    matches!(
        body,
        ForGateway::Refused(_) | ForGateway::Detached(_) | ForGateway::Close(_)
    )
}

/// Something that a worker is told.
pub(super) struct Said(ForWorker);

impl From<link::Open> for Said {
    fn from(open: link::Open) -> Self {
        Self(ForWorker::Open(open))
    }
}

impl From<link::Message> for Said {
    fn from(message: link::Message) -> Self {
        Self(ForWorker::Message(message))
    }
}

impl From<link::Closed> for Said {
    fn from(closed: link::Closed) -> Self {
        Self(ForWorker::Closed(closed))
    }
}

impl From<link::Detach> for Said {
    fn from(detach: link::Detach) -> Self {
        Self(ForWorker::Detach(detach))
    }
}
