//! The session of one client: a pure state machine, `(state, event, now) → actions`.
//!
//! Owns: who the client is, which channels it has, and every deadline that concerns it. Never sees a socket, a
//! broker, a clock or an encoding, so the same code serves a WebSocket, an HTTP stream or a link.
//!
//! Whoever drives a session feeds it [`Event`]s, performs the [`Action`]s in their order, and calls it with
//! [`Event::Timer`] at [`Session::next_deadline`]. The rules are those of the Centrifuge client protocol, version 2.

mod connect;
mod publish;
mod subscribe;

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flotilla_shared::auth::ConnectionClaims;
use flotilla_shared::channel::Channel;
use flotilla_shared::protocol::codes::{DisconnectCode, ErrorCode, UnsubscribeCode};
use flotilla_shared::protocol::types::{ClientInfo, Push, Reply, Request};
use smallvec::SmallVec;
use uuid::Uuid;

use crate::policy::Policy;

/// Deadlines further away than this are cut: nobody stays connected for a year.
const TTL_MAX_SECONDS: u64 = 365 * 24 * 3600;

/// The time, as an argument: a session never asks a clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// For deadlines.
    pub(crate) at: Instant,
    /// For the times in tokens: seconds since 1970.
    pub(crate) unix_seconds: u64,
}

/// What can happen to a session.
#[derive(Debug)]
pub(crate) enum Event {
    /// A command of the client; `id` is 0 where the client gave none.
    Request {
        /// What the reply has to carry.
        id: u32,
        /// The command's body.
        request: Request,
    },
    /// The client answered a ping, or says so: in a message, or by the transport's means.
    Pong(Pings),
    /// The client sent what is no command.
    Malformed,
    /// The hub's answer to [`Action::Subscribe`].
    Subscribed {
        /// The channel that was asked for.
        channel: Channel,
        /// Whether the client is a member now.
        result: Result<(), ErrorCode>,
    },
    /// The broker's answer to [`Action::Publish`].
    Published {
        /// The command's id.
        id: u32,
        /// Whether the broker has taken it.
        result: Result<(), ErrorCode>,
    },
    /// A deadline may have passed.
    Timer,
}

/// What a session wants done, in this order.
#[derive(Debug)]
pub(crate) enum Action {
    /// Send this to the client.
    Reply(Box<Reply>),
    /// Send a ping of this kind.
    Ping(Pings),
    /// Make the client a member of the channel and answer with [`Event::Subscribed`]; nothing of the channel may
    /// reach the client before the reply to that event.
    Subscribe(Channel),
    /// End the membership.
    Unsubscribe(Channel),
    /// Hand this to the broker and answer with [`Event::Published`]. The client's next command waits for it, so that
    /// a publisher's order is kept.
    Publish(Box<Publish>),
    /// Disconnect the client. Nothing follows.
    Close(DisconnectCode),
}

/// A publication on its way to the broker.
#[derive(Debug)]
pub(crate) struct Publish {
    /// The command's id.
    pub(crate) id: u32,
    /// Where it goes.
    pub(crate) channel: Channel,
    /// What goes there; its `channel` is empty, since the topic says it.
    pub(crate) push: Push,
}

/// The actions of one event; most events have one.
pub(crate) type Actions = SmallVec<[Action; 2]>;

/// How a client wants to be pinged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pings {
    /// By messages of the client protocol, which the connect result announces.
    #[default]
    Messages,
    /// By whatever the transport has for it, which the client's library answers by itself.
    Transport,
}

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
    expiry: Expiry,
    subscriptions: Vec<Subscription>,
    pings: Pings,
    next_ping: Option<Instant>,
    pong_until: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The connect command has to come first, and soon.
    Awaiting {
        until: Instant,
    },
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
    /// The edge vouched for the client; it comes back with a new voucher.
    ByServer(Instant),
}

#[derive(Debug)]
struct Subscription {
    channel: Channel,
    phase: SubscriptionPhase,
    info: Bytes,
    /// When it ends unless the client refreshes it.
    expires: Option<Instant>,
    /// Whether the client was told that it has to refresh.
    is_refreshed_by_client: bool,
}

#[derive(Debug)]
enum SubscriptionPhase {
    /// The hub has been asked; its answer completes this reply. The client may have unsubscribed meanwhile.
    Opening {
        reply: Box<Reply>,
        unsubscribe: Option<u32>,
    },
    Active,
}

