//! What a history costs on NATS: publishing with one over publishing without, and what a reader pays for the other
//! channels that share its stream, with one partition over 64.
//!
//! Ratios of times in one run, on a nats-server of the bench's own that stores in a temporary folder; the two sides take
//! turns within each round. Filling takes a few minutes.
//!
//! `cargo bench -p flotilla-shared --bench history`

#[allow(dead_code, reason = "the bench needs a part of what the tests do")]
#[path = "../tests/conformance/nats_server.rs"]
mod nats_server;

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use flotilla_shared::broker::{
    Append, Broker, BrokerConnection, BrokerMetrics, Brokers, HistoryQuery, NatsConfig, Retention,
    Topic,
};
use flotilla_shared::channel::Channel;
use futures_util::{StreamExt, TryStreamExt, stream};
use nats_server::NatsServer;
use prometheus::Registry;

const ROUNDS: usize = 7;

/// Publications on their way at a time.
const IN_FLIGHT: usize = 256;

const PUBLICATIONS: usize = 20_000;

const CHANNELS: usize = 10_000;

/// What is kept of each channel, and read.
const KEPT: u32 = 100;

const RETENTION: Retention = Retention {
    size: KEPT,
    ttl: Duration::from_secs(3600),
    meta_ttl: Duration::from_secs(3600),
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let server = NatsServer::start_with_jetstream().await?;
    publishing(&server).await?;
    reading(&server).await
}

fn config(server: &NatsServer, prefix: &str, partitions: u32) -> NatsConfig {
    let mut config = server.config();
    prefix.clone_into(&mut config.subject_prefix);
    config.history.partitions = partitions;
    config.history.namespaces = vec![(String::new(), RETENTION)];
    config
}

async fn connect(config: NatsConfig) -> Result<BrokerConnection> {
    let metrics = BrokerMetrics::register(&Registry::new())?;
    Ok(Brokers::Nats(config).connect("bench", &metrics).await?)
}

fn channels() -> Result<Vec<Channel>> {
    let channels = (0..CHANNELS).map(|number| Ok(Channel::parse(&format!("room-{number}"), 255)?));
    channels.collect()
}

fn append() -> Append {
    Append {
        payload: Bytes::from_static(&[b'x'; 128]),
        ..Append::default()
    }
}

async fn publishing(server: &NatsServer) -> Result<()> {
    let connection = connect(config(server, "publishing", 64)).await?;
    let broker = &connection.broker;
    let channels = channels()?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let started = Instant::now();
        append_to(broker, channels.iter().cycle().take(PUBLICATIONS)).await?;
        with.push(started.elapsed());
        let started = Instant::now();
        for channel in channels.iter().cycle().take(PUBLICATIONS) {
            let topic = Topic::Channel(channel.clone());
            broker.publish(&topic, append().payload).await?;
        }
        // Its barrier comes behind all that was published.
        broker.subscribe(&Topic::Roster, 1).await?;
        without.push(started.elapsed());
        broker.unsubscribe(1);
    }
    report("publishing with history, over without", &with, &without)
}

async fn append_to(
    broker: &Arc<dyn Broker>,
    channels: impl Iterator<Item = &Channel>,
) -> Result<()> {
    let appends: Vec<_> = channels
        .map(|channel| broker.append(channel, RETENTION, append()))
        .collect();
    let appended = stream::iter(appends).buffer_unordered(IN_FLIGHT);
    appended
        .try_for_each(|_| std::future::ready(Ok(())))
        .await?;
    Ok(())
}

async fn reading(server: &NatsServer) -> Result<()> {
    let channels = channels()?;
    let one = connect(config(server, "one", 1)).await?;
    let many = connect(config(server, "many", 64)).await?;
    for connection in [&one, &many] {
        for _ in 0..KEPT {
            append_to(&connection.broker, channels.iter()).await?;
        }
    }
    let (mut of_one, mut of_many) = (Vec::new(), Vec::new());
    for channel in channels.iter().step_by(CHANNELS / ROUNDS) {
        for (connection, times) in [(&one, &mut of_one), (&many, &mut of_many)] {
            let query = HistoryQuery {
                limit: KEPT as usize,
                since: Some(0),
                reverse: false,
            };
            let started = Instant::now();
            let page = connection.broker.history(channel, RETENTION, query).await?;
            times.push(started.elapsed());
            ensure!(page.publications.len() == KEPT as usize, "not all was read");
        }
    }
    report(
        "reading 100 among 10,000 channels, in 1 partition over 64",
        &of_one,
        &of_many,
    )
}

/// The median of the ratios, and the median times that they are of.
fn report(name: &str, left: &[Duration], right: &[Duration]) -> Result<()> {
    let pairs = left.iter().zip(right);
    let mut ratios: Vec<f64> = pairs
        .map(|(left, right)| left.div_duration_f64(*right))
        .collect();
    ratios.sort_by(f64::total_cmp);
    let ratio = ratios
        .get(ratios.len() / 2)
        .context("nothing was measured")?;
    let median = |times: &[Duration]| {
        let mut times = times.to_vec();
        times.sort();
        times.get(times.len() / 2).copied().unwrap_or_default()
    };
    let (left, right) = (median(left), median(right));
    writeln!(
        std::io::stdout(),
        "{name}: {ratio:.1} ({left:.1?} over {right:.1?})"
    )?;
    Ok(())
}
