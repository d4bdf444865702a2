//! The command `rpc`, which only the back end can answer.

use flotilla_shared::protocol::codes::ErrorCode;
use flotilla_shared::protocol::types::{Reply, RpcRequest, RpcResult};

use super::super::{Action, error, reply};
use super::{About, Actions, Session, granted};
use crate::hooks::{Answer, Question, RpcGrant};
use crate::rates::Limit;

/// Calls of one client that may wait for the back end at the same time.
const IN_FLIGHT_MAX: u16 = 32;

impl Session {
    pub(in crate::session) fn rpc(&mut self, id: u32, request: RpcRequest, actions: &mut Actions) {
        if !self.policy.hooks.rpc {
            return actions.push(error(id, ErrorCode::NotAvailable));
        }
        if self.rpcs >= IN_FLIGHT_MAX {
            actions.push(Action::Limited(Limit::InFlight));
            return actions.push(error(id, ErrorCode::TooManyRequests));
        }
        self.rpcs += 1;
        let question = Question::Rpc {
            method: request.method,
            data: request.data,
        };
        self.ask(About::Rpc(id), question, actions);
    }

    pub(super) fn called(&mut self, id: u32, answer: Answer<RpcGrant>, actions: &mut Actions) {
        self.rpcs = self.rpcs.saturating_sub(1);
        match granted(answer) {
            Ok(RpcGrant { data }) => actions.push(reply(Reply::rpc(id, RpcResult { data }))),
            Err(refused) => self.refuse(id, &refused, actions),
        }
    }
}
