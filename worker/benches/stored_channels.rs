//! What channels cost that keep 100 publications each, and in which nobody is: memory and disk of nats-server, how long it
//! and a worker take to start with them, and what the recovery of a client costs, over the same with so few channels that
//! each has a stream of its own.
//!
//! `cargo bench -p flotilla-worker --bench stored_channels`, or with another number of channels: `... -- 10000`

#[allow(dead_code, reason = "the bench needs a part of it")]
#[path = "support/many.rs"]
mod many;
#[path = "support/measure.rs"]
mod measure;
#[path = "support/memory.rs"]
mod memory;
#[allow(dead_code, reason = "the bench needs a part of it")]
#[path = "support/nats.rs"]
mod nats;
#[allow(dead_code, reason = "the bench needs a part of it")]
#[path = "support/observe.rs"]
mod observe;
#[allow(dead_code, reason = "the bench needs a part of it")]
mod support;

use std::io::Write as _;
use std::time::Instant;

use anyhow::{Context, Result};
use many::{fill, return_to, take_recovery};
use measure::{cpu_nanoseconds, pin_to, report};
use memory::private_bytes;
use nats::{KEPT, NatsServer, has_channels};
use support::client::{Client, frame};
use support::server::Server;
use support::worker;

/// Channels that are read before there are others. There are as many streams.
const FEW: usize = 64;

/// Clients that publish at the same time.
const PUBLISHERS: usize = 64;

fn main() -> Result<()> {
    let given = std::env::args().find_map(|argument| argument.parse().ok());
    let default = if support::is_real() { 1000 } else { FEW + 10 };
    let count: usize = given.unwrap_or(default).max(FEW);
    // The clients must not take the cycles of what is measured.
    let has_two_cores = std::thread::available_parallelism()?.get() > 1;
    pin_to(0)?;
    let mut server = NatsServer::start()?;
    let settings = server.settings(FEW);
    let settings = settings.each_ref().map(String::as_str);
    let worker = worker::start(&settings)?;
    let base = (private_bytes(server.pid())?, server.stored_bytes()?);
    pin_to(usize::from(has_two_cores))?;

    let channels: Vec<_> = (0..count).map(|number| format!("kept:{number}")).collect();
    let (few, others) = channels.split_at(FEW);
    publish(&worker, few)?;
    // The first time warms everything up.
    Recoveries::of(&server, &worker, few)?;
    let alone = Recoveries::of(&server, &worker, few)?;
    let started = Instant::now();
    publish(&worker, others)?;
    let rate = (others.len() * KEPT) as f64 / started.elapsed().as_secs_f64();
    println!("{count} channels, {KEPT} publications each, {rate:.0} stored every second");
    let each = |now: u64, base: u64| now.saturating_sub(base) / count as u64;
    println!(
        "nats-server: {} bytes on disk for each, {} of memory; without any {} MiB of memory",
        each(server.stored_bytes()?, base.1),
        each(private_bytes(server.pid())?, base.0),
        base.0 >> 20
    );
    let among_all = Recoveries::of(&server, &worker, few)?;
    among_all.over(&alone)?;
    drop(worker);

    pin_to(0)?;
    let took = server.restart()?;
    println!("nats-server, killed and started again, takes clients after {took:.2?}");
    let started = Instant::now();
    let worker = worker::start(&settings)?;
    println!("a worker serves after {:.2?}", started.elapsed());
    println!(
        "nats-server then: {} bytes of memory for each",
        each(private_bytes(server.pid())?, base.0)
    );
    pin_to(usize::from(has_two_cores))?;
    Recoveries::of(&server, &worker, few)?.over(&alone)
}

fn publish(worker: &Server, channels: &[String]) -> Result<()> {
    let publishers = (0..PUBLISHERS).map(|_| Client::connect(worker.address));
    fill(&mut publishers.collect::<Result<Vec<_>>>()?, channels, KEPT)
}

/// What each recovery cost, in nanoseconds.
struct Recoveries {
    worker: Vec<f64>,
    server: Vec<f64>,
    took: Vec<f64>,
}

impl Recoveries {
    /// One after the other, each in a channel in which nobody is yet.
    fn of(server: &NatsServer, worker: &Server, channels: &[String]) -> Result<Self> {
        // Those that were here before have left.
        let admin = worker.admin;
        has_channels(admin, 0)?;
        let mut client = Client::connect(worker.address)?;
        let cpu = |pid| cpu_nanoseconds(pid).map(|used| used as f64);
        let [worker, server] = [worker.pid(), server.pid()];
        let mut costs = Self {
            worker: Vec::new(),
            server: Vec::new(),
            took: Vec::new(),
        };
        for channel in channels {
            let command = return_to(&mut client, channel)?;
            let before = (cpu(worker)?, cpu(server)?);
            let started = Instant::now();
            client.socket.write_all(&frame(&command))?;
            take_recovery(&mut client, KEPT - 1)?;
            costs.took.push(started.elapsed().as_nanos() as f64);
            costs.worker.push(cpu(worker)? - before.0);
            costs.server.push(cpu(server)? - before.1);
        }
        // Metrics are a moment late; whoever waits for these channels to be left must not look before they are counted.
        has_channels(admin, channels.len())?;
        Ok(costs)
    }

    fn over(&self, base: &Self) -> Result<()> {
        let pairs = |now: &[f64], base: &[f64]| -> Vec<_> {
            base.iter().copied().zip(now.iter().copied()).collect()
        };
        for (who, now, base) in [
            ("worker", &self.worker, &base.worker),
            ("nats-server", &self.server, &base.server),
        ] {
            report(who, "few channels", "recovery", &pairs(now, base))?;
        }
        let middle = |times: &[f64]| {
            let mut times = times.to_vec();
            times.sort_by(f64::total_cmp);
            let middle = times.get(times.len() / 2).copied();
            middle.context("no recoveries")
        };
        println!(
            "a recovery takes {:.2} ms, with few channels {:.2} ms",
            middle(&self.took)? / 1e6,
            middle(&base.took)? / 1e6
        );
        Ok(())
    }
}
