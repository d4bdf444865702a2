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

mod deltas;
mod floor;
mod load;
#[path = "../support/measure.rs"]
mod measure;
#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;

use anyhow::Result;

use floor::Floor;
use load::Load;
use measure::{pin_to, report};
use support::client::{Client, frame};
use support::worker::Worker;

/// What the CPU time is counted for.
const DELIVERY: &str = "delivery";
const CHANNEL: &str = "bench";
/// A JSON string of this size is what gets published.
const PAYLOAD_BYTES: usize = 128;

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

/// Messages that the publisher puts into one segment.
const BURST: usize = 16;
/// Segments that are on their way at a time.
const IN_FLIGHT: usize = 4;

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
    let worker = Worker::start()?;
    let command = frame(&publish());
    let (mut through_worker, sample) = subscribe(&worker, scale.subscribers)?;
    let mut floor = Floor::start(command.len(), &sample, scale.subscribers)?;
    pin_to(usize::from(has_two_cores))?;
    let mut bare = Load::new(
        floor.pid(),
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

/// Brings up the worker's subscribers, and a publisher. Also returns the frame that they get.
fn subscribe(worker: &Worker, count: usize) -> Result<(Load, Vec<u8>)> {
    let mut clients = (0..count)
        .map(|_| {
            let mut client = Client::connect(worker.address)?;
            client.subscribe(CHANNEL)?;
            Ok(client)
        })
        .collect::<Result<Vec<_>>>()?;
    let mut publisher = Client::connect(worker.address)?;
    publisher.call(&publish())?;
    let mut sample = Vec::new();
    for client in &mut clients {
        (sample, _) = client.receive()?;
    }
    let load = Load::new(
        worker.pid(),
        publisher.socket,
        clients.into_iter().map(|client| client.socket).collect(),
        &[frame(&publish())],
        sample.len(),
    )?;
    Ok((load, sample))
}

/// The command that publishes a message.
fn publish() -> String {
    let data = "x".repeat(PAYLOAD_BYTES - 2);
    format!(r#"{{"id":3,"publish":{{"channel":"{CHANNEL}","data":"{data}"}}}}"#)
}
