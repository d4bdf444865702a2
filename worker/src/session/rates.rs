//! What a session makes of a client that is too fast, or wrong too often.

use std::time::Instant;

use flotilla_shared::protocol::codes::{DisconnectCode, ErrorCode};
use flotilla_shared::protocol::types::Request;

use super::{Action, Actions, Now, Session, error};
use crate::metrics::Unpublished;
use crate::rates::{Limit, Metered};

/// From here on error codes are the application's.
const APPLICATION_CODES: u32 = 400;

impl Session {
    /// Counts a message of the client, of whatever kind; until when the next one has to wait, if it has to.
    pub(crate) fn received(&mut self, bytes: usize, now: Instant) -> Option<(Instant, Limit)> {
        let limits = &self.policy.client.rate_limits;
        let counted = [(Metered::Messages, 1), (Metered::Bytes, bytes)];
        let waits = counted.into_iter().filter_map(|(metered, count)| {
            let until = self.buckets.draw(metered, count, limits, now)?;
            Some((until, Limit::Rate(metered)))
        });
        waits.max_by_key(|(until, _)| *until)
    }

    /// Refuses a command that comes too soon after others of its kind.
    pub(super) fn is_too_soon(
        &mut self,
        id: u32,
        request: &Request,
        now: Now,
        actions: &mut Actions,
    ) -> bool {
        let limits = &self.policy.client.rate_limits;
        let exceeded =
            Metered::of(request).filter(|metered| !self.buckets.take(*metered, limits, now.at));
        if let Some(metered) = exceeded {
            if let Request::Publish(publish) = request
                && let Ok(channel) = self.channel(&publish.channel)
            {
                self.count_unpublished(channel, Unpublished::RateLimited, actions);
            }
            actions.push(Action::Limited(Limit::Rate(metered)));
            actions.push(error(id, ErrorCode::TooManyRequests));
        }
        exceeded.is_some()
    }

    /// Counts the errors among `actions`. Who gets more than it may is not listening to them: it goes, for a while if
    /// all that it does wrong is to be fast.
    pub(super) fn count_errors(&mut self, now: Now, actions: &mut Actions) {
        let limits = &self.policy.client.rate_limits;
        let codes = actions.iter().filter_map(|action| match action {
            Action::Reply(reply) => reply.error.as_ref().map(|error| error.code),
            _ => None,
        });
        let mut codes = codes.filter(|code| is_its_mistake(*code));
        let beyond = codes.find(|_| !self.buckets.take(Metered::Errors, limits, now.at));
        if let Some(code) = beyond
            && self.is_connected()
        {
            actions.push(Action::Limited(Limit::Rate(Metered::Errors)));
            let is_fast = code == ErrorCode::TooManyRequests.code();
            self.close(
                if is_fast {
                    DisconnectCode::TooManyRequests
                } else {
                    DisconnectCode::TooManyErrors
                },
                actions,
            );
        }
    }
}

/// Whether an error says that the client does something wrong. It can help neither what fails here, or at the back end,
/// nor what the application answers.
fn is_its_mistake(code: u32) -> bool {
    code != ErrorCode::Internal.code() && code < APPLICATION_CODES
}
