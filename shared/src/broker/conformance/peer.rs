//! A connection as the promises use it: what it receives is awaited with a deadline.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prometheus::Registry;
use tokio::time::timeout;

use super::{Outcome, Violation, demand};
use crate::broker::{
    BATCH_BYTES_MAX, BATCH_EVENTS_MAX, Broker, BrokerConnection, BrokerEvent, BrokerEvents,
    BrokerMetrics, Brokers, Topic,
};
use crate::channel::Channel;

/// When to stop waiting for what should come at once: long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// One connection and the events it has received.
pub struct Peer {
    /// The half that acts.
    pub broker: Arc<dyn Broker>,
    /// The half that listens.
    pub events: Box<dyn BrokerEvents>,
    received: VecDeque<BrokerEvent>,
}

impl Peer {
    /// Opens a connection.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub async fn connect(brokers: &Brokers) -> Result<Self, Violation> {
        let metrics = BrokerMetrics::register(&Registry::new())
            .map_err(|error| Violation::Broken(error.to_string()))?;
        let connection = brokers.connect("conformance", &metrics).await?;
        Ok(Self::from(connection))
    }

    /// Waits for the next event.
    ///
    /// # Errors
    /// If none comes in time, the connection closes, or a batch breaks its bounds.
    pub async fn next(&mut self) -> Result<BrokerEvent, Violation> {
        loop {
            if let Some(event) = self.received.pop_front() {
                return Ok(event);
            }
            self.listen().await?;
        }
    }

    /// Waits for one batch.
    async fn listen(&mut self) -> Outcome {
        let mut batch = Vec::new();
        match timeout(PATIENCE, self.events.next_batch(&mut batch)).await {
            Ok(true) => {}
            Ok(false) => return Err(Violation::Broken("the connection closed".to_owned())),
            Err(_) => return Err(Violation::Broken("nothing arrived in time".to_owned())),
        }
        demand(!batch.is_empty(), || "a batch was empty".to_owned())?;
        let payloads = batch.iter().filter_map(|event| match event {
            BrokerEvent::Message { payload, .. } | BrokerEvent::StreamMessage { payload, .. } => {
                Some(payload.len())
            }
            _ => None,
        });
        let sizes: Vec<usize> = payloads.collect();
        demand(sizes.len() <= BATCH_EVENTS_MAX, || {
            format!("a batch of {}", sizes.len())
        })?;
        let before_last: usize = sizes.iter().rev().skip(1).sum();
        demand(before_last < BATCH_BYTES_MAX, || {
            format!("a batch grew beyond {before_last} B")
        })?;
        self.received.extend(batch);
        Ok(())
    }

    /// Waits for the next event, which must be this message.
    ///
    /// # Errors
    /// As [`next`](Self::next), and if it is anything else.
    pub async fn expect(&mut self, token: u64, payload: impl Into<Bytes>) -> Outcome {
        let expected = BrokerEvent::Message {
            token,
            payload: payload.into(),
        };
        let event = self.next().await?;
        demand(event == expected, || {
            format!("expected {}, got {}", brief(&expected), brief(&event))
        })
    }

    /// Waits for two messages of different subscriptions, among which there is no order.
    pub(super) async fn expect_any_order(&mut self, expected: [(u64, &'static str); 2]) -> Outcome {
        let first = self.next().await?;
        let message = |(token, payload): (u64, &'static str)| BrokerEvent::Message {
            token,
            payload: payload.into(),
        };
        let [one, other] = expected;
        let rest = if first == message(one) { other } else { one };
        self.received.push_front(first);
        let first = if rest == one { other } else { one };
        self.expect(first.0, first.1).await?;
        self.expect(rest.0, rest.1).await
    }

    /// Demands that everything received so far was looked at.
    pub(super) fn expect_no_more(&self) -> Outcome {
        let rest: Vec<String> = self.received.iter().map(brief).collect();
        demand(rest.is_empty(), || {
            format!("more arrived: {}", rest.join(", "))
        })
    }
}

impl From<BrokerConnection> for Peer {
    fn from(connection: BrokerConnection) -> Self {
        let BrokerConnection { broker, events } = connection;
        Self {
            broker,
            events,
            received: VecDeque::new(),
        }
    }
}

/// A channel's topic; names are not limited here.
pub(super) fn topic(name: &str) -> Result<Topic, Violation> {
    let channel = Channel::parse(name, usize::MAX);
    channel
        .map(Topic::Channel)
        .map_err(|error| Violation::Broken(error.to_string()))
}

/// An event without the bulk of its payload.
fn brief(event: &BrokerEvent) -> String {
    match event {
        BrokerEvent::Message { token, payload } => {
            let start = String::from_utf8_lossy(payload.get(..40).unwrap_or(payload));
            format!("message {start:?} ({} B) for token {token}", payload.len())
        }
        other => format!("{other:?}"),
    }
}
