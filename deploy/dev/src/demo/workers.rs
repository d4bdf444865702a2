//! What the demo page asks about workers, and has done to them: `/where`, `/workers`, `/workers/NAME/ACTION`.

use std::sync::Arc;

use axum::{
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use crate::orders::{Action, Refusal};

use super::{Demo, crew::Seen, json};

/// Why nothing is done to workers that are parts of the launcher.
const ONE_PROCESS: &str =
    "the workers are in one process: `flotilla dev --nats` has some that can be killed\n";

#[derive(Deserialize)]
pub(super) struct WhereQuery {
    /// The id that the connect result told.
    client: String,
}

#[derive(Serialize)]
struct Where {
    /// `None`: nobody serves the client now, as far as is known.
    worker: Option<String>,
}

#[derive(Serialize)]
struct Workers {
    /// Whether they can be killed, drained and started.
    controls: bool,
    workers: Vec<Seen>,
}

/// The worker that serves a client now.
pub(super) async fn find(
    State(demo): State<Arc<Demo>>,
    Query(WhereQuery { client }): Query<WhereQuery>,
) -> Result<Response, StatusCode> {
    let Ok(client) = client.parse() else {
        let text = "client: not the id of one\n";
        return Ok((StatusCode::BAD_REQUEST, text).into_response());
    };
    let worker = demo.crew.find(client).await?;
    Ok(json(&Where { worker }))
}

/// Every worker, and how it is.
pub(super) async fn list(State(demo): State<Arc<Demo>>) -> Response {
    let workers = Workers {
        controls: demo.orders.is_some(),
        workers: demo.crew.look().await,
    };
    json(&workers)
}

/// Has something done to a worker.
pub(super) async fn obey(
    State(demo): State<Arc<Demo>>,
    Path((worker, action)): Path<(String, Action)>,
) -> Response {
    let Some(orders) = &demo.orders else {
        return (StatusCode::NOT_FOUND, ONE_PROCESS).into_response();
    };
    let refusal = match orders.give(worker, action).await {
        Ok(()) => return StatusCode::NO_CONTENT.into_response(),
        Err(refusal) => refusal,
    };
    let status = match refusal {
        Refusal::Unknown => StatusCode::NOT_FOUND,
        Refusal::NotRunning | Refusal::Running => StatusCode::CONFLICT,
        Refusal::Start(_) => StatusCode::INTERNAL_SERVER_ERROR,
        Refusal::Ending => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, format!("{refusal}\n")).into_response()
}
