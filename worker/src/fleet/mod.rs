//! Asking all workers of the fleet, and answering them.
//!
//! Owns: one bounded question-and-answer over the broker. A question goes to the inbox of each worker that the roster
//! knows, and to nobody else; each answers to the asker's inbox, in parts if need be. Whoever asks gets the answers, and
//! the names of those who gave none: because they were lost meanwhile, did not answer within [`ANSWER_TIMEOUT`], are of
//! a version that does not know the question, or could not do what was asked. This worker itself answers without the
//! broker, by the same code.
//!
//! Whoever can publish to the broker can ask: the broker is the fleet's own.

mod answer;
mod asks;
mod gather;
mod message;
mod peers;
mod request;
mod revoke;
mod shards;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use flotilla_shared::broker::Topic;
use flotilla_shared::metrics::VERSION;
use flotilla_shared::protocol::codes::ErrorCode;
use flotilla_shared::roster::{GatewayEntry, Life, RosterMessage};
use futures_util::future::join_all;
use prost::Message as _;
use rand::seq::IndexedRandom as _;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout_at};

pub(crate) use answer::{
    Answer, ConnectionInfo, Connections as ConnectionList, Counts, Listed, Members, Node, Roll,
};
pub(crate) use gather::Gathered;
pub(crate) use request::{
    Channels, Connections, Disconnect, Emulate, InChannel, Info, Moved, MovedSession, Newcomer,
    Question, Refresh, Revocations, RollCall, Subscribe, Target, Unsubscribe,
};
pub(crate) use revoke::keep_in_step;
pub(crate) use shards::{Errand, Load, Shards};

use crate::control::ControlBroker;
use crate::emulation::Sessions;
use crate::link::Arrival;
use crate::metrics::{Asked, FleetMetrics};
use crate::revocation::Revocations as Keeper;
use crate::roll::Lives;
use asks::{Asks, Excess};
use message::{Content, Envelope};
use peers::Peers;
use request::Request;

/// How long a question waits for its answers.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Questions that may be waiting for answers at one time; who comes when there are more waits.
const ASKS_MAX: usize = 256;

/// Questions of others that are answered at one time. More are not answered, which the others notice.
const SERVED_MAX: usize = 1024;

/// This worker's place among the others. Clones share it.
#[derive(Clone)]
pub(crate) struct Fleet(Arc<Inner>);

struct Inner {
    id: String,
    life: Life,
    missed: AtomicU64,
    broker: ControlBroker,
    peers: Peers,
    asks: Asks,
    asking: Semaphore,
    serving: Arc<Semaphore>,
    shards: Shards,
    revocations: Keeper,
    sessions: Sessions,
    metrics: FleetMetrics,
    started: Instant,
}

/// Why nobody could be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AskError {
    /// There is no broker, so that it is not known who there is.
    #[error("not connected to the other workers")]
    Disconnected,
    /// Too many questions are waiting already, or their answers leave no room.
    #[error("too many questions to the other workers at once")]
    Busy,
    /// The answers are larger than what is kept of them.
    #[error("the answers of the other workers are too large")]
    TooLarge,
}

impl AskError {
    /// What whoever wanted to know is told.
    pub(crate) fn code(self) -> ErrorCode {
        match self {
            Self::Disconnected => ErrorCode::Internal,
            Self::Busy => ErrorCode::TooManyRequests,
            Self::TooLarge => ErrorCode::LimitExceeded,
        }
    }
}

impl From<Excess> for AskError {
    fn from(excess: Excess) -> Self {
        match excess {
            Excess::One => Self::TooLarge,
            Excess::All => Self::Busy,
        }
    }
}

impl Fleet {
    /// The place of the worker `id` in this life of it, whose shards take errands at `shards` and whose clients have these `sessions`.
    pub(crate) fn new(
        (id, life): (String, Life),
        broker: ControlBroker,
        shards: Shards,
        revocations: Keeper,
        sessions: Sessions,
        metrics: FleetMetrics,
    ) -> Self {
        Self(Arc::new(Inner {
            peers: Peers::new(id.clone()),
            id,
            life,
            missed: AtomicU64::new(0),
            broker,
            asks: Asks::default(),
            asking: Semaphore::new(ASKS_MAX),
            serving: Arc::new(Semaphore::new(SERVED_MAX)),
            shards,
            revocations,
            sessions,
            metrics,
            started: Instant::now(),
        }))
    }

    /// This worker's id.
    pub(crate) fn id(&self) -> &str {
        &self.0.id
    }

    /// How many shards this worker has.
    pub(crate) fn shards(&self) -> usize {
        self.0.shards.count()
    }

