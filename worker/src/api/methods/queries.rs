//! `presence`, `presence_stats`, `channels`, `connections` and `info`: who and what there is, on all workers.
//!
//! An answer is complete, or says that it is not: `partial` is true then, and `silent` names the workers that did not
//! answer.

use std::collections::BTreeMap;

use flotilla_shared::lifecycle::Phase;
use flotilla_shared::protocol::codes::ErrorCode;
use flotilla_shared::roster::GatewayEntry;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::payload::json_or_none;
use super::{Methods, Outcome};
use crate::api::Failure;
use crate::fleet::{
    Answer, Channels, ConnectionInfo, Connections, Gathered, InChannel, Info, Node, Question,
};
use crate::glob::Glob;

/// Most connections of one page, and how many there are if nothing is said.
const PAGE_MAX: u32 = 1000;

/// A result, and who is missing in it.
#[derive(Debug, Serialize)]
pub(in crate::api) struct Told<T> {
    #[serde(flatten)]
    result: T,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    partial: bool,
    /// Ids of workers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    silent: Vec<String>,
}

/// The request of `presence` and of `presence_stats`.
#[derive(Debug, Deserialize)]
pub(super) struct PresenceRequest {
    channel: String,
}

/// The request of `channels`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ChannelsRequest {
    pattern: String,
}

/// The request of `connections`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ConnectionsRequest {
    /// Only this user's. Empty: everybody's.
    user: String,
    /// Other servers filter by it.
    expression: String,
    limit: u32,
    /// From the page before.
    cursor: String,
}

/// The result of `presence`.
#[derive(Debug, Serialize)]
pub(in crate::api) struct Presence {
    /// By client id.
    presence: BTreeMap<String, Member>,
}

#[derive(Debug, Serialize)]
struct Member {
    client: String,
    user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    conn_info: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chan_info: Option<Box<RawValue>>,
}

/// The result of `presence_stats`.
#[derive(Debug, Serialize)]
pub(in crate::api) struct PresenceStats {
    num_clients: u64,
    num_users: u64,
}

/// The result of `channels`.
#[derive(Debug, Serialize)]
pub(in crate::api) struct ChannelList {
    /// By name.
    channels: BTreeMap<String, ChannelInfo>,
}

#[derive(Debug, Serialize)]
struct ChannelInfo {
    num_clients: u64,
}

/// The result of `connections`.
#[derive(Debug, Serialize)]
pub(in crate::api) struct ConnectionPage {
    /// By client id.
    connections: BTreeMap<String, Connection>,
    /// What leads to the next page, if there may be one.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

#[derive(Debug, Serialize)]
struct Connection {
    user: String,
    transport: String,
    protocol: String,
    /// The id of the worker that serves it.
    node: String,
    state: ConnectionState,
}

#[derive(Debug, Serialize)]
struct ConnectionState {
    channels: BTreeMap<String, ChannelState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection_token: Option<TokenState>,
}

#[derive(Debug, Serialize)]
struct ChannelState {}

#[derive(Debug, Serialize)]
struct TokenState {
    #[serde(skip_serializing_if = "String::is_empty")]
    uid: String,
    #[serde(skip_serializing_if = "is_zero")]
    issued_at: u64,
}

/// The result of `info`.
#[derive(Debug, Serialize)]
pub(in crate::api) struct Nodes {
    nodes: Vec<NodeInfo>,
    /// Those that look at the roster.
    gateways: Vec<GatewayInfo>,
}

#[derive(Debug, Serialize)]
struct GatewayInfo {
    uid: String,
    address: String,
    version: String,
    phase: Phase,
    num_clients: u64,
}

#[derive(Debug, Serialize)]
struct NodeInfo {
    uid: String,
    name: String,
    version: String,
    num_clients: u64,
    num_users: u64,
    num_channels: u64,
    num_subs: u64,
    uptime: u64,
}

impl Methods {
    pub(super) async fn presence(&self, request: PresenceRequest) -> Result<Outcome, Failure> {
        let question = Question::Presence(self.in_channel(&request.channel)?);
        let presence = |answers: Vec<(String, Answer)>| {
            let members = answers.into_iter().flat_map(|(_, answer)| match answer {
                Answer::Members(members) => members.members,
                _ => Vec::new(),
            });
            let presence = members.map(|info| {
                let member = Member {
                    conn_info: json_or_none(&info.conn_info),
                    chan_info: json_or_none(&info.chan_info),
                    client: info.client.clone(),
                    user: info.user,
                };
                (info.client, member)
            });
            Presence {
                presence: presence.collect(),
            }
        };
        Ok(Outcome::Presence(self.tell(question, presence).await?))
    }

    pub(super) async fn presence_stats(
        &self,
        request: PresenceRequest,
    ) -> Result<Outcome, Failure> {
        let question = Question::PresenceStats(self.in_channel(&request.channel)?);
        let stats = |answers| {
            let users = sums(answers);
            PresenceStats {
                num_clients: users.values().sum(),
                num_users: users.len() as u64,
            }
        };
        Ok(Outcome::PresenceStats(self.tell(question, stats).await?))
    }

