//! Whether something may be published, and what is published instead.

use bytes::Bytes;
use flotilla_shared::channel::Channel;
use flotilla_shared::protocol::codes::ErrorCode;

use super::{About, Actions, Refused, Session, granted};
use crate::hooks::{Answer, PublishGrant, Question};
use crate::metrics::Unpublished;

impl Session {
    /// Asks. The client's next command waits for the answer, so that a publisher's order is kept.
    pub(in crate::session) fn ask_to_publish(
        &mut self,
        id: u32,
        channel: Channel,
        data: Bytes,
        actions: &mut Actions,
    ) {
        let question = Question::Publish {
            channel: channel.as_str().to_owned(),
            data: data.clone(),
        };
        let about = About::Publish { id, channel, data };
        self.ask(about, question, actions);
    }

    pub(super) fn may_publish_this(
        &mut self,
        id: u32,
        channel: Channel,
        data: Bytes,
        answer: Answer<PublishGrant>,
        actions: &mut Actions,
    ) {
        match self.grant_to_publish(&channel, data, answer) {
            Ok(grant) => self.publish_this(id, channel, grant, actions),
            Err(refused) => {
                self.count_unpublished(channel, Unpublished::BackEnd, actions);
                self.refuse(id, &refused, actions);
            }
        }
    }

    fn grant_to_publish(
        &self,
        channel: &Channel,
        data: Bytes,
        answer: Answer<PublishGrant>,
    ) -> Result<PublishGrant, Refused> {
        let mut grant = granted(answer)?;
        if grant.data.is_empty() {
            grant.data = data;
        } else if !self
            .options(channel)?
            .publication_data_format
            .accepts(&grant.data)
        {
            tracing::debug!(%channel, "a publish hook gave what does not fit its namespace");
            // The back end's mistake, not the client's.
            return Err(ErrorCode::Internal.into());
        }
        Ok(grant)
    }
}
