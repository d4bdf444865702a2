//! The commands `subscribe`, `unsubscribe` and `sub_refresh`: which channels the client has, and for how long.

use bytes::Bytes;
use flotilla_shared::auth::{SubscriptionClaims, TokenError};
use flotilla_shared::channel::{Channel, ChannelError};
use flotilla_shared::protocol::codes::{DisconnectCode, ErrorCode};
use flotilla_shared::protocol::types::{
    Reply, SubRefreshRequest, SubRefreshResult, SubscribeRequest, SubscribeResult,
    UnsubscribeRequest,
};

use super::{
    Action, Actions, Now, Session, Subscription, SubscriptionPhase, after, error, reply, ttl,
};

/// The one delta encoding of the protocol; asking for another one is a mistake of the client.
const DELTA_FOSSIL: &str = "fossil";

/// A subscription that is not granted.
enum Refused {
    Error(ErrorCode),
    Disconnect(DisconnectCode),
}

impl From<ErrorCode> for Refused {
    fn from(code: ErrorCode) -> Self {
        Self::Error(code)
    }
}

/// What a granted subscription comes with.
#[derive(Default)]
struct Grant {
    info: Bytes,
    data: Bytes,
    /// Set when the client has to refresh.
    ttl_seconds: Option<u32>,
}

impl Session {
    pub(super) fn subscribe(
        &mut self,
        id: u32,
        request: &SubscribeRequest,
        now: Now,
        actions: &mut Actions,
    ) {
        match self.grant(request, now) {
            Ok((channel, grant)) => {
                let result = SubscribeResult {
                    expires: grant.ttl_seconds.is_some(),
                    ttl: grant.ttl_seconds.unwrap_or_default(),
                    data: grant.data,
                    ..SubscribeResult::default()
                };
                let reply = Box::new(Reply::subscribe(id, result));
                let grace = self.policy.client.expired_sub_close_delay;
                self.subscriptions.push(Subscription {
                    channel: channel.clone(),
                    phase: SubscriptionPhase::Opening {
                        reply,
                        unsubscribe: None,
                    },
                    info: grant.info,
                    expires: grant.ttl_seconds.map(|seconds| after(now, seconds, grace)),
                    is_refreshed_by_client: grant.ttl_seconds.is_some(),
                });
                actions.push(Action::Subscribe(channel));
            }
            Err(Refused::Error(code)) => actions.push(error(id, code)),
            Err(Refused::Disconnect(code)) => self.close(code, actions),
        }
    }

    /// Every check of a subscription, in the order that the protocol's clients know.
    fn grant(&self, request: &SubscribeRequest, now: Now) -> Result<(Channel, Grant), Refused> {
        let channel = match Channel::parse(&request.channel, self.policy.channel_max_bytes) {
            Ok(channel) => channel,
            Err(ChannelError::Empty) => {
                return Err(Refused::Disconnect(DisconnectCode::BadRequest));
            }
            Err(ChannelError::TooLong { .. }) => return Err(ErrorCode::BadRequest.into()),
        };
        if self.find(&channel).is_some() {
            return Err(ErrorCode::AlreadySubscribed.into());
        }
        if self.subscriptions.len() >= self.policy.client.channel_limit {
            return Err(ErrorCode::LimitExceeded.into());
        }
        let options = self
            .policy
            .namespaces
            .options(&channel)
            .ok_or(ErrorCode::UnknownChannel)?;
        if !matches!(request.delta.as_str(), "" | DELTA_FOSSIL) {
            return Err(Refused::Disconnect(DisconnectCode::BadRequest));
        }
        if request.kind != 0 {
            return Err(ErrorCode::NotAvailable.into());
        }
        if options
            .channel_regex
            .as_ref()
            .is_some_and(|regex| !regex.is_match(channel.as_str()))
        {
            return Err(ErrorCode::BadRequest.into());
        }
        let grant = if request.token.is_empty() {
            let allowed = !channel.is_private()
                && options.allow_subscribe_for_client
                && (!self.user.is_empty() || options.allow_subscribe_for_anonymous);
            if !allowed {
                return Err(ErrorCode::PermissionDenied.into());
            }
            Grant::default()
        } else {
            self.grant_by_token(&channel, &request.token, now)?
        };
        if request.tf.is_some() {
            // No namespace lets clients filter by tags.
            return Err(ErrorCode::BadRequest.into());
        }
        Ok((channel, grant))
    }

    fn grant_by_token(&self, channel: &Channel, token: &str, now: Now) -> Result<Grant, Refused> {
        let claims = match self
            .policy
            .verifier
            .verify_subscription(token, now.unix_seconds)
        {
            Ok(claims) => claims,
            Err(TokenError::Expired) => return Err(ErrorCode::TokenExpired.into()),
            // Temporary: the key is being fetched.
            Err(TokenError::UnknownKey) => return Err(ErrorCode::Internal.into()),
            Err(_) => return Err(ErrorCode::PermissionDenied.into()),
        };
        if !self.is_for_us(&claims, channel) {
            return Err(Refused::Disconnect(DisconnectCode::InvalidToken));
        }
        let ttl_seconds = match claims.expire_at {
            None => None,
            Some(at) => Some(ttl(at, now).ok_or(ErrorCode::Expired)?),
        };
        Ok(Grant {
            info: claims.info,
            data: claims.data,
            ttl_seconds,
        })
    }