    pub(super) async fn channels(&self, request: ChannelsRequest) -> Result<Outcome, Failure> {
        Glob::new(&request.pattern).map_err(|_| Failure::bad_request("pattern: too long"))?;
        let question = Question::Channels(Channels {
            pattern: request.pattern,
        });
        let list = |answers| {
            let channels = sums(answers).into_iter();
            ChannelList {
                channels: channels
                    .map(|(name, num_clients)| (name, ChannelInfo { num_clients }))
                    .collect(),
            }
        };
        Ok(Outcome::Channels(self.tell(question, list).await?))
    }

    pub(super) async fn connections(
        &self,
        request: ConnectionsRequest,
    ) -> Result<Outcome, Failure> {
        if !request.expression.is_empty() {
            return Err(Failure::new(ErrorCode::NotAvailable));
        }
        if !request.cursor.is_empty() && request.cursor.parse::<Uuid>().is_err() {
            return Err(Failure::bad_request("cursor: not of a page before"));
        }
        let limit = match request.limit {
            0 => PAGE_MAX,
            limit => limit.min(PAGE_MAX),
        };
        let question = Question::Connections(Connections {
            user: Some(request.user).filter(|user| !user.is_empty()),
            after: request.cursor,
            limit,
        });
        let page = |answers| page(answers, limit as usize);
        Ok(Outcome::Connections(self.tell(question, page).await?))
    }

    pub(super) async fn info(&self) -> Result<Outcome, Failure> {
        let nodes = |answers: Vec<(String, Answer)>| {
            let nodes = answers.into_iter().filter_map(|(id, answer)| match answer {
                Answer::Node(node) => Some(node_info(id, node)),
                _ => None,
            });
            Nodes {
                nodes: nodes.collect(),
                gateways: self
                    .fleet
                    .gateways()
                    .into_iter()
                    .map(gateway_info)
                    .collect(),
            }
        };
        let question = Question::Info(Info {});
        Ok(Outcome::Info(self.tell(question, nodes).await?))
    }

    /// A channel whose members are known.
    fn in_channel(&self, name: &str) -> Result<InChannel, Failure> {
        let (channel, options) = self.channel(name)?;
        if !options.presence {
            return Err(Failure::new(ErrorCode::NotAvailable));
        }
        Ok(InChannel {
            channel: channel.as_str().to_owned(),
        })
    }

    async fn tell<T>(
        &self,
        question: Question,
        put_together: impl FnOnce(Vec<(String, Answer)>) -> T,
    ) -> Result<Told<T>, Failure> {
        let gathered = self.fleet.ask(question).await;
        let Gathered { answers, silent } = gathered.map_err(|error| Failure::new(error.code()))?;
        Ok(Told {
            result: put_together(answers),
            partial: !silent.is_empty(),
            silent,
        })
    }
}

/// Counts by name, over all workers.
fn sums(answers: Vec<(String, Answer)>) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for (_, answer) in answers {
        if let Answer::Counts(counts) = answer {
            for (name, count) in counts.by_name {
                *sums.entry(name).or_default() += count;
            }
        }
    }
    sums
}

/// The first `limit` connections, in the order of their ids. Each worker has answered with its first ones.
fn page(answers: Vec<(String, Answer)>, limit: usize) -> ConnectionPage {
    let mut connections = BTreeMap::new();
    for (node, answer) in answers {
        if let Answer::Connections(list) = answer {
            for info in list.connections {
                connections.insert(info.client.clone(), connection(&node, info));
            }
        }
    }
    let rest = connections.keys().nth(limit).cloned();
    if let Some(rest) = rest {
        connections.split_off(&rest);
    }
    let is_full = connections.len() == limit;
    let last = connections
        .last_key_value()
        .map(|(client, _)| client.clone());
    ConnectionPage {
        connections,
        cursor: last.filter(|_| is_full),
    }
}

fn connection(node: &str, info: ConnectionInfo) -> Connection {
    let has_token = !info.token_id.is_empty() || info.token_issued_at != 0;
    let channels = info.channels.into_iter();
    Connection {
        user: info.user,
        transport: info.transport,
        protocol: info.protocol,
        node: node.to_owned(),
        state: ConnectionState {
            channels: channels.map(|name| (name, ChannelState {})).collect(),
            connection_token: has_token.then_some(TokenState {
                uid: info.token_id,
                issued_at: info.token_issued_at,
            }),
        },
    }
}

fn node_info(id: String, node: Node) -> NodeInfo {
    NodeInfo {
        uid: id.clone(),
        name: id,
        version: node.version,
        num_clients: node.clients,
        num_users: node.users,
        num_channels: node.channels,
        num_subs: node.subscriptions,
        uptime: node.uptime,
    }
}

fn gateway_info(entry: GatewayEntry) -> GatewayInfo {
    GatewayInfo {
        uid: entry.id,
        address: entry.address,
        version: entry.version,
        phase: entry.phase,
        num_clients: entry.connections,
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
