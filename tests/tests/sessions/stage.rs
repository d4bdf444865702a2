//! What all tests of sessions have in common: 300 clients that must not notice anything, clients and back ends that publish
//! to 40 channels, and the judgement.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flotilla_shared::protocol::Format::{Json, Protobuf};
use flotilla_tests::SOON;
use flotilla_tests::audit::{Event, Ledger, Losses, Message, Position, Record};
use flotilla_tests::client::Dial;
use flotilla_tests::eventually::eventually;
use flotilla_tests::fleet::{Builder, Fleet};
use flotilla_tests::nats::Layout;
use flotilla_tests::publisher::{Api, Publishers};
use flotilla_tests::service::ANY_PORT;
use flotilla_tests::speaker::Speakers;
use flotilla_tests::subscriber::Subscriber;
use flotilla_tests::token;
use rcgen::CertifiedKey;
use serde_json::{Value as Answer, json};
use tempfile::TempDir;
use tokio_rustls::rustls::pki_types::CertificateDer;
use toml::{Table, Value};

const CLIENTS: usize = 300;
const CHANNELS: usize = 40;

/// Channels of each client.
const SUBSCRIPTIONS: usize = 3;

/// How often each publisher writes.
const EVERY: Duration = Duration::from_millis(500);

/// Messages of each publisher before the fault, and after it has passed.
const BEFORE: u64 = 2;
const AFTER: u64 = 4;

const KEY: &str = "the key of the back end";

/// Workers over a NATS that stores, in a fleet whose gateway carries sessions over links.
pub(crate) fn builder(workers: usize) -> Builder {
    let mut namespace = Table::new();
    for (key, value) in [
        ("name", Value::from("kept")),
        ("history_size", 1000.into()),
        ("history_ttl", "5m".into()),
        ("force_recovery", true.into()),
        ("presence", true.into()),
        ("join_leave", true.into()),
        ("force_push_join_leave", true.into()),
        ("allow_subscribe_for_client", true.into()),
        ("allow_publish_for_client", true.into()),
    ] {
        namespace.insert(key.to_owned(), value);
    }
    let stores = Layout {
        stores: true,
        ..Layout::default()
    };
    Fleet::builder()
        .workers(workers)
        .nats(stores)
        .gateway("pool.transport", "link")
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
    channels: Vec<String>,
    publishers: Publishers,
    speakers: Speakers,
    subscribers: Vec<Subscriber>,
    /// How many joins and leaves each client had been told of before the fault.
    told: BTreeMap<String, usize>,
    http: reqwest::Client,
    _certificate: TempDir,
}

impl Stage {
    /// Starts the fleet, has all clients subscribe, and then the publishers begin.
    pub(crate) async fn set(builder: Builder) -> Result<Self> {
        let files = tempfile::tempdir()?;
        let (builder, certificate) = secured(builder, &files)?;
        let fleet = builder.start().await?;
        let channels: Vec<_> = (0..CHANNELS).map(|at| format!("kept:{at}")).collect();
        let address = fleet.gateways[0].addresses().tls.clone();
        let address = address.context("a TLS listener")?;
        let url = format!(
            "wss://{}/connection/websocket",
            address.replace("127.0.0.1", "localhost")
        );
        let dial = |number: usize| dial(&url, &certificate, number);
        let mut subscribers = Vec::new();
        for number in 0..CLIENTS {
            let own = (0..SUBSCRIPTIONS).map(|at| {
                let at = number + at * CHANNELS / SUBSCRIPTIONS;
                channels[at % CHANNELS].clone()
            });
            let own: Vec<_> = own.collect();
            subscribers.push(Subscriber::start(dial(number)?, number, &own));
        }
        all(&subscribers, "is subscribed", |record| {
            record.everywhere(|event| matches!(event, Event::Subscribed(_)))
        })
        .await?;
        let speak = |at| dial(CLIENTS + at);
        let speakers = Speakers::start(speak, &channels, CHANNELS, EVERY).await?;
        let publishers = Publishers::start(&api(&fleet)?, &channels, 1, EVERY);
        let mut stage = Self {
            fleet,
            channels,
            publishers,
            speakers,
            subscribers,
            told: BTreeMap::new(),
            http: reqwest::Client::new(),
            _certificate: files,
        };
        stage.everyone_is_there().await?;
        stage.write(BEFORE).await?;
        let announced = stage.announced().into_iter();
        stage.told = announced
            .map(|(whose, events)| (whose, events.len()))
            .collect();
        Ok(stage)
    }

    /// Lets everyone who publishes do so that many more times.
    pub(crate) async fn write(&mut self, messages: u64) -> Result<()> {
        self.publishers.write(messages).await?;
        self.speakers.write(messages).await
    }

    /// Waits until a worker serves this many clients, or more.
    pub(crate) async fn serves(&self, at: usize, clients: usize) -> Result<()> {
        let id = self.fleet.workers[at].id();
        let what = format!("{id} serves at least {clients} clients");
        eventually(&what, SOON, async || {
            let served = self.served(at).await?;
            ensure!(served >= clients, "it serves {served}");
            Ok(())
        })
        .await
    }

