//! CPU time that the worker spends for each message it delivers, over that of a bare loop of
//! `write(2)` which puts the same bytes into as many sockets.
//!
//! Both are processes of their own on the same core, take the same bytes in, and take turns within
//! each round, so that whatever else the machine does meets both alike. Two kinds of load: one
//! message in flight, where nothing can be put together and only the cost of a write counts; and
//! bursts, where messages that wait can leave in one write.
//!
//! After that, what deltas make of it.
//!
//! `cargo bench -p flotilla-worker --bench fanout`

mod channel;
mod deltas;
mod floor;
mod load;
#[path = "../support/measure.rs"]
mod measure;
#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;

use anyhow::Result;

use channel::{PAYLOAD_BYTES, publish, subscribe};
use floor::Floor;
use load::{BURST, IN_FLIGHT, Load};
use measure::{pin_to, report};
use support::client::frame;
use support::worker;

/// What the CPU time is counted for.
const DELIVERY: &str = "delivery";

/// How much is measured.
struct Scale {
    subscribers: usize,
    rounds: usize,
    /// Messages of a round with one in flight.
    single: usize,
    /// Segments of a round with bursts, of [`BURST`] messages each; the floor gets fewer, as each
    /// costs it more.
    floor_segments: usize,
    worker_segments: usize,
}

fn main() -> Result<ExitCode> {
    match floor::run_if_child() {
        Some(ended) => Ok(ended),
        None => compare().map(|()| ExitCode::SUCCESS),
    }
}

fn compare() -> Result<()> {
    let scale = if support::is_real() {
        Scale {
            subscribers: 500,
            rounds: 11,
            single: 200,
            floor_segments: 40,
            worker_segments: 200,
        }
    } else {
        Scale {
            subscribers: 5,
            rounds: 1,
            single: 3,
            floor_segments: 5,
            worker_segments: 5,
        }
    };
    // The clients must not take the cycles of what is measured.
    let has_two_cores = std::thread::available_parallelism()?.get() > 1;
    pin_to(0)?;
    let worker = worker::start(&[])?;
    let command = frame(&publish());
    let (mut through_worker, sample) =
        subscribe(worker.address, vec![worker.pid()], scale.subscribers)?;
    let mut floor = Floor::start(command.len(), &sample, scale.subscribers)?;
    pin_to(usize::from(has_two_cores))?;
    let mut bare = Load::new(
        vec![floor.pid()],
        floor.publisher.try_clone()?,
        std::mem::take(&mut floor.subscribers),
        std::slice::from_ref(&command),
        sample.len(),
    )?;

    println!(
        "{} subscribers, {PAYLOAD_BYTES} bytes published, frames of {} bytes, {} rounds",
        scale.subscribers,
        sample.len(),
        scale.rounds
    );
    // One round more than is counted: the first warms everything up.
    let mut single = Vec::new();
    let mut bursts = Vec::new();
    for _ in 0..=scale.rounds {
        let floor = bare.run(scale.single, 1, 1)?;
        single.push((floor, through_worker.run(scale.single, 1, 1)?));
        let floor = bare.run(scale.floor_segments, BURST, IN_FLIGHT)?;
        let worker = through_worker.run(scale.worker_segments, BURST, IN_FLIGHT)?;
        bursts.push((floor, worker));
    }
    report("one message in flight", "floor", DELIVERY, &single)?;
    report("bursts", "floor", DELIVERY, &bursts)?;
    deltas::measure(&worker, &scale)
}
