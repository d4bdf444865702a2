//! The command `history`: what a client may learn of a channel's past.

use flotilla_shared::broker::HistoryQuery;
use flotilla_shared::protocol::codes::ErrorCode;
use flotilla_shared::protocol::types::{HistoryRequest, Reply};

use super::permission::Allowed;
use super::{Action, Actions, LookUp, Refused, Session};

/// Questions of one client that may be open at the same time.
const IN_FLIGHT_MAX: u16 = 32;

impl Session {
    pub(super) fn history(&mut self, id: u32, request: &HistoryRequest, actions: &mut Actions) {
        match self.may_see_history(id, request) {
            Ok(look_up) => {
                self.look_ups += 1;
                actions.push(Action::LookUp(Box::new(look_up)));
            }
            Err(refused) => self.refuse(id, &refused, actions),
        }
    }

    /// The answer is there.
    pub(super) fn found(&mut self, found: Box<Reply>, actions: &mut Actions) {
        self.look_ups = self.look_ups.saturating_sub(1);
        actions.push(Action::Reply(found));
    }

    fn may_see_history(&self, id: u32, request: &HistoryRequest) -> Result<LookUp, Refused> {
        let channel = self.channel(&request.channel)?;
        let options = self.options(&channel)?;
        let retention = options.history.ok_or(ErrorCode::NotAvailable)?;
        let allowed = Allowed {
            client: options.allow_history_for_client,
            subscriber: options.allow_history_for_subscriber,
            anonymous: options.allow_history_for_anonymous,
        };
        if !self.is_among(&allowed, &channel) {
            return Err(ErrorCode::PermissionDenied.into());
        }
        if self.look_ups >= IN_FLIGHT_MAX {
            return Err(ErrorCode::TooManyRequests.into());
        }
        let most = self.policy.client.history_max_publication_limit;
        // Less than none means no limit of the client's own.
        let limit = usize::try_from(request.limit).map_or(most, |limit| limit.min(most));
        let since = request.since.as_ref();
        Ok(LookUp {
            id,
            channel,
            retention,
            query: HistoryQuery {
                limit,
                since: since.map(|since| since.offset),
                reverse: request.reverse,
            },
            epoch: since.map(|since| since.epoch.clone()).unwrap_or_default(),
        })
    }
}
