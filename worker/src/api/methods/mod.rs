//! What the server API's methods do.
//!
//! Owns: which methods there are, and batches of them. Each group of methods has a file of its own, with its requests and
//! results.

mod commands;
mod history;
mod payload;
mod publish;
mod queries;
mod revocations;
mod rpc;

use std::collections::BTreeMap;

use flotilla_shared::broker::{Broker, BrokerError};
use flotilla_shared::channel::{Channel, ChannelError};
use flotilla_shared::protocol::codes::ErrorCode;
use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Answer, Failure};
use crate::control::ControlBroker;
use crate::fleet::Fleet;
use crate::hooks::Hooks;
use crate::metrics::Losses;
use crate::namespace::{NamespaceOptions, Namespaces};
use crate::revocation::Revocations;
use history::History;
use payload::Payload;
use publish::Published;
use queries::{ChannelList, ConnectionPage, Nodes, Presence, PresenceStats, Told};

/// Most channels of one broadcast, and most commands of one batch.
const MANY_MAX: usize = 1000;

/// Methods that are answered. Also the labels of the metrics.
pub(crate) const METHODS: [&str; 19] = [
    "publish",
    "broadcast",
    "history",
    "history_remove",
    "subscribe",
    "unsubscribe",
    "refresh",
    "disconnect",
    "presence",
    "presence_stats",
    "channels",
    "connections",
    "info",
    "block_user",
    "unblock_user",
    "revoke_token",
    "invalidate_user_tokens",
    "rpc",
    "batch",
];

/// Does what back ends ask for.
pub(crate) struct Methods {
    pub(crate) broker: ControlBroker,
    pub(crate) namespaces: Namespaces,
    pub(crate) channel_max_bytes: usize,
    pub(crate) fleet: Fleet,
    pub(crate) revocations: Revocations,
    pub(crate) hooks: Hooks,
    pub(crate) losses: Losses,
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
    Published(Published),
    Broadcast {
        /// In the order of the channels.
        responses: Vec<Answer<Outcome>>,
    },
    History(History),
    Presence(Told<Presence>),
    PresenceStats(Told<PresenceStats>),
    Channels(Told<ChannelList>),
    Connections(Told<ConnectionPage>),
    Info(Told<Nodes>),
    Rpc(Payload),
    /// There is nothing to tell.
    Done {},
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

impl Methods {
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
            "history" => self.history(parse(request)?).await,
            "history_remove" => self.history_remove(parse(request)?).await,
            "subscribe" => self.subscribe(parse(request)?, parse(request)?).await,
            "refresh" => self.refresh(parse(request)?).await,
            "unsubscribe" => self.unsubscribe(parse(request)?).await,
            "disconnect" => self.disconnect(parse(request)?).await,
            "presence" => self.presence(parse(request)?).await,
            "presence_stats" => self.presence_stats(parse(request)?).await,
            "channels" => self.channels(parse(request)?).await,
            "connections" => self.connections(parse(request)?).await,
            "info" => self.info().await,
            "block_user" => self.block_user(parse(request)?).await,
            "unblock_user" => self.unblock_user(parse(request)?).await,
            "revoke_token" => self.revoke_token(parse(request)?).await,
            "invalidate_user_tokens" => self.invalidate_user_tokens(parse(request)?).await,
            "rpc" => self.rpc(parse(request)?).await,
            _ => Err(Failure::new(ErrorCode::MethodNotFound)),
        }
    }

    /// The channel with this name, and its options.
    fn channel(&self, name: &str) -> Result<(Channel, &NamespaceOptions), Failure> {
        let channel =
            Channel::parse(name, self.channel_max_bytes).map_err(|error| match error {
                ChannelError::Empty => Failure::bad_request("channel: empty"),
                ChannelError::TooLong { .. } => Failure::bad_request("channel: too long"),
            })?;
        let options = self.namespaces.options(&channel);
        let options = options.ok_or_else(|| Failure::new(ErrorCode::UnknownChannel))?;
        Ok((channel, options))
    }

    fn broker(&self) -> Result<&dyn Broker, Failure> {
        let broker = self.broker.get();
        let broker = broker.ok_or_else(|| Failure::new(ErrorCode::Internal))?;
        Ok(&**broker)
    }
}

/// What a caller is told of the broker's refusal.
fn broker_failure(error: &BrokerError) -> Failure {
    if let BrokerError::TooLarge { .. } = error {
        return Failure::new(ErrorCode::LimitExceeded);
    }
    tracing::debug!(%error, "the broker did not do what the API was asked for");
    Failure::new(ErrorCode::Internal)
}

/// Reads a request; what is wrong with it is said by place and kind.
fn parse<'a, T: Deserialize<'a>>(request: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(request).map_err(Failure::bad_request)
}

#[cfg(test)]
mod tests;