    /// How many clients a worker serves.
    pub(crate) async fn served(&self, worker: usize) -> Result<usize> {
        let scrape = self.fleet.workers[worker].scrape().await?;
        Ok(scrape.sum("flotilla_worker_connections", &[])? as usize)
    }

    /// Waits until this many sessions, or more, have been moved for this reason.
    pub(crate) async fn moved(&self, reason: &str, sessions: usize) -> Result<()> {
        eventually("the sessions have moved", SOON, async || {
            let scrape = self.fleet.gateways[0].scrape().await?;
            let reason = format!("reason=\"{reason}\"");
            let moves = "flotilla_gateway_link_moves_total";
            let moved = scrape.sum(moves, &[&reason])? as usize;
            ensure!(moved >= sessions, "{moved} of {sessions} have");
            Ok(())
        })
        .await
    }

    /// Waits until the gateway has all clients, and none of their sessions is on its way.
    pub(crate) async fn is_attached(&self) -> Result<()> {
        let sessions = CLIENTS + CHANNELS;
        eventually("every session is at a worker", SOON, async || {
            let scrape = self.fleet.gateways[0].scrape().await?;
            let there = scrape.sum("flotilla_gateway_link_sessions", &[])? as usize;
            let moving = scrape.sum("flotilla_gateway_link_sessions_moving", &[])? as usize;
            ensure!(
                there == sessions && moving == 0,
                "{there} sessions, {moving} move"
            );
            Ok(())
        })
        .await
    }

    /// The joins and leaves that each client was told of in each of its channels.
    fn announced(&self) -> BTreeMap<String, Vec<String>> {
        let announced = |record: &Record| {
            let channels = record.channels().map(|(channel, events)| {
                let announced = events.iter();
                let announced = announced.filter(|event| matches!(event, Event::Announced(..)));
                let whose = format!("{} in {channel}", record.client());
                (whose, announced.map(Event::to_string).collect())
            });
            channels.collect::<Vec<_>>()
        };
        let subscribers = self.subscribers.iter();
        subscribers.flat_map(|own| own.look(announced)).collect()
    }

    /// Waits until every channel's presence is as many as have subscribed to it, and the workers agree about it.
    async fn everyone_is_there(&self) -> Result<()> {
        eventually("everyone is present", SOON, async || {
            for worker in &self.fleet.workers {
                let Some(address) = &worker.addresses().api else {
                    continue;
                };
                for channel in &self.channels {
                    let asked = self.ask(address, "presence_stats", json!({"channel": channel}));
                    // A worker that is gone is not asked.
                    let Ok(stats) = asked.await else { break };
                    let there = stats["num_clients"].as_u64();
                    let wanted = self.subscribers_of(channel) as u64;
                    ensure!(there == Some(wanted), "{channel}: {there:?} of {wanted}");
                }
            }
            Ok(())
        })
        .await
    }

    fn subscribers_of(&self, channel: &str) -> usize {
        let is_in = |record: &Record| record.channels().any(|(own, _)| own == channel);
        let subscribers = self.subscribers.iter();
        subscribers.filter(|own| own.look(is_in)).count()
    }

    async fn ask(&self, address: &str, method: &str, body: Answer) -> Result<Answer> {
        let request = self.http.post(format!("http://{address}/api/{method}"));
        let request = request.header("x-api-key", KEY).json(&body);
        let answer: Answer = request.timeout(SOON).send().await?.json().await?;
        let result = answer.get("result").cloned();
        result.with_context(|| format!("{method} {body}: {answer}"))
    }

    /// The same as [`Stage::judge`], and nobody was told that anybody came or went.
    pub(crate) async fn judge_strictly(self) -> Result<()> {
        let news = self.judge().await?;
        let shown = news.iter().take(20).collect::<Vec<_>>();
        ensure!(
            news.is_empty(),
            "{} joins and leaves: {shown:#?}",
            news.len()
        );
        Ok(())
    }

