//! The mailboxes of this worker's shards.
//!
//! Owns: how whatever runs beside the shards asks them something. A shard takes errands one by one, between two batches
//! of its own work, and answers each at once; whoever asks waits, never the shard.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};

use super::answer::Answer;
use super::request::Question;
use crate::link::Arrival;

/// Errands that may wait for one shard. Who comes when it is full waits, as long as its own time limit says.
const MAILBOX_SIZE: usize = 64;

/// What a shard is asked.
#[derive(Debug)]
pub(crate) enum Errand {
    /// Something that a worker, too, may be asked.
    Question(Arc<Question>, oneshot::Sender<Answer>),
    /// How loaded it is.
    Load(oneshot::Sender<Load>),
    /// A link that it is to serve.
    Link(Box<Arrival>),
}

/// What a shard holds. Users and channels by a hash, so that those of several shards can be told apart cheaply.
#[derive(Debug, Default)]
pub(crate) struct Load {
    pub(crate) clients: usize,
    pub(crate) subscriptions: usize,
    pub(crate) users: HashSet<u64>,
    pub(crate) channels: HashSet<u64>,
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(crate) struct Shards(Arc<[OnceLock<mpsc::Sender<Errand>>]>);

impl Shards {
    /// Mailboxes for so many shards, none of which serves yet.
    pub(crate) fn new(count: usize) -> Self {
        Self((0..count).map(|_| OnceLock::new()).collect())
    }

    /// The mailbox of a shard that begins to serve, which it does once.
    pub(crate) fn open(&self, shard: usize) -> mpsc::Receiver<Errand> {
        let (sender, receiver) = mpsc::channel(MAILBOX_SIZE);
        if let Some(slot) = self.0.get(shard) {
            slot.get_or_init(|| sender);
        }
        receiver
    }

    /// How many shards there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Hands a link to the shard that it is for. Dropped, and thereby closed, if that one does not serve yet, or any more.
    pub(super) async fn hand_over(&self, arrival: Arrival) {
        if let Some(mailbox) = self.0.get(arrival.shard()).and_then(OnceLock::get) {
            let _ = mailbox.send(Errand::Link(Box::new(arrival))).await;
        }
    }

    /// Asks every shard. One that does not serve yet, or any more, has no clients and nothing to say.
    pub(super) async fn ask<T>(&self, errand: impl Fn(oneshot::Sender<T>) -> Errand) -> Vec<T> {
        let asked = self.0.iter().filter_map(OnceLock::get).map(|mailbox| {
            let (sender, answer) = oneshot::channel();
            let errand = errand(sender);
            async move {
                mailbox.send(errand).await.ok()?;
                answer.await.ok()
            }
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// What the shards answer together; `None` if none of them serves.
    pub(super) async fn answer(&self, question: Question) -> Option<Answer> {
        let question = Arc::new(question);
        let answers = self
            .ask(|answer| Errand::Question(question.clone(), answer))
            .await;
        answers.into_iter().reduce(|mut all, more| {
            all.absorb(more);
            all
        })
    }
}
