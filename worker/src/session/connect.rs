//! The command `connect`: who the client is, and what it begins with.

use std::time::{Duration, Instant};

use bytes::Bytes;
use flotilla_shared::auth::{ConnectionClaims, TokenError};
use flotilla_shared::protocol::codes::{DisconnectCode, ErrorCode};
use flotilla_shared::protocol::types::{ConnectRequest, ConnectResult, Reply};

use super::{
    Action, Actions, Expiry, HeldToken, Now, Pings, Refused, Session, State, after, reply, ttl_of,
};
use crate::rates::Limit;
use crate::user_capacity::TooMany;

/// How the server presents itself in connect and refresh results.
pub(super) const VERSION: &str = concat!("Flotilla ", env!("CARGO_PKG_VERSION"));

/// A connect command whose reply waits for the channels that come with it.
#[derive(Debug)]
pub(super) struct Connecting {
    pub(super) id: u32,
    pub(super) until: Instant,
    /// Completed channel by channel.
    pub(super) result: ConnectResult,
    /// Channels that are not there yet.
    pub(super) pending: usize,
}

/// Who a client is.
#[derive(Default)]
pub(super) struct Identity {
    pub(super) claims: ConnectionClaims,
    /// The client refreshes that itself.
    pub(super) by_client: bool,
    /// Goes to the client in the connect result.
    pub(super) data: Bytes,
}

impl Session {
    pub(super) fn connect(
        &mut self,
        id: u32,
        request: ConnectRequest,
        now: Now,
        actions: &mut Actions,
    ) {
        if self.is_unknown(&request) {
            return self.ask_who(id, request, actions);
        }
        let identity = self.identify(&request, now);
        self.connect_as(id, &request, identity, now, actions);
    }

    /// Goes on as whom the client is.
    pub(super) fn connect_as(
        &mut self,
        id: u32,
        request: &ConnectRequest,
        identity: Result<Identity, Refused>,
        now: Now,
        actions: &mut Actions,
    ) {
        let welcomed =
            identity.and_then(|identity| self.welcome(id, request, identity, now, actions));
        if let Err(refused) = welcomed {
            self.refuse_connect(id, &refused, now, actions);
        }
    }

    pub(super) fn refuse_connect(
        &mut self,
        id: u32,
        refused: &Refused,
        now: Now,
        actions: &mut Actions,
    ) {
        for subscription in std::mem::take(&mut self.subscriptions) {
            actions.push(Action::Unsubscribe(subscription.channel));
        }
        self.make_room();
        if self.transport.is_one_way
            && let Some(code) = farewell(refused)
        {
            return self.close(code, actions);
        }
        let until = now.at + self.policy.client.stale_close_delay;
        self.state = State::Refused { until };
        self.refuse(id, refused, actions);
    }

    /// Who the client is, and whether it refreshes that itself.
    ///
    /// A token in the command decides. Where the edge vouched for a user as well, the two have to agree, so that
    /// nobody continues under another name than the one that was admitted.
    fn identify(&mut self, request: &ConnectRequest, now: Now) -> Result<Identity, Refused> {
        let edge = self.edge.take();
        if request.token.is_empty() {
            return match edge {
                Some(claims) => Ok(Identity {
                    claims: *claims,
                    ..Identity::default()
                }),
                None => self.identify_nobody(),
            };
        }
        let claims = match self
            .policy
            .verifier
            .verify_connection(&request.token, now.unix_seconds)
        {
            Ok(claims) => claims,
            Err(TokenError::Expired) => return Err(ErrorCode::TokenExpired.into()),
            // Temporary: the key is being fetched.
            Err(TokenError::UnknownKey) => return Err(ErrorCode::Internal.into()),
            Err(_) => return Err(DisconnectCode::InvalidToken.into()),
        };
        if edge.is_some_and(|edge| edge.user != claims.user) {
            return Err(DisconnectCode::InvalidToken.into());
        }
        if claims.user.is_empty() && self.policy.client.disallow_anonymous_connection_tokens {
            return Err(DisconnectCode::PermissionDenied.into());
        }
        Ok(Identity {
            claims,
            by_client: true,
            ..Identity::default()
        })
    }

    /// Nobody vouches for the client: it is the anonymous user, where there may be one.
    pub(super) fn identify_nobody(&self) -> Result<Identity, Refused> {
        let options = &self.policy.client;
        if options.allow_anonymous_connect_without_token || options.insecure {
            Ok(Identity::default())
        } else {
            Err(DisconnectCode::BadRequest.into())
        }
    }

