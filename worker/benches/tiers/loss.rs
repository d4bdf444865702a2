//! A worker is killed, and all its sessions go on at the other one: how long that takes, and the CPU time that it costs
//! both tiers. No client may notice: each is sent a message afterwards, and that is the next thing that it gets.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::fleet::{Fleet, Transport};
use super::measure::cpu_nanoseconds;
use super::observe::{eventually, metric};
use super::support::client::Client;
use super::support::is_real;
use super::support::server::Server;

const CHANNEL: &str = "bench";

/// All sessions come from one address, and so belong to one worker, however many it has.
const GATEWAY: [&str; 2] = [r#"sticky=["address"]"#, "pool.load_factor=100"];

/// Measures and reports.
pub(crate) fn measure() -> Result<()> {
    let (count, rounds) = if is_real() { (5000, 3) } else { (20, 1) };
    println!("{count} sessions whose worker is killed, over the link");
    for _ in 0..rounds {
        lose(count)?;
    }
    Ok(())
}

fn lose(count: usize) -> Result<()> {
    let mut fleet = Fleet::start(Transport::Link, &[&[], &[]], &GATEWAY)?;
    let mut clients = (0..count)
        .map(|_| {
            let mut client = Client::connect(fleet.gateway.address)?;
            client.subscribe(CHANNEL)?;
            Ok(client)
        })
        .collect::<Result<Vec<_>>>()?;
    let has_all = |worker: &Server| sessions(worker).map(|now| now == count as f64);
    let lost = eventually("one worker has all sessions", || {
        for (index, worker) in fleet.workers.iter().enumerate() {
            if has_all(worker)? {
                return Ok(Some(index));
            }
        }
        Ok(None)
    })?;
    let lost = fleet.workers.swap_remove(lost);
    let left = fleet.workers.first().context("the other worker")?;
    let cpu = || -> Result<_> {
        let gateway = cpu_nanoseconds(fleet.gateway.pid())?;
        Ok((gateway, cpu_nanoseconds(left.pid())?))
    };

    let before = cpu()?;
    let begun = Instant::now();
    drop(lost);
    eventually("the other worker has all sessions", || {
        Ok(has_all(left)?.then_some(()))
    })?;
    let took = begun.elapsed();
    let after = cpu()?;

    let message = format!(r#"{{"id":3,"publish":{{"channel":"{CHANNEL}","data":"after"}}}}"#);
    let mut publisher = Client::connect(fleet.gateway.address)?;
    publisher.call(&message)?;
    for client in &mut clients {
        let (_, payload) = client.receive()?;
        let text = String::from_utf8_lossy(&payload);
        ensure!(text.contains(r#""data":"after""#), "a client got {text}");
    }
    let each = |after: u64, before: u64| (after - before) as f64 / 1000.0 / count as f64;
    println!(
        "all served again after {:.0} ms; {:.1} µs of CPU for each in the gateway, {:.1} µs in the worker",
        took.as_secs_f64() * 1000.0,
        each(after.0, before.0),
        each(after.1, before.1)
    );
    Ok(())
}

/// How many a worker serves.
fn sessions(worker: &Server) -> Result<f64> {
    metric(worker.admin, "flotilla_worker_connections")
}
