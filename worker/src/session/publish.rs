//! The command `publish`.

use flotilla_shared::broker::Append;
use flotilla_shared::channel::Channel;
use flotilla_shared::protocol::codes::ErrorCode;
use flotilla_shared::protocol::is_json;
use flotilla_shared::protocol::types::{Publication, PublishRequest, Push, Reply};

use super::permission::{Access, Allowed};
use super::{Action, Actions, Publish, Session, reply};
use crate::hooks::PublishGrant;
use crate::metrics::Unpublished;
use crate::namespace::{NamespaceOptions, PublicationDataFormat};

impl Session {
    pub(super) fn publish(&mut self, id: u32, request: PublishRequest, actions: &mut Actions) {
        self.count_publish();
        let channel = match self.channel(&request.channel) {
            Ok(channel) => channel,
            Err(refused) => return self.refuse(id, &refused, actions),
        };
        match self.may_publish(&channel, &request) {
            Ok(Access::Granted) => {
                let grant = PublishGrant {
                    data: request.data,
                    ..PublishGrant::default()
                };
                self.publish_this(id, channel, grant, actions);
            }
            Ok(Access::ForTheBackEnd) => {
                self.ask_to_publish(id, channel, request.data, actions);
            }
            Err(code) => self.refuse_to_publish(id, channel, code, actions),
        }
    }

    fn refuse_to_publish(
        &mut self,
        id: u32,
        channel: Channel,
        code: ErrorCode,
        actions: &mut Actions,
    ) {
        self.count_unpublished(channel, code.into(), actions);
        self.refuse(id, &code.into(), actions);
    }

    /// Has a refused publication counted, if there is a namespace for which it can be.
    pub(super) fn count_unpublished(
        &self,
        channel: Channel,
        why: Unpublished,
        actions: &mut Actions,
    ) {
        if self.options(&channel).is_ok() {
            actions.push(Action::Unpublished(channel, why));
        }
    }

    /// Publishes what is granted; its data is there and has the format that it should have.
    pub(super) fn publish_this(
        &mut self,
        id: u32,
        channel: Channel,
        grant: PublishGrant,
        actions: &mut Actions,
    ) {
        match self.publication(id, &channel, grant) {
            // It may have been published before, and there is no stream that would know.
            Ok(publish) if publish.retention.is_none() && self.drops_repeats() => {
                actions.push(reply(Reply::publish(id)));
            }
            Ok(publish) => actions.push(Action::Publish(Box::new(publish))),
            Err(code) => self.refuse_to_publish(id, channel, code, actions),
        }
    }

    fn publication(
        &self,
        id: u32,
        channel: &Channel,
        grant: PublishGrant,
    ) -> Result<Publish, ErrorCode> {
        let channel_info = self
            .active(channel)
            .map(|subscription| subscription.info.clone())
            .unwrap_or_default();
        let options = self.options(channel)?;
        if !self.infos_fit(&channel_info, options) {
            return Err(ErrorCode::BadRequest);
        }
        let retention = options.history.filter(|_| !grant.skip_history);
        // Both can be promised only by a stream.
        let needs_stream = !grant.idempotency_key.is_empty() || grant.version != 0;
        if needs_stream && retention.is_none() {
            return Err(ErrorCode::NotAvailable);
        }
        let publication = Publication {
            data: grant.data,
            info: Some(self.client_info(channel_info)),
            tags: grant.tags,
            // Marks it as one that may be sent as a delta.
            delta: retention.is_some() && (grant.delta || options.delta_publish),
            version: grant.version,
            ..Publication::default()
        };
        let push = Push {
            publication: Some(publication),
            ..Push::default()
        };
        Ok(Publish {
            id,
            push,
            retention,
            append: Append {
                idempotency_key: match (&retention, grant.idempotency_key) {
                    (Some(_), none) if none.is_empty() => self.idempotency_key(),
                    (_, key) => key,
                },
                version: grant.version,
                version_epoch: grant.version_epoch,
                ..Append::default()
            },
            channel: channel.clone(),
        })
    }

    /// Whether what is said of the publisher may travel along: binary of it would cost every JSON client its connection.
    fn infos_fit(&self, channel_info: &[u8], options: &NamespaceOptions) -> bool {
        options.publication_data_format == PublicationDataFormat::Binary
            || [&self.info[..], channel_info]
                .into_iter()
                .all(|info| info.is_empty() || is_json(info))
    }

    fn may_publish(
        &self,
        channel: &Channel,
        request: &PublishRequest,
    ) -> Result<Access, ErrorCode> {
        if request.kind != 0 {
            return Err(ErrorCode::NotAvailable);
        }
        if request.data.is_empty() {
            return Err(ErrorCode::BadRequest);
        }
        let options = self.options(channel)?;
        let allowed = Allowed {
            client: options.allow_publish_for_client,
            subscriber: options.allow_publish_for_subscriber,
            anonymous: options.allow_publish_for_anonymous,
        };
        if !options.publish_proxy_enabled && !self.is_among(&allowed, channel) {
            return Err(ErrorCode::PermissionDenied);
        }
        if !options.publication_data_format.accepts(&request.data) {
            return Err(ErrorCode::BadRequest);
        }
        Ok(if options.publish_proxy_enabled {
            Access::ForTheBackEnd
        } else {
            Access::Granted
        })
    }
}
