//! `block_user`, `unblock_user`, `revoke_token` and `invalidate_user_tokens`: what no longer counts, on every worker when
//! it is answered.

use flotilla_shared::clock::unix_seconds;
use flotilla_shared::protocol::codes::ErrorCode;
use serde::Deserialize;

use super::{Methods, Outcome};
use crate::api::Failure;
use crate::fleet::{Question, Revocations};
use crate::revocation::{Revocation, Subject};

/// The request of `block_user`.
#[derive(Debug, Deserialize)]
pub(super) struct BlockUserRequest {
    user: String,
    /// Unix seconds; 0: until it is unblocked.
    #[serde(default)]
    expire_at: Option<u64>,
}

/// The request of `unblock_user`.
#[derive(Debug, Deserialize)]
pub(super) struct UnblockUserRequest {
    user: String,
}

/// The request of `revoke_token`.
#[derive(Debug, Deserialize)]
pub(super) struct RevokeTokenRequest {
    /// The token's `jti`.
    #[serde(alias = "jti")]
    uid: String,
    /// Unix seconds, best those of the token's `exp`; 0: for ever.
    #[serde(default)]
    expire_at: Option<u64>,
}

/// The request of `invalidate_user_tokens`.
#[derive(Debug, Deserialize)]
pub(super) struct InvalidateUserTokensRequest {
    user: String,
    /// Tokens with an earlier `iat`, or with none, do not count. Unix seconds; not said: now.
    #[serde(default)]
    issued_before: Option<u64>,
    /// Unix seconds; 0: for ever.
    #[serde(default)]
    expire_at: Option<u64>,
}

impl Methods {
    pub(super) async fn block_user(&self, request: BlockUserRequest) -> Result<Outcome, Failure> {
        let subject = Subject::User(request.user);
        self.revoke(
            self.revocations
                .say(subject, request.expire_at.unwrap_or(0)),
        )
        .await
    }

    pub(super) async fn unblock_user(
        &self,
        request: UnblockUserRequest,
    ) -> Result<Outcome, Failure> {
        let said = self.revocations.say(Subject::User(request.user), 0);
        self.revoke(Revocation {
            is_lifted: true,
            ..said
        })
        .await
    }

    pub(super) async fn revoke_token(
        &self,
        request: RevokeTokenRequest,
    ) -> Result<Outcome, Failure> {
        let subject = Subject::Token(request.uid);
        self.revoke(
            self.revocations
                .say(subject, request.expire_at.unwrap_or(0)),
        )
        .await
    }

    pub(super) async fn invalidate_user_tokens(
        &self,
        request: InvalidateUserTokensRequest,
    ) -> Result<Outcome, Failure> {
        let subject = Subject::TokensOf(request.user);
        let said = self
            .revocations
            .say(subject, request.expire_at.unwrap_or(0));
        self.revoke(Revocation {
            issued_before: request.issued_before.unwrap_or_else(unix_seconds),
            ..said
        })
        .await
    }

    async fn revoke(&self, revocation: Revocation) -> Result<Outcome, Failure> {
        match &revocation.subject {
            Some(subject) if subject.id().is_empty() => {
                return Err(Failure::bad_request("an empty id"));
            }
            Some(subject) if !self.revocations.has_room_for(subject) => {
                return Err(Failure::new(ErrorCode::LimitExceeded));
            }
            _ => {}
        }
        let question = Question::Revoke(Revocations {
            revocations: vec![revocation],
        });
        self.everywhere(question).await
    }
}
