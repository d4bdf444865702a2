//! The commands `subscribe` and `unsubscribe`, and what becomes of a subscription in between.

use bytes::Bytes;
use flotilla_shared::auth::{Overrides, TokenError};
use flotilla_shared::channel::{Channel, ChannelError};
use flotilla_shared::filter::TagsFilter;
use flotilla_shared::protocol::codes::{DisconnectCode, ErrorCode, UnsubscribeCode};
use flotilla_shared::protocol::types::{
    Join, Push, Reply, SubscribeRequest, SubscribeResult, UnsubscribeRequest,
};
use flotilla_shared::roster::Life;

use super::permission::Access;
use super::subscription::{Answer, Features, Opening, Phase, Subscription, Takes, Then};
use super::{Action, Actions, Now, Refused, Session, State, error, reply, ttl_of};
use crate::hub::{Joined, Mode};
use crate::namespace::NamespaceOptions;
use crate::roll::Attachment;

/// The one delta encoding of the protocol; asking for another one is a mistake of the client.
const DELTA_FOSSIL: &str = "fossil";

/// What a subscription is granted with.
#[derive(Default)]
pub(super) struct Grant {
    pub(super) info: Bytes,
    pub(super) data: Bytes,
    /// Seconds until it ends; `None`: it does not.
    pub(super) ttl_seconds: Option<u32>,
    /// The client can refresh it, and is told that it has to.
    pub(super) is_refreshed_by_client: bool,
    pub(super) overrides: Overrides,
    pub(super) mode: Mode,
}

impl Session {
    pub(super) fn subscribe(
        &mut self,
        id: u32,
        request: SubscribeRequest,
        now: Now,
        actions: &mut Actions,
    ) {
        let before = self.unsubscribe_to_repeat(&request, actions);
        match self.granted(&request, now) {
            Ok((channel, Some(grant))) => {
                self.open(Answer::Reply(id), channel, grant, &request, now, actions);
            }
            Ok((channel, None)) => self.ask_to_subscribe(id, channel, request, actions),
            Err(refused) => {
                actions.extend(before.as_ref().and_then(|own| self.parting(own)));
                self.refuse(id, &refused, actions);
            }
        }
    }