    /// The fault has passed: publishes some more, waits until every client has everything, and judges every record. The joins
    /// and leaves that were told meanwhile.
    pub(crate) async fn judge(mut self) -> Result<Vec<String>> {
        self.write(AFTER).await?;
        self.is_attached().await?;
        self.everyone_is_there().await?;
        let news: Vec<String> = self
            .announced()
            .into_iter()
            .flat_map(|(whose, events)| {
                let before = self.told.get(&whose).copied().unwrap_or(0);
                events
                    .into_iter()
                    .skip(before)
                    .map(move |event| format!("{whose}: {event}"))
            })
            .collect();
        let mut ledger = self.publishers.stop().await?;
        ledger.join(self.speakers.stop().await?)?;
        let address = self.fleet.workers.iter();
        let mut addresses = address.filter_map(|worker| worker.addresses().api.as_ref());
        let mut streams = Vec::new();
        for channel in &self.channels {
            let body = json!({"channel": channel, "limit": -1});
            streams.push(content(&self.http, &mut addresses.clone(), channel, body).await?);
        }
        ensure!(addresses.next().is_some(), "a worker with an API");
        for (channel, content) in self.channels.iter().zip(&streams) {
            ledger.place(channel, content)?;
        }
        let complete = all(&self.subscribers, "has everything", |record| {
            ledger.is_complete(record)
        });
        let complete = complete.await;
        let mut records = Vec::new();
        for subscriber in self.subscribers {
            records.push(subscriber.stop().await?);
        }
        ledger.audit(&records, Losses::None)?;
        complete?;
        unbroken(&ledger, &records)?;
        Ok(news)
    }
}

/// Everything that a channel's stream has, from the first worker that answers.
async fn content(
    http: &reqwest::Client,
    addresses: &mut dyn Iterator<Item = &String>,
    channel: &str,
    body: Answer,
) -> Result<Vec<(Position, Message)>> {
    for address in addresses {
        let request = http.post(format!("http://{address}/api/history"));
        let request = request.header("x-api-key", KEY).json(&body);
        let Ok(response) = request.timeout(SOON).send().await else {
            continue;
        };
        let answer: Answer = response.json().await?;
        let result = answer.get("result");
        let result = result.with_context(|| format!("history of {channel}: {answer}"))?;
        let epoch = result["epoch"].as_str().context("an epoch")?;
        let rows = result["publications"].as_array().context("publications")?;
        let read = |row: &Answer| {
            let place = Position {
                epoch: epoch.to_owned(),
                offset: row["offset"].as_u64().context("an offset")?,
            };
            Ok((place, serde_json::from_value(row["data"].clone())?))
        };
        return rows.iter().map(read).collect();
    }
    anyhow::bail!("no worker answers")
}

/// No connection has ended, no subscription was ended or made again.
fn unbroken(ledger: &Ledger, records: &[Record]) -> Result<()> {
    println!("{} published", ledger.acknowledged());
    let is_break = |event: &Event| {
        matches!(
            event,
            Event::Recovered(_)
                | Event::Missed(_)
                | Event::Unsubscribed(_)
                | Event::Disconnected(..)
        )
    };
    let broken: BTreeSet<String> = records
        .iter()
        .flat_map(|record| record.channels().map(move |(_, events)| (record, events)))
        .flat_map(|(record, events)| events.iter().map(move |event| (record, event)))
        .filter(|(_, event)| is_break(event))
        .map(|(record, event)| format!("{}: {event}", record.client()))
        .collect();
    let (count, some) = (broken.len(), broken.iter().take(10).collect::<Vec<_>>());
    ensure!(count == 0, "{count} breaks: {some:#?}");
    Ok(())
}

fn api(fleet: &Fleet) -> Result<Api> {
    let apis = fleet.workers.iter();
    let apis = apis.map(|worker| worker.addresses().api.clone());
    Ok(Api {
        workers: apis
            .collect::<Option<_>>()
            .context("a worker without an API")?,
        key: KEY.to_owned(),
    })
}

/// The gateway takes clients over TLS, with this certificate.
fn secured(builder: Builder, files: &TempDir) -> Result<(Builder, CertificateDer<'static>)> {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let path = |name: &str| files.path().join(name);
    let (certificate, key) = (path("certificate.pem"), path("key.pem"));
    std::fs::write(&certificate, cert.pem())?;
    std::fs::write(&key, signing_key.serialize_pem())?;
    let builder = builder
        .gateway("tls.listen", ANY_PORT)
        .gateway("tls.certificate_file", certificate.display().to_string())
        .gateway("tls.key_file", key.display().to_string());
    Ok((builder, cert.der().clone()))
}

/// Users are spread over the workers by their tokens. Half of them speak Protobuf.
fn dial(url: &str, certificate: &CertificateDer<'static>, number: usize) -> Result<Dial> {
    let token = token::user(&format!("user-{number}"))?;
    let dial = Dial::to(url)
        .trusting(certificate.clone())
        .header("authorization", &format!("Bearer {token}"));
    Ok(dial.format(if number.is_multiple_of(2) {
        Json
    } else {
        Protobuf
    }))
}

/// Waits until something is true of every record, or a client gives up.
async fn all(
    subscribers: &[Subscriber],
    what: &str,
    is_true: impl Fn(&Record) -> bool,
) -> Result<()> {
    eventually(&format!("every client {what}"), SOON, async || {
        let late = subscribers.iter();
        let late: Vec<_> = late.filter(|own| !own.look(&is_true)).collect();
        // Why it has given up is told when it is stopped.
        let failed = late.iter().any(|subscriber| subscriber.has_failed());
        let count = late.len();
        ensure!(count == 0 || failed, "not so of {count}");
        Ok(())
    })
    .await
}
