//! The commands `presence`, `presence_stats` and `history`: what a client may learn of a channel.

use flotilla_shared::broker::HistoryQuery;
use flotilla_shared::channel::Channel;
use flotilla_shared::protocol::codes::ErrorCode;
use flotilla_shared::protocol::types::{HistoryRequest, Reply};

use super::permission::Allowed;
use super::{Action, Actions, LookUp, Refused, Session, Subject};
use crate::namespace::NamespaceOptions;
use crate::rates::Limit;

impl Session {
    pub(super) fn presence(&mut self, id: u32, channel: &str, actions: &mut Actions) {
        let subject = self
            .may_see_presence(channel)
            .map(|channel| (channel, Subject::Presence));
        self.look_up(id, subject, actions);
    }

    pub(super) fn presence_stats(&mut self, id: u32, channel: &str, actions: &mut Actions) {
        let subject = self
            .may_see_presence(channel)
            .map(|channel| (channel, Subject::PresenceStats));
        self.look_up(id, subject, actions);
    }

    pub(super) fn history(&mut self, id: u32, request: &HistoryRequest, actions: &mut Actions) {
        let subject = self.may_see_history(request);
        self.look_up(id, subject, actions);
    }

    /// The answer is there.
    pub(super) fn found(&mut self, found: Box<Reply>, actions: &mut Actions) {
        self.look_ups = self.look_ups.saturating_sub(1);
        actions.push(Action::Reply(found));
    }

    fn look_up(
        &mut self,
        id: u32,
        subject: Result<(Channel, Subject), Refused>,
        actions: &mut Actions,
    ) {
        // An application may well ask about all its channels at once, and SDKs do not ask again.
        let most = self.policy.client.channel_limit;
        let subject = subject.and_then(|subject| {
            if usize::from(self.look_ups) < most {
                Ok(subject)
            } else {
                actions.push(Action::Limited(Limit::InFlight));
                Err(ErrorCode::TooManyRequests.into())
            }
        });
        match subject {
            Ok((channel, subject)) => {
                self.look_ups += 1;
                actions.push(Action::LookUp(Box::new(LookUp {
                    id,
                    channel,
                    subject,
                })));
            }
            Err(refused) => self.refuse(id, &refused, actions),
        }
    }

    fn may_see_presence(&self, name: &str) -> Result<Channel, Refused> {
        let channel = self.channel(name)?;
        let options = self.options(&channel)?;
        if !options.presence {
            return Err(ErrorCode::NotAvailable.into());
        }
        let allowed = Allowed {
            client: options.allow_presence_for_client,
            subscriber: options.allow_presence_for_subscriber,
            anonymous: options.allow_presence_for_anonymous,
        };
        if !self.is_among(&allowed, &channel) {
            return Err(ErrorCode::PermissionDenied.into());
        }
        Ok(channel)
    }

    fn may_see_history(&self, request: &HistoryRequest) -> Result<(Channel, Subject), Refused> {
        let channel = self.channel(&request.channel)?;
        let options = self.options(&channel)?;
        let retention = options.history.ok_or(ErrorCode::NotAvailable)?;
        if !self.is_among(&history_for(options), &channel) {
            return Err(ErrorCode::PermissionDenied.into());
        }
        let most = self.policy.client.history_max_publication_limit;
        // Less than none means no limit of the client's own.
        let limit = usize::try_from(request.limit).map_or(most, |limit| limit.min(most));
        let since = request.since.as_ref();
        let subject = Subject::History {
            retention,
            query: HistoryQuery {
                limit,
                since: since.map(|since| since.offset),
                reverse: request.reverse,
            },
            epoch: since.map(|since| since.epoch.clone()).unwrap_or_default(),
        };
        Ok((channel, subject))
    }
}

fn history_for(options: &NamespaceOptions) -> Allowed {
    Allowed {
        client: options.allow_history_for_client,
        subscriber: options.allow_history_for_subscriber,
        anonymous: options.allow_history_for_anonymous,
    }
}