    /// Every check of a subscription, in the order that the protocol's clients know. No grant: the back end decides.
    fn granted(
        &self,
        request: &SubscribeRequest,
        now: Now,
    ) -> Result<(Channel, Option<Grant>), Refused> {
        let channel = self.channel(&request.channel)?;
        if self.find(&channel).is_some() {
            return Err(ErrorCode::AlreadySubscribed.into());
        }
        if self.subscriptions.len() >= self.policy.client.channel_limit {
            return Err(ErrorCode::LimitExceeded.into());
        }
        let options = self.options(&channel)?;
        if !matches!(request.delta.as_str(), "" | DELTA_FOSSIL) {
            return Err(DisconnectCode::BadRequest.into());
        }
        if request.kind != 0 {
            return Err(ErrorCode::NotAvailable.into());
        }
        if !options.fits(&channel) {
            return Err(ErrorCode::BadRequest.into());
        }
        let is_verified = self.policy.verifier.is_configured();
        let grant = if request.token.is_empty() {
            match self.may_subscribe_by_itself(&channel, options)? {
                Access::Granted => Some(Grant::default()),
                Access::ForTheBackEnd => None,
            }
        } else if options.subscribe_proxy_enabled && !is_verified {
            // A token that is for the back end to verify.
            None
        } else {
            Some(self.grant_by_token(&channel, &request.token, now)?)
        };
        let mode = mode_of(request, options)?;
        Ok((channel, grant.map(|grant| Grant { mode, ..grant })))
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
            return Err(DisconnectCode::InvalidToken.into());
        }
        let ttl_seconds = ttl_of(claims.expire_at, now)?;
        Ok(Grant {
            info: claims.info,
            data: claims.data,
            ttl_seconds,
            is_refreshed_by_client: ttl_seconds.is_some(),
            overrides: claims.overrides,
            mode: Mode::default(),
        })
    }

    /// Asks the hub; [`Session::subscribed`] goes on.
    #[allow(
        clippy::too_many_arguments,
        reason = "what the three kinds of subscriptions have in common"
    )]
    pub(super) fn open(
        &mut self,
        answer: Answer,
        channel: Channel,
        grant: Grant,
        request: &SubscribeRequest,
        now: Now,
        actions: &mut Actions,
    ) {
        let Some(options) = self.policy.namespaces.options(&channel) else {
            return;
        };
        let client = &self.policy.client;
        let is_server_side = !matches!(answer, Answer::Reply(_));
        let features = Features::granted(options, &grant.overrides, request, is_server_side);
        let told_ttl = grant.ttl_seconds.filter(|_| grant.is_refreshed_by_client);
        let result = SubscribeResult {
            expires: told_ttl.is_some(),
            ttl: told_ttl.unwrap_or_default(),
            data: grant.data,
            was_recovering: request.recover && features.recoverable,
            delta: grant.mode == Mode::Delta,
            ..SubscribeResult::default()
        };
        let takes = Takes::of(&grant.mode, request);
        let limit = client.recovery_max_publication_limit;
        let subscribing = features.subscribing(options, request, grant.mode, limit);
        let end = self.end_of(
            options,
            grant.ttl_seconds,
            grant.is_refreshed_by_client,
            now,
        );
        let opening = Opening {
            answer,
            result,
            then: Then::Stay,
            rejects_unrecovered: request.flag & SubscribeRequest::REJECT_UNRECOVERED != 0,
            since: request.offset,
            reopening: None,
        };
        self.keep(Subscription {
            channel: channel.clone(),
            phase: Phase::Opening(Box::new(opening)),
            info: grant.info,
            end,
            is_refreshed_by_client: grant.is_refreshed_by_client,
            features,
            takes,
            epoch: None,
        });
        actions.push(Action::Subscribe(channel, Box::new(subscribing)));
    }

    /// The hub's answer: the client is told, or gets a temporary error.
    pub(super) fn subscribed(
        &mut self,
        channel: &Channel,
        result: Result<Joined, ErrorCode>,
        now: Now,
        actions: &mut Actions,
    ) {
        let Some(at) = self.find(channel) else {
            return;
        };
        let Some(subscription) = self.subscriptions.get_mut(at) else {
            return;
        };
        let features = subscription.features;
        let Phase::Opening(mut opening) = std::mem::replace(&mut subscription.phase, Phase::Active)
        else {
            return;
        };
        if opening.answer == Answer::Restored {
            return match result {
                Ok(joined) => self.reopened(channel, joined, opening.then, actions),
                Err(code) => self.not_reopened(channel, opening, code, now, actions),
            };
        }
        let position = result.as_ref().ok().and_then(|joined| joined.position);
        subscription.epoch = position.filter(|_| features.positioned).map(|at| at.epoch);
        let result = result.and_then(|joined| {
            if opening.complete(joined, features) {
                Ok(())
            } else {
                actions.push(Action::Unsubscribe(channel.clone()));
                Err(ErrorCode::UnrecoverablePosition)
            }
        });
        if let Err(code) = result {
            self.subscriptions.swap_remove(at);
            return self.not_subscribed(&opening, code, now, actions);
        }
        let then = opening.then;
        self.tell_subscribed(channel, *opening, now, actions);
        match then {
            Then::Stay => {}
            Then::Unsubscribe(id) => self.leave(id, channel, actions),
            Then::Remove => {
                if let Some(at) = self.find(channel) {
                    self.ends_with(at, UnsubscribeCode::Server, actions);
                }
            }
        }
    }

    fn tell_subscribed(
        &mut self,
        channel: &Channel,
        opening: Opening,
        now: Now,
        actions: &mut Actions,
    ) {
        match opening.answer {
            Answer::Reply(id) => actions.push(reply(Reply::subscribe(id, opening.result))),
            Answer::Push => push_subscribed(channel, opening.result, actions),
            Answer::Restored => {}
            Answer::Connect => {
                if let State::Connecting(connecting) = &mut self.state {
                    connecting.pending -= 1;
                    let name = channel.as_str().to_owned();
                    connecting.result.subs.insert(name, opening.result);
                }
                // Others hear of the client when it has heard that it is there.
                return self.connect_if_complete(now, actions);
            }
        }
        self.is_changed = true;
        actions.extend(self.active(channel).and_then(|own| self.join(own, None)));
    }

    fn not_subscribed(
        &mut self,
        opening: &Opening,
        code: ErrorCode,
        now: Now,
        actions: &mut Actions,
    ) {
        match opening.answer {
            Answer::Reply(id) => actions.push(error(id, code)),
            Answer::Connect => {
                if let State::Connecting(connecting) = &self.state {
                    let id = connecting.id;
                    self.refuse_connect(id, &code.into(), now, actions);
                }
            }
            // The application is told by the state of things: the client is not in the channel.
            Answer::Push | Answer::Restored => {}
        }
        if let Then::Unsubscribe(id) = opening.then {
            actions.push(reply(Reply::unsubscribe(id)));
        }
    }

    /// Tells the channel's subscribers of this one, where its namespace wants that. `from`: it was there before, at another
    /// worker.
    pub(super) fn join(&self, own: &Subscription, from: Option<Life>) -> Option<Action> {
        let wanted = own.is_active() && own.features.join_leave;
        wanted.then(|| {
            let info = Some(self.client_info(own.info.clone()));
            let push = Push {
                join: Some(Join { info }),
                ..Push::default()
            };
            Action::Announce(own.channel.clone(), Box::new(push), self.attachment(from))
        })
    }

    /// The same when it is not there any more.
    pub(super) fn parting(&self, own: &Subscription) -> Option<Action> {
        own.features.join_leave.then(|| {
            let push = Box::new(self.leave_push(own));
            Action::Announce(own.channel.clone(), push, self.attachment(None))
        })
    }

    /// What goes with whatever others are told of this client's coming and going.
    pub(crate) fn attachment(&self, from: Option<Life>) -> Attachment {
        Attachment {
            generation: self.generation,
            from,
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
            Err(ChannelError::TooLong { .. }) => {
                return actions.push(reply(Reply::unsubscribe(id)));
            }
        };
        let subscription = self
            .find(&channel)
            .and_then(|at| self.subscriptions.get_mut(at));
        match subscription.and_then(Subscription::then_mut) {
            // The subscribe comes first: its reply, then this one's. A second unsubscribe has nothing to wait for.
            Some(then) if *then == Then::Stay => *then = Then::Unsubscribe(id),
            _ => self.leave(id, &channel, actions),
        }
    }

    fn leave(&mut self, id: u32, channel: &Channel, actions: &mut Actions) {
        if let Some(at) = self.find(channel)
            && self
                .subscriptions
                .get(at)
                .is_some_and(Subscription::is_active)
        {
            self.remove(at, actions);
        }
        actions.push(reply(Reply::unsubscribe(id)));
    }

    /// Ends an active subscription: the client is out of the channel, and the others hear of it.
    pub(super) fn remove(&mut self, at: usize, actions: &mut Actions) {
        let subscription = self.subscriptions.swap_remove(at);
        self.is_changed = true;
        actions.push(Action::Unsubscribe(subscription.channel.clone()));
        actions.extend(self.parting(&subscription));
    }

    /// Ends a subscription on the server's part. A client cannot subscribe again to what the server subscribes it to:
    /// where that matters it has to connect again, and the result is true.
    pub(super) fn ends_with(
        &mut self,
        at: usize,
        code: UnsubscribeCode,
        actions: &mut Actions,
    ) -> bool {
        let Some(subscription) = self.subscriptions.get(at) else {
            return false;
        };
        let fatal = match code {
            UnsubscribeCode::InsufficientState => Some(DisconnectCode::InsufficientState),
            UnsubscribeCode::SubscriptionExpired => Some(DisconnectCode::SubscriptionExpired),
            UnsubscribeCode::StateInvalidated => Some(DisconnectCode::StateInvalidated),
            UnsubscribeCode::Server => None,
        };
        match fatal.filter(|_| subscription.features.is_server_side) {
            Some(fatal) => {
                self.close(fatal, actions);
                true
            }
            None => {
                let push = Push::unsubscribe(subscription.channel.as_str(), code);
                self.remove(at, actions);
                actions.push(reply(Reply::push(push)));
                false
            }
        }
    }

    /// Messages were lost: who counts on completeness has to begin anew, and is told.
    pub(super) fn insufficient(&mut self, channel: &Channel, actions: &mut Actions) {
        let affected = |subscription: &Subscription| {
            subscription.is_active()
                && subscription.features.positioned
                && subscription.channel == *channel
        };
        if let Some(at) = self.subscriptions.iter().position(affected) {
            self.ends_with(at, UnsubscribeCode::InsufficientState, actions);
        }
    }

    /// The channel of a command that needs one.
    pub(super) fn channel(&self, name: &str) -> Result<Channel, Refused> {
        Channel::parse(name, self.policy.channel_max_bytes).map_err(|problem| match problem {
            ChannelError::Empty => DisconnectCode::BadRequest.into(),
            ChannelError::TooLong { .. } => ErrorCode::BadRequest.into(),
        })
    }

    /// The options of a channel whose namespace exists.
    pub(super) fn options(&self, channel: &Channel) -> Result<&NamespaceOptions, ErrorCode> {
        self.policy
            .namespaces
            .options(channel)
            .ok_or(ErrorCode::UnknownChannel)
    }

    pub(super) fn find(&self, channel: &Channel) -> Option<usize> {
        self.subscriptions
            .iter()
            .position(|subscription| subscription.channel == *channel)
    }

    pub(super) fn active(&self, channel: &Channel) -> Option<&Subscription> {
        self.find(channel)
            .and_then(|at| self.subscriptions.get(at))
            .filter(|subscription| subscription.is_active())
    }
}