    /// Takes the client in, at once or when its channels are there.
    fn welcome(
        &mut self,
        id: u32,
        request: &ConnectRequest,
        identity: Identity,
        now: Now,
        actions: &mut Actions,
    ) -> Result<(), Refused> {
        let Identity {
            claims,
            by_client,
            data,
        } = identity;
        let ttl_seconds = ttl_of(claims.expire_at, now)?;
        self.admit(&claims)?;
        self.take_place(&claims.user, actions)?;
        self.token = HeldToken::of(&claims);
        self.user = claims.user.as_str().into();
        let channels = self.channels_to_begin_with(&claims, request)?;
        self.info = claims.info;
        self.meta = claims.meta;
        // Who only listens cannot refresh.
        let is_refreshed = by_client && !self.transport.is_one_way;
        self.expiry = self.expiry_after(ttl_seconds, is_refreshed, now);
        let result = ConnectResult {
            data,
            ..self.connect_result(ttl_seconds.filter(|_| by_client))
        };
        self.state = State::Connecting(Box::new(Connecting {
            id,
            until: now.at + self.policy.client.stale_close_delay,
            result,
            pending: channels.len(),
        }));
        for (channel, grant) in channels {
            let recovery = request.subs.get(channel.as_str());
            self.begin_with(channel, grant, recovery, now, actions)?;
        }
        self.connect_if_complete(now, actions);
        Ok(())
    }

    /// One more connection of its user, if it may have one more.
    fn take_place(&mut self, user: &str, actions: &mut Actions) -> Result<(), Refused> {
        let permit = self.policy.user_capacity.take(user);
        self.permit = permit.map_err(|TooMany| {
            actions.push(Action::Limited(Limit::UserConnections));
            DisconnectCode::ConnectionLimit
        })?;
        Ok(())
    }

    /// Answers the connect command once every channel is there.
    pub(super) fn connect_if_complete(&mut self, now: Now, actions: &mut Actions) {
        let State::Connecting(connecting) = &mut self.state else {
            return;
        };
        if connecting.pending > 0 {
            return;
        }
        let result = std::mem::take(&mut connecting.result);
        let id = connecting.id;
        self.state = State::Connected;
        self.is_changed = true;
        self.start_pings(now);
        actions.push(reply(Reply::connect(id, result)));
        let joins: Vec<_> = self
            .subscriptions
            .iter()
            .map(|own| self.join(own, None))
            .collect();
        actions.extend(joins.into_iter().flatten());
    }

    pub(super) fn expiry_after(
        &self,
        ttl_seconds: Option<u32>,
        by_client: bool,
        now: Now,
    ) -> Expiry {
        match ttl_seconds {
            None => Expiry::Never,
            Some(seconds) if by_client => {
                Expiry::ByClient(after(now, seconds, self.policy.client.expired_close_delay))
            }
            Some(seconds) if self.policy.hooks.refresh => {
                Expiry::ByHook(self.renewal(seconds, now))
            }
            Some(seconds) => Expiry::ByServer(after(now, seconds, Duration::ZERO)),
        }
    }

    /// The first ping comes at a random point of the interval's second half, so that clients that came together are
    /// not pinged together for ever.
    pub(super) fn start_pings(&mut self, now: Now) {
        let interval = self.policy.client.ping_interval;
        if interval.is_zero() || self.transport.is_kept_alive {
            return;
        }
        // The client id is random; its low bits serve as the jitter.
        let fraction = f64::from(self.client.as_u128() as u16) / f64::from(u16::MAX);
        self.next_ping = Some(now.at + interval.mul_f64(0.5 + fraction / 2.0));
    }

    fn connect_result(&self, ttl_seconds: Option<u32>) -> ConnectResult {
        let options = &self.policy.client;
        // Nothing is said of pings that are not the client's business.
        let ping_interval = match self.transport.pings {
            Pings::Messages => options.ping_interval,
            Pings::Transport => Duration::ZERO,
        };
        let ping_seconds = ping_interval
            .as_secs()
            .max(u64::from(!ping_interval.is_zero()));
        ConnectResult {
            client: self.client.to_string(),
            version: VERSION.to_owned(),
            expires: ttl_seconds.is_some(),
            ttl: ttl_seconds.unwrap_or_default(),
            ping: u32::try_from(ping_seconds).unwrap_or(u32::MAX),
            pong: ping_seconds > 0 && self.transport.has_pongs(),
            session: self
                .transport
                .session
                .as_deref()
                .unwrap_or_default()
                .to_owned(),
            node: if options.expose_node || self.transport.session.is_some() {
                self.policy.node.clone()
            } else {
                String::new()
            },
            ..ConnectResult::default()
        }
    }
}

/// Why the connection of a client ends that cannot be told of an error, since it only listens; `None`: it is told by the
/// end already.
fn farewell(refused: &Refused) -> Option<DisconnectCode> {
    match refused {
        Refused::Error(ErrorCode::TokenExpired | ErrorCode::Expired) => {
            Some(DisconnectCode::ConnectionExpired)
        }
        Refused::Error(_) => Some(DisconnectCode::Internal),
        Refused::Told(error) if error.temporary => Some(DisconnectCode::Internal),
        Refused::Told(_) => Some(DisconnectCode::PermissionDenied),
        Refused::Disconnect(_) | Refused::Dismissed(_) => None,
    }
}
