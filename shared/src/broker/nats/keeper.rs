//! The task that keeps one connection whole: it opens subscriptions, proves that they are open, and restores the
//! proof after a reconnect.
//!
//! The proof is a barrier. A server works through one connection's commands in order, so a message published to
//! ourselves after the `SUB` comes back only once the server knows the subscription. (async-nats's `flush` says only
//! that the bytes were written.) Everyone who waits at that moment shares one barrier.
//!
//! In a cluster the barrier speaks for the server that this connection uses; the others learn of a subscription within
//! milliseconds, and a message published there in between is missed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, Statistics, Subject, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::history::History;
use super::link::Link;
use crate::broker::{BrokerError, BrokerMetrics};

/// Subscriptions that wait for the keeper; beyond that, `subscribe` waits for room.
pub(super) const OPENS_QUEUED: usize = 256;

/// How long the keeper waits for a sign that the connection is back before it looks by itself: async-nats gives the
/// sign a moment before the connection's state says so.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A wish for a subscription whose token is reserved in the table.
pub(super) struct Open {
    pub(super) subject: Subject,
    pub(super) token: u64,
    pub(super) serial: u64,
    pub(super) done: oneshot::Sender<Result<(), BrokerError>>,
}

/// The only one that subscribes on its client.
pub(super) struct Keeper {
    wire: Wire,
    barrier: Barrier,
    /// Id of the last subscription. async-nats numbers them from 1 and names the number only when it drops a message.
    last_sid: u64,
}

/// The client, and which of its connections the subscriptions were last confirmed on.
struct Wire {
    link: Arc<Link>,
    client: Client,
    statistics: Arc<Statistics>,
    /// How many times the client had connected by then.
    connects: u64,
}

/// Messages to ourselves.
struct Barrier {
    subject: Subject,
    echo: Subscriber,
    round: u64,
    patience: Duration,
    metrics: BrokerMetrics,
}

impl Keeper {
    /// Opens the barrier's own subscription and passes it once, which proves that the connection works and that the
    /// server's permissions allow our subjects.
    pub(super) async fn start(
        client: Client,
        link: Arc<Link>,
        metrics: &BrokerMetrics,
        subject: Subject,
        patience: Duration,
    ) -> Result<Self, BrokerError> {
        let echo = client
            .subscribe(subject.clone())
            .await
            .map_err(|_| BrokerError::Closed)?;
        let statistics = client.statistics();
        let connects = statistics.connects.load(Ordering::Relaxed);
        let wire = Wire {
            link,
            client,
            statistics,
            connects,
        };
        let mut barrier = Barrier {
            subject,
            echo,
            round: 0,
            patience,
            metrics: metrics.clone(),
        };
        barrier.pass(&wire).await?;
        Ok(Self {
            wire,
            barrier,
            last_sid: 1,
        })
    }

    /// Runs until either half of the connection is dropped.
    pub(super) async fn run(
        mut self,
        mut opens: mpsc::Receiver<Open>,
        history: Option<Arc<History>>,
    ) {
        let mut wishes = Vec::new();
        while !self.wire.link.is_closed() {
            if self.wire.is_broken() {
                self.restore(history.as_deref()).await;
                continue;
            }
            tokio::select! {
                count = opens.recv_many(&mut wishes, OPENS_QUEUED) => {
                    if count == 0 {
                        break;
                    }
                    self.grant(&mut wishes).await;
                }
                () = self.wire.link.changed() => {}
            }
        }
    }

    /// Answers all wishes alike. Whoever gets an error, or is not there any more to hear the answer, gives its
    /// reservation back and with it the subscription.
    async fn grant(&mut self, wishes: &mut Vec<Open>) {
        let outcome = self.open(wishes).await;
        if outcome == Err(BrokerError::Closed) {
            self.wire.link.close();
        }
        for wish in wishes.drain(..) {
            // An error only says that nobody waits any more.
            let _ = wish.done.send(outcome.clone());
        }
    }

    async fn open(&mut self, wishes: &[Open]) -> Result<(), BrokerError> {
        for wish in wishes.iter().filter(|wish| !wish.done.is_closed()) {
            self.last_sid += 1;
            let subscriber = tokio::select! {
                // First, since async-nats takes the number at the first poll: it is used up, whatever comes of it.
                biased;
                opened = self.wire.client.subscribe(wish.subject.clone()) => {
                    opened.map_err(|_| BrokerError::Closed)?
                }
                () = self.wire.broken() => return Err(BrokerError::Disconnected),
            };
            self.wire
                .link
                .table
                .fill(wish.token, wish.serial, self.last_sid, subscriber);
        }
        self.barrier.pass(&self.wire).await
    }