/// In what form the client gets publications: as it asks, where the namespace lets it. Deltas that are not to be had are
/// silently off; a filter that cannot be applied is not, since the client would get what it does not want.
pub(super) fn mode_of(
    request: &SubscribeRequest,
    options: &NamespaceOptions,
) -> Result<Mode, ErrorCode> {
    if let Some(filter) = &request.tf {
        let filter = TagsFilter::new(filter).ok();
        let filter = filter.filter(|_| options.allow_tags_filter);
        // Everything comes whole then: what was the last one differs from client to client.
        return filter.map(Mode::filtered).ok_or(ErrorCode::BadRequest);
    }
    Ok(
        if options.allow_delta_fossil && request.delta == DELTA_FOSSIL {
            Mode::Delta
        } else {
            Mode::Full
        },
    )
}

/// The push that tells of a subscription, and what was missed, each by itself: the push has no room for it.
fn push_subscribed(channel: &Channel, result: SubscribeResult, actions: &mut Actions) {
    let subscribe = flotilla_shared::protocol::types::Subscribe {
        recoverable: result.recoverable,
        epoch: result.epoch,
        offset: result.offset,
        positioned: result.positioned,
        data: result.data,
    };
    let push = Push {
        channel: channel.as_str().to_owned(),
        subscribe: Some(subscribe),
        ..Push::default()
    };
    actions.push(reply(Reply::push(push)));
    for publication in result.publications {
        actions.push(reply(Reply::push(Push::publication(
            channel.as_str(),
            publication,
        ))));
    }
}
