//! What a session asks the back end, and what it makes of the answers.
//!
//! Owns: the questions, and who waits for which. Knows nothing of how they are put: whoever drives the session brings
//! the answer back, also when there is none.

mod connect;
mod publish;
mod renewal;
mod rpc;
mod subscribe;

use bytes::Bytes;
use flotilla_shared::channel::Channel;
use flotilla_shared::protocol::codes::ErrorCode;
use flotilla_shared::protocol::types::ConnectRequest;

use super::{Action, Actions, Now, Refused, Session, State};
use crate::hooks::{
    Answer, Call, ConnectGrant, PublishGrant, Question, RefreshGrant, RpcGrant, SubscribeGrant,
};

pub(crate) use renewal::Renewal;

/// A question on its way to the back end.
#[derive(Debug)]
pub(crate) struct Ask {
    /// What is asked.
    pub(crate) call: Call,
    /// What the session needs to know again when the answer is there.
    pub(crate) about: About,
}

/// What a question is about.
#[derive(Debug)]
pub(crate) enum About {
    /// The connect command, and its id.
    Connect(u32, Box<ConnectRequest>),
    /// The connection's expiry.
    Refresh(Renewal),
    /// The rpc command with this id.
    Rpc(u32),
    /// The subscription that is waiting for it.
    Subscribe(Channel),
    /// A publish command.
    Publish {
        /// The command's id.
        id: u32,
        /// Where it is to be published.
        channel: Channel,
        /// What the client wants to publish.
        data: Bytes,
    },
    /// The subscription's expiry.
    SubRefresh(Channel, Renewal),
}

impl About {
    /// Whether the client's next command waits for the answer, by the means of whoever drives the session. (What waits for
    /// the answer to [`About::Connect`] waits for the connect command's reply.)
    pub(crate) fn is_in_order(&self) -> bool {
        matches!(self, Self::Publish { .. })
    }
}

/// The back end's answer to a question.
#[derive(Debug)]
pub(crate) enum Answered {
    /// To [`About::Connect`].
    Connect(u32, Box<ConnectRequest>, Answer<ConnectGrant>),
    /// To [`About::Refresh`].
    Refresh(Renewal, Answer<RefreshGrant>),
    /// To [`About::Rpc`].
    Rpc(u32, Answer<RpcGrant>),
    /// To [`About::Subscribe`].
    Subscribe(Channel, Answer<SubscribeGrant>),
    /// To [`About::Publish`].
    Publish {
        /// As it was asked.
        id: u32,
        /// As it was asked.
        channel: Channel,
        /// As it was asked.
        data: Bytes,
        /// What came of it.
        answer: Answer<PublishGrant>,
    },
    /// To [`About::SubRefresh`].
    SubRefresh(Channel, Renewal, Answer<RefreshGrant>),
}

impl Session {
    fn ask(&self, about: About, question: Question, actions: &mut Actions) {
        let call = Call {
            client: Some(self.client),
            user: self.user.to_string(),
            meta: self.meta.clone(),
            question,
        };
        actions.push(Action::Ask(Box::new(Ask { call, about })));
    }

    pub(super) fn answered(&mut self, answered: Answered, now: Now, actions: &mut Actions) {
        match (&self.state, answered) {
            (State::Identifying, Answered::Connect(id, request, answer)) => {
                self.identified(id, &request, answer, now, actions);
            }
            (State::Connected, answered) => self.answered_later(answered, now, actions),
            // Nobody asks anything else before being connected.
            _ => {}
        }
    }

    fn answered_later(&mut self, answered: Answered, now: Now, actions: &mut Actions) {
        match answered {
            // It is connected already.
            Answered::Connect(..) => {}
            Answered::Refresh(renewal, answer) => self.may_go_on(renewal, answer, now, actions),
            Answered::Rpc(id, answer) => self.called(id, answer, actions),
            Answered::Subscribe(channel, answer) => {
                self.may_subscribe(&channel, answer, now, actions);
            }
            Answered::Publish {
                id,
                channel,
                data,
                answer,
            } => self.may_publish_this(id, channel, data, answer, actions),
            Answered::SubRefresh(channel, renewal, answer) => {
                self.may_stay(&channel, renewal, answer, now, actions);
            }
        }
    }
}

/// What the back end grants, or what the client is to be told instead.
fn granted<T>(answer: Answer<T>) -> Result<T, Refused> {
    match answer {
        Answer::Granted(grant) => Ok(grant),
        Answer::Refused(error) => Err(Refused::Told(error)),
        Answer::Disconnect(goodbye) => Err(Refused::Dismissed(goodbye)),
        // Temporary: the client tries again.
        Answer::Nobody | Answer::Failed => Err(ErrorCode::Internal.into()),
    }
}
