//! A connection as the promises use it: what it receives is awaited with a deadline.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prometheus::Registry;
use tokio::time::timeout;

use super::{Outcome, Violation, demand};
use crate::broker::{
    Append, Appended, BATCH_BYTES_MAX, BATCH_EVENTS_MAX, Broker, BrokerConnection, BrokerEvent,
    BrokerEvents, BrokerMetrics, Brokers, HistoryPage, HistoryQuery, Retention, Stamp,
    StreamPosition, Topic,
};
use crate::channel::Channel;

/// When to stop waiting for what should come at once: long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the promises keep of a stream. They are about channels without a namespace, except that the ends of many are told
/// in `end`, and that odd names are in `private`, `räume` and `聊天`.
pub const RETENTION: Retention = Retention {
    size: 8,
    ttl: Duration::from_secs(3600),
    meta_ttl: Duration::from_secs(7200),
};

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

    /// Waits for the next event, which must be this message of a stream; says where it stands.
    pub(super) async fn expect_stamped(
        &mut self,
        token: u64,
        payload: impl Into<Bytes>,
    ) -> Result<Stamp, Violation> {
        let expected = (token, payload.into());
        match self.next().await? {
            BrokerEvent::StreamMessage {
                token,
                payload,
                stamp,
            } if (token, &payload) == (expected.0, &expected.1) => Ok(stamp),
            other => {
                let (token, payload) = expected;
                let expected = brief(&BrokerEvent::Message { token, payload });
                let got = brief(&other);
                let reason = format!("expected, with a place in a stream, {expected}, got {got}");
                Err(Violation::Broken(reason))
            }
        }
    }

    /// Appends what has to be taken; says where it is.
    pub(super) async fn append(
        &self,
        channel: &Channel,
        append: Append,
    ) -> Result<StreamPosition, Violation> {
        let appended = self.broker.append(channel, RETENTION, append).await?;
        match appended {
            Appended::Published(position) => Ok(position),
            other => Err(Violation::Broken(format!("not published, but {other:?}"))),
        }
    }

    /// Reads a stream.
    pub(super) async fn read(
        &self,
        channel: &Channel,
        query: HistoryQuery,
    ) -> Result<HistoryPage, Violation> {
        Ok(self.broker.history(channel, RETENTION, query).await?)
    }

    /// Reads all that is behind an offset.
    pub(super) async fn read_since(
        &self,
        channel: &Channel,
        since: u64,
    ) -> Result<HistoryPage, Violation> {
        let query = HistoryQuery {
            limit: usize::MAX,
            since: Some(since),
            reverse: false,
        };
        self.read(channel, query).await
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

/// A channel; names are not limited here.
pub(super) fn channel(name: &str) -> Result<Channel, Violation> {
    Channel::parse(name, usize::MAX).map_err(|error| Violation::Broken(error.to_string()))
}

/// A channel's topic.
pub(super) fn topic(name: &str) -> Result<Topic, Violation> {
    channel(name).map(Topic::Channel)
}

/// A publication with neither key nor version.
pub(super) fn plain(payload: impl Into<Bytes>) -> Append {
    Append {
        payload: payload.into(),
        ..Append::default()
    }
}

/// Names that look special to some system or other, and are to be nothing but names.
pub(super) fn odd_names() -> impl Iterator<Item = String> {
    let names = [
        "a",
        "A",
        "a.b",
        "a..b",
        ".",
        "..",
        "*",
        ">",
        "a.*",
        "a.>",
        "a b",
        " ",
        "\t",
        "a\r\nPUB x 1",
        "%",
        "%2E",
        "a%2Eb",
        "%252E",
        "\0",
        "\u{7f}",
        "räume:1",
        "e\u{301}",
        "\u{e9}",
        "聊天:42",
        "🚀",
        "$SYS",
        "_INBOX.x",
        "$private:1",
        "roster",
        "user#1,2",
        "a/b?c=d&e",
        "\"quoted\"",
    ];
    let long = "é".repeat(127);
    names.into_iter().map(str::to_owned).chain([long])
}

/// An event without the bulk of its payload.
fn brief(event: &BrokerEvent) -> String {
    match event {
        BrokerEvent::Message { token, payload }
        | BrokerEvent::StreamMessage { token, payload, .. } => {
            let start = String::from_utf8_lossy(payload.get(..40).unwrap_or(payload));
            format!("message {start:?} ({} B) for token {token}", payload.len())
        }
        other => format!("{other:?}"),
    }
}
