//! Finds out what a client wants to know of a channel's past.

use std::rc::Rc;

use flotilla_shared::protocol::codes::ErrorCode;
use flotilla_shared::protocol::types::{HistoryResult, Reply};

use crate::session::LookUp;
use crate::shard::Shard;
use crate::stored::read;

/// The reply to a client's command.
pub(crate) async fn answer(shard: &Rc<Shard>, look_up: LookUp) -> Reply {
    let id = look_up.id;
    match history(shard, look_up).await {
        Ok(result) => Reply::history(id, result),
        Err(code) => Reply::error(id, code),
    }
}

async fn history(shard: &Rc<Shard>, look_up: LookUp) -> Result<HistoryResult, ErrorCode> {
    let LookUp {
        channel,
        retention,
        query,
        epoch,
        ..
    } = look_up;
    let page = shard.broker().history(&channel, retention, query).await;
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
