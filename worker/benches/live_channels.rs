//! What a channel costs in which somebody is: memory of the worker and of nats-server, and their CPU time when it is
//! opened and while nothing happens in it. Without history and with it, and with the broker in memory, which shows what
//! the worker's own part is.
//!
//! One worker with one shard and one nats-server, each a process of its own, new ones for each kind of channel. A client
//! is in 1000 of them, so that connections cost next to nothing; what each costs is measured by `idle_memory`.
//!
//! `cargo bench -p flotilla-worker --bench live_channels`, or with another number of channels: `... -- 100000`

#[allow(dead_code, reason = "the bench needs a part of it")]
#[path = "support/many.rs"]
mod many;
#[allow(dead_code, reason = "the bench needs a part of it")]
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

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use many::{call_all, fill};
use measure::cpu_nanoseconds;
use memory::private_bytes;
use nats::{NatsServer, has_channels};
use observe::pause;
use support::client::Client;
use support::server::Server;
use support::worker;

/// Channels of one client.
const PER_CLIENT: usize = 1000;

/// Subscriptions that one client waits for.
const AT_A_TIME: usize = 100;

/// Channels that are tried out, all over the others.
const TRIED: usize = 100;

/// After this the worker has done what it does with new channels.
const PAUSE: Duration = Duration::from_secs(1);

/// How long nothing happens. Within 30 seconds the worker asks about every channel with history.
const QUIET: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    let given = std::env::args().find_map(|argument| argument.parse().ok());
    let count = given.unwrap_or(if support::is_real() { 10_000 } else { 200 });
    println!("{count} channels, {PER_CLIENT} of them to a client");
    measure("without NATS", "", count, &["broker.kind=memory"])?;
    measure("without history", "", count, &[])?;
    measure("with history", "kept:", count, &[])
}

/// The memory and the CPU time of both processes, in bytes and nanoseconds.
struct Usage {
    memory: [f64; 2],
    cpu: [f64; 2],
}

impl Usage {
    fn of(worker: &Server, server: &NatsServer) -> Result<Self> {
        let [worker, server] = [worker.pid(), server.pid()];
        Ok(Self {
            memory: [private_bytes(worker)? as f64, private_bytes(server)? as f64],
            cpu: [
                cpu_nanoseconds(worker)? as f64,
                cpu_nanoseconds(server)? as f64,
            ],
        })
    }
}

fn measure(kind: &str, prefix: &str, count: usize, others: &[&str]) -> Result<()> {
    let server = NatsServer::start()?;
    let settings = server.settings(PER_CLIENT);
    let settings: Vec<_> = settings.iter().map(String::as_str).collect();
    let worker = worker::start(&[&settings, others].concat())?;
    let channels: Vec<_> = (0..count)
        .map(|number| format!("{prefix}{number}"))
        .collect();
    let mut clients = (0..count.div_ceil(PER_CLIENT))
        .map(|_| Client::connect(worker.address))
        .collect::<Result<Vec<_>>>()?;

    let before = Usage::of(&worker, &server)?;
    let started = Instant::now();
    for (client, channels) in clients.iter_mut().zip(channels.chunks(PER_CLIENT)) {
        for channels in channels.chunks(AT_A_TIME) {
            let commands = channels
                .iter()
                .map(|channel| format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}"}}}}"#));
            call_all(client, &commands.collect::<Vec<_>>())?;
        }
    }
    let took = started.elapsed();
    let opened = Usage::of(&worker, &server)?;
    has_channels(worker.admin, count)?;
    // Soon after a channel was opened its end is asked for once more.
    pause(PAUSE);
    let rested = Usage::of(&worker, &server)?;
    let each = |now: [f64; 2], before: [f64; 2]| {
        let [worker, server] = now;
        [worker - before[0], server - before[1]].map(|more| more / count as f64)
    };
    let [worker_bytes, server_bytes] = each(rested.memory, before.memory);
    let [worker_ns, server_ns] = each(opened.cpu, before.cpu);
    println!(
        "{kind}: {worker_bytes:.0} bytes each in the worker, {server_bytes:.0} in nats-server; all were open after \
         {took:.2?}, {:.1} µs of CPU each in the worker, {:.1} in nats-server",
        worker_ns / 1000.0,
        server_ns / 1000.0
    );
    try_out(&worker, &mut clients, &channels)?;
    quiet(&worker, &server)?;

    drop(clients);
    let started = Instant::now();
    has_channels(worker.admin, 0)?;
    println!(
        "  all were left {:.2?} after their clients",
        started.elapsed()
    );
    Ok(())
}

/// Something is published in some of the channels, and comes.
fn try_out(worker: &Server, clients: &mut [Client], channels: &[String]) -> Result<()> {
    let mut publisher = [Client::connect(worker.address)?];
    for (number, channel) in channels
        .iter()
        .enumerate()
        .step_by(channels.len().div_ceil(TRIED))
    {
        fill(&mut publisher, std::slice::from_ref(channel), 1)?;
        let client = clients.get_mut(number / PER_CLIENT).context("no client")?;
        let (_, push) = client.receive()?;
        let push = String::from_utf8_lossy(&push);
        let name = format!("\"channel\":\"{channel}\"");
        ensure!(push.contains(&name), "not of {channel}: {push}");
    }
    Ok(())
}

/// What both do while nothing happens.
fn quiet(worker: &Server, server: &NatsServer) -> Result<()> {
    let quiet = if support::is_real() {
        QUIET
    } else {
        Duration::ZERO
    };
    let before = Usage::of(worker, server)?;
    let started = Instant::now();
    pause(quiet);
    let passed = started.elapsed().as_nanos() as f64;
    let after = Usage::of(worker, server)?;
    let percent = |index: usize| -> Option<f64> {
        let used = after.cpu.get(index)? - before.cpu.get(index)?;
        Some(used / passed * 100.0)
    };
    let of_a_core = percent(0).zip(percent(1)).context("two processes")?;
    println!(
        "  while nothing happens: {:.1} % of a core in the worker, {:.1} % in nats-server",
        of_a_core.0, of_a_core.1
    );
    Ok(())
}
