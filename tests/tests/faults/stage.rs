//! What all tests of faults have in common: 200 clients that stay, publishers to 50 channels, and the judgement.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flotilla_shared::protocol::Format::{Json, Protobuf};
use flotilla_tests::SOON;
use flotilla_tests::audit::{Event, Losses, Record};
use flotilla_tests::client::Dial;
use flotilla_tests::eventually::eventually;
use flotilla_tests::fleet::{Builder, Fleet};
use flotilla_tests::nats::Layout;
use flotilla_tests::publisher::{Api, Publishers};
use flotilla_tests::service::ANY_PORT;
use flotilla_tests::subscriber::Subscriber;
use flotilla_tests::token;
use toml::{Table, Value};

pub(crate) const CLIENTS: usize = 200;
const CHANNELS: usize = 50;

/// Channels of each client.
const SUBSCRIPTIONS: usize = 4;

/// Publishers of each channel, each of which writes so often.
const PUBLISHERS: usize = 2;
const EVERY: Duration = Duration::from_millis(500);

/// Messages of each publisher before the fault, and after it has passed.
const BEFORE: u64 = 2;
const AFTER: u64 = 4;

const KEY: &str = "the key of the back end";

/// A nats-server that stores streams.
pub(crate) fn stores() -> Layout {
    Layout {
        stores: true,
        ..Layout::default()
    }
}

/// Three workers over NATS, whose channels keep everything that a test publishes, and which ping their clients often.
pub(crate) fn builder() -> Builder {
    keeping(1000)
}

/// The same, with channels that keep so many publications.
pub(crate) fn keeping(publications: i64) -> Builder {
    let mut namespace = Table::new();
    for (key, value) in [
        ("name", Value::from("kept")),
        ("history_size", publications.into()),
        ("history_ttl", "5m".into()),
        ("force_recovery", true.into()),
        ("allow_subscribe_for_client", true.into()),
    ] {
        namespace.insert(key.to_owned(), value);
    }
    Fleet::builder()
        .workers(3)
        .nats(stores())
        .worker("http_api.listen", ANY_PORT)
        .worker("http_api.key", KEY)
        .worker("broker.nats.history.partitions", 4)
        .worker("client.ping_interval", "2s")
        .worker("client.pong_timeout", "1s")
        .worker("channel.namespaces", vec![Value::from(namespace)])
}

/// A fleet with everything going on in it.
pub(crate) struct Stage {
    pub(crate) fleet: Fleet,
    publishers: Publishers,
    subscribers: Vec<Subscriber>,
}

impl Stage {
    /// Starts the fleet, has all clients subscribe, and then the publishers begin.
    pub(crate) async fn set(builder: Builder) -> Result<Self> {
        let fleet = builder.start().await?;
        let channels: Vec<_> = (0..CHANNELS)
            .map(|number| format!("kept:{number}"))
            .collect();
        let mut subscribers = Vec::new();
        for number in 0..CLIENTS {
            let own = (0..SUBSCRIPTIONS).map(|at| {
                let at = number + at * CHANNELS / SUBSCRIPTIONS;
                channels[at % CHANNELS].clone()
            });
            let dial = dial(&fleet, number)?;
            subscribers.push(Subscriber::start(dial, number, &own.collect::<Vec<_>>()));
        }
        all(&subscribers, "is subscribed", |record| {
            record.everywhere(|event| matches!(event, Event::Subscribed(_)))
        })
        .await?;
        let apis = fleet
            .workers
            .iter()
            .map(|worker| worker.addresses().api.clone());
        let api = Api {
            workers: apis
                .collect::<Option<_>>()
                .context("a worker without an API")?,
            key: KEY.to_owned(),
        };
        let mut publishers = Publishers::start(&api, &channels, PUBLISHERS, EVERY);
        publishers.write(BEFORE).await?;
        Ok(Self {
            fleet,
            publishers,
            subscribers,
        })
    }

    /// Lets the publishers write so many more messages each.
    pub(crate) async fn write(&mut self, messages: u64) -> Result<()> {
        self.publishers.write(messages).await
    }

    /// How many clients a worker serves.
    pub(crate) async fn clients_of(&self, worker: usize) -> Result<usize> {
        let scrape = self.fleet.workers[worker].scrape().await?;
        let clients = scrape.sum("flotilla_worker_connections", &[])? as usize;
        ensure!(clients > 0, "worker {worker} serves nobody");
        Ok(clients)
    }

