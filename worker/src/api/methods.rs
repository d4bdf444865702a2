//! What the server API's methods do.
//!
//! Owns: the methods' requests and results. A publication made here takes the same road through the broker as one that
//! a client makes; it carries no publisher.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flotilla_shared::broker::{Broker, BrokerError, Topic};
use flotilla_shared::channel::{Channel, ChannelError};
use flotilla_shared::protocol::codes::ErrorCode;
use flotilla_shared::protocol::types::{Publication, Push};
use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use prost::Message as _;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Answer, Failure};
use crate::namespace::Namespaces;

/// Most channels of one broadcast, and most commands of one batch.
const MANY_MAX: usize = 1000;

/// Methods that are answered. Also the labels of the metrics.
pub(crate) const METHODS: [&str; 3] = ["publish", "broadcast", "batch"];

/// Methods of this API that other servers have and this one does not: 108 instead of "no such method".
const UNAVAILABLE: [&str; 12] = [
    "subscribe",
    "unsubscribe",
    "disconnect",
    "refresh",
    "presence",
    "presence_stats",
    "history",
    "history_remove",
    "channels",
    "info",
    "rpc",
    "connections",
];

/// The worker's broker connection for what is not a client's, once there is one.
pub(crate) type ControlBroker = Arc<OnceLock<Arc<dyn Broker>>>;

/// Publishes on behalf of back ends.
pub(crate) struct Publisher {
    pub(crate) broker: ControlBroker,
    pub(crate) namespaces: Namespaces,
    pub(crate) channel_max_bytes: usize,
}

/// The request of `publish` and of `broadcast`, which differ in `channel` and `channels` only. Fields that mean something
/// only where there is history (`skip_history`, `delta`) are read and have no effect without it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Content {
    channel: String,
    channels: Vec<String>,
    data: Option<Box<RawValue>>,
    b64data: Option<String>,
    tags: BTreeMap<String, String>,
    idempotency_key: String,
    version: u64,
}

/// The request of `batch`: each command is an object with one method and its request.
#[derive(Debug, Deserialize)]
struct Batch {
    commands: Vec<BTreeMap<String, Box<RawValue>>>,
    /// Run them side by side; otherwise each waits for the one before.
    #[serde(default)]
    parallel: bool,
}

/// The result of a method.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Outcome {
    /// Offset and epoch come with history.
    Published {},
    Broadcast {
        /// In the order of the channels.
        responses: Vec<Answer<Outcome>>,
    },
    Batch {
        /// In the order of the commands; each has the method's name or `error` as its only key.
        replies: Vec<BTreeMap<String, Reply>>,
    },
}

/// How one command of a batch went.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Reply {
    Outcome(Outcome),
    Failure(Failure),
}

impl Publisher {
    /// Runs a method.
    pub(super) async fn call(&self, method: &str, request: &[u8]) -> Result<Outcome, Failure> {
        if method != "batch" {
            return self.command(method, request).await;
        }
        let batch: Batch = parse(request)?;
        if batch.commands.len() > MANY_MAX {
            return Err(Failure::bad_request(format!(
                "commands: more than {MANY_MAX}"
            )));
        }
        let commands = batch
            .commands
            .into_iter()
            .map(|command| self.one_of_a_batch(command));
        let replies = if batch.parallel {
            join_all(commands).await
        } else {
            stream::iter(commands)
                .then(|command| command)
                .collect()
                .await
        };
        Ok(Outcome::Batch { replies })
    }

    async fn one_of_a_batch(
        &self,
        command: BTreeMap<String, Box<RawValue>>,
    ) -> BTreeMap<String, Reply> {
        let mut fields = command.into_iter();
        let result = match (fields.next(), fields.next()) {
            (Some((method, request)), None) => {
                let result = self.command(&method, request.get().as_bytes()).await;
                result.map(|outcome| (method, outcome))
            }
            _ => Err(Failure::bad_request("a command has one method")),
        };
        let (name, reply) = match result {
            Ok((method, outcome)) => (method, Reply::Outcome(outcome)),
            Err(failure) => ("error".to_owned(), Reply::Failure(failure)),
        };
        BTreeMap::from([(name, reply)])
    }

