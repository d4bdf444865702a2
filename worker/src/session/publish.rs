//! The command `publish`.

use flotilla_shared::channel::Channel;
use flotilla_shared::protocol::codes::ErrorCode;
use flotilla_shared::protocol::is_json;
use flotilla_shared::protocol::types::{Publication, PublishRequest, Push};

use super::permission::Allowed;
use super::{Action, Actions, Publish, Refused, Session};
use crate::namespace::PublicationDataFormat;

impl Session {
    pub(super) fn publish(&mut self, id: u32, request: PublishRequest, actions: &mut Actions) {
        match self.publication(id, request) {
            Ok(publish) => actions.push(Action::Publish(Box::new(publish))),
            Err(refused) => self.refuse(id, &refused, actions),
        }
    }

    fn publication(&self, id: u32, request: PublishRequest) -> Result<Publish, Refused> {
        let channel = self.channel(&request.channel)?;
        let channel_info = self
            .active(&channel)
            .map(|subscription| subscription.info.clone())
            .unwrap_or_default();
        self.may_publish(&channel, &channel_info, &request)?;
        let options = self.options(&channel)?;
        let publication = Publication {
            data: request.data,
            info: Some(self.client_info(channel_info)),
            // Marks it as one that may be sent as a delta.
            delta: options.delta_publish,
            ..Publication::default()
        };
        let push = Push {
            publication: Some(publication),
            ..Push::default()
        };
        Ok(Publish {
            id,
            push,
            retention: options.history,
            channel,
        })
    }

    fn may_publish(
        &self,
        channel: &Channel,
        channel_info: &[u8],
        request: &PublishRequest,
    ) -> Result<(), ErrorCode> {
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
        if !self.is_among(&allowed, channel) {
            return Err(ErrorCode::PermissionDenied);
        }
        let format = options.publication_data_format;
        // What a token says of the publisher travels along: binary of it would cost every JSON client its connection.
        let infos_fit = format == PublicationDataFormat::Binary
            || [&self.info[..], channel_info]
                .into_iter()
                .all(|info| info.is_empty() || is_json(info));
        if !format.accepts(&request.data) || !infos_fit {
            return Err(ErrorCode::BadRequest);
        }
        Ok(())
    }
}
