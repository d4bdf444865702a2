//! Who a client is that does not say so itself.

use flotilla_shared::auth::ConnectionClaims;
use flotilla_shared::protocol::types::ConnectRequest;

use super::super::connect::Identity;
use super::{About, Actions, Now, Refused, Session, State, granted};
use crate::hooks::{Answer, ConnectGrant, Question};

impl Session {
    /// Whether the back end has to say who the client is: neither a token nor the edge does.
    pub(in crate::session) fn is_unknown(&self, request: &ConnectRequest) -> bool {
        self.policy.hooks.connect && request.token.is_empty() && self.edge.is_none()
    }

    /// Asks. The connect command waits for the answer, and every other command for the connect command's.
    pub(in crate::session) fn ask_who(
        &mut self,
        id: u32,
        request: ConnectRequest,
        actions: &mut Actions,
    ) {
        self.state = State::Identifying;
        let question = Question::Connect {
            name: request.name.clone(),
            version: request.version.clone(),
            data: request.data.clone(),
            channels: request.subs.keys().cloned().collect(),
        };
        self.ask(About::Connect(id, Box::new(request)), question, actions);
    }

    pub(super) fn identified(
        &mut self,
        id: u32,
        request: &ConnectRequest,
        answer: Answer<ConnectGrant>,
        now: Now,
        actions: &mut Actions,
    ) {
        let identity = self.identity_by(answer, now);
        self.connect_as(id, request, identity, now, actions);
    }

    /// Whatever the answer leaves out is empty, also the user: that is the anonymous one.
    fn identity_by(&self, answer: Answer<ConnectGrant>, now: Now) -> Result<Identity, Refused> {
        if answer == Answer::Nobody {
            return self.identify_nobody();
        }
        let grant = granted(answer)?;
        Ok(Identity {
            claims: ConnectionClaims {
                user: grant.user,
                expire_at: Some(grant.expire_at).filter(|at| *at > 0),
                info: grant.info,
                channels: grant.channels,
                subs: grant.subs,
                meta: grant.meta,
                // For revocations: the back end has just vouched for the user, whatever was revoked before.
                issued_at: Some(now.unix_seconds),
                ..ConnectionClaims::default()
            },
            by_client: false,
            data: grant.data,
        })
    }
}
