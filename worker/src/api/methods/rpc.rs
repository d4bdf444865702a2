//! `rpc`: what the back end answers to calls of clients, for another part of the back end.

use flotilla_shared::protocol::codes::ErrorCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::payload::Payload;
use super::{Methods, Outcome};
use crate::api::Failure;
use crate::hooks::{Answer, Call, Caller, Hook, Question, RpcGrant};

/// The request of `rpc`.
#[derive(Debug, Deserialize)]
pub(super) struct RpcRequest {
    #[serde(default)]
    method: String,
    #[serde(default)]
    params: Option<Box<RawValue>>,
}

impl Methods {
    /// Asks the hook that answers clients, for nobody's client.
    pub(super) async fn rpc(&self, request: RpcRequest) -> Result<Outcome, Failure> {
        if !self.hooks.endpoints().contains_key(&Hook::Rpc) {
            return Err(Failure::new(ErrorCode::NotAvailable));
        }
        let params = request
            .params
            .map(|params| Box::<str>::from(params).into_string());
        let call = Call {
            client: None,
            user: String::new(),
            meta: Default::default(),
            question: Question::Rpc {
                method: request.method,
                data: params.unwrap_or_default().into(),
            },
        };
        match self.hooks.ask::<RpcGrant>(&Caller::back_end(), &call).await {
            Answer::Granted(RpcGrant { data }) => Ok(Outcome::Rpc(Payload::of(&data))),
            Answer::Refused(error) => Err(Failure::told(error.code, error.message)),
            // There is no connection to end.
            Answer::Disconnect(_) | Answer::Nobody | Answer::Failed => {
                Err(Failure::new(ErrorCode::Internal))
            }
        }
    }
}
