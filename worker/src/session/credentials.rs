//! By what a session can be told when users are blocked and tokens are revoked.

use flotilla_shared::auth::ConnectionClaims;
use flotilla_shared::protocol::codes::DisconnectCode;

use super::Session;
use super::snapshot::Token;
use crate::revocation::{Credentials, TokenMarks};

/// What a token can be told by when it is revoked.
#[derive(Debug)]
pub(super) struct HeldToken {
    id: Option<Box<str>>,
    issued_at: Option<u64>,
}

impl HeldToken {
    /// Of a token that can be told from others; nothing is held of one that cannot.
    pub(super) fn of(claims: &ConnectionClaims) -> Option<Box<Self>> {
        let is_telling = claims.token_id.is_some() || claims.issued_at.is_some();
        is_telling.then(|| {
            Box::new(Self {
                id: claims.token_id.as_deref().map(Box::from),
                issued_at: claims.issued_at,
            })
        })
    }

    /// As another worker wrote it.
    pub(super) fn restored(token: Token) -> Box<Self> {
        Box::new(Self {
            id: token.id.map(String::into_boxed_str),
            issued_at: token.issued_at,
        })
    }

    /// As another worker can read it.
    pub(super) fn to_token(&self) -> Token {
        Token {
            id: self.id.as_deref().map(str::to_owned),
            issued_at: self.issued_at,
        }
    }

    fn marks(&self) -> TokenMarks<'_> {
        TokenMarks {
            id: self.id.as_deref(),
            issued_at: self.issued_at,
        }
    }
}

impl Session {
    /// What revocations are held against.
    pub(crate) fn credentials(&self) -> Credentials<'_> {
        let marks = self.token.as_deref().map(HeldToken::marks);
        // Only who has no token has no name.
        let token = marks.or_else(|| (!self.user.is_empty()).then(TokenMarks::default));
        Credentials {
            user: &self.user,
            token,
        }
    }

    /// Refuses a blocked user and a revoked token.
    pub(super) fn admit(&self, claims: &ConnectionClaims) -> Result<(), DisconnectCode> {
        let has_token = !claims.user.is_empty() || claims.token_id.is_some();
        let credentials = Credentials {
            user: &claims.user,
            token: has_token.then_some(TokenMarks {
                id: claims.token_id.as_deref(),
                issued_at: claims.issued_at,
            }),
        };
        match self.policy.revocations.refuse(credentials) {
            None => Ok(()),
            Some(refusal) => Err(refusal.code()),
        }
    }
}
