//! A session's seat on a link: what its client says and is sent, instead of a socket.
//!
//! Owns: the session's number on the link, what of the client's words is not acknowledged, and how the session is left
//! there. Nothing that is sent waits here: it is the gateway that keeps it for the client.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use flotilla_shared::channel::Channel;
use flotilla_shared::link::{
    Ack, Close, Closed, Detached, ForGateway, KeepAlive, Leave, Message, Release, Send, State,
};
use flotilla_shared::protocol::codes::DisconnectCode;
use tokio::sync::Notify;

use super::window::{Misuse, Said, Window};
use super::{DETACH_PATIENCE, ELSEWHERE_GRACE, Link, ORPHAN_GRACE};
use crate::closing::Ending;

/// What is next for a session.
#[derive(Debug)]
pub(crate) enum Word {
    /// A message of the client.
    Message(Said, Bytes),
    /// Nothing more: all that was begun is answered, and the session can be handed over.
    HandOver,
    /// Nothing more, and why.
    End(Ending),
}

/// What is to be done about a session that waits for something for too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// It is handed over as it is.
    HandOver,
    /// It ends.
    End(Ending),
}

/// How a session is on its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Carried,
    /// It goes elsewhere when what was begun is answered, but not later than this.
    Detaching(Instant),
    /// It was handed over, or the link is gone. Until then somebody may say that another worker has it.
    Orphaned(Instant),
    /// Another worker has it, which everybody knows by then.
    Elsewhere(Instant),
    /// The gateway has said that it is over.
    Parted,
    /// The gateway was told that it is over, or knows.
    Over,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Seat {
    link: Rc<Link>,
    session: u64,
    phase: Cell<Phase>,
    window: RefCell<Window>,
    /// How the client went, once all that it has said before is handled.
    gone: RefCell<Option<Ending>>,
    /// Channels in which the session is by itself until its client has been told of them.
    entered: RefCell<Vec<Channel>>,
    /// How the session ends is decided: it leaves its topics without a word.
    is_ending: Cell<bool>,
    is_kept_alive: Cell<bool>,
    is_released: Cell<bool>,
    news: Notify,
}

impl Seat {
    /// `next` is the number of the client's first message; `None`: whichever comes.
    pub(crate) fn new(link: Rc<Link>, session: u64, next: Option<u64>) -> Self {
        Self {
            link,
            session,
            phase: Cell::new(Phase::Carried),
            window: RefCell::new(Window::new(next)),
            gone: RefCell::default(),
            entered: RefCell::default(),
            is_ending: Cell::new(false),
            is_kept_alive: Cell::new(false),
            is_released: Cell::new(false),
            news: Notify::new(),
        }
    }

    pub(crate) fn link(&self) -> &Rc<Link> {
        &self.link
    }

    /// The gateway's number for it.
    pub(crate) fn session(&self) -> u64 {
        self.session
    }

    /// A message of the client. `is_repeat`: another worker has had it before.
    pub(crate) fn take(&self, message: &Message, is_repeat: bool) -> Result<(), Misuse> {
        if self.phase.get() != Phase::Carried || self.gone.borrow().is_some() {
            // The next worker gets it.
            return Ok(());
        }
        let number = message.number;
        let said = Said { number, is_repeat };
        let mut window = self.window.borrow_mut();
        window.take(said, &message.payload)?;
        self.news.notify_one();
        Ok(())
    }

    /// The client is gone; what it has said before still counts.
    pub(super) fn closed(&self, closed: &Closed) {
        let ending = match u16::try_from(closed.code).unwrap_or_default() {
            code if closed.is_slow && code == DisconnectCode::WriteError.code() => Ending::Stalled,
            _ if closed.is_slow => Ending::Slow,
            0 => Ending::Gone,
            code if code == DisconnectCode::NoPong.code() => {
                Ending::Disconnect(DisconnectCode::NoPong)
            }
            code => Ending::ByClient(Some(code)),
        };
        self.gone.borrow_mut().get_or_insert(ending);
        self.news.notify_one();
    }

    /// Nothing more of what the client says is handled here.
    pub(super) fn detach(&self, now: Instant) {
        if self.phase.get() == Phase::Carried {
            self.phase.set(Phase::Detaching(now + DETACH_PATIENCE));
            self.window.borrow_mut().drop_waiting();
            self.news.notify_one();
        }
    }

    /// The link is gone.
    pub(super) fn orphan(&self, now: Instant) {
        if matches!(self.phase.get(), Phase::Carried | Phase::Detaching(_)) {
            self.phase.set(Phase::Orphaned(now + ORPHAN_GRACE));
            self.window.borrow_mut().drop_waiting();
            self.news.notify_one();
        }
    }

    /// The session is taken elsewhere, and nothing more comes from here. It stays in its channels, silently, until another
    /// worker has it: if none does, its client is gone.
    pub(crate) fn hand_over(&self, now: Instant) {
        if !matches!(self.phase.get(), Phase::Carried | Phase::Detaching(_)) {
            return;
        }
        self.say(ForGateway::Detached(Detached {
            session: self.session,
        }));
        self.link.forget(self.session);
        self.window.borrow_mut().drop_waiting();
        self.phase.set(Phase::Orphaned(now + ORPHAN_GRACE));
    }

    /// Another worker has it now. False: it is carried here, and its gateway does not know of that.
    pub(crate) fn is_let_go(&self, now: Instant) -> bool {
        match self.phase.get() {
            Phase::Orphaned(_) => self.phase.set(Phase::Elsewhere(now + ELSEWHERE_GRACE)),
            Phase::Elsewhere(_) => {}
            Phase::Carried | Phase::Detaching(_) | Phase::Parted | Phase::Over => return false,
        }
        true
    }