impl Session {
    /// A session that waits for its connect command. `edge` is what a valid passport said of the client.
    pub(crate) fn new(
        policy: Rc<Policy>,
        client: Uuid,
        edge: Option<ConnectionClaims>,
        pings: Pings,
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
            expiry: Expiry::Never,
            subscriptions: Vec::new(),
            pings,
            next_ping: None,
            pong_until: None,
        }
    }

    /// Takes one event and appends what is to be done.
    pub(crate) fn handle(&mut self, event: Event, now: Now, actions: &mut Actions) {
        match event {
            _ if self.state == State::Closed => {}
            Event::Request { id, request } => self.request(id, request, now, actions),
            Event::Pong(kind) => self.pong(kind, actions),
            Event::Malformed => self.close(DisconnectCode::BadRequest, actions),
            Event::Subscribed { channel, result } => self.subscribed(&channel, result, actions),
            Event::Published { id, result } => actions.push(match result {
                Ok(()) => reply(Reply::publish(id)),
                Err(code) => error(id, code),
            }),
            Event::Timer => self.timer(now, actions),
        }
    }

    /// The client's channels, for whoever has to take it out of them when it is gone.
    pub(crate) fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.subscriptions
            .iter()
            .map(|subscription| &subscription.channel)
    }

    /// Whether the connect command has succeeded.
    pub(crate) fn is_connected(&self) -> bool {
        self.state == State::Connected
    }

    /// When [`Event::Timer`] is due; `None`: never.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let state = match self.state {
            State::Closed => return None,
            State::Awaiting { until } | State::Refused { until } => return Some(until),
            State::Connected => None,
        };
        let expiry = match self.expiry {
            Expiry::Never => None,
            Expiry::ByClient(at) | Expiry::ByServer(at) => Some(at),
        };
        let subscriptions = self
            .subscriptions
            .iter()
            .filter_map(|subscription| subscription.expires)
            .min();
        [
            state,
            expiry,
            subscriptions,
            self.next_ping,
            self.pong_until,
        ]
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
        match request {
            Request::Connect(request) if !self.is_connected() => {
                self.connect(id, &request, now, actions)
            }
            Request::Subscribe(request) => self.subscribe(id, &request, now, actions),
            Request::Unsubscribe(request) => self.unsubscribe(id, &request, actions),
            Request::Publish(request) => self.publish(id, request, actions),
            Request::Refresh(request) => self.refresh(id, &request, now, actions),
            Request::SubRefresh(request) => self.sub_refresh(id, &request, now, actions),
            Request::Rpc(_)
            | Request::Presence(_)
            | Request::PresenceStats(_)
            | Request::History(_) => {
                actions.push(error(id, ErrorCode::NotAvailable));
            }
            Request::Send(_) => self.close(DisconnectCode::NotAvailable, actions),
            Request::Connect(_) | Request::Ping(_) => {
                self.close(DisconnectCode::BadRequest, actions)
            }
        }
    }

    fn pong(&mut self, kind: Pings, actions: &mut Actions) {
        match (kind, self.pings) {
            (Pings::Transport, Pings::Transport) => self.pong_until = None,
            // A transport may allow answers that nobody asked for (RFC 6455 §5.5.3).
            (Pings::Transport, Pings::Messages) => {}
            // In the client protocol only an answer that was asked for counts; anything else is a client that does not
            // speak it.
            (Pings::Messages, Pings::Messages) if self.pong_until.take().is_some() => {}
            (Pings::Messages, _) => self.close(DisconnectCode::BadRequest, actions),
        }
    }

    fn timer(&mut self, now: Now, actions: &mut Actions) {
        let passed = |at: Instant| at <= now.at;
        match self.state {
            State::Awaiting { until } | State::Refused { until } => {
                if passed(until) {
                    self.close(DisconnectCode::Stale, actions);
                }
                return;
            }
            State::Connected => {}
            State::Closed => return,
        }
        if self.pong_until.is_some_and(passed) {
            return self.close(DisconnectCode::NoPong, actions);
        }
        match self.expiry {
            Expiry::ByClient(at) | Expiry::ByServer(at) if passed(at) => {
                return self.close(DisconnectCode::ConnectionExpired, actions);
            }
            _ => {}
        }
        self.expire_subscriptions(now, actions);
        if self.next_ping.is_some_and(passed) {
            self.next_ping = Some(now.at + self.policy.client.ping_interval);
            self.pong_until = Some(now.at + self.policy.client.pong_timeout);
            actions.push(Action::Ping(self.pings));
        }
    }

    fn expire_subscriptions(&mut self, now: Now, actions: &mut Actions) {
        self.subscriptions.retain(|subscription| {
            let active = matches!(subscription.phase, SubscriptionPhase::Active);
            if !active || subscription.expires.is_none_or(|at| at > now.at) {
                return true;
            }
            let push = Push::unsubscribe(
                subscription.channel.as_str(),
                UnsubscribeCode::SubscriptionExpired,
            );
            actions.push(Action::Unsubscribe(subscription.channel.clone()));
            actions.push(reply(Reply::push(push)));
            false
        });
    }

    fn close(&mut self, code: DisconnectCode, actions: &mut Actions) {
        self.state = State::Closed;
        actions.push(Action::Close(code));
    }

    fn client_info(&self, channel_info: Bytes) -> ClientInfo {
        ClientInfo {
            user: self.user.to_string(),
            client: self.client.to_string(),
            conn_info: self.info.clone(),
            chan_info: channel_info,
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
