//! The session of one client: a pure state machine, `(state, event, now) → actions`.
//!
//! Owns: who the client is, which channels it has, and every deadline that concerns it. Never sees a socket, a
//! broker, a clock or an encoding, so the same code serves a WebSocket, an HTTP stream or a link.
//!
//! Whoever drives a session feeds it [`Event`]s, performs the [`Action`]s in their order, and calls it with
//! [`Event::Timer`] at [`Session::next_deadline`]. The rules are those of the Centrifuge client protocol, version 2.

mod appearance;
mod ask;
mod command;
mod connect;
mod credentials;
mod event;
mod lookup;
mod message;
mod permission;
mod publish;
mod rates;
mod refresh;
mod restore;
mod server_side;
mod snapshot;
mod subscribe;
mod subscription;
mod transport;

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flotilla_shared::auth::ConnectionClaims;
use flotilla_shared::protocol::codes::{DisconnectCode, ErrorCode, UnsubscribeCode};
use flotilla_shared::protocol::types::{Error, Reply, Request};
use uuid::Uuid;

use crate::closing::Goodbye;
use crate::policy::Policy;
use crate::rates::Buckets;
use crate::user_capacity::UserPermit;

use ask::Renewal;
use connect::Connecting;
use credentials::HeldToken;
use message::Said;
use subscription::{End, Subscription};

pub(crate) use ask::{About, Answered, Ask};
pub(crate) use event::{
    Action, Actions, Event, LookUp, Now, Pings, Publish, ServerCommand, ServerRefresh,
    ServerSubscribe, Subject,
};
pub(crate) use restore::Origin;
pub(crate) use restore::Restored;
pub(crate) use snapshot::{Snapshot, Writer};
pub(crate) use transport::Transport;

/// Deadlines further away than this are cut: nobody stays connected for a year.
const TTL_MAX_SECONDS: u64 = 365 * 24 * 3600;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Session {
    policy: Rc<Policy>,
    state: State,
    client: Uuid,
    /// What the edge vouched for, until the connect command.
    edge: Option<Box<ConnectionClaims>>,
    user: Box<str>,
    info: Bytes,
    /// What its token can be told by, if it can.
    token: Option<Box<HeldToken>>,
    /// What the application said of the client, for its own eyes only.
    meta: Bytes,
    expiry: Expiry,
    subscriptions: Vec<Subscription>,
    /// Questions of the client that are not answered yet.
    look_ups: u16,
    /// Calls of the client that are not answered yet.
    rpcs: u16,
    transport: Transport,
    next_ping: Option<Instant>,
    pong_until: Option<Instant>,
    buckets: Buckets,
    /// Among the connections of its user, while these are limited.
    permit: Option<UserPermit>,
    /// Pings that are not answered yet. More than one only while the client is not read.
    pongs_due: u16,
    /// Nobody reads what the client says, so that it cannot be blamed for saying nothing.
    is_held_up: bool,
    /// Something has changed that is in a snapshot.
    is_changed: bool,
    /// How often it has been attached to a worker, this time included; 0: it is not on a link.
    generation: u32,
    /// Where it was before, until all its channels are open again here.
    origin: Option<Box<Origin>>,
    /// The message that is being handled, if it is on a link.
    said: Option<Said>,
}

#[derive(Debug)]
enum State {
    /// The connect command has to come first, and soon.
    Awaiting {
        until: Instant,
    },
    /// The back end is asked who it is. It has its time for that.
    Identifying,
    /// The connect command is granted; its reply waits for the channels that come with it.
    Connecting(Box<Connecting>),
    Connected,
    /// The connect command was answered with an error; the client is expected to go.
    Refused {
        until: Instant,
    },
    Closed,
}

/// When the connection ends unless it is refreshed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expiry {
    Never,
    /// The client refreshes; the instant includes the time it has for that.
    ByClient(Instant),
    /// The edge or the back end vouched for the client; it comes back to be vouched for again.
    ByServer(Instant),
    /// The back end is asked whether it goes on.
    ByHook(Renewal),
}

