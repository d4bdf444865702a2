//! What a session on a link has to know of the message that is being handled: a worker that was lost may have handled it
//! before.

use flotilla_shared::protocol::types::{ConnectRequest, SubscribeRequest};

use super::subscription::Subscription;
use super::{Action, Actions, Now, Session, State};
use crate::config::Unacknowledged;

/// See the module's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// Its number, from 1 on, in the session's whole life.
    number: u64,
    /// Another worker may have handled it, and nobody knows whether.
    is_repeat: bool,
    /// Publish commands in it so far.
    publishes: u32,
}

impl Session {
    /// The commands that follow are those of the client's message with this number. `is_repeat`: another worker has had
    /// it before, and has not said that it was done.
    pub(crate) fn begin_message(&mut self, number: u64, is_repeat: bool) {
        if !is_repeat {
            // Its connect command does not come again.
            self.edge = self.edge.take().filter(|_| !self.is_connected());
        }
        self.said = Some(Said {
            number,
            is_repeat,
            publishes: 0,
        });
    }

    /// Another publish command.
    pub(super) fn count_publish(&mut self) {
        if let Some(said) = &mut self.said {
            said.publishes += 1;
        }
    }

    /// What the publish command that is being handled can be known again by; empty: it cannot.
    pub(super) fn idempotency_key(&self) -> String {
        self.said.map_or_else(String::new, |said| {
            format!("{}/{}/{}", self.client, said.number, said.publishes)
        })
    }

    /// Whether the message may have been handled before.
    pub(super) fn is_repeat(&self) -> bool {
        self.said.is_some_and(|said| said.is_repeat)
    }

    /// Whether what cannot be recognised as a repeat is not published once more.
    pub(super) fn drops_repeats(&self) -> bool {
        self.is_repeat() && self.policy.client.unacknowledged == Unacknowledged::Drop
    }

    /// The client says once more what its connect command was: it has not had the answer, or nobody knows. It begins
    /// again, without anybody else noticing.
    pub(super) fn connect_again(
        &mut self,
        id: u32,
        request: ConnectRequest,
        now: Now,
        actions: &mut Actions,
    ) {
        for own in std::mem::take(&mut self.subscriptions) {
            actions.push(Action::Unsubscribe(own.channel));
        }
        self.make_room();
        self.state = State::Awaiting { until: now.at };
        self.connect(id, request, now, actions);
    }

    /// The client subscribes once more to what it is in already: it has not had the answer, or nobody knows. It is out
    /// from now on, without anybody else noticing; returns what it had.
    pub(super) fn unsubscribe_to_repeat(
        &mut self,
        request: &SubscribeRequest,
        actions: &mut Actions,
    ) -> Option<Subscription> {
        let is_it = |own: &Subscription| {
            own.is_active()
                && !own.features.is_server_side
                && own.channel.as_str() == request.channel
        };
        let at = self.subscriptions.iter().position(is_it);
        let own = self
            .subscriptions
            .swap_remove(at.filter(|_| self.is_repeat())?);
        actions.push(Action::Unsubscribe(own.channel.clone()));
        Some(own)
    }
}
