//! The commands `refresh` and `sub_refresh`: how long the client stays, and its subscriptions.

use flotilla_shared::auth::TokenError;
use flotilla_shared::channel::Channel;
use flotilla_shared::protocol::codes::{DisconnectCode, ErrorCode};
use flotilla_shared::protocol::types::{
    RefreshRequest, RefreshResult, Reply, SubRefreshRequest, SubRefreshResult,
};

use super::connect::VERSION;
use super::{Actions, Expiry, HeldToken, Now, Refused, Session, reply, ttl_of};

impl Session {
    pub(super) fn refresh(
        &mut self,
        id: u32,
        request: &RefreshRequest,
        now: Now,
        actions: &mut Actions,
    ) {
        match self.refreshed(request, now) {
            Ok(result) => actions.push(reply(Reply::refresh(id, result))),
            Err(refused) => self.refuse(id, &refused, actions),
        }
    }

    fn refreshed(&mut self, request: &RefreshRequest, now: Now) -> Result<RefreshResult, Refused> {
        let is_ours = matches!(self.expiry, Expiry::ByServer(_) | Expiry::ByHook(_));
        if request.token.is_empty() || is_ours {
            return Err(DisconnectCode::BadRequest.into());
        }
        let claims = match self
            .policy
            .verifier
            .verify_connection(&request.token, now.unix_seconds)
        {
            Ok(claims) if claims.user == *self.user => claims,
            Err(TokenError::Expired) => return Err(DisconnectCode::ConnectionExpired.into()),
            Err(TokenError::UnknownKey) => return Err(ErrorCode::Internal.into()),
            Ok(_) | Err(_) => return Err(DisconnectCode::InvalidToken.into()),
        };
        self.admit(&claims)?;
        let ttl_seconds = ttl_of(claims.expire_at, now)?;
        self.token = HeldToken::of(&claims);
        self.info = claims.info;
        self.meta = claims.meta;
        self.expiry = self.expiry_after(ttl_seconds, true, now);
        self.is_changed = true;
        Ok(RefreshResult {
            client: self.client.to_string(),
            version: VERSION.to_owned(),
            expires: ttl_seconds.is_some(),
            ttl: ttl_seconds.unwrap_or_default(),
        })
    }

    pub(super) fn sub_refresh(
        &mut self,
        id: u32,
        request: &SubRefreshRequest,
        now: Now,
        actions: &mut Actions,
    ) {
        match self.sub_refreshed(request, now) {
            Ok(result) => actions.push(reply(Reply::sub_refresh(id, result))),
            Err(refused) => self.refuse(id, &refused, actions),
        }
    }

    fn sub_refreshed(
        &mut self,
        request: &SubRefreshRequest,
        now: Now,
    ) -> Result<SubRefreshResult, Refused> {
        if request.token.is_empty() {
            return Err(ErrorCode::BadRequest.into());
        }
        let claims = match self
            .policy
            .verifier
            .verify_subscription(&request.token, now.unix_seconds)
        {
            Ok(claims) => claims,
            Err(TokenError::Expired) => return Err(ErrorCode::TokenExpired.into()),
            Err(TokenError::UnknownKey) => return Err(ErrorCode::Internal.into()),
            Err(_) => return Err(DisconnectCode::InvalidToken.into()),
        };
        // Old Python clients leave the channel out; the token names it too.
        let name = if request.channel.is_empty() {
            &claims.channel
        } else {
            &request.channel
        };
        let channel = Channel::parse(name, self.policy.channel_max_bytes)
            .map_err(|_| ErrorCode::BadRequest)?;
        if self.active(&channel).is_none() {
            return Err(ErrorCode::PermissionDenied.into());
        }
        if !self.is_for_us(&claims, &channel) {
            return Err(DisconnectCode::InvalidToken.into());
        }
        let ttl_seconds = ttl_of(claims.expire_at, now)?;
        let end = self.end_of(self.options(&channel)?, ttl_seconds, true, now);
        let subscription = self
            .find(&channel)
            .and_then(|at| self.subscriptions.get_mut(at))
            .filter(|subscription| subscription.is_refreshed_by_client)
            .ok_or(DisconnectCode::BadRequest)?;
        subscription.info = claims.info;
        subscription.end = end;
        self.is_changed = true;
        Ok(SubRefreshResult {
            expires: ttl_seconds.is_some(),
            ttl: ttl_seconds.unwrap_or_default(),
        })
    }
}
