//! One client of a link thread: everything that is known of it, and what events do to it.
//!
//! Owns: how the parts that each know one thing (the session, its places, the outbox, liveness) move together. Decides
//! nothing that they could, and waits for nothing: what waits is the client's task (`carry`) and whoever opens its
//! session (`attach`).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flotilla_shared::http::Header;
use flotilla_shared::link::{self, Opened, Refused};
use flotilla_shared::websocket::{Upgrade, switching_protocols};
use pingora::protocols::Stream;
use tokio::sync::oneshot;

use super::ending::Ending;
use super::facts::Facts;
use super::keepalive::{Due, Liveness, Pulse};
use super::outbox::{Fate, Outbox};
use super::peer::{Nonsense, Peer};
use super::places::Places;
use super::session::{LinkNumber, Session};
use super::thread::Thread;
use crate::config::OverloadResponse;
use crate::edge::answer::{self, selected};
use crate::error::Refusal;
use crate::metrics::MoveReason;
use crate::route::{Imbalance, Placement};

/// What becomes of the request to take a session.
#[derive(Debug)]
pub(super) enum Answer {
    Opened,
    Refused(Refused),
    /// The link is gone.
    Lost,
}

/// See the module's documentation.
pub(super) struct Client {
    pub(super) number: u64,
    /// Under which the thread has it, while it does.
    pub(super) key: Cell<Option<u32>>,
    pub(super) outbox: Outbox<Stream>,
    pub(super) session: RefCell<Session>,
    pub(super) facts: Box<Facts>,
    places: RefCell<Places>,
    liveness: RefCell<Liveness>,
    placement: RefCell<Option<Placement>>,
    /// The link where its session is, or has been asked for.
    peer: RefCell<Option<Rc<Peer>>>,
    /// Whoever waits until the session is opened.
    answer: Cell<Option<oneshot::Sender<Answer>>>,
    ending: Cell<Option<Box<Ending>>>,
    /// The handshake, until it is answered.
    upgrade: Cell<Option<Box<Upgrade>>>,
    is_text: Cell<bool>,
    /// Why its worker was asked last to hand it over.
    moving: Cell<MoveReason>,
    write_timeout: Cell<Duration>,
    /// Whether what it says is read. If not, its answer to a ping may be there.
    is_read: Cell<bool>,
    /// The tick in which the thread looks at it next; 0: in none.
    pub(super) armed: Cell<u64>,
}

impl Client {
    pub(super) fn new(number: u64, stream: Stream, facts: Facts, upgrade: Upgrade) -> Rc<Self> {
        Rc::new(Self {
            number,
            key: Cell::new(None),
            outbox: Outbox::new(stream),
            session: RefCell::new(Session::new(number)),
            facts: Box::new(facts),
            places: RefCell::default(),
            liveness: RefCell::default(),
            placement: RefCell::new(None),
            peer: RefCell::new(None),
            answer: Cell::new(None),
            ending: Cell::new(None),
            upgrade: Cell::new(Some(Box::new(upgrade))),
            is_text: Cell::new(false),
            moving: Cell::new(MoveReason::Released),
            write_timeout: Cell::new(Duration::MAX),
            is_read: Cell::new(true),
            armed: Cell::new(0),
        })
    }

    // Opening.

    /// Asks a worker to take the session. What comes of it; `None` if it needs nobody any more.
    pub(super) fn ask(
        self: &Rc<Self>,
        thread: &Thread,
        peer: &Rc<Peer>,
    ) -> Option<oneshot::Receiver<Answer>> {
        let opening = self.session.borrow_mut().open(peer.number)?;
        let mut open = self.facts.open(thread);
        open.session = self.number;
        open.generation = opening.generation;
        thread.metrics().resent(opening.messages.len());
        open.restore = opening.state.map(|state| link::Restore {
            state,
            positions: self.places.borrow().positions().to_vec(),
            messages: opening.messages,
        });
        let (answer, answered) = oneshot::channel();
        self.answer.set(Some(answer));
        self.placement.replace(Some(Placement::at(&peer.worker)));
        self.peer.replace(Some(peer.clone()));
        peer.take(self.clone());
        peer.send(open);
        Some(answered)
    }

    /// The worker has not answered for too long: it is to forget what it was asked.
    pub(super) fn give_up(&self, peer: &Peer) {
        if self.session.borrow_mut().refused(peer.number) {
            self.leave(peer);
            peer.give_up(self.number);
        }
    }

