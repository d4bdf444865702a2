//! Clients that publish into channels of their own and wait to hear it: the whole way through the
//! server, there and back, under a load that does not wait for the answers.

mod exchange;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::ramp::{Arrival, Ramp, Turnout};
use super::{ChannelName, Stop, finish};
use crate::client::{Client, Dialer, Failure};
use crate::pacer::{Pacer, Rate};
use crate::report::EchoReport;
use crate::stats::{Latencies, Tally};
use exchange::Exchange;

/// Between the order to begin and the first message, so that every client has heard it.
const LEAD: Duration = Duration::from_millis(100);

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many clients.
    pub clients: u64,
    /// How many of them are begun each second.
    pub connect_rate: Rate,
    /// Where each publishes.
    pub channel: ChannelName,
    /// How many messages each client publishes a second.
    pub rate: Rate,
    /// For how long they publish.
    pub duration: Duration,
    /// How long they then wait for what is still on its way.
    pub drain: Duration,
    /// Size of a message's payload in bytes; what identifies a message needs about 40.
    pub payload_bytes: usize,
}

/// What all clients are told.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Order {
    Wait,
    Publish { from: Instant },
    Stop,
}

#[derive(Debug)]
struct Measures {
    latency: Latencies,
    round_trip: Latencies,
    sent: AtomicU64,
    received: AtomicU64,
    lost: AtomicU64,
    out_of_order: AtomicU64,
    refused: Tally,
    dropped: Tally,
}

impl Measures {
    fn new() -> Result<Self> {
        Ok(Self {
            latency: Latencies::new()?,
            round_trip: Latencies::new()?,
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            out_of_order: AtomicU64::new(0),
            refused: Tally::default(),
            dropped: Tally::default(),
        })
    }
}

/// Runs it.
///
/// # Errors
/// When no client could connect, or the load generator itself cannot go on.
pub async fn run(plan: Plan, dialer: Arc<Dialer>, mut stop: Stop) -> Result<EchoReport> {
    let measures = Arc::new(Measures::new()?);
    let turnout = Arc::new(Turnout::default());
    let (order, orders) = watch::channel(Order::Wait);
    let live = {
        let (plan, measures) = (plan.clone(), measures.clone());
        move |arrival| echo(arrival, plan.clone(), measures.clone(), orders.clone())
    };
    let ramp = Ramp {
        dialer: dialer.clone(),
        clients: plan.clients,
        rate: plan.connect_rate,
        channel: Some(plan.channel.clone()),
    };
    let clients = ramp.run(&mut stop, &turnout, live).await;
    let connected = turnout.connected();
    ensure!(
        connected > 0,
        "no client connected: {:?}",
        turnout.failed.totals()
    );

    let from = Instant::now() + LEAD;
    order.send_replace(Order::Publish { from });
    tokio::select! {
        () = sleep_until(from + plan.duration) => {}
        () = stop.wanted() => { order.send_replace(Order::Stop); }
    }
    finish(clients, plan.drain).await;
    let elapsed = from.elapsed().as_secs_f64();

    let sent = measures.sent.load(Ordering::Relaxed);
    let received = measures.received.load(Ordering::Relaxed);
    Ok(EchoReport {
        url: dialer.target.url().to_owned(),
        encoding: dialer.format.into(),
        clients: plan.clients,
        rate_per_client: plan.rate.get(),
        payload_bytes: plan.payload_bytes,
        elapsed_seconds: elapsed,
        connected,
        failed: turnout.failed.totals(),
        dropped: measures.dropped.totals(),
        sent,
        received,
        lost: measures.lost.load(Ordering::Relaxed),
        out_of_order: measures.out_of_order.load(Ordering::Relaxed),
        refused: measures.refused.totals(),
        received_per_second: received as f64 / elapsed.max(f64::MIN_POSITIVE),
        latency: measures.latency.summary(),
        round_trip: measures.round_trip.summary(),
    })
}

/// One client, from its ramp to its close.
async fn echo(
    arrival: Arrival,
    plan: Plan,
    measures: Arc<Measures>,
    orders: watch::Receiver<Order>,
) {
    let channel = plan.channel.of(arrival.number);
    let mut exchange = Exchange::new(arrival.number, plan.payload_bytes, measures.clone());
    let mut talker = Talker {
        client: arrival.client,
        channel,
        orders,
    };
    let end = talker.talk(arrival.number, &plan, &mut exchange).await;
    exchange.finish();
    match end {
        Ok(()) => talker.client.close().await,
        Err(failure) => measures.dropped.count(&failure),
    }
}

struct Talker {
    client: Client,
    channel: String,
    orders: watch::Receiver<Order>,
}

impl Talker {
    /// Waits for the order, publishes, and waits for the rest.
    async fn talk(
        &mut self,
        number: u64,
        plan: &Plan,
        exchange: &mut Exchange,
    ) -> Result<(), Failure> {
        let Some(from) = self.wait().await? else {
            return Ok(());
        };
        let pacer = Pacer::staggered(from, plan.rate, number, plan.clients);
        self.publish(pacer, pacer.count_in(plan.duration), exchange)
            .await?;
        let drained = sleep(plan.drain);
        tokio::pin!(drained);
        while exchange.is_waiting() {
            tokio::select! {
                reply = self.client.next() => exchange.received(&reply?, Instant::now()),
                () = &mut drained => break,
            }
        }
        Ok(())
    }

    /// When to publish from; `None` if there is nothing to do any more.
    async fn wait(&mut self) -> Result<Option<Instant>, Failure> {
        loop {
            tokio::select! {
                reply = self.client.next() => drop(reply?),
                order = self.orders.wait_for(|order| *order != Order::Wait) => {
                    return Ok(match order.as_deref() {
                        Ok(Order::Publish { from }) => Some(*from),
                        _ => None,
                    });
                }
            }
        }
    }

    async fn publish(
        &mut self,
        pacer: Pacer,
        count: u64,
        exchange: &mut Exchange,
    ) -> Result<(), Failure> {
        for message in 0..count {
            let due = pacer.due(message);
            loop {
                tokio::select! {
                    reply = self.client.next() => exchange.received(&reply?, Instant::now()),
                    () = sleep_until(due) => break,
                    _ = self.orders.wait_for(|order| *order == Order::Stop) => return Ok(()),
                }
            }
            let id = self
                .client
                .publish(&self.channel, exchange.payload(message))?;
            exchange.sent(message, id, due, Instant::now());
        }
        Ok(())
    }
}