    /// Whether another worker has it.
    pub(crate) fn is_elsewhere(&self) -> bool {
        matches!(self.phase.get(), Phase::Elsewhere(_))
    }

    /// Whether it was handed over, to be attached elsewhere.
    pub(crate) fn is_handed_over(&self) -> bool {
        self.is_silent() && !self.link.is_closed()
    }

    /// Whether the gateway hears nothing of it any more.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self.phase.get(), Phase::Orphaned(_) | Phase::Elsewhere(_))
    }

    /// Says something about the session, as long as it is this link's.
    fn say(&self, body: ForGateway) {
        if !self.is_silent() {
            self.link.say(body);
        }
    }

    /// When something has to be done about it, and what.
    pub(crate) fn deadline(&self) -> Option<(Instant, Due)> {
        match self.phase.get() {
            Phase::Carried | Phase::Parted | Phase::Over => None,
            Phase::Detaching(until) => Some((until, Due::HandOver)),
            Phase::Orphaned(until) => Some((until, Due::End(Ending::Gone))),
            Phase::Elsewhere(until) => Some((until, Due::End(Ending::Moved))),
        }
    }

    /// What is next. Cancel-safe.
    pub(crate) async fn next(&self) -> Word {
        loop {
            if let Some(word) = self.word() {
                return word;
            }
            self.news.notified().await;
        }
    }

    fn word(&self) -> Option<Word> {
        let phase = self.phase.get();
        if !matches!(phase, Phase::Carried | Phase::Detaching(_)) {
            return None;
        }
        if let Some((said, payload)) = self.window.borrow_mut().begin() {
            return Some(Word::Message(said, payload));
        }
        if let Some(ending) = self.gone.borrow_mut().take() {
            self.phase.set(Phase::Parted);
            return Some(Word::End(ending));
        }
        let is_left = phase != Phase::Carried && self.window.borrow().is_settled();
        is_left.then_some(Word::HandOver)
    }

    /// The message that is being handled has a command with this id.
    pub(crate) fn asked(&self, id: u32) {
        self.window.borrow_mut().asked(id);
    }

    /// A command was answered.
    pub(crate) fn answered(&self, id: u32) {
        self.window.borrow_mut().answered(id);
    }

    /// The message that was being handled has been, but for answers that are still to come.
    pub(crate) fn handled(&self) {
        self.window.borrow_mut().handled();
    }

    /// Whole frames for the client.
    pub(crate) fn send(&self, frames: &Bytes, is_answer: bool) {
        self.say(ForGateway::Send(Send {
            session: self.session,
            frames: frames.clone(),
            placed: None,
            is_answer,
        }));
    }

    /// What another worker would have to know.
    pub(crate) fn state(&self, state: Bytes) {
        self.say(ForGateway::State(State {
            session: self.session,
            state,
        }));
    }

    /// Acknowledges whatever has been handled and answered.
    pub(crate) fn acknowledge(&self) {
        let mut window = self.window.borrow_mut();
        while let Some(number) = window.acknowledge() {
            self.say(ForGateway::Ack(Ack {
                session: self.session,
                number,
            }));
        }
        if matches!(self.phase.get(), Phase::Detaching(_)) {
            self.news.notify_one();
        }
    }

    /// The session is in `channel`, and its client is about to be told.
    pub(crate) fn entered(&self, channel: &Channel) {
        self.entered.borrow_mut().push(channel.clone());
    }

    /// The channels of which the client has been told since this was asked last.
    pub(crate) fn take_entered(&self) -> Vec<Channel> {
        std::mem::take(&mut *self.entered.borrow_mut())
    }

    /// It is not in this topic any longer. Whoever leaves the link leaves all of them without saying so.
    pub(super) fn left(&self, topic: u32) {
        if !self.is_ending.get() {
            self.say(ForGateway::Leave(Leave {
                session: self.session,
                topic,
            }));
        }
    }

    /// How it ends is decided.
    pub(crate) fn ending(&self) {
        self.is_ending.set(true);
    }

    /// Whether the gateway looks after the client's liveness.
    pub(crate) fn is_kept_alive(&self) -> bool {
        self.is_kept_alive.get()
    }

    /// Leaves the client's liveness to the gateway.
    pub(crate) fn keep_alive(&self, how: KeepAlive) {
        self.is_kept_alive.set(true);
        self.say(ForGateway::KeepAlive(KeepAlive {
            session: self.session,
            ..how
        }));
    }

    /// Whether the gateway was asked to take it elsewhere.
    pub(crate) fn is_released(&self) -> bool {
        self.is_released.get()
    }

    /// Asks the gateway to take it elsewhere.
    pub(crate) fn release(&self) {
        self.is_released.set(true);
        self.say(ForGateway::Release(Release {
            sessions: vec![self.session],
        }));
    }

    /// It ends, and this is the last that the gateway hears of it.
    pub(crate) fn end(&self, ending: &Ending) {
        match self.phase.replace(Phase::Over) {
            Phase::Over => return,
            // A later attachment may have its number.
            Phase::Orphaned(_) | Phase::Elsewhere(_) => return,
            Phase::Parted => {}
            Phase::Carried | Phase::Detaching(_) if *ending == Ending::Moved => {
                self.link.say(ForGateway::Detached(Detached {
                    session: self.session,
                }));
            }
            Phase::Carried | Phase::Detaching(_) => {
                let (code, reason) = ending.close().unwrap_or_default();
                self.link.say(ForGateway::Close(Close {
                    session: self.session,
                    code: u32::from(code),
                    reason: reason.to_owned(),
                }));
            }
        }
        self.link.forget(self.session);
    }
}