    /// The worker has taken the session. Whether something has to be written, which is the answer to the handshake: it is
    /// queued here, before anything that the worker says.
    pub(super) fn opened(&self, peer: &Peer, opened: &Opened) -> bool {
        let Some(messages) = self.session.borrow_mut().opened(peer.number) else {
            return false;
        };
        messages.into_iter().for_each(|message| peer.send(message));
        let limits = &peer.limits;
        self.outbox.limit(limits.outbox_max_bytes);
        self.write_timeout.set(limits.write_timeout);
        self.is_text.set(opened.is_text);
        let writes = self.upgrade.take().is_some_and(|upgrade| {
            let protocol = selected(opened.protocol.as_deref(), &upgrade);
            let switching = switching_protocols(&upgrade.key, protocol);
            self.outbox.gather(switching.into(), false)
        });
        self.answer(Answer::Opened);
        // It may be that it was not read for want of a worker.
        self.outbox.wake();
        writes
    }

    /// The client gets this answer to its handshake.
    pub(super) fn turn_away(
        &self,
        cors: &[Header],
        refusal: &Refusal,
        overload_response: OverloadResponse,
    ) {
        if let Some(upgrade) = self.upgrade.take() {
            let answer = answer::refusal((Some(&*upgrade), cors), refusal, overload_response);
            self.outbox.close_with(answer.into_owned().into(), true);
        }
    }

    pub(super) fn refused(&self, peer: &Peer, refused: Refused) {
        if self.session.borrow_mut().refused(peer.number) {
            self.leave(peer);
            self.answer(Answer::Refused(refused));
        }
    }

    fn answer(&self, answer: Answer) {
        if let Some(waiting) = self.answer.take() {
            // Whoever has given up waiting is served by the next event.
            let _ = waiting.send(answer);
        }
    }

    /// The link is gone. Whether the session has to be opened again; if it was being opened, whoever does it goes on.
    pub(super) fn lost(&self, peer: &Peer) -> bool {
        if !self.session.borrow_mut().lost(peer.number) {
            return false;
        }
        self.leave(peer);
        match self.answer.take() {
            Some(waiting) => waiting.send(Answer::Lost).is_err(),
            None => true,
        }
    }

    /// The session is to be taken elsewhere, and the worker behind this link is asked to hand it over.
    pub(super) fn release(&self, number: LinkNumber, reason: MoveReason) {
        if self.session.borrow_mut().release(number)
            && let Some(peer) = &*self.peer.borrow()
        {
            self.moving.set(reason);
            peer.send(link::Detach {
                session: self.number,
            });
        }
    }

    /// The link from which the session should be taken to a worker that has less to do, if there is one.
    pub(super) fn better_off_without(&self, imbalance: &Imbalance) -> Option<LinkNumber> {
        let session = self.session.borrow();
        let link = session.sends_to().filter(|_| !session.is_owed())?;
        let placement = self.placement.borrow();
        let key = self.facts.sticky_key();
        let moves = imbalance.moves(placement.as_ref()?, key, self.number);
        moves.then_some(link)
    }

    /// Why the session was handed over.
    pub(super) fn moving(&self) -> MoveReason {
        self.moving.get()
    }

    /// The worker has handed the session over. Whether it is to be opened elsewhere.
    pub(super) fn detached(&self, peer: &Peer) -> bool {
        let is_free = self.session.borrow_mut().detached(peer.number);
        if is_free {
            self.leave(peer);
        }
        is_free
    }

    /// The session is not at that link any more.
    fn leave(&self, peer: &Peer) {
        self.places.borrow_mut().keep(&mut peer.topics.borrow_mut());
        self.placement.take();
        self.peer.take();
        peer.forget(self.number);
    }

    // What the worker says.

    /// Frames for this client alone. Whether they have to be written.
    pub(super) fn sent(&self, peer: &Peer, sent: link::Send) -> Result<bool, Nonsense> {
        if !self.takes_from(peer.number) {
            return Err(Nonsense("frames for a session that is not open"));
        }
        if let Some(placed) = sent.placed
            && !self.places.borrow_mut().placed(placed.topic, placed.offset)
        {
            return Err(Nonsense("a position in a topic that the session is not in"));
        }
        Ok(self.outbox.gather(unpinned(sent.frames), sent.is_answer))
    }

    pub(super) fn joined(self: &Rc<Self>, peer: &Peer, join: link::Join) -> Result<(), Nonsense> {
        let member = join.takes_casts.then(|| self.clone());
        let mut places = self.places.borrow_mut();
        let mut topics = peer.topics.borrow_mut();
        if places.join(&mut topics, join.topic, join.offset, member) {
            Ok(())
        } else {
            Err(Nonsense("a session in a topic that is not there"))
        }
    }

    pub(super) fn left(&self, peer: &Peer, topic: u32) {
        let mut places = self.places.borrow_mut();
        places.leave(&mut peer.topics.borrow_mut(), topic);
    }

    pub(super) fn acknowledged(&self, peer: &Peer, number: u64) -> Result<(), Nonsense> {
        let mut session = self.session.borrow_mut();
        let was_full = !session.may_read();
        if !session.acknowledged(peer.number, number) {
            return Err(Nonsense("a message is acknowledged that was not sent"));
        }
        if was_full && session.may_read() {
            self.outbox.wake();
        }
        drop(session);
        if was_full {
            self.send_on();
        }
        Ok(())
    }