/// A command that is not granted.
#[derive(Debug)]
enum Refused {
    /// An error reply; the client decides what to do.
    Error(ErrorCode),
    Disconnect(DisconnectCode),
    /// An error reply in the application's words.
    Told(Error),
    /// A disconnect in the application's words.
    Dismissed(Goodbye),
}

impl From<ErrorCode> for Refused {
    fn from(code: ErrorCode) -> Self {
        Self::Error(code)
    }
}

impl From<DisconnectCode> for Refused {
    fn from(code: DisconnectCode) -> Self {
        Self::Disconnect(code)
    }
}

impl Session {
    /// A session that waits for its connect command. `edge` is what a valid passport said of the client.
    pub(crate) fn new(
        policy: Rc<Policy>,
        client: Uuid,
        edge: Option<ConnectionClaims>,
        transport: Transport,
        now: Now,
    ) -> Self {
        let until = now.at + policy.client.stale_close_delay;
        Self {
            policy,
            state: State::Awaiting { until },
            client,
            edge: edge.map(Box::new),
            user: Box::default(),
            info: Bytes::new(),
            token: None,
            meta: Bytes::new(),
            expiry: Expiry::Never,
            subscriptions: Vec::new(),
            look_ups: 0,
            rpcs: 0,
            transport,
            next_ping: None,
            pong_until: None,
            buckets: Buckets::default(),
            permit: None,
            pongs_due: 0,
            is_held_up: false,
            is_changed: false,
            generation: 0,
            origin: None,
            said: None,
        }
    }

    /// By what requests find it that do not come over its connection, where there are any.
    pub(crate) fn session(&self) -> Option<&str> {
        self.transport.session.as_deref()
    }

    /// How its client is pinged.
    pub(crate) fn pings(&self) -> Pings {
        self.transport.pings
    }

    /// Adds a subscription. Most clients have one, for which a vector's first growth would make room for four.
    fn keep(&mut self, subscription: Subscription) {
        if self.subscriptions.is_empty() {
            self.subscriptions.reserve_exact(1);
        }
        self.subscriptions.push(subscription);
    }

    /// From now on nobody reads what the client says.
    pub(crate) fn hold_up(&mut self) {
        self.is_held_up = true;
    }

    /// The client is read again, and has its whole time to answer.
    pub(crate) fn go_on(&mut self, now: Instant) {
        self.is_held_up = false;
        if self.pong_until.is_some() {
            self.pong_until = Some(now + self.policy.client.pong_timeout);
        }
    }

    /// Takes one event and appends what is to be done.
    pub(crate) fn handle(&mut self, event: Event, now: Now, actions: &mut Actions) {
        match event {
            _ if matches!(self.state, State::Closed) => {}
            Event::Request { id, request } => self.request(id, request, now, actions),
            Event::Pong(kind) => self.pong(kind, actions),
            Event::Malformed => self.close(DisconnectCode::BadRequest, actions),
            Event::Subscribed { channel, result } => {
                self.subscribed(&channel, result, now, actions)
            }
            Event::Insufficient(channel) => self.insufficient(&channel, actions),
            Event::Published { id, result } => actions.push(match result {
                Ok(()) => reply(Reply::publish(id)),
                Err(code) => error(id, code),
            }),
            Event::Found(found) => self.found(found, actions),
            Event::Command(command) => self.command(command, now, actions),
            Event::Answered(answered) => self.answered(*answered, now, actions),
            Event::Timer => self.timer(now, actions),
        }
        self.count_errors(now, actions);
    }

    /// The client is gone, and its user may have another connection for this one.
    pub(crate) fn make_room(&mut self) {
        self.permit = None;
    }