    fn is_for_us(&self, claims: &SubscriptionClaims, channel: &Channel) -> bool {
        claims.channel == channel.as_str()
            && claims.user == *self.user
            && claims
                .client
                .as_ref()
                .is_none_or(|client| *client == self.client.to_string())
    }

    /// The hub's answer: the reply that was prepared, or a temporary error.
    pub(super) fn subscribed(
        &mut self,
        channel: &Channel,
        result: Result<(), ErrorCode>,
        actions: &mut Actions,
    ) {
        let Some(at) = self.find(channel) else {
            return;
        };
        let Some(subscription) = self.subscriptions.get_mut(at) else {
            return;
        };
        let SubscriptionPhase::Opening {
            reply: prepared,
            unsubscribe,
        } = std::mem::replace(&mut subscription.phase, SubscriptionPhase::Active)
        else {
            return;
        };
        match result {
            Ok(()) => actions.push(Action::Reply(prepared)),
            Err(code) => {
                self.subscriptions.swap_remove(at);
                actions.push(error(prepared.id, code));
            }
        }
        if let Some(id) = unsubscribe {
            self.leave(id, channel, actions);
        }
    }

    pub(super) fn unsubscribe(
        &mut self,
        id: u32,
        request: &UnsubscribeRequest,
        actions: &mut Actions,
    ) {
        let channel = match Channel::parse(&request.channel, self.policy.channel_max_bytes) {
            Ok(channel) => channel,
            Err(ChannelError::Empty) => return self.close(DisconnectCode::BadRequest, actions),
            // Nobody can be subscribed to it.
            Err(ChannelError::TooLong { .. }) => return actions.push(unsubscribed(id)),
        };
        let subscription = self
            .find(&channel)
            .and_then(|at| self.subscriptions.get_mut(at));
        match subscription.map(|subscription| &mut subscription.phase) {
            // The subscribe comes first: its reply, then this one's. A second unsubscribe has nothing to wait for.
            Some(SubscriptionPhase::Opening {
                unsubscribe: waiting @ None,
                ..
            }) => *waiting = Some(id),
            _ => self.leave(id, &channel, actions),
        }
    }

    fn leave(&mut self, id: u32, channel: &Channel, actions: &mut Actions) {
        if self.active(channel).is_some()
            && let Some(at) = self.find(channel)
        {
            self.subscriptions.swap_remove(at);
            actions.push(Action::Unsubscribe(channel.clone()));
        }
        actions.push(unsubscribed(id));
    }

    pub(super) fn sub_refresh(
        &mut self,
        id: u32,
        request: &SubRefreshRequest,
        now: Now,
        actions: &mut Actions,
    ) {
        if request.token.is_empty() {
            return actions.push(error(id, ErrorCode::BadRequest));
        }
        let claims = match self
            .policy
            .verifier
            .verify_subscription(&request.token, now.unix_seconds)
        {
            Ok(claims) => claims,
            Err(TokenError::Expired) => return actions.push(error(id, ErrorCode::TokenExpired)),
            Err(TokenError::UnknownKey) => return actions.push(error(id, ErrorCode::Internal)),
            Err(_) => return self.close(DisconnectCode::InvalidToken, actions),
        };
        // Old Python clients leave the channel out; the token names it too.
        let name = if request.channel.is_empty() {
            &claims.channel
        } else {
            &request.channel
        };
        let Ok(channel) = Channel::parse(name, self.policy.channel_max_bytes) else {
            return actions.push(error(id, ErrorCode::BadRequest));
        };
        if self.active(&channel).is_none() {
            return actions.push(error(id, ErrorCode::PermissionDenied));
        }
        if !self.is_for_us(&claims, &channel) {
            return self.close(DisconnectCode::InvalidToken, actions);
        }
        let ttl_seconds = match claims.expire_at.map(|at| ttl(at, now)) {
            None => None,
            Some(Some(seconds)) => Some(seconds),
            Some(None) => return actions.push(error(id, ErrorCode::Expired)),
        };
        let grace = self.policy.client.expired_sub_close_delay;
        let Some(subscription) = self
            .find(&channel)
            .and_then(|at| self.subscriptions.get_mut(at))
        else {
            return;
        };
        if !subscription.is_refreshed_by_client {
            return self.close(DisconnectCode::BadRequest, actions);
        }
        subscription.info = claims.info;
        subscription.expires = ttl_seconds.map(|seconds| after(now, seconds, grace));
        let result = SubRefreshResult {
            expires: ttl_seconds.is_some(),
            ttl: ttl_seconds.unwrap_or_default(),
        };
        actions.push(reply(Reply::sub_refresh(id, result)));
    }

    fn find(&self, channel: &Channel) -> Option<usize> {
        self.subscriptions
            .iter()
            .position(|subscription| subscription.channel == *channel)
    }

    pub(super) fn active(&self, channel: &Channel) -> Option<&Subscription> {
        self.find(channel)
            .and_then(|at| self.subscriptions.get(at))
            .filter(|subscription| matches!(subscription.phase, SubscriptionPhase::Active))
    }
}

fn unsubscribed(id: u32) -> Action {
    reply(Reply::unsubscribe(id))
}
