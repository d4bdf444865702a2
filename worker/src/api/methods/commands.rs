//! `subscribe`, `unsubscribe`, `refresh` and `disconnect`: what is done to the connections of a user, whichever workers
//! serve them.
//!
//! A command that some worker did not confirm is answered by an error that may be tried again: each can be repeated
//! without harm, and a caller that took it for done would be wrong.

use bytes::Bytes;
use flotilla_shared::auth::ChannelGrant;
use flotilla_shared::protocol::codes::{DisconnectCode, ErrorCode};
use flotilla_shared::protocol::types::StreamPosition;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Methods, Outcome};
use crate::api::Failure;
use crate::fleet::{Disconnect, Question, Refresh, Subscribe, Target, Unsubscribe};

/// The request of `subscribe`, but for what the subscription comes with, which is a [`ChannelGrant`].
#[derive(Debug, Deserialize)]
pub(super) struct SubscribeRequest {
    user: String,
    channel: String,
    #[serde(default)]
    client: String,
    #[serde(default)]
    session: String,
    #[serde(default)]
    recover_since: Option<Since>,
    /// Unix seconds; 0: never.
    #[serde(default)]
    expire_at: u64,
}

/// A place in a channel's stream.
#[derive(Debug, Deserialize)]
struct Since {
    offset: u64,
    #[serde(default)]
    epoch: String,
}

/// The request of `refresh`.
#[derive(Debug, Deserialize)]
pub(super) struct RefreshRequest {
    user: String,
    #[serde(default)]
    client: String,
    #[serde(default)]
    session: String,
    /// The connections have expired.
    #[serde(default)]
    expired: bool,
    /// Unix seconds; 0: never.
    #[serde(default)]
    expire_at: u64,
    /// What others learn of the connections from now on.
    #[serde(default)]
    info: Option<Box<RawValue>>,
}

/// The request of `unsubscribe`.
#[derive(Debug, Deserialize)]
pub(super) struct UnsubscribeRequest {
    user: String,
    channel: String,
    #[serde(default)]
    client: String,
    #[serde(default)]
    session: String,
}

/// The request of `disconnect`.
#[derive(Debug, Deserialize)]
pub(super) struct DisconnectRequest {
    user: String,
    #[serde(default)]
    client: String,
    #[serde(default)]
    session: String,
    /// Ids of connections that stay.
    #[serde(default)]
    whitelist: Vec<String>,
    #[serde(default)]
    disconnect: Option<Goodbye>,
}

/// What the clients are told.
#[derive(Debug, Deserialize)]
struct Goodbye {
    code: u32,
    #[serde(default)]
    reason: String,
}

/// Codes that clients take for a disconnect; others would mean something else to them.
const CODES: std::ops::RangeInclusive<u32> = 3000..=4999;

impl Methods {
    pub(super) async fn subscribe(
        &self,
        request: SubscribeRequest,
        grant: ChannelGrant,
    ) -> Result<Outcome, Failure> {
        let (channel, _) = self.channel(&request.channel)?;
        let since = request.recover_since;
        let question = Subscribe {
            target: target(request.user, request.client, request.session)?,
            channel: channel.as_str().to_owned(),
            info: grant.info,
            data: grant.data,
            expire_at: request.expire_at,
            recover_since: since.map(|Since { offset, epoch }| StreamPosition { offset, epoch }),
            overrides: grant.overrides.into(),
        };
        self.everywhere(Question::Subscribe(question)).await
    }

    pub(super) async fn refresh(&self, request: RefreshRequest) -> Result<Outcome, Failure> {
        let info = request.info;
        let question = Refresh {
            target: target(request.user, request.client, request.session)?,
            expired: request.expired,
            expire_at: request.expire_at,
            info: info.map_or_else(Bytes::new, |info| {
                String::from(Box::<str>::from(info)).into()
            }),
        };
        self.everywhere(Question::Refresh(question)).await
    }

    pub(super) async fn unsubscribe(
        &self,
        request: UnsubscribeRequest,
    ) -> Result<Outcome, Failure> {
        let (channel, _) = self.channel(&request.channel)?;
        let question = Unsubscribe {
            target: target(request.user, request.client, request.session)?,
            channel: channel.as_str().to_owned(),
        };
        self.everywhere(Question::Unsubscribe(question)).await
    }

    pub(super) async fn disconnect(&self, request: DisconnectRequest) -> Result<Outcome, Failure> {
        let goodbye = request.disconnect.unwrap_or_else(|| Goodbye {
            code: u32::from(DisconnectCode::ForceDisconnect.code()),
            reason: DisconnectCode::ForceDisconnect.text().to_owned(),
        });
        if !CODES.contains(&goodbye.code) {
            let problem = format!(
                "disconnect.code: between {} and {}",
                CODES.start(),
                CODES.end()
            );
            return Err(Failure::bad_request(problem));
        }
        let question = Disconnect {
            target: target(request.user, request.client, request.session)?,
            whitelist: request.whitelist,
            code: goodbye.code,
            reason: goodbye.reason,
            newcomer: None,
        };
        self.everywhere(Question::Disconnect(question)).await
    }

    /// Has something done by every worker, and fails if one did not do it.
    pub(super) async fn everywhere(&self, question: Question) -> Result<Outcome, Failure> {
        let gathered = self.fleet.ask(question).await;
        let gathered = gathered.map_err(|error| Failure::new(error.code()))?;
        if gathered.silent.is_empty() {
            return Ok(Outcome::Done {});
        }
        let code = ErrorCode::Internal;
        Err(Failure {
            code: code.code(),
            message: format!(
                "{}: not done by {}",
                code.text(),
                gathered.silent.join(", ")
            ),
        })
    }
}

fn target(user: String, client: String, session: String) -> Result<Target, Failure> {
    if user.is_empty() {
        return Err(Failure::bad_request("user: empty"));
    }
    Ok(Target {
        user,
        client,
        session,
    })
}
