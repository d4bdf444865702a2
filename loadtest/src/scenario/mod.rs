//! What the clients do.
//!
//! A scenario is made of the same parts each time: a `ramp` that brings up its clients at a
//! pace, signals that tell all of them what to do next, and a report at the end. A client that
//! fails is counted and not replaced.

pub mod connect;
pub mod echo;
mod ramp;

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long clients may take to close when they have nothing else to do.
const CLOSING: Duration = Duration::from_secs(5);

/// Whether the user wants the run to end early. A run that does still reports what it has.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Ends with the sender's `true`.
    pub fn new(receiver: watch::Receiver<bool>) -> Self {
        Self(receiver)
    }

    /// Waits until the user wants it; for ever if he never does. Cancel-safe.
    pub async fn wanted(&mut self) {
        if self.0.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// A channel's name, in which `{i}` stands for the client's number.
#[derive(Clone, Debug)]
pub struct ChannelName(String);

impl ChannelName {
    /// From the name as it is written.
    pub fn new(template: impl Into<String>) -> Self {
        Self(template.into())
    }

    /// The channel of one client.
    pub fn of(&self, number: u64) -> String {
        self.0.replace("{i}", &number.to_string())
    }

    /// Whether each client has a channel of its own.
    pub fn is_own(&self) -> bool {
        self.0.contains("{i}")
    }
}

impl std::str::FromStr for ChannelName {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::new(text))
    }
}

/// Waits for the clients to end. They may still be at work for `busy`, and then have to close.
async fn finish(mut clients: JoinSet<()>, busy: Duration) {
    let all = async { while clients.join_next().await.is_some() {} };
    // Those that are left hang in their close; dropping the set ends them.
    let _ = timeout(busy + CLOSING, all).await;
}