    /// Whether the connect command has succeeded.
    pub(crate) fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected)
    }

    /// Whether its connect command is being answered.
    pub(crate) fn is_connecting(&self) -> bool {
        matches!(self.state, State::Identifying | State::Connecting(_))
    }

    /// Whether the client's next command has to wait: its connect command is not answered yet; or it leaves a channel
    /// that it is not in yet, and may mean to come back to it; or it is about to get what it has missed in a channel,
    /// which may be much, before it asks for the next one; or it has been at another worker, and is not back in its
    /// channels yet.
    pub(crate) fn is_settling(&self) -> bool {
        let is_settling = |own: &Subscription| own.is_leaving() || own.is_recovering();
        self.is_connecting() || self.origin.is_some() || self.subscriptions.iter().any(is_settling)
    }

    /// When [`Event::Timer`] is due; `None`: never.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Closed | State::Identifying => return None,
            State::Awaiting { until } | State::Refused { until } => return Some(*until),
            State::Connecting(connecting) => return Some(connecting.until),
            State::Connected => {}
        }
        let expiry = match self.expiry {
            Expiry::Never => None,
            Expiry::ByClient(at) | Expiry::ByServer(at) => Some(at),
            Expiry::ByHook(renewal) => renewal.ask_at(),
        };
        let subscriptions = self
            .subscriptions
            .iter()
            .filter_map(Subscription::deadline)
            .min();
        [expiry, subscriptions, self.next_ping, self.pong_until]
            .into_iter()
            .flatten()
            .min()
    }

    fn request(&mut self, id: u32, request: Request, now: Now, actions: &mut Actions) {
        let needs_id = !matches!(request, Request::Send(_));
        match (&self.state, &request) {
            _ if needs_id && id == 0 => return self.close(DisconnectCode::BadRequest, actions),
            (State::Awaiting { .. }, Request::Connect(_)) | (State::Connected, _) => {}
            _ => return self.close(DisconnectCode::BadRequest, actions),
        }
        if self.is_too_soon(id, &request, now, actions) {
            return;
        }
        match request {
            Request::Connect(request) if !self.is_connected() => {
                self.connect(id, request, now, actions)
            }
            Request::Connect(request) if self.is_repeat() => {
                self.connect_again(id, request, now, actions);
            }
            Request::Subscribe(request) => self.subscribe(id, request, now, actions),
            Request::Unsubscribe(request) => self.unsubscribe(id, &request, actions),
            Request::Publish(request) => self.publish(id, request, actions),
            Request::Refresh(request) => self.refresh(id, &request, now, actions),
            Request::SubRefresh(request) => self.sub_refresh(id, &request, now, actions),
            Request::Presence(request) => self.presence(id, &request.channel, actions),
            Request::PresenceStats(request) => self.presence_stats(id, &request.channel, actions),
            Request::History(request) => self.history(id, &request, actions),
            Request::Rpc(request) => self.rpc(id, request, actions),
            Request::Send(_) => self.close(DisconnectCode::NotAvailable, actions),
            Request::Connect(_) | Request::Ping(_) => {
                self.close(DisconnectCode::BadRequest, actions)
            }
        }
    }

    fn pong(&mut self, kind: Pings, actions: &mut Actions) {
        match (kind, self.transport.pings) {
            (Pings::Transport, Pings::Transport) => {
                self.pong_until = None;
                self.pongs_due = 0;
            }
            // A transport may allow answers that nobody asked for (RFC 6455 §5.5.3).
            (Pings::Transport, Pings::Messages) => {}
            // In the client protocol only an answer that was asked for counts; anything else is a client that does not
            // speak it.
            // It came with something else: the gateway keeps those to itself that come alone.
            (Pings::Messages, Pings::Messages)
                if self.transport.is_kept_alive && self.is_connected() => {}
            (Pings::Messages, Pings::Messages) if self.pongs_due > 0 => {
                self.pongs_due -= 1;
                if self.pongs_due == 0 {
                    self.pong_until = None;
                }
            }
            (Pings::Messages, _) => self.close(DisconnectCode::BadRequest, actions),
        }
    }

    fn timer(&mut self, now: Now, actions: &mut Actions) {
        let passed = |at: Instant| at <= now.at;
        match &self.state {
            State::Awaiting { until } | State::Refused { until } => {
                if passed(*until) {
                    self.close(DisconnectCode::Stale, actions);
                }
                return;
            }
            State::Connecting(connecting) => {
                if passed(connecting.until) {
                    self.close(DisconnectCode::Internal, actions);
                }
                return;
            }
            State::Connected => {}
            State::Identifying | State::Closed => return,
        }
        if self.pong_until.is_some_and(passed) {
            if !self.is_held_up && !self.is_settling() {
                return self.close(DisconnectCode::NoPong, actions);
            }
            // The answer may be there, unread.
            self.pong_until = Some(now.at + self.policy.client.pong_timeout);
        }
        match self.expiry {
            Expiry::ByClient(at) | Expiry::ByServer(at) if passed(at) => {
                return self.close(DisconnectCode::ConnectionExpired, actions);
            }
            _ => {}
        }
        self.ask_to_go_on(now, actions);
        self.expire_subscriptions(now, actions);
        self.reopen_again(now, actions);
        if self.next_ping.is_some_and(passed) {
            self.next_ping = Some(now.at + self.policy.client.ping_interval);
            if self.transport.has_pongs() {
                self.pong_until = Some(now.at + self.policy.client.pong_timeout);
                self.pongs_due = self.pongs_due.saturating_add(1);
            }
            actions.push(Action::Ping(self.transport.pings));
        }
    }

    fn expire_subscriptions(&mut self, now: Now, actions: &mut Actions) {
        let is_over = |subscription: &Subscription| {
            subscription.is_active() && matches!(subscription.end, End::At(at) if at <= now.at)
        };
        while let Some(at) = self.subscriptions.iter().position(is_over) {
            if self.ends_with(at, UnsubscribeCode::SubscriptionExpired, actions) {
                return;
            }
        }
        self.ask_to_stay(now, actions);
    }

    fn close(&mut self, code: DisconnectCode, actions: &mut Actions) {
        self.state = State::Closed;
        actions.push(Action::Close(code));
    }

    fn dismiss(&mut self, goodbye: Goodbye, actions: &mut Actions) {
        self.state = State::Closed;
        actions.push(Action::Dismiss(goodbye));
    }

    fn refuse(&mut self, id: u32, refused: &Refused, actions: &mut Actions) {
        match refused {
            Refused::Error(code) => actions.push(error(id, *code)),
            Refused::Disconnect(code) => self.close(*code, actions),
            Refused::Told(error) => actions.push(reply(Reply::error(id, error.clone()))),
            Refused::Dismissed(goodbye) => self.dismiss(goodbye.clone(), actions),
        }
    }
}

/// Seconds until `expire_at`, cut to a year; `None` when that has passed.
fn ttl(expire_at: u64, now: Now) -> Option<u32> {
    let seconds = expire_at
        .checked_sub(now.unix_seconds)
        .filter(|seconds| *seconds > 0)?;
    u32::try_from(seconds.min(TTL_MAX_SECONDS)).ok()
}

/// The same for what may never expire; [`ErrorCode::Expired`] when it has.
fn ttl_of(expire_at: Option<u64>, now: Now) -> Result<Option<u32>, ErrorCode> {
    expire_at
        .map(|at| ttl(at, now).ok_or(ErrorCode::Expired))
        .transpose()
}

fn after(now: Now, ttl_seconds: u32, grace: Duration) -> Instant {
    now.at + Duration::from_secs(u64::from(ttl_seconds)) + grace
}

fn reply(reply: Reply) -> Action {
    Action::Reply(Box::new(reply))
}

fn error(id: u32, code: ErrorCode) -> Action {
    reply(Reply::error(id, code))
}

#[cfg(test)]
mod tests;
