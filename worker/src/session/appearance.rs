//! How a session shows: its client's name and channels, and what others are told of it.

use bytes::Bytes;
use flotilla_shared::channel::Channel;
use flotilla_shared::protocol::types::{ClientInfo, Leave, Push};
use uuid::Uuid;

use super::Session;
use super::subscription::Subscription;

impl Session {
    /// The client's channels, for whoever has to take it out of them when it is gone; with each what the channel's
    /// other subscribers are told, if they are.
    pub(crate) fn farewell(&self) -> impl Iterator<Item = (&Channel, Option<Push>)> {
        self.subscriptions.iter().map(|subscription| {
            let is_in = subscription.is_active() || subscription.is_being_restored();
            let leave = is_in && subscription.features.join_leave;
            let push = leave.then(|| self.leave_push(subscription));
            (&subscription.channel, push)
        })
    }

    /// The user; empty while it is not known, and for anonymous clients.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// The client's own id.
    pub(crate) fn client(&self) -> Uuid {
        self.client
    }

    /// The client's channels.
    pub(crate) fn channels(&self) -> impl Iterator<Item = &Channel> {
        let active = self.subscriptions.iter().filter(|own| own.is_active());
        active.map(|own| &own.channel)
    }

    /// How the client shows in the presence of `channel`, if it does.
    pub(crate) fn presence_in(&self, channel: &Channel) -> Option<ClientInfo> {
        self.active(channel)
            .filter(|subscription| subscription.features.presence)
            .map(|subscription| self.client_info(subscription.info.clone()))
    }

    /// Whether the client shows in the presence of `channel`.
    pub(crate) fn shows_in(&self, channel: &Channel) -> bool {
        self.active(channel)
            .is_some_and(|subscription| subscription.features.presence)
    }

    /// How subscribers of `channel` know the client, if they are told that it comes and goes.
    pub(crate) fn announced_in(&self, channel: &Channel) -> Option<ClientInfo> {
        self.active(channel)
            .filter(|subscription| subscription.features.join_leave)
            .map(|subscription| self.client_info(subscription.info.clone()))
    }

    pub(super) fn client_info(&self, channel_info: Bytes) -> ClientInfo {
        ClientInfo {
            user: self.user.to_string(),
            client: self.client.to_string(),
            conn_info: self.info.clone(),
            chan_info: channel_info,
        }
    }

    pub(super) fn leave_push(&self, subscription: &Subscription) -> Push {
        let info = Some(self.client_info(subscription.info.clone()));
        Push {
            leave: Some(Leave { info }),
            ..Push::default()
        }
    }
}