    async fn command(&self, method: &str, request: &[u8]) -> Result<Outcome, Failure> {
        match method {
            "publish" => self.publish(parse(request)?).await,
            "broadcast" => self.broadcast(parse(request)?).await,
            other if UNAVAILABLE.contains(&other) => Err(Failure::new(ErrorCode::NotAvailable)),
            _ => Err(Failure::new(ErrorCode::MethodNotFound)),
        }
    }

    async fn publish(&self, content: Content) -> Result<Outcome, Failure> {
        if content.channel.is_empty() {
            return Err(Failure::bad_request("channel: missing"));
        }
        let publication = content.publication()?;
        self.publish_to(&content.channel, &publication).await
    }

    async fn broadcast(&self, content: Content) -> Result<Outcome, Failure> {
        if content.channels.is_empty() || content.channels.len() > MANY_MAX {
            return Err(Failure::bad_request(format!(
                "channels: between 1 and {MANY_MAX}"
            )));
        }
        let publication = content.publication()?;
        let publish = content
            .channels
            .iter()
            .map(|channel| self.publish_to(channel, &publication));
        let responses = join_all(publish)
            .await
            .into_iter()
            .map(Answer::from)
            .collect();
        Ok(Outcome::Broadcast { responses })
    }

    async fn publish_to(
        &self,
        channel: &str,
        publication: &Publication,
    ) -> Result<Outcome, Failure> {
        let channel =
            Channel::parse(channel, self.channel_max_bytes).map_err(|error| match error {
                ChannelError::Empty => Failure::bad_request("channel: empty"),
                ChannelError::TooLong { .. } => Failure::bad_request("channel: too long"),
            })?;
        let options = self
            .namespaces
            .options(&channel)
            .ok_or_else(|| Failure::new(ErrorCode::UnknownChannel))?;
        if !options.publication_data_format.accepts(&publication.data) {
            return Err(Failure::bad_request(
                "data: not of the format of the channel's namespace",
            ));
        }
        let push = Push {
            publication: Some(publication.clone()),
            ..Push::default()
        };
        let payload = Bytes::from(push.encode_to_vec());
        let broker = self
            .broker
            .get()
            .ok_or_else(|| Failure::new(ErrorCode::Internal))?;
        match broker.publish(&Topic::Channel(channel), payload).await {
            Ok(()) => Ok(Outcome::Published {}),
            Err(BrokerError::TooLarge { .. }) => Err(Failure::new(ErrorCode::LimitExceeded)),
            Err(error) => {
                tracing::debug!(%error, "a publication of the API was not taken");
                Err(Failure::new(ErrorCode::Internal))
            }
        }
    }
}

impl Content {
    /// What goes to the channels.
    fn publication(&self) -> Result<Publication, Failure> {
        if !self.idempotency_key.is_empty() || self.version != 0 {
            // Promised only where the first result is known: with history.
            return Err(Failure::new(ErrorCode::NotAvailable));
        }
        let data = match (&self.data, &self.b64data) {
            (Some(data), None) => Bytes::copy_from_slice(data.get().as_bytes()),
            (None, Some(text)) => {
                let decoded = STANDARD.decode(text);
                decoded
                    .map_err(|_| Failure::bad_request("b64data: not base64"))?
                    .into()
            }
            (Some(_), Some(_)) => return Err(Failure::bad_request("data: together with b64data")),
            (None, None) => return Err(Failure::bad_request("data: missing")),
        };
        Ok(Publication {
            data,
            tags: self.tags.clone(),
            ..Publication::default()
        })
    }
}

/// Reads a request; what is wrong with it is said by place and kind.
fn parse<'a, T: Deserialize<'a>>(request: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(request).map_err(Failure::bad_request)
}

#[cfg(test)]
mod tests;
