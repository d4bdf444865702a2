//! Finds a worker for a session.
//!
//! Knows the candidates and asks one after the other; what a link is, and what a session needs, is others' business.

use std::rc::Rc;

use tokio::time::{Instant, timeout};

use super::client::{Answer, Client};
use super::peer::Peer;
use super::peers::Peers;
use super::thread::Thread;
use crate::error::Refusal;
use crate::route::{Decision, Worker};
use crate::upstream::FailureKind;

/// The link to the first candidate that takes the session.
pub(super) async fn attach(
    thread: &Rc<Thread>,
    client: &Rc<Client>,
    candidates: Vec<(Worker, Decision)>,
) -> Result<Rc<Peer>, Refusal> {
    let metrics = &thread.edge.metrics.workers;
    for (worker, decision) in candidates.into_iter().take(thread.edge.config.tries) {
        let start = Instant::now();
        match ask(thread, client, &worker).await {
            Ok(peer) => {
                metrics.routed(decision);
                metrics.connected(start);
                return Ok(peer);
            }
            Err(Failed::Refused(answer)) => return Err(Refusal::Worker(answer)),
            Err(Failed::Over) => return Err(Refusal::NoWorker),
            Err(Failed::Elsewhere(kind)) => {
                tracing::debug!(worker = worker.label(), reason = kind.label(), "not opened");
                metrics.failed(kind);
                if kind.is_ejecting() {
                    thread.edge.pool.eject(&worker);
                }
            }
        }
    }
    metrics.routed(Decision::None);
    Err(Refusal::NoWorker)
}

/// Why a worker has not taken a session.
enum Failed {
    /// Another one may.
    Elsewhere(FailureKind),
    /// Nobody would; what the client is told.
    Refused(Vec<u8>),
    /// The session needs nobody any more, or nobody would take it and nothing is said about why.
    Over,
}

async fn ask(
    thread: &Rc<Thread>,
    client: &Rc<Client>,
    worker: &Worker,
) -> Result<Rc<Peer>, Failed> {
    let peer = Peers::link(thread, worker, client.number).await;
    let peer = peer.map_err(Failed::Elsewhere)?;
    peer.room().await;
    if !peer.can_take(client.number) {
        return Err(Failed::Elsewhere(FailureKind::Broken));
    }
    let answered = client.ask(thread, &peer).ok_or(Failed::Over)?;
    let limit = thread.upstream_limits().handshake_timeout;
    match timeout(limit, answered).await {
        Ok(Ok(Answer::Opened)) => Ok(peer),
        Ok(Ok(Answer::Refused(refused))) if refused.elsewhere => {
            Err(Failed::Elsewhere(FailureKind::Rejected))
        }
        Ok(Ok(Answer::Refused(refused))) if refused.answer.is_empty() => Err(Failed::Over),
        Ok(Ok(Answer::Refused(refused))) => Err(Failed::Refused(refused.answer.to_vec())),
        Ok(Ok(Answer::Lost)) => Err(Failed::Elsewhere(FailureKind::Broken)),
        Ok(Err(_)) => Err(Failed::Over),
        Err(_) => {
            client.give_up(&peer);
            Err(Failed::Elsewhere(FailureKind::AnswerTimeout))
        }
    }
}
