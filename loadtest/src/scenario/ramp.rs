//! Bringing up the clients, one at each moment of a pacer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::Stop;
use crate::client::{Client, Dialer, Opened};
use crate::pacer::{Pacer, Rate};
use crate::scenario::ChannelName;
use crate::stats::Tally;

/// How clients come up.
#[derive(Clone, Debug)]
pub(super) struct Ramp {
    pub(super) dialer: Arc<Dialer>,
    pub(super) clients: u64,
    pub(super) rate: Rate,
    pub(super) channel: Option<ChannelName>,
}

/// How it went.
#[derive(Debug, Default)]
pub(super) struct Turnout {
    connected: AtomicU64,
    pub(super) failed: Tally,
}

impl Turnout {
    /// Clients that came up.
    pub(super) fn connected(&self) -> u64 {
        self.connected.load(Ordering::Relaxed)
    }
}

/// A client that came up.
pub(super) struct Arrival {
    pub(super) number: u64,
    pub(super) client: Client,
    pub(super) opened: Opened,
    /// When it should have begun.
    pub(super) due: Instant,
}

impl Ramp {
    /// Opens the clients and gives each that succeeds to a task of its own, which runs from then
    /// on. Returns when every attempt has ended and is counted, one way or the other, or the user wants to stop.
    pub(super) async fn run<L: Future<Output = ()> + Send + 'static>(
        &self,
        stop: &mut Stop,
        turnout: &Arc<Turnout>,
        live: impl Fn(Arrival) -> L + Clone + Send + 'static,
    ) -> JoinSet<()> {
        let mut clients = JoinSet::new();
        // Each attempt holds a sender; when the last is dropped, all have ended.
        let (attempting, mut attempts) = mpsc::channel::<()>(1);
        let pacer = Pacer::new(Instant::now(), self.rate);
        for number in 0..self.clients {
            let due = pacer.due(number);
            tokio::select! {
                () = sleep_until(due) => {}
                () = stop.wanted() => return clients,
            }
            let (attempt, turnout, live) = (attempting.clone(), turnout.clone(), live.clone());
            let dialer = self.dialer.clone();
            let channel = self.channel.as_ref().map(|channel| channel.of(number));
            clients.spawn(async move {
                match dialer.open(number, channel.as_deref()).await {
                    Ok((client, opened)) => {
                        turnout.connected.fetch_add(1, Ordering::Relaxed);
                        drop(attempt);
                        let arrival = Arrival {
                            number,
                            client,
                            opened,
                            due,
                        };
                        live(arrival).await;
                    }
                    Err(failure) => turnout.failed.count(&failure),
                }
            });
        }
        drop(attempting);
        tokio::select! {
            _ = attempts.recv() => {}
            () = stop.wanted() => {}
        }
        clients
    }
}
