//! The workers as the demo page sees them: each asked how it is, and any of them who serves a client.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context, Result};
use axum::http::StatusCode;
use flotilla_shared::secret::Secret;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{task::JoinSet, time::timeout};
use uuid::Uuid;

use crate::{ask, member::Member};

/// How long a worker may take to say how it is.
const STATE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long it may take to say where a client is: it waits two seconds for other workers.
const WHERE_TIMEOUT: Duration = Duration::from_secs(3);

/// The workers of the fleet and how to ask them.
#[derive(Debug)]
pub(crate) struct Crew {
    workers: Vec<Member>,
    api_key: Secret,
    /// Index of the one that is asked first, since it answered last.
    asked: AtomicUsize,
}

/// What the page shows of a worker.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Seen {
    name: String,
    state: State,
    /// Those of clients; `None` if it does not say.
    connections: Option<u64>,
}

/// What a worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// It is not ready yet.
    Starting,
    /// It takes clients.
    Up,
    /// It lets its clients go.
    Draining,
    /// It is there and does not answer.
    Silent,
    /// Nobody is at its address.
    Gone,
}

/// What the server API answers to `connections`.
#[derive(Deserialize)]
struct Answer {
    result: Option<Page>,
}

#[derive(Deserialize)]
struct Page {
    connections: BTreeMap<String, Connection>,
}

#[derive(Deserialize)]
struct Connection {
    node: String,
}

impl Crew {
    /// The workers among `members`, which answer back ends that have this key.
    pub(crate) fn new(members: &[Member], api_key: Secret) -> Self {
        let workers = members
            .iter()
            .filter(|member| member.listening.api.is_some());
        Self {
            workers: workers.cloned().collect(),
            api_key,
            asked: AtomicUsize::new(0),
        }
    }

    /// Every worker as it is now, in the order in which they were started first.
    pub(super) async fn look(&self) -> Vec<Seen> {
        let mut asked = JoinSet::new();
        for (index, worker) in self.workers.iter().enumerate() {
            let worker = worker.clone();
            asked.spawn(async move { (index, see(worker).await) });
        }
        let mut seen = asked.join_all().await;
        seen.sort_unstable_by_key(|(index, _)| *index);
        seen.into_iter().map(|(_, seen)| seen).collect()
    }

    /// The name of the worker that serves this client, if one does: asked of one worker after the other
    /// until one answers, for all of them.
    ///
    /// # Errors
    /// 503 when none answers.
    pub(super) async fn find(&self, client: Uuid) -> Result<Option<String>, StatusCode> {
        let first = self.asked.load(Ordering::Relaxed);
        let count = self.workers.len();
        for index in (first..first + count).map(|index| index % count) {
            match timeout(WHERE_TIMEOUT, self.ask(&self.workers[index], client)).await {
                Ok(Ok(found)) => {
                    self.asked.store(index, Ordering::Relaxed);
                    return Ok(found);
                }
                Ok(Err(error)) => {
                    let name = &self.workers[index].name;
                    tracing::debug!(%error, name, "does not say where a client is");
                }
                Err(_) => {}
            }
        }
        Err(StatusCode::SERVICE_UNAVAILABLE)
    }

    async fn ask(&self, worker: &Member, client: Uuid) -> Result<Option<String>> {
        let address = worker.listening.api.context("no server API")?;
        // Pages are in the order of the ids: the one that begins behind the id before has this client first.
        let before = client.as_u128().checked_sub(1).map(Uuid::from_u128);
        let cursor = before.map(|id| id.to_string()).unwrap_or_default();
        let body = json!({"cursor": cursor, "limit": 1}).to_string();
        let answer = ask::api(address, &self.api_key, "connections", &body).await?;
        let answer: Answer = serde_json::from_str(&answer)?;
        let mut connections = answer.result.context("an error")?.connections;
        let found = connections.remove(&client.to_string());
        Ok(found.map(|connection| connection.node))
    }
}

/// How a worker is, by its metrics.
async fn see(worker: Member) -> Seen {
    let asked = timeout(
        STATE_TIMEOUT,
        ask::admin(worker.listening.admin, "/metrics"),
    );
    let (state, connections) = match asked.await {
        Ok(Ok(metrics)) => read(&metrics),
        Ok(Err(_)) => (State::Gone, None),
        Err(_) => (State::Silent, None),
    };
    Seen {
        name: worker.name,
        state,
        connections,
    }
}

/// The state and the number of connections in these metrics of a worker.
fn read(metrics: &str) -> (State, Option<u64>) {
    let value = |name: &str| {
        let mut lines = metrics.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
    };
    let is_in =
        |phase: &str| value(&format!("flotilla_worker_state{{state=\"{phase}\"}}")) == Some("1");
    let state = if is_in("serving") {
        State::Up
    } else if is_in("starting") {
        State::Starting
    } else {
        State::Draining
    };
    let connections = value("flotilla_worker_connections").and_then(|count| count.parse().ok());
    (state, connections)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_what_its_metrics_say() {
        let metrics = |phase: &str, connections: &str| {
            let phases = ["draining", "serving", "starting", "stopped"].map(|known| {
                let is = u8::from(known == phase);
                format!("flotilla_worker_state{{state=\"{known}\"}} {is}\n")
            });
            format!(
                "flotilla_worker_connections_limit 5000\n{connections}{}",
                phases.concat()
            )
        };
        let check = |phase, expected| assert_eq!(read(&metrics(phase, "")), (expected, None));
        check("starting", State::Starting);
        check("serving", State::Up);
        check("draining", State::Draining);
        check("stopped", State::Draining);
        let busy = read(&metrics("serving", "flotilla_worker_connections 7\n"));
        assert_eq!(busy, (State::Up, Some(7)));
    }
}
