//! `publish` and `broadcast`: a publication takes the same road through the broker as one that a client makes, and carries
//! no publisher.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flotilla_shared::broker::{Append, BrokerError, Retention, StreamPosition, Topic};
use flotilla_shared::channel::Channel;
use flotilla_shared::protocol::codes::ErrorCode;
use flotilla_shared::protocol::types::{Publication, Push};
use futures_util::future::join_all;
use prost::Message as _;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{MANY_MAX, Methods, Outcome, broker_failure};
use crate::api::{Answer, Failure};
use crate::namespace::NamespaceOptions;

/// The request of `publish` and of `broadcast`, which differ in `channel` and `channels` only.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Content {
    channel: String,
    channels: Vec<String>,
    data: Option<Box<RawValue>>,
    b64data: Option<String>,
    tags: BTreeMap<String, String>,
    /// It is not kept, and has no offset.
    skip_history: bool,
    /// It may be sent as its difference from the one before.
    delta: bool,
    idempotency_key: String,
    version: u64,
    version_epoch: String,
}

/// Where a publication stands; empty where there is no history.
#[derive(Debug, Default, Serialize)]
pub(in crate::api) struct Published {
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
}

impl From<StreamPosition> for Published {
    fn from(position: StreamPosition) -> Self {
        Self {
            offset: Some(position.offset),
            epoch: Some(position.epoch.to_string()),
        }
    }
}

impl Methods {
    pub(super) async fn publish(&self, content: Content) -> Result<Outcome, Failure> {
        if content.channel.is_empty() {
            return Err(Failure::bad_request("channel: missing"));
        }
        let publication = content.publication()?;
        let published = self.publish_to(&content.channel, &content, publication);
        Ok(Outcome::Published(published.await?))
    }

    pub(super) async fn broadcast(&self, content: Content) -> Result<Outcome, Failure> {
        if content.channels.is_empty() || content.channels.len() > MANY_MAX {
            return Err(Failure::bad_request(format!(
                "channels: between 1 and {MANY_MAX}"
            )));
        }
        let publication = content.publication()?;
        let publish = content
            .channels
            .iter()
            .map(|channel| self.publish_to(channel, &content, publication.clone()));
        let responses = join_all(publish).await.into_iter();
        let responses = responses
            .map(|result| Answer::from(result.map(Outcome::Published)))
            .collect();
        Ok(Outcome::Broadcast { responses })
    }

    async fn publish_to(
        &self,
        channel: &str,
        content: &Content,
        publication: Publication,
    ) -> Result<Published, Failure> {
        let (channel, options) = self.channel(channel)?;
        let published = self.publish_in(&channel, options, content, publication);
        published.await.inspect_err(|failure| {
            let known = ErrorCode::ALL.iter();
            let code = known.copied().find(|code| code.code() == failure.code);
            let why = code.unwrap_or(ErrorCode::Internal).into();
            self.losses.unpublished(&channel, why);
        })
    }

    async fn publish_in(
        &self,
        channel: &Channel,
        options: &NamespaceOptions,
        content: &Content,
        mut publication: Publication,
    ) -> Result<Published, Failure> {
        if !options.publication_data_format.accepts(&publication.data) {
            return Err(Failure::bad_request(
                "data: not of the format of the channel's namespace",
            ));
        }
        let retention = options.history.filter(|_| !content.skip_history);
        publication.delta = retention.is_some() && (content.delta || options.delta_publish);
        let push = Push {
            publication: Some(publication),
            ..Push::default()
        };
        let payload = Bytes::from(push.encode_to_vec());
        match retention {
            Some(retention) => self.append(channel, retention, content, payload).await,
            None if content.needs_history() => Err(Failure::new(ErrorCode::NotAvailable)),
            None => {
                let topic = Topic::Channel(channel.clone());
                let published = self.broker()?.publish(&topic, payload).await;
                published.map_err(|error| broker_failure(&error))?;
                Ok(Published::default())
            }
        }
    }

    async fn append(
        &self,
        channel: &Channel,
        retention: Retention,
        content: &Content,
        payload: Bytes,
    ) -> Result<Published, Failure> {
        let append = Append {
            payload,
            idempotency_key: content.idempotency_key.clone(),
            version: content.version,
            version_epoch: content.version_epoch.clone(),
        };
        let appended = self.broker()?.append(channel, retention, append).await;
        match appended {
            Ok(appended) => Ok(appended.position().into()),
            Err(BrokerError::Refused(why)) => {
                tracing::debug!(why, "a publication of the API has no stream");
                Err(Failure::new(ErrorCode::NotAvailable))
            }
            Err(error) => Err(broker_failure(&error)),
        }
    }
}

impl Content {
    /// Whether what is asked for can be promised only where the first result is known.
    fn needs_history(&self) -> bool {
        !self.idempotency_key.is_empty() || self.version != 0
    }

    /// What goes to the channels.
    fn publication(&self) -> Result<Publication, Failure> {
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
            version: self.version,
            ..Publication::default()
        })
    }
}
