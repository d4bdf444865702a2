//! `history` and `history_remove`: what a channel's stream holds.

use std::collections::BTreeMap;

use flotilla_shared::broker::{BrokerError, HistoryQuery, Retention};
use flotilla_shared::channel::Channel;
use flotilla_shared::protocol::codes::ErrorCode;
use flotilla_shared::protocol::types::{ClientInfo, Publication};
use serde::{Deserialize, Serialize};

use super::payload::{Payload, json_or_none};
use super::{Methods, Outcome, broker_failure};
use crate::api::Failure;
use crate::stored::read;

/// Most publications of one answer.
const HISTORY_MAX: usize = 10_000;

/// The request of `history`.
#[derive(Debug, Deserialize)]
pub(super) struct HistoryRequest {
    channel: String,
    /// Most publications; 0: only the position of the stream's end. Negative: all of them.
    #[serde(default)]
    limit: i64,
    #[serde(default)]
    since: Option<Position>,
    #[serde(default)]
    reverse: bool,
}

/// The request of `history_remove`.
#[derive(Debug, Deserialize)]
pub(super) struct HistoryRemoveRequest {
    channel: String,
}

/// A place in a channel's stream, as this API writes it.
#[derive(Debug, Deserialize)]
pub(super) struct Position {
    #[serde(default)]
    offset: u64,
    /// Empty: any.
    #[serde(default)]
    epoch: String,
}

/// The result of `history`.
#[derive(Debug, Serialize)]
pub(in crate::api) struct History {
    publications: Vec<Row>,
    offset: u64,
    epoch: String,
}

#[derive(Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    data: Payload,
    offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<Publisher>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<String, String>,
}

/// Who published, if it was a client.
#[derive(Debug, Serialize)]
struct Publisher {
    client: String,
    user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    conn_info: Option<Box<serde_json::value::RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chan_info: Option<Box<serde_json::value::RawValue>>,
}

impl Methods {
    pub(super) async fn history(&self, request: HistoryRequest) -> Result<Outcome, Failure> {
        let (channel, retention) = self.with_history(&request.channel)?;
        let limit = usize::try_from(request.limit).unwrap_or(HISTORY_MAX);
        let query = HistoryQuery {
            limit: limit.min(HISTORY_MAX),
            since: request.since.as_ref().map(|since| since.offset),
            reverse: request.reverse,
        };
        let page = self.broker()?.history(&channel, retention, query).await;
        let page = page.map_err(|error| stream_failure(&error))?;
        let wanted = request.since.map(|since| since.epoch).unwrap_or_default();
        if !wanted.is_empty() && wanted.parse() != Ok(page.end.epoch) {
            return Err(Failure::new(ErrorCode::UnrecoverablePosition));
        }
        let rows = page.publications.into_iter().filter_map(read);
        Ok(Outcome::History(History {
            publications: rows.map(row).collect(),
            offset: page.end.offset,
            epoch: page.end.epoch.to_string(),
        }))
    }

    pub(super) async fn history_remove(
        &self,
        request: HistoryRemoveRequest,
    ) -> Result<Outcome, Failure> {
        let (channel, _) = self.with_history(&request.channel)?;
        let removed = self.broker()?.remove_history(&channel).await;
        removed.map_err(|error| stream_failure(&error))?;
        Ok(Outcome::Done {})
    }

    fn with_history(&self, channel: &str) -> Result<(Channel, Retention), Failure> {
        let (channel, options) = self.channel(channel)?;
        let retention = options.history;
        let retention = retention.ok_or_else(|| Failure::new(ErrorCode::NotAvailable))?;
        Ok((channel, retention))
    }
}

fn stream_failure(error: &BrokerError) -> Failure {
    match error {
        BrokerError::Refused(_) => Failure::new(ErrorCode::NotAvailable),
        error => broker_failure(error),
    }
}

fn row(publication: Publication) -> Row {
    Row {
        data: Payload::of(&publication.data),
        offset: publication.offset,
        info: publication.info.map(publisher),
        tags: publication.tags,
    }
}

fn publisher(info: ClientInfo) -> Publisher {
    Publisher {
        conn_info: json_or_none(&info.conn_info),
        chan_info: json_or_none(&info.chan_info),
        client: info.client,
        user: info.user,
    }
}