    pub(super) fn became(&self, peer: &Peer, state: &Bytes) {
        // A copy: it is kept for long, and came as a part of something larger.
        let state = Bytes::copy_from_slice(state);
        self.session.borrow_mut().became(peer.number, state);
    }

    pub(super) fn kept_alive(&self, thread: &Thread, pulse: Option<Rc<Pulse>>) {
        self.liveness.borrow_mut().begin(pulse, Instant::now());
        thread.arm(self);
    }

    /// Whether what comes over this link is for this client.
    pub(super) fn takes_from(&self, link: LinkNumber) -> bool {
        self.session.borrow().takes_from(link)
    }

    // What the client says.

    /// Whether the client is read from now on.
    pub(super) fn listens(self: &Rc<Self>) -> bool {
        let may_read = self.may_read();
        self.is_read.set(may_read);
        may_read
    }

    /// Not while it does not take what it has asked for, not while its worker has more to do for it than may be, and not
    /// while the way there is full, which wakes the client once it is not.
    fn may_read(self: &Rc<Self>) -> bool {
        if self.outbox.is_behind() || !self.session.borrow().may_read() {
            return false;
        }
        let peer = self.peer.borrow();
        peer.as_ref().is_none_or(|peer| peer.has_room_for(self))
    }

    /// A whole message of the client.
    pub(super) fn said(&self, thread: &Thread, payload: Bytes, is_text: bool) {
        if self.is_text.get() && !is_text {
            return self.end(Ending::Binary);
        }
        thread.counts.received(payload.len());
        if self.liveness.borrow_mut().is_answered_by(&payload) {
            return;
        }
        self.session.borrow_mut().said(payload);
        self.send_on();
    }

    /// Sends what the worker can be given.
    fn send_on(&self) {
        let unsent = self.session.borrow_mut().unsent();
        if let Some((link, messages)) = unsent
            && let Some(peer) = &*self.peer.borrow()
            && peer.number == link
        {
            messages.into_iter().for_each(|message| peer.send(message));
        }
    }

    pub(super) fn ponged(&self) {
        self.liveness.borrow_mut().ponged();
    }

    // Time.

    /// Does what is due. Whether something has to be written.
    pub(super) fn tick(&self, now: Instant) -> bool {
        if let Some(since) = self.outbox.stalled_since()
            && now.saturating_duration_since(since) >= self.write_timeout.get()
        {
            self.end(Ending::Stalled);
            return false;
        }
        let mut liveness = self.liveness.borrow_mut();
        if !self.is_read.get() {
            liveness.excuse(now);
        }
        let due = liveness.due(now);
        drop(liveness);
        match due {
            Due::Nothing => false,
            Due::Ping(pulse) => self.outbox.gather(pulse.ping.clone(), false),
            Due::Silent(pulse) => {
                self.end(Ending::Silent(pulse.code, pulse.reason.clone()));
                false
            }
        }
    }

    /// When something may be due next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let stalled = self.outbox.stalled_since();
        let stalled = stalled.and_then(|since| since.checked_add(self.write_timeout.get()));
        let liveness = self.liveness.borrow().next();
        [stalled, liveness].into_iter().flatten().min()
    }

    // The end.

    /// The client is to be told to go. The first reason counts.
    pub(super) fn end(&self, ending: Ending) {
        let before = self.ending.take();
        self.ending.set(before.or_else(|| Some(Box::new(ending))));
        self.outbox.wake();
    }

    /// Why the client is to go, if it is.
    pub(super) fn ending(&self) -> Option<Ending> {
        match self.outbox.fate() {
            Fate::Overflowed => Some(Ending::Slow),
            Fate::Broken => Some(Ending::Gone),
            Fate::Open | Fate::Closing => self.ending.take().map(|ending| *ending),
        }
    }

    /// The worker has ended the session, and need not hear of it.
    pub(super) fn ended(&self, peer: &Peer, close: link::Close) {
        self.session.borrow_mut().close();
        self.leave(peer);
        self.answer.take();
        let code = u16::try_from(close.code).unwrap_or_default();
        self.end(Ending::ByWorker(code, close.reason));
    }

    /// The session is over; its worker hears of it.
    pub(super) fn close(&self, ending: &Ending) {
        self.answer.take();
        let told = self.session.borrow_mut().close();
        let peer = self.peer.borrow().clone();
        if let Some(peer) = peer.filter(|peer| told == Some(peer.number)) {
            peer.send(ending.told(self.number));
            self.leave(&peer);
        }
    }
}

/// Frames that are small are copied: as a part of what was read from the link, they would keep all of it for as long as one
/// slow client has not taken them.
pub(super) fn unpinned(frames: Bytes) -> Bytes {
    const SMALL_BYTES: usize = 16 * 1024;
    if frames.len() <= SMALL_BYTES {
        Bytes::copy_from_slice(&frames)
    } else {
        frames
    }
}
