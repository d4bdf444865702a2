//! What it costs that a crowd comes back at once to one channel, and lacks 100 publications there: the CPU time of the
//! worker and of nats-server for each client, over that of as many clients that come back to a channel each; and how often
//! the history was read.
//!
//! One worker and one nats-server, each a process of its own, both on one core; the clients are on another. The two loads
//! take turns within each round. Before each, the worker has left the channels, and remembers nothing of them.
//!
//! `cargo bench -p flotilla-worker --bench crowd`

#[allow(dead_code, reason = "the bench needs a part of it")]
#[path = "support/many.rs"]
mod many;
#[path = "support/measure.rs"]
mod measure;
#[allow(dead_code, reason = "the bench needs a part of it")]
#[path = "support/nats.rs"]
mod nats;
#[allow(dead_code, reason = "the bench needs a part of it")]
#[path = "support/observe.rs"]
mod observe;
#[allow(dead_code, reason = "the bench needs a part of it")]
mod support;

use std::collections::HashSet;
use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use many::{call_all, fill, return_to, take_recovery};
use measure::{cpu_nanoseconds, pin_to, report};
use nats::{KEPT, NatsServer, has_channels};
use observe::metric;
use support::client::{Client, frame};
use support::server::Server;
use support::worker;

/// What each client lacks: all that is kept but the publication that it has seen.
const MISSED: usize = KEPT - 1;

/// What is measured.
struct Fleet {
    server: NatsServer,
    worker: Server,
}

/// What it cost that all came back.
struct Cost {
    /// Nanoseconds for each client, in the worker.
    worker: f64,
    /// Nanoseconds for each client, in nats-server.
    server: f64,
    reads: f64,
    took: Duration,
}

impl Fleet {
    fn start() -> Result<Self> {
        let server = NatsServer::start()?;
        let settings = server.settings(128);
        let worker = worker::start(&settings.each_ref().map(String::as_str))?;
        Ok(Self { server, worker })
    }

    /// Each client sends its command, and gets what it lacks; then all leave.
    fn measure(&self, clients: &mut [Client], returns: &[String]) -> Result<Cost> {
        let count = || metric(self.worker.admin, "flotilla_broker_history_reads_total");
        let cpu = |pid| cpu_nanoseconds(pid).map(|used| used as f64);
        let (worker, server) = (self.worker.pid(), self.server.pid());
        let reads = count()?;
        let (before_worker, before_server) = (cpu(worker)?, cpu(server)?);
        let started = Instant::now();
        for (client, command) in clients.iter_mut().zip(returns) {
            client.socket.write_all(&frame(command))?;
        }
        for client in &mut *clients {
            take_recovery(client, MISSED)?;
        }
        let took = started.elapsed();
        let each = clients.len() as f64;
        let cost = Cost {
            worker: (cpu(worker)? - before_worker) / each,
            server: (cpu(server)? - before_server) / each,
            reads: count()? - reads,
            took,
        };
        self.leave(clients, returns)?;
        Ok(cost)
    }

    /// All leave their channels, and so does the worker.
    fn leave(&self, clients: &mut [Client], returns: &[String]) -> Result<()> {
        // Metrics are a moment late: without this, none of these channels may have been counted yet.
        let channels: HashSet<_> = returns.iter().take(clients.len()).collect();
        has_channels(self.worker.admin, channels.len())?;
        for (client, command) in clients.iter_mut().zip(returns) {
            let command: serde_json::Value = serde_json::from_str(command)?;
            let channel = &command["subscribe"]["channel"];
            let leave = format!(r#"{{"id":5,"unsubscribe":{{"channel":{channel}}}}}"#);
            call_all(client, &[leave])?;
        }
        has_channels(self.worker.admin, 0)
    }
}

fn main() -> Result<()> {
    let (count, rounds) = if support::is_real() {
        (1000, 7)
    } else {
        (10, 1)
    };
    // The clients must not take the cycles of what is measured.
    let has_two_cores = std::thread::available_parallelism()?.get() > 1;
    pin_to(0)?;
    let fleet = Fleet::start()?;
    pin_to(usize::from(has_two_cores))?;
    let mut clients = (0..count)
        .map(|_| Client::connect(fleet.worker.address))
        .collect::<Result<Vec<_>>>()?;
    let channels: Vec<_> = (0..count).map(|number| format!("kept:{number}")).collect();
    fill(&mut clients, &channels, KEPT)?;
    let client = clients.first_mut().context("no client")?;
    let to_each = channels.iter().map(|channel| return_to(client, channel));
    let to_each = to_each.collect::<Result<Vec<_>>>()?;
    let to_one = vec![to_each.first().context("no channel")?.clone(); count];

    println!(
        "{count} clients come back at once, each lacks {MISSED} publications; {rounds} rounds"
    );
    let (mut apart, mut together, mut alone) = (Vec::new(), Vec::new(), Vec::new());
    // One round more than is counted: the first warms everything up.
    for _ in 0..=rounds {
        apart.push(fleet.measure(&mut clients, &to_each)?);
        together.push(fleet.measure(&mut clients, &to_one)?);
        let first = clients.get_mut(..1).context("no client")?;
        alone.push(fleet.measure(first, to_one.get(..1).unwrap_or_default())?);
    }
    tell("a channel each", count, &apart);
    tell("one channel for all", count, &together);
    tell("one client alone", 1, &alone);
    let pairs = |of: fn(&Cost) -> f64, base: &[Cost]| -> Vec<_> {
        let pairs = base.iter().zip(&together);
        pairs.map(|(base, cost)| (of(base), of(cost))).collect()
    };
    for (base, costs) in [("a channel each", &apart), ("a client alone", &alone)] {
        report("worker", base, "client", &pairs(|cost| cost.worker, costs))?;
        report(
            "nats-server",
            base,
            "client",
            &pairs(|cost| cost.server, costs),
        )?;
    }
    Ok(())
}

/// The reads and the time of the median round.
fn tell(who: &str, clients: usize, costs: &[Cost]) {
    let counted = costs.get(1..).unwrap_or_default();
    let middle = |mut numbers: Vec<f64>| {
        numbers.sort_by(f64::total_cmp);
        numbers.get(numbers.len() / 2).copied().unwrap_or_default()
    };
    let reads = middle(counted.iter().map(|cost| cost.reads).collect());
    let took = middle(counted.iter().map(|cost| cost.took.as_secs_f64()).collect());
    println!(
        "{who:<22} {reads:.0} reads of the history, {:.3} for each client; all had theirs after {:.1} ms",
        reads / clients as f64,
        took * 1000.0
    );
}
