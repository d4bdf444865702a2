//! Server-side subscriptions: channels that a client begins with, or is put into, without asking for each.

use std::collections::BTreeMap;

use flotilla_shared::auth::{ChannelGrant, ConnectionClaims};
use flotilla_shared::channel::Channel;
use flotilla_shared::protocol::codes::{DisconnectCode, ErrorCode, UnsubscribeCode};
use flotilla_shared::protocol::types::{ConnectRequest, SubscribeRequest};

use super::permission::Access;
use super::subscribe::{Grant, mode_of};
use super::subscription::{Answer, Subscription, Then};
use super::{Actions, Now, Refused, ServerSubscribe, Session, ttl_of};
use crate::hub::Mode;

impl Session {
    /// The channels that the client is in as soon as it is connected: those that its token names, its personal one, and
    /// those that it wishes for and could subscribe to by itself.
    pub(super) fn channels_to_begin_with(
        &self,
        claims: &ConnectionClaims,
        request: &ConnectRequest,
    ) -> Result<BTreeMap<Channel, ChannelGrant>, Refused> {
        let mut channels = BTreeMap::new();
        for name in &claims.channels {
            channels.insert(self.known(name)?, ChannelGrant::default());
        }
        for (name, grant) in &claims.subs {
            channels.insert(self.known(name)?, grant.clone());
        }
        if let Some(name) = self.personal_channel() {
            channels.entry(self.known(&name)?).or_default();
        }
        for name in request.subs.keys() {
            let Ok(channel) = Channel::parse(name, self.policy.channel_max_bytes) else {
                continue;
            };
            let options = self
                .policy
                .namespaces
                .options(&channel)
                .ok_or(DisconnectCode::BadRequest)?;
            let access = self.may_subscribe_by_itself(&channel, options);
            if options.fits(&channel) && access == Ok(Access::Granted) {
                channels.entry(channel).or_default();
            }
        }
        if channels.len() > self.policy.client.channel_limit {
            return Err(DisconnectCode::ChannelLimit.into());
        }
        Ok(channels)
    }

    /// A channel that the application names: one that cannot be is its mistake, which the client has to report.
    fn known(&self, name: &str) -> Result<Channel, ErrorCode> {
        let channel = Channel::parse(name, self.policy.channel_max_bytes)
            .map_err(|_| ErrorCode::BadRequest)?;
        self.options(&channel)?;
        Ok(channel)
    }

    fn personal_channel(&self) -> Option<String> {
        let personal = self.policy.client.personal_channel.as_ref()?;
        let user = &self.user;
        match personal.namespace.as_str() {
            _ if user.is_empty() => None,
            "" => Some(format!("#{user}")),
            namespace => Some(format!("{namespace}:#{user}")),
        }
    }

    /// Opens one of the channels to begin with. `recovery` is what the client says of its position from before, and of
    /// what it takes.
    pub(super) fn begin_with(
        &mut self,
        channel: Channel,
        grant: ChannelGrant,
        recovery: Option<&SubscribeRequest>,
        now: Now,
        actions: &mut Actions,
    ) -> Result<(), Refused> {
        let request = recovery.map_or_else(SubscribeRequest::default, |from| SubscribeRequest {
            recover: from.recover,
            epoch: from.epoch.clone(),
            offset: from.offset,
            tf: from.tf.clone(),
            ..SubscribeRequest::default()
        });
        let options = self.policy.namespaces.options(&channel);
        let asked = recovery.zip(options);
        let grant = Grant {
            info: grant.info,
            data: grant.data,
            overrides: grant.overrides,
            mode: asked.map_or(Ok(Mode::Full), |(request, options)| {
                mode_of(request, options)
            })?,
            ..Grant::default()
        };
        self.open(Answer::Connect, channel, grant, &request, now, actions);
        Ok(())
    }

    /// The application subscribes the client while it is connected.
    pub(super) fn put_into(&mut self, wanted: ServerSubscribe, now: Now, actions: &mut Actions) {
        let ServerSubscribe {
            channel,
            grant,
            expire_at,
            recover_since,
        } = wanted;
        let is_in = self.find(&channel).is_some();
        let Ok(ttl_seconds) = ttl_of(expire_at, now) else {
            return;
        };
        if is_in || self.subscriptions.len() >= self.policy.client.channel_limit {
            return;
        }
        let mut request = SubscribeRequest::default();
        if let Some((offset, epoch)) = recover_since {
            request.recover = true;
            request.offset = offset;
            request.epoch = epoch;
        }
        let grant = Grant {
            info: grant.info,
            data: grant.data,
            ttl_seconds,
            is_refreshed_by_client: false,
            overrides: grant.overrides,
            // The client has not asked for differences.
            mode: Mode::Full,
        };
        self.open(Answer::Push, channel, grant, &request, now, actions);
    }

    /// The application takes the client out of a channel, whoever subscribed it.
    pub(super) fn take_out_of(&mut self, channel: &Channel, actions: &mut Actions) {
        let Some(at) = self.find(channel) else {
            return;
        };
        match self
            .subscriptions
            .get_mut(at)
            .and_then(Subscription::then_mut)
        {
            Some(then) => {
                if *then == Then::Stay {
                    *then = Then::Remove;
                }
            }
            None => {
                self.ends_with(at, UnsubscribeCode::Server, actions);
            }
        }
    }
}
