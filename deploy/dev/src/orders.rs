//! What a person may have done to a worker from the demo page, and how that reaches who holds the processes.

use anyhow::Error;
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};

/// How many orders may wait; whoever gives one more waits with it.
const WAITING_MAX: usize = 16;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    /// End it without a word (SIGKILL).
    Kill,
    /// Have it let its clients go, then end (SIGTERM).
    Drain,
    /// Run it again as it was, at its old address.
    Start,
}

/// Why it is not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// No worker has this name.
    #[error("there is no such worker")]
    Unknown,
    /// It has ended, or somebody else has started it.
    #[error("it is no process of this launcher now")]
    NotRunning,
    /// Nothing was asked of it that would end it.
    #[error("it is running already")]
    Running,
    /// The system does not start it.
    #[error("{0:#}")]
    Start(#[from] Error),
    /// Nobody takes orders any more.
    #[error("the fleet is ending")]
    Ending,
}

/// An order, to be answered once it is carried out.
#[derive(Debug)]
pub(crate) struct Order {
    /// Such as `worker-1`.
    pub(crate) worker: String,
    /// What is to be done to it.
    pub(crate) action: Action,
    /// Where the outcome goes.
    pub(crate) done: oneshot::Sender<Result<(), Refusal>>,
}

/// Gives orders. Clones share the way.
#[derive(Debug, Clone)]
pub(crate) struct Orders(mpsc::Sender<Order>);

impl Orders {
    /// The way of orders, and its end.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Order>) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        (Self(sender), receiver)
    }

    /// Has `action` done to `worker` and waits until it is.
    ///
    /// # Errors
    /// When it is not done.
    pub(crate) async fn give(&self, worker: String, action: Action) -> Result<(), Refusal> {
        let (done, outcome) = oneshot::channel();
        let order = Order {
            worker,
            action,
            done,
        };
        self.0.send(order).await.map_err(|_| Refusal::Ending)?;
        outcome.await.unwrap_or(Err(Refusal::Ending))
    }
}