    /// Waits until a worker has lost a connection to NATS, and has all of them again.
    pub(crate) async fn reconnected(&self, worker: usize) -> Result<()> {
        let worker = &self.fleet.workers[worker];
        eventually(
            &format!("{} has reconnected", worker.id()),
            SOON,
            async || {
                let scrape = worker.scrape().await?;
                let sum = |name| scrape.sum(name, &[]);
                let all = sum("flotilla_broker_connections")?;
                let connected = sum("flotilla_broker_connected")?;
                let reconnects = sum("flotilla_broker_reconnects_total")?;
                ensure!(
                    reconnects > 0.0 && connected == all,
                    "{reconnects} reconnects, {connected} of {all} are connected"
                );
                Ok(())
            },
        )
        .await
    }

    /// Waits until at least so many clients have come back, and have recovered all their channels.
    pub(crate) async fn come_back(&self, clients: usize) -> Result<()> {
        let what = format!("{clients} clients have come back");
        eventually(&what, SOON, async || {
            let back = |subscriber: &&Subscriber| subscriber.look(has_come_back);
            let count = self.subscribers.iter().filter(back).count();
            ensure!(count >= clients, "only {count}");
            Ok(())
        })
        .await
    }

    /// The fault has passed: publishes some more, waits until every client has everything, and judges every record.
    pub(crate) async fn judge(mut self, losses: Losses) -> Result<()> {
        self.write(AFTER).await?;
        let ledger = self.publishers.stop().await?;
        let complete = all(&self.subscribers, "has everything", |record| {
            ledger.is_complete(record)
        });
        let complete = complete.await;
        let mut records = Vec::new();
        for subscriber in self.subscribers {
            records.push(subscriber.stop().await?);
        }
        println!("{} published; {}", ledger.acknowledged(), seen(&records));
        let is_told = |event: &Event| matches!(event, Event::Missed(_));
        let told = records.iter().any(|record| record.everywhere(is_told));
        ensure!(told || losses == Losses::None, "nobody has missed anything");
        ledger.audit(&records, losses)?;
        complete
    }
}

/// Users are spread over the workers by their tokens. Half of them speak Protobuf.
fn dial(fleet: &Fleet, number: usize) -> Result<Dial> {
    let token = token::user(&format!("user-{number}"))?;
    let dial = fleet
        .dial()
        .header("authorization", &format!("Bearer {token}"));
    Ok(dial.format(if number.is_multiple_of(2) {
        Json
    } else {
        Protobuf
    }))
}

/// What clients saw, in numbers, for whoever reads what a test printed.
fn seen(records: &[Record]) -> String {
    let count = |like: fn(&Event) -> bool| {
        let channels = records.iter().flat_map(Record::channels);
        let events = channels.flat_map(|(_, events)| events);
        events.filter(|event| like(event)).count()
    };
    format!(
        "{} given, {} recovered, {} told of a loss, {} unsubscribed, {} disconnected",
        count(|event| matches!(event, Event::Given(..))),
        count(|event| matches!(event, Event::Recovered(_))),
        count(|event| matches!(event, Event::Missed(_))),
        count(|event| matches!(event, Event::Unsubscribed(_))),
        count(|event| matches!(event, Event::Disconnected(..))),
    )
}

/// Whether the client was told in every channel what has become of it.
fn has_come_back(record: &Record) -> bool {
    record.everywhere(|event| matches!(event, Event::Recovered(_) | Event::Missed(_)))
}

/// Waits until something is true of every record, or a client gives up.
async fn all(
    subscribers: &[Subscriber],
    what: &str,
    is_true: impl Fn(&Record) -> bool,
) -> Result<()> {
    eventually(&format!("every client {what}"), SOON, async || {
        let late = subscribers
            .iter()
            .filter(|subscriber| !subscriber.look(&is_true));
        let late: Vec<_> = late.collect();
        // Why it has given up is told when it is stopped.
        let failed = late.iter().any(|subscriber| subscriber.has_failed());
        let count = late.len();
        ensure!(count == 0 || failed, "not so of {count}");
        Ok(())
    })
    .await
}