    /// Hands a link to the shard of this worker that it is for.
    pub(crate) async fn hand_over(&self, arrival: Arrival) {
        self.0.shards.hand_over(arrival).await;
    }

    /// This life of this worker.
    pub(crate) fn life(&self) -> Life {
        self.0.life
    }

    /// The gateways that are there, as far as this worker has heard.
    pub(crate) fn gateways(&self) -> Vec<GatewayEntry> {
        self.0.peers.gateways()
    }

    /// Whose members can be in channels. This worker is among them as soon as it hears itself.
    pub(crate) fn lives(&self) -> watch::Receiver<Lives> {
        self.0.peers.lives()
    }

    /// Channels may not have been told who came or went. The others ask for that when they hear of it.
    pub(crate) fn miss(&self) {
        self.0.missed.fetch_add(1, Ordering::Relaxed);
    }

    /// How often that was.
    pub(crate) fn missed(&self) -> u64 {
        self.0.missed.load(Ordering::Relaxed)
    }

    /// Asks every worker, this one among them.
    pub(crate) async fn ask(&self, question: Question) -> Result<Gathered, AskError> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let known = timeout_at(deadline, self.0.peers.known());
        known.await.map_err(|_| AskError::Disconnected)?;
        let mut workers = self.0.peers.others();
        workers.push(self.0.id.clone());
        self.ask_these(workers, question, deadline).await
    }

    /// Asks one worker. It counts as silent if it is not known.
    pub(crate) async fn ask_one(
        &self,
        worker: &str,
        question: Question,
    ) -> Result<Gathered, AskError> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        if worker != self.0.id {
            let known = timeout_at(deadline, self.0.peers.known());
            known.await.map_err(|_| AskError::Disconnected)?;
            if !self.0.peers.others().iter().any(|other| other == worker) {
                return Ok(Gathered {
                    answers: Vec::new(),
                    silent: vec![worker.to_owned()],
                });
            }
        }
        self.ask_these(vec![worker.to_owned()], question, deadline)
            .await
    }

    async fn ask_these(
        &self,
        mut workers: Vec<String>,
        question: Question,
        deadline: Instant,
    ) -> Result<Gathered, AskError> {
        let asking = timeout_at(deadline, self.0.asking.acquire());
        let _asking = asking.await.map_err(|_| AskError::Busy)?;
        let all = workers.len();
        workers.retain(|worker| *worker != self.0.id);
        let is_own = workers.len() < all;
        let own = async {
            let answer = timeout_at(deadline, self.answer(question.clone()));
            if is_own {
                Some(answer.await.ok())
            } else {
                None
            }
        };
        let (own, gathered) = tokio::join!(own, self.ask_others(workers, &question, deadline));
        let mut gathered = gathered?;
        match own {
            Some(Some(answer)) if answer != Answer::refused() => {
                gathered.answers.push((self.0.id.clone(), answer));
            }
            Some(_) => gathered.silent.push(self.0.id.clone()),
            None => {}
        }
        gathered.answers.sort_by(|one, other| one.0.cmp(&other.0));
        gathered.silent.sort();
        Ok(gathered)
    }

    async fn ask_others(
        &self,
        workers: Vec<String>,
        question: &Question,
        deadline: Instant,
    ) -> Result<Gathered, AskError> {
        if workers.is_empty() {
            return Ok(Gathered::default());
        }
        let began = Instant::now();
        let gathered = self.gather(workers, question, deadline).await;
        let result = match &gathered {
            Ok(gathered) if gathered.silent.is_empty() => Asked::Complete,
            Ok(_) => Asked::Partial,
            Err(_) => Asked::Failed,
        };
        self.0.metrics.asked(result, began.elapsed());
        gathered
    }

    async fn gather(
        &self,
        workers: Vec<String>,
        question: &Question,
        deadline: Instant,
    ) -> Result<Gathered, AskError> {
        let broker = self.0.broker.get().ok_or(AskError::Disconnected)?;
        let ask = self.0.asks.open(workers.iter().cloned());
        let request = Request::from(question.clone());
        let payload = Envelope::request(&self.0.id, ask.number(), request).into_payload();
        let send = workers.into_iter().map(|worker| {
            let (payload, ask) = (payload.clone(), &ask);
            async move {
                let topic = Topic::Worker(worker.clone());
                if let Err(error) = broker.publish(&topic, payload).await {
                    tracing::debug!(%error, worker, "a worker could not be asked");
                    ask.lose(&worker);
                }
            }
        });
        // Whoever has not answered by then is named in the result.
        let _ = timeout_at(deadline, async {
            join_all(send).await;
            ask.settled().await;
        })
        .await;
        Ok(ask.finish()?)
    }

    /// What this worker answers.
    async fn answer(&self, question: Question) -> Answer {
        match question {
            Question::Info(_) => Answer::Node(self.node().await),
            Question::Emulate(Emulate { session, commands }) => {
                Answer::emulated(self.0.sessions.deliver(&session, commands).await)
            }
            Question::Revoke(Revocations { revocations }) => self.take_in(revocations).await,
            Question::Revocations(known) => Answer::Revocations(Revocations {
                revocations: self.0.revocations.unknown_to(known.digest),
            }),
            Question::Connections(asked) => {
                let limit = asked.limit as usize;
                let question = Question::Connections(asked);
                let mut answer = self
                    .0
                    .shards
                    .answer(question)
                    .await
                    .unwrap_or_else(|| Answer::Connections(ConnectionList::default()));
                // Each shard has answered with its first ones.
                if let Answer::Connections(list) = &mut answer {
                    let connections = &mut list.connections;
                    connections.sort_unstable_by(|one, other| one.client.cmp(&other.client));
                    connections.truncate(limit);
                }
                answer
            }
            Question::Roll(_) => {
                let entries = match self.0.shards.answer(question).await {
                    Some(Answer::Roll(Roll { entries, .. })) => entries,
                    _ => Vec::new(),
                };
                Answer::Roll(Roll {
                    life: self.0.life.0,
                    entries,
                })
            }
            question => {
                let nothing = Answer::nothing_to(&question);
                self.0.shards.answer(question).await.unwrap_or(nothing)
            }
        }
    }

    async fn node(&self) -> Node {
        let loads = self.0.shards.ask(Errand::Load).await;
        let sum = |of: fn(&Load) -> usize| loads.iter().map(of).sum::<usize>() as u64;
        let different = |of: fn(&Load) -> &HashSet<u64>| {
            let all: HashSet<&u64> = loads.iter().flat_map(of).collect();
            all.len() as u64
        };
        Node {
            version: VERSION.to_owned(),
            clients: sum(|load| load.clients),
            users: different(|load| &load.users),
            channels: different(|load| &load.channels),
            subscriptions: sum(|load| load.subscriptions),
            uptime: self.0.started.elapsed().as_secs(),
        }
    }

    /// Takes in what has come to this worker's inbox. Never waits.
    pub(crate) fn receive(&self, payload: Bytes) {
        let bytes = payload.len();
        let Ok(Envelope {
            from,
            number,
            content: Some(content),
        }) = Envelope::decode(payload)
        else {
            tracing::debug!("a message of another worker cannot be read");
            return;
        };
        match content {
            Content::Part(part) => self.0.asks.hear(number, &from, part, bytes),
            Content::Request(Request { question }) => self.serve(from, number, question),
        }
    }

    fn serve(&self, from: String, number: u64, question: Option<Question>) {
        let Ok(permit) = self.0.serving.clone().try_acquire_owned() else {
            tracing::warn!("other workers ask more than can be answered");
            return;
        };
        let fleet = self.clone();
        tokio::spawn(async move {
            let _permit = permit;
            let deadline = Instant::now() + ANSWER_TIMEOUT;
            // Later nobody waits for it any more.
            let _ = timeout_at(deadline, fleet.reply(from, number, question)).await;
        });
    }

    async fn reply(&self, to: String, number: u64, question: Option<Question>) {
        let answer = match question {
            Some(question) => self.answer(question).await,
            None => Answer::refused(),
        };
        let Some(broker) = self.0.broker.get() else {
            return;
        };
        let topic = Topic::Worker(to);
        for part in Envelope::answer(&self.0.id, number, answer) {
            if let Err(error) = broker.publish(&topic, part.into_payload()).await {
                tracing::debug!(%error, "an answer to another worker was not sent");
                return;
            }
        }
    }

    /// Takes in what a worker says of itself.
    pub(crate) fn heard(&self, message: RosterMessage) {
        if let Some(gone) = self.0.peers.heard(message, Instant::now()) {
            self.0.asks.lose(&gone);
        }
    }

    /// Forgets the workers that have not been heard of for too long.
    pub(crate) fn forget_the_silent(&self) {
        for gone in self.0.peers.expired() {
            self.0.asks.lose(&gone);
        }
    }

    /// The broker connection is lost.
    pub(crate) fn lost_touch(&self) {
        self.0.peers.lost_touch();
    }

    /// The others have been asked who is there: from a moment later on, it is known.
    pub(crate) fn asked(&self) {
        self.0.peers.asked(Instant::now());
    }

    fn watch_peers(&self) -> watch::Receiver<Option<Instant>> {
        self.0.peers.watch()
    }

    /// A random one of the other workers.
    fn any_other(&self) -> Option<String> {
        self.0.peers.others().choose(&mut rand::rng()).cloned()
    }
}

#[cfg(test)]
mod tests;
