//! Many connections: how fast they come up, and whether they stay.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::ramp::{Arrival, Ramp, Turnout};
use super::{ChannelName, Stop, finish};
use crate::client::Dialer;
use crate::pacer::Rate;
use crate::report::ConnectReport;
use crate::stats::{Latencies, Tally};

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many connections.
    pub connections: u64,
    /// How many are begun each second.
    pub rate: Rate,
    /// What each subscribes to.
    pub channel: Option<ChannelName>,
    /// How long they are held after the last came up.
    pub hold: Duration,
}

#[derive(Debug)]
struct Measures {
    connect: Latencies,
    subscribe: Latencies,
    messages: AtomicU64,
    dropped: Tally,
}

/// Runs it.
///
/// # Errors
/// When the load generator itself cannot go on.
pub async fn run(plan: Plan, dialer: Arc<Dialer>, mut stop: Stop) -> Result<ConnectReport> {
    let started = Instant::now();
    let measures = Arc::new(Measures {
        connect: Latencies::new()?,
        subscribe: Latencies::new()?,
        messages: AtomicU64::new(0),
        dropped: Tally::default(),
    });
    let turnout = Arc::new(Turnout::default());
    let (end, ended) = watch::channel(false);
    let live = {
        let measures = measures.clone();
        move |arrival| hold(arrival, measures.clone(), ended.clone())
    };
    let ramp = Ramp {
        dialer: dialer.clone(),
        clients: plan.connections,
        rate: plan.rate,
        channel: plan.channel.clone(),
    };
    let clients = ramp.run(&mut stop, &turnout, live).await;
    let ramped = started.elapsed();
    tokio::select! {
        () = sleep(plan.hold) => {}
        () = stop.wanted() => {}
    }
    // Nobody may be left to hear it.
    let _ = end.send(true);
    finish(clients, Duration::ZERO).await;

    Ok(ConnectReport {
        url: dialer.target.url().to_owned(),
        encoding: dialer.format.into(),
        connections: plan.connections,
        rate: plan.rate.get(),
        ramp_seconds: ramped.as_secs_f64(),
        elapsed_seconds: started.elapsed().as_secs_f64(),
        connected: turnout.connected(),
        messages: measures.messages.load(Ordering::Relaxed),
        failed: turnout.failed.totals(),
        dropped: measures.dropped.totals(),
        connect: measures.connect.summary(),
        subscribe: plan.channel.map(|_| measures.subscribe.summary()),
    })
}

/// Keeps one connection until the end. What it receives is counted, and its pings are answered.
async fn hold(arrival: Arrival, measures: Arc<Measures>, mut ended: watch::Receiver<bool>) {
    let Arrival {
        mut client,
        opened,
        due,
        ..
    } = arrival;
    measures.connect.record(opened.connected - due);
    measures
        .subscribe
        .record(opened.subscribed - opened.connected);
    loop {
        tokio::select! {
            received = client.next() => match received {
                Ok(_) => {
                    measures.messages.fetch_add(1, Ordering::Relaxed);
                }
                Err(failure) => return measures.dropped.count(&failure),
            },
            // An error means that the run itself is gone.
            _ = ended.wait_for(|ended| *ended) => break,
        }
    }
    client.close().await;
}
