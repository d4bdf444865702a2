//! The requests of JetStream's API that are used here, and what its errors mean.
//!
//! Owns the wire: subjects below `$JS.API`, JSON, error codes. Knows nothing of what is done with the answers.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::{Client, Message, Request, RequestError, RequestErrorKind};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::broker::BrokerError;

/// The subject of a message is in a stream already.
const SUBJECT_OVERLAP: u64 = 10_065;
const NAME_EXISTS: u64 = 10_058;
const STREAM_NOT_FOUND: u64 = 10_059;
const MESSAGE_NOT_FOUND: u64 = 10_037;
/// Something else was last when a message came that expected to follow something; or it wanted what is not permitted.
const NOT_SO: [u64; 4] = [10_071, 10_111, 10_163, 10_164];
const MESSAGE_TOO_LARGE: [u64; 2] = [10_054, 10_097];
const NOT_ENABLED: [u64; 2] = [10_039, 10_076];
/// A message with the same key is being stored.
const KEY_ON_ITS_WAY: u64 = 10_158;
/// The servers that are there are not enough for the replicas.
const NO_PEERS: u64 = 10_005;
/// The cluster has no leader for it at the moment, or the stream is not running.
const NOT_NOW: [u64; 9] = [
    10_004, 10_006, 10_007, 10_008, 10_009, 10_118, 10_167, 10_194, 10_041,
];
/// Storage or memory is used up.
const FULL: [u64; 6] = [10_002, 10_023, 10_028, 10_047, 10_077, 10_122];

/// Sends requests and waits for their answers.
#[derive(Clone)]
pub(super) struct Api {
    pub(super) client: Client,
    /// How long an answer may take.
    pub(super) patience: Duration,
}

/// Why a request did not do what it was to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Nobody answers for the stream: it is gone, or has no leader.
    NoStream,
    /// Somebody else was quicker.
    Conflict,
    /// Who answered does not know yet what is known here, or is still busy with the same thing.
    Behind,
    /// There is no leader at the moment, in so many words.
    NotNow(String),
    /// Anything else.
    Failed(BrokerError),
}

impl From<BrokerError> for Refusal {
    fn from(error: BrokerError) -> Self {
        Self::Failed(error)
    }
}

/// An error of JetStream.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct ApiError {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer<T> {
    Error { error: ApiError },
    Ok(T),
}

/// What a stream is, and how far it has come.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct StreamInfo {
    /// As the server has it, unknown options included: what is sent back with an update.
    pub(super) config: Value,
    /// RFC 3339.
    pub(super) created: String,
    pub(super) state: StreamState,
}

/// How far a stream has come.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct StreamState {
    /// Of the last message that was ever stored.
    pub(super) last_seq: u64,
}

#[derive(Deserialize)]
struct StreamPage {
    #[serde(default)]
    total: usize,
    streams: Option<Vec<StreamInfo>>,
    missing: Option<Vec<String>>,
}

/// All streams with certain subjects.
#[derive(Default)]
pub(super) struct StreamList {
    pub(super) streams: Vec<StreamInfo>,
    /// The names of those that exist, and of which nothing is known at the moment.
    pub(super) silent: Vec<String>,
}

/// The confirmation of a stored message.
#[derive(Debug, Deserialize)]
pub(super) struct Ack {
    pub(super) stream: String,
    pub(super) seq: u64,
    #[serde(default)]
    pub(super) duplicate: bool,
}

/// One stored message, as a stream's leader gives it.
#[derive(Deserialize)]
pub(super) struct LeaderMessage {
    pub(super) message: RawMessage,
}

#[derive(Deserialize)]
pub(super) struct RawMessage {
    pub(super) seq: u64,
    /// RFC 3339.
    pub(super) time: String,
    /// Base64.
    #[serde(default)]
    pub(super) data: String,
    /// Base64.
    #[serde(default)]
    pub(super) hdrs: String,
}

impl ApiError {
    /// What it means for a message that was to be stored, or for one that was to be read.
    pub(super) fn refusal(self) -> Refusal {
        match self.err_code {
            STREAM_NOT_FOUND => Refusal::NoStream,
            SUBJECT_OVERLAP | NAME_EXISTS => Refusal::Conflict,
            code if NOT_SO.contains(&code) => Refusal::Conflict,
            code if NOT_ENABLED.contains(&code) => no_jetstream().into(),
            KEY_ON_ITS_WAY => Refusal::Behind,
            code if NOT_NOW.contains(&code) => Refusal::NotNow(self.description),
            code if FULL.contains(&code) => BrokerError::Unavailable(self.description).into(),
            _ => BrokerError::Refused(self.description).into(),
        }
    }

    pub(super) fn is_too_large(&self) -> bool {
        MESSAGE_TOO_LARGE.contains(&self.err_code)
    }

    fn is_nothing_found(&self) -> bool {
        self.err_code == MESSAGE_NOT_FOUND
    }

    /// What it means at the start: what is used up then does not go away by waiting.
    fn at_creation(self) -> Refusal {
        if FULL.contains(&self.err_code) {
            let limit = format!(
                "JetStream has no room for the histories: {}",
                self.description
            );
            return BrokerError::Refused(limit).into();
        }
        match self.err_code {
            // Servers that are to hold it may be on their way.
            NO_PEERS => Refusal::NotNow(self.description),
            _ => self.refusal(),
        }
    }
}

pub(super) fn no_jetstream() -> BrokerError {
    let reason = "history needs JetStream, which the NATS server, or the account, does not have";
    BrokerError::Refused(reason.to_owned())
}

