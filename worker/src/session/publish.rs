//! The command `publish`.

use flotilla_shared::channel::{Channel, ChannelError};
use flotilla_shared::protocol::codes::{DisconnectCode, ErrorCode};
use flotilla_shared::protocol::is_json;
use flotilla_shared::protocol::types::{Publication, PublishRequest, Push};

use super::{Action, Actions, Publish, Session, error};
use crate::namespace::PublicationDataFormat;

impl Session {
    pub(super) fn publish(&mut self, id: u32, request: PublishRequest, actions: &mut Actions) {
        let channel = match Channel::parse(&request.channel, self.policy.channel_max_bytes) {
            Ok(channel) => channel,
            Err(ChannelError::Empty) => return self.close(DisconnectCode::BadRequest, actions),
            Err(ChannelError::TooLong { .. }) => {
                return actions.push(error(id, ErrorCode::BadRequest));
            }
        };
        let channel_info = self
            .active(&channel)
            .map(|subscription| subscription.info.clone())
            .unwrap_or_default();
        if let Err(code) = self.may_publish(&channel, &channel_info, &request) {
            return actions.push(error(id, code));
        }
        let publication = Publication {
            data: request.data,
            info: Some(self.client_info(channel_info)),
            ..Publication::default()
        };
        let push = Push {
            publication: Some(publication),
            ..Push::default()
        };
        actions.push(Action::Publish(Box::new(Publish { id, channel, push })));
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
        let options = self
            .policy
            .namespaces
            .options(channel)
            .ok_or(ErrorCode::UnknownChannel)?;
        let as_client = options.allow_publish_for_client
            || options.allow_publish_for_subscriber && self.active(channel).is_some();
        if !as_client || self.user.is_empty() && !options.allow_publish_for_anonymous {
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
