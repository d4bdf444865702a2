//! Finds out what a client wants to know of a channel: its past, or who is there.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use flotilla_shared::broker::{HistoryQuery, Retention};
use flotilla_shared::channel::Channel;
use flotilla_shared::protocol::codes::ErrorCode;
use flotilla_shared::protocol::types::{
    ClientInfo, HistoryResult, PresenceResult, PresenceStatsResult, Reply,
};

use crate::fleet::{Answer, Fleet, InChannel, Question};
use crate::rounds::Rounds;
use crate::session::{LookUp, Subject};
use crate::shard::Shard;
use crate::stored::read;

/// Presence as the clients of one shard ask for it. After a worker is lost, thousands ask for the same at once.
#[derive(Default)]
pub(crate) struct Presences {
    members: Rounds<Channel, Result<BTreeMap<String, ClientInfo>, ErrorCode>>,
    stats: Rounds<Channel, Result<PresenceStatsResult, ErrorCode>>,
}

/// The reply to a client's command.
pub(crate) async fn answer(shard: &Rc<Shard>, look_up: LookUp) -> Reply {
    let LookUp {
        id,
        channel,
        subject,
    } = look_up;
    let in_channel = InChannel {
        channel: channel.as_str().to_owned(),
    };
    let reply = match subject {
        Subject::Presence => {
            let fleet = shard.fleet().clone();
            let max_bytes = shard.limits().outbox_max_bytes;
            let ask = async move || presence(&fleet, &in_channel, max_bytes).await;
            let result = shard.presences().members.answer(channel, ask).await;
            result.map(|presence| Reply::presence(id, PresenceResult { presence }))
        }
        Subject::PresenceStats => {
            let fleet = shard.fleet().clone();
            let ask = async move || presence_stats(&fleet, &in_channel).await;
            let result = shard.presences().stats.answer(channel, ask).await;
            result.map(|stats| Reply::presence_stats(id, stats))
        }
        Subject::History {
            retention,
            query,
            epoch,
        } => history(shard, &channel, retention, query, &epoch)
            .await
            .map(|result| Reply::history(id, result)),
    };
    reply.unwrap_or_else(|code| Reply::error(id, code))
}

async fn history(
    shard: &Rc<Shard>,
    channel: &Channel,
    retention: Retention,
    query: HistoryQuery,
    epoch: &str,
) -> Result<HistoryResult, ErrorCode> {
    let page = shard.broker().history(channel, retention, query).await;
    let page = page.map_err(|error| {
        tracing::debug!(%error, "a history could not be read");
        ErrorCode::Internal
    })?;
    if !epoch.is_empty() && epoch.parse() != Ok(page.end.epoch) {
        return Err(ErrorCode::UnrecoverablePosition);
    }
    Ok(HistoryResult {
        publications: page.publications.into_iter().filter_map(read).collect(),
        epoch: page.end.epoch.to_string(),
        offset: page.end.offset,
    })
}

/// Everybody who is there, unless that is more than a client's queue may hold: a thousand clients that ask at the same
/// time get a list each. Counts always fit.
async fn presence(
    fleet: &Fleet,
    channel: &InChannel,
    max_bytes: usize,
) -> Result<BTreeMap<String, ClientInfo>, ErrorCode> {
    let answers = ask(fleet, Question::Presence(channel.clone())).await?;
    let members = answers.into_iter().flat_map(|answer| match answer {
        Answer::Members(members) => members.members,
        _ => Vec::new(),
    });
    let members: Vec<ClientInfo> = members.collect();
    let bytes: usize = members.iter().map(prost::Message::encoded_len).sum();
    if bytes > max_bytes {
        return Err(ErrorCode::LimitExceeded);
    }
    let members = members.into_iter();
    Ok(members.map(|info| (info.client.clone(), info)).collect())
}

async fn presence_stats(
    fleet: &Fleet,
    channel: &InChannel,
) -> Result<PresenceStatsResult, ErrorCode> {
    let answers = ask(fleet, Question::PresenceStats(channel.clone())).await?;
    let counts = answers.into_iter().flat_map(|answer| match answer {
        Answer::Counts(counts) => counts.by_name,
        _ => Default::default(),
    });
    let mut users = HashSet::new();
    let mut clients = 0;
    for (user, count) in counts {
        users.insert(user);
        clients += count;
    }
    Ok(PresenceStatsResult {
        num_clients: u32::try_from(clients).unwrap_or(u32::MAX),
        num_users: u32::try_from(users.len()).unwrap_or(u32::MAX),
    })
}

/// What the workers that answered have said. One that did not is most likely gone, and its clients with it: the client
/// protocol has no way to say that an answer is not complete, and an error would hide those who are there.
async fn ask(fleet: &Fleet, question: Question) -> Result<Vec<Answer>, ErrorCode> {
    let gathered = fleet.ask(question).await.map_err(|error| {
        tracing::debug!(%error, "the other workers could not be asked");
        error.code()
    })?;
    if !gathered.silent.is_empty() {
        tracing::debug!(silent = ?gathered.silent, "workers did not say who is in a channel");
    }
    Ok(gathered
        .answers
        .into_iter()
        .map(|(_, answer)| answer)
        .collect())
}
