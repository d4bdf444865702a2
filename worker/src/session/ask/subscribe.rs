//! Whether a client may come into a channel.

use bytes::Bytes;
use flotilla_shared::channel::Channel;
use flotilla_shared::protocol::types::{Reply, SubscribeRequest};

use super::super::subscribe::{Grant, mode_of};
use super::super::subscription::{
    Answer as Told, Asking, End, Features, Phase, Subscription, Takes, Then,
};
use super::super::{reply, ttl_of};
use super::{About, Actions, Now, Refused, Session, granted};
use crate::hooks::{Answer, Question, SubscribeGrant};

impl Session {
    /// Asks. The channel counts as one of the client's meanwhile.
    pub(in crate::session) fn ask_to_subscribe(
        &mut self,
        id: u32,
        channel: Channel,
        request: SubscribeRequest,
        actions: &mut Actions,
    ) {
        let question = Question::Subscribe {
            channel: channel.as_str().to_owned(),
            token: request.token.clone(),
            data: request.data.clone(),
        };
        let then = Then::Stay;
        self.keep(Subscription {
            channel: channel.clone(),
            phase: Phase::Asking(Box::new(Asking { id, request, then })),
            info: Bytes::new(),
            end: End::Never,
            is_refreshed_by_client: false,
            features: Features::default(),
            takes: Takes::Everything,
            epoch: None,
        });
        self.ask(About::Subscribe(channel), question, actions);
    }

    pub(super) fn may_subscribe(
        &mut self,
        channel: &Channel,
        answer: Answer<SubscribeGrant>,
        now: Now,
        actions: &mut Actions,
    ) {
        let Some(Asking { id, request, then }) = self.take_asking(channel) else {
            return;
        };
        match self.grant_to_subscribe(channel, &request, answer, now) {
            Ok(grant) => {
                self.open(
                    Told::Reply(id),
                    channel.clone(),
                    grant,
                    &request,
                    now,
                    actions,
                );
                let subscription = self.subscriptions.last_mut();
                if let Some(opening) = subscription.and_then(Subscription::then_mut) {
                    *opening = then;
                }
            }
            Err(refused) => {
                self.refuse(id, &refused, actions);
                if let Then::Unsubscribe(id) = then
                    && self.is_connected()
                {
                    actions.push(reply(Reply::unsubscribe(id)));
                }
            }
        }
    }

    fn take_asking(&mut self, channel: &Channel) -> Option<Asking> {
        let is_asking = |own: &Subscription| matches!(own.phase, Phase::Asking(_));
        let at = self.find(channel)?;
        self.subscriptions.get(at).filter(|own| is_asking(own))?;
        match self.subscriptions.swap_remove(at).phase {
            Phase::Asking(asking) => Some(*asking),
            Phase::Opening(_) | Phase::Active => None,
        }
    }

    fn grant_to_subscribe(
        &self,
        channel: &Channel,
        request: &SubscribeRequest,
        answer: Answer<SubscribeGrant>,
        now: Now,
    ) -> Result<Grant, Refused> {
        let SubscribeGrant { grant, expire_at } = granted(answer)?;
        Ok(Grant {
            info: grant.info,
            data: grant.data,
            ttl_seconds: ttl_of(Some(expire_at).filter(|at| *at > 0), now)?,
            is_refreshed_by_client: false,
            overrides: grant.overrides,
            mode: mode_of(request, self.options(channel)?)?,
        })
    }
}
