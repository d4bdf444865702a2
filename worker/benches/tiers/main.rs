//! What a fleet costs, gateway and worker together: over the link, over the relay, and beside what else could stand before
//! a worker.
//!
//! Three parts. `cost`: the CPU time of both tiers for each message delivered to the subscribers of one channel, over that
//! of a bare loop of `write(2)`. `idle`: the memory that both tiers hold for a session that does nothing. `loss`: how long
//! it takes, and what it costs, until the sessions of a killed worker are served by another one.
//!
//! Everything is a process of its own, as it would be in production: the gateway's binary has to be there.
//!
//! ```sh
//! cargo build --release -p flotilla-gateway
//! cargo bench -p flotilla-worker --bench tiers [-- cost idle loss --subscribers 1000]
//! ```

mod balancer;
#[path = "../fanout/channel.rs"]
mod channel;
mod cost;
mod fleet;
#[path = "../fanout/floor.rs"]
mod floor;
mod idle;
#[path = "../fanout/load.rs"]
mod load;
mod loss;
#[path = "../support/measure.rs"]
mod measure;
#[path = "../support/memory.rs"]
mod memory;
#[allow(dead_code, reason = "the bench needs a part of it")]
#[path = "../support/observe.rs"]
mod observe;
#[path = "../support/mod.rs"]
mod support;
mod tls;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

/// What is measured, and in this order: `cost` binds this process to a core.
const PARTS: [&str; 3] = ["idle", "loss", "cost"];

/// What was asked for.
struct Options {
    parts: Vec<String>,
    /// Of the channel of `cost`.
    subscribers: usize,
}

impl Options {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            parts: Vec::new(),
            subscribers: if support::is_real() { 500 } else { 5 },
        };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                // From cargo.
                "--bench" => {}
                "--subscribers" => {
                    let number = arguments.next().context("--subscribers: how many?")?;
                    options.subscribers = number.parse().context("--subscribers")?;
                }
                part if PARTS.contains(&part) => options.parts.push(argument),
                _ => bail!("{argument}: there are only --subscribers N and the parts {PARTS:?}"),
            }
        }
        Ok(options)
    }

    /// All parts, unless some were named.
    fn has(&self, part: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|named| named == part)
    }
}

fn main() -> Result<ExitCode> {
    if let Some(ended) = floor::run_if_child() {
        return Ok(ended);
    }
    let options = Options::read(std::env::args().skip(1))?;
    for part in PARTS.into_iter().filter(|part| options.has(part)) {
        match part {
            "idle" => idle::measure()?,
            "loss" => loss::measure()?,
            _ => cost::measure(options.subscribers)?,
        }
    }
    Ok(ExitCode::SUCCESS)
}