impl Api {
    /// Sends one request and waits for one answer, whatever it says.
    pub(super) async fn request(
        &self,
        subject: String,
        request: Request,
    ) -> Result<Message, Refusal> {
        let request = request.timeout(Some(self.patience));
        let answer = self.client.send_request(subject, request).await;
        answer.map_err(|error| self.request_refusal(&error))
    }

    fn request_refusal(&self, error: &RequestError) -> Refusal {
        match error.kind() {
            RequestErrorKind::NoResponders => Refusal::NoStream,
            RequestErrorKind::TimedOut => BrokerError::Timeout.into(),
            RequestErrorKind::MaxPayloadExceeded => BrokerError::TooLarge {
                size: 0,
                limit: self.client.max_payload(),
            }
            .into(),
            RequestErrorKind::InvalidSubject => BrokerError::Refused(error.to_string()).into(),
            // The connection was closed, or lost with the request on its way.
            RequestErrorKind::Other => BrokerError::Timeout.into(),
        }
    }

    async fn call<T: DeserializeOwned>(
        &self,
        subject: String,
        body: &impl Serialize,
    ) -> Result<Result<T, ApiError>, Refusal> {
        let body = serde_json::to_vec(body).map_err(|error| malformed(&error))?;
        let request = Request::new().payload(body.into());
        let message = self.request(format!("$JS.API.{subject}"), request).await?;
        match serde_json::from_slice(&message.payload) {
            Ok(Answer::Ok(answer)) => Ok(Ok(answer)),
            Ok(Answer::Error { error }) => Ok(Err(error)),
            Err(error) => Err(malformed(&error).into()),
        }
    }

    /// All streams whose subjects are among `subjects`.
    pub(super) async fn list(&self, subjects: &str) -> Result<StreamList, Refusal> {
        let mut all = StreamList::default();
        loop {
            let known = all.streams.len() + all.silent.len();
            let body = json!({ "subject": subjects, "offset": known });
            let page = self.call::<StreamPage>("STREAM.LIST".to_owned(), &body);
            let page = page.await?.map_err(ApiError::refusal)?;
            let streams = page.streams.unwrap_or_default();
            let silent = page.missing.unwrap_or_default();
            let is_last = streams.is_empty() && silent.is_empty();
            all.streams.extend(streams);
            all.silent.extend(silent);
            if is_last || all.streams.len() + all.silent.len() >= page.total {
                return Ok(all);
            }
        }
    }

    pub(super) async fn create(&self, name: &str, config: &Value) -> Result<(), Refusal> {
        let created = self.call::<Value>(format!("STREAM.CREATE.{name}"), config);
        created.await?.map_err(ApiError::at_creation)?;
        Ok(())
    }

    pub(super) async fn update(&self, name: &str, config: &Value) -> Result<(), Refusal> {
        let updated = self.call::<Value>(format!("STREAM.UPDATE.{name}"), config);
        updated.await?.map_err(ApiError::at_creation)?;
        Ok(())
    }

    pub(super) async fn delete(&self, name: &str) -> Result<(), Refusal> {
        let body = json!({});
        let deleted = self.call::<Value>(format!("STREAM.DELETE.{name}"), &body);
        match deleted.await?.map_err(ApiError::refusal) {
            Ok(_) | Err(Refusal::NoStream) => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }

    /// Removes what is stored under a subject before a sequence.
    pub(super) async fn purge(
        &self,
        name: &str,
        subject: &str,
        before: u64,
    ) -> Result<(), Refusal> {
        let body = json!({ "filter": subject, "seq": before });
        let purged = self.call::<Value>(format!("STREAM.PURGE.{name}"), &body);
        purged.await?.map_err(ApiError::refusal)?;
        Ok(())
    }

    /// How far a stream has come, by its leader.
    pub(super) async fn info(&self, name: &str) -> Result<StreamInfo, Refusal> {
        let body = json!({});
        let info = self.call(format!("STREAM.INFO.{name}"), &body);
        info.await?.map_err(ApiError::refusal)
    }

    /// One message, by the stream's leader.
    pub(super) async fn leader_message(
        &self,
        name: &str,
        body: &Value,
    ) -> Result<Option<RawMessage>, Refusal> {
        let message = self.call::<LeaderMessage>(format!("STREAM.MSG.GET.{name}"), body);
        match message.await? {
            Ok(answer) => Ok(Some(answer.message)),
            Err(error) if error.is_nothing_found() => Ok(None),
            Err(error) => Err(error.refusal()),
        }
    }

    /// Reads the confirmation of a message that was to be stored.
    pub(super) fn ack(message: &Message, size: usize, limit: usize) -> Result<Ack, Refusal> {
        match serde_json::from_slice(&message.payload) {
            Ok(Answer::Ok(ack)) => Ok(ack),
            Ok(Answer::Error { error }) if error.is_too_large() => {
                Err(BrokerError::TooLarge { size, limit }.into())
            }
            Ok(Answer::Error { error }) => Err(error.refusal()),
            Err(error) => Err(malformed(&error).into()),
        }
    }
}

fn malformed(error: &serde_json::Error) -> BrokerError {
    BrokerError::Refused(format!("JetStream's answer makes no sense: {error}"))
}

/// The metadata of a stream's configuration.
pub(super) fn metadata(config: &Value) -> HashMap<&str, &str> {
    let entries = config.get("metadata").and_then(Value::as_object);
    let texts = entries.into_iter().flatten();
    texts
        .filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
        .collect()
}