    /// Waits until the client is connected again; it has then sent all subscriptions anew, and the barrier proves that
    /// the server has them. Then the histories are looked after, so that whoever is told of the reconnect finds them.
    async fn restore(&mut self, history: Option<&History>) {
        let link = Arc::clone(&self.wire.link);
        link.go_down();
        while !link.is_closed() {
            if self.wire.client.connection_state() != State::Connected {
                let _ = timeout(LOOK_AGAIN, link.changed()).await;
                continue;
            }
            self.wire.connects = self.wire.statistics.connects.load(Ordering::Relaxed);
            match self.barrier.pass(&self.wire).await {
                Ok(()) => {
                    if let Some(history) = history {
                        tokio::select! {
                            () = history.restore() => {}
                            () = self.wire.broken() => continue,
                        }
                    }
                    return link.go_up();
                }
                Err(BrokerError::Closed) => link.close(),
                Err(error) => tracing::debug!(%error, "NATS barrier failed, trying again"),
            }
        }
    }
}

impl Wire {
    /// Whether the connection of the last barrier is gone.
    fn is_broken(&self) -> bool {
        self.client.connection_state() != State::Connected
            || self.statistics.connects.load(Ordering::Relaxed) != self.connects
    }

    /// Completes when the connection of the last barrier is gone.
    async fn broken(&self) {
        while !self.is_broken() && !self.link.is_closed() {
            self.link.changed().await;
        }
    }
}

impl Barrier {
    /// Returns once the server has worked through everything that was sent before.
    async fn pass(&mut self, wire: &Wire) -> Result<(), BrokerError> {
        let sent = Instant::now();
        let patience = self.patience;
        let returned = tokio::select! {
            returned = timeout(patience, self.echo(&wire.client)) => returned,
            () = wire.broken() => return Err(BrokerError::Disconnected),
        };
        match returned {
            Ok(outcome) => outcome?,
            Err(_) => return Err(BrokerError::Timeout),
        }
        self.metrics.round_trip(sent.elapsed());
        Ok(())
    }

    async fn echo(&mut self, client: &Client) -> Result<(), BrokerError> {
        self.round += 1;
        let round = Bytes::copy_from_slice(&self.round.to_be_bytes());
        client
            .publish(self.subject.clone(), round.clone())
            .await
            .map_err(|_| BrokerError::Closed)?;
        // Echoes of rounds that were given up come first.
        while let Some(message) = self.echo.next().await {
            if message.payload == round {
                return Ok(());
            }
        }
        Err(BrokerError::Closed)
    }
}

#[cfg(test)]
mod tests {
    use async_nats::ConnectOptions;
    use prometheus::Registry;

    use super::*;
    use crate::broker::NatsHistory;

    /// A keeper whose connection is broken, and stays so.
    async fn disconnected() -> Keeper {
        let options = ConnectOptions::new().retry_on_initial_connect();
        let client = options.connect("127.0.0.1:1").await.unwrap();
        let metrics = BrokerMetrics::register(&Registry::new()).unwrap();
        let subject = Subject::from_static("barrier");
        let echo = client.subscribe(subject.clone()).await.unwrap();
        Keeper {
            wire: Wire {
                link: Arc::new(Link::new(&metrics, &NatsHistory::default())),
                statistics: client.statistics(),
                client,
                connects: 0,
            },
            barrier: Barrier {
                subject,
                echo,
                round: 0,
                patience: Duration::from_secs(5),
                metrics,
            },
            last_sid: 1,
        }
    }

    #[tokio::test]
    async fn a_subscription_that_meets_a_lost_connection_does_not_shift_the_numbers_of_others() {
        let mut keeper = disconnected().await;
        for token in 0..32 {
            let (done, _waiting) = oneshot::channel();
            let wish = Open {
                subject: Subject::from_static("channel"),
                token,
                serial: 0,
                done,
            };
            assert_eq!(keeper.open(&[wish]).await, Err(BrokerError::Disconnected));
        }
        let next = keeper.wire.client.subscribe("next").await.unwrap();
        // Where else async-nats shows the number.
        let shown = format!("{next:?}");
        let number = format!("sid: {},", keeper.last_sid + 1);
        assert!(shown.contains(&number), "{shown} has not {number}");
    }
}
