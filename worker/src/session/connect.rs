//! The commands `connect` and `refresh`: who the client is, and for how long.

use std::time::Duration;

use flotilla_shared::auth::{ConnectionClaims, TokenError};
use flotilla_shared::protocol::codes::{DisconnectCode, ErrorCode};
use flotilla_shared::protocol::types::{
    ConnectRequest, ConnectResult, RefreshRequest, RefreshResult, Reply,
};

use super::{Actions, Expiry, Now, Pings, Session, State, after, error, reply, ttl};

/// How the server presents itself in connect and refresh results.
const VERSION: &str = concat!("Flotilla ", env!("CARGO_PKG_VERSION"));

/// A connect command that is not granted.
enum Refused {
    /// An error reply; the client decides what to do.
    Error(ErrorCode),
    Disconnect(DisconnectCode),
}

impl Session {
    pub(super) fn connect(
        &mut self,
        id: u32,
        request: &ConnectRequest,
        now: Now,
        actions: &mut Actions,
    ) {
        let granted = self.identify(request, now).and_then(|(claims, by_client)| {
            let ttl_seconds = match claims.expire_at {
                None => None,
                Some(at) => Some(ttl(at, now).ok_or(Refused::Error(ErrorCode::Expired))?),
            };
            Ok((claims, by_client, ttl_seconds))
        });
        match granted {
            Ok((claims, by_client, ttl_seconds)) => {
                self.user = claims.user.into_boxed_str();
                self.info = claims.info;
                self.expiry = self.expiry_after(ttl_seconds, by_client, now);
                self.state = State::Connected;
                self.start_pings(now);
                let told_ttl = ttl_seconds.filter(|_| by_client);
                actions.push(reply(Reply::connect(id, self.connect_result(told_ttl))));
            }
            Err(Refused::Error(code)) => {
                let until = now.at + self.policy.client.stale_close_delay;
                self.state = State::Refused { until };
                actions.push(error(id, code));
            }
            Err(Refused::Disconnect(code)) => self.close(code, actions),
        }
    }

    /// Who the client is, and whether it refreshes that itself.
    ///
    /// A token in the command decides. Where the edge vouched for a user as well, the two have to agree, so that
    /// nobody continues under another name than the one that was admitted.
    fn identify(
        &mut self,
        request: &ConnectRequest,
        now: Now,
    ) -> Result<(ConnectionClaims, bool), Refused> {
        let edge = self.edge.take();
        if request.token.is_empty() {
            return match edge {
                Some(claims) => Ok((*claims, false)),
                None if self.policy.client.allow_anonymous_connect_without_token => {
                    Ok((ConnectionClaims::default(), false))
                }
                None => Err(Refused::Disconnect(DisconnectCode::BadRequest)),
            };
        }
        let claims = match self
            .policy
            .verifier
            .verify_connection(&request.token, now.unix_seconds)
        {
            Ok(claims) => claims,
            Err(TokenError::Expired) => return Err(Refused::Error(ErrorCode::TokenExpired)),
            // Temporary: the key is being fetched.
            Err(TokenError::UnknownKey) => return Err(Refused::Error(ErrorCode::Internal)),
            Err(_) => return Err(Refused::Disconnect(DisconnectCode::InvalidToken)),
        };
        if edge.is_some_and(|edge| edge.user != claims.user) {
            return Err(Refused::Disconnect(DisconnectCode::InvalidToken));
        }
        if claims.user.is_empty() && self.policy.client.disallow_anonymous_connection_tokens {
            return Err(Refused::Disconnect(DisconnectCode::PermissionDenied));
        }
        Ok((claims, true))
    }

    fn expiry_after(&self, ttl_seconds: Option<u32>, by_client: bool, now: Now) -> Expiry {
        match ttl_seconds {
            None => Expiry::Never,
            Some(seconds) if by_client => {
                Expiry::ByClient(after(now, seconds, self.policy.client.expired_close_delay))
            }
            Some(seconds) => Expiry::ByServer(after(now, seconds, Duration::ZERO)),
        }
    }

    /// The first ping comes at a random point of the interval's second half, so that clients that came together are
    /// not pinged together for ever.
    fn start_pings(&mut self, now: Now) {
        let interval = self.policy.client.ping_interval;
        if interval.is_zero() {
            return;
        }
        // The client id is random; its low bits serve as the jitter.
        let fraction = f64::from(self.client.as_u128() as u16) / f64::from(u16::MAX);
        self.next_ping = Some(now.at + interval.mul_f64(0.5 + fraction / 2.0));
    }

    fn connect_result(&self, ttl_seconds: Option<u32>) -> ConnectResult {
        let options = &self.policy.client;
        // Nothing is said of pings that are not the client's business.
        let ping_interval = match self.pings {
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
            pong: ping_seconds > 0,
            node: if options.expose_node {
                self.policy.node.clone()
            } else {
                String::new()
            },
            ..ConnectResult::default()
        }
    }

    pub(super) fn refresh(
        &mut self,
        id: u32,
        request: &RefreshRequest,
        now: Now,
        actions: &mut Actions,
    ) {
        if request.token.is_empty() || matches!(self.expiry, Expiry::ByServer(_)) {
            return self.close(DisconnectCode::BadRequest, actions);
        }
        let claims = match self
            .policy
            .verifier
            .verify_connection(&request.token, now.unix_seconds)
        {
            Ok(claims) if claims.user == *self.user => claims,
            Err(TokenError::Expired) => {
                return self.close(DisconnectCode::ConnectionExpired, actions);
            }
            Err(TokenError::UnknownKey) => return actions.push(error(id, ErrorCode::Internal)),
            Ok(_) | Err(_) => return self.close(DisconnectCode::InvalidToken, actions),
        };
        let ttl_seconds = match claims.expire_at.map(|at| ttl(at, now)) {
            None => None,
            Some(Some(seconds)) => Some(seconds),
            Some(None) => return actions.push(error(id, ErrorCode::Expired)),
        };
        self.info = claims.info;
        self.expiry = self.expiry_after(ttl_seconds, true, now);
        let result = RefreshResult {
            client: self.client.to_string(),
            version: VERSION.to_owned(),
            expires: ttl_seconds.is_some(),
            ttl: ttl_seconds.unwrap_or_default(),
        };
        actions.push(reply(Reply::refresh(id, result)));
    }
}
