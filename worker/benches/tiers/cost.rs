//! CPU time of both tiers together for each message delivered, over that of the floor.
//!
//! Every contestant has a worker of its own, and they take turns in each round. All of their processes are on one core and
//! the clients on another, so that a gateway has one thread for its sessions, as the balancers have.

use std::any::Any;

use anyhow::{Result, ensure};

use super::balancer::{Balancer, Kind};
use super::channel::{PAYLOAD_BYTES, publish, subscribe};
use super::fleet::{Fleet, Transport};
use super::floor::Floor;
use super::load::{BURST, IN_FLIGHT, Load};
use super::measure::{pin_to, report};
use super::support::client::frame;
use super::support::server::Server;
use super::support::{is_real, worker};

const DELIVERY: &str = "delivery";

/// Somebody who delivers messages.
struct Contestant {
    name: String,
    load: Load,
    /// Segments of a round with bursts: fewer of who needs longer for each.
    segments: usize,
    /// CPU time for each delivery in every round, in nanoseconds: one message in flight, bursts.
    single: Vec<f64>,
    bursts: Vec<f64>,
    /// Its processes, for as long as it is measured.
    _running: Box<dyn Any>,
}

/// How much is measured.
struct Scale {
    subscribers: usize,
    rounds: usize,
    /// Messages of a round with one in flight.
    single: usize,
    segments: usize,
}

impl Scale {
    fn with(subscribers: usize) -> Self {
        let (rounds, single, segments) = if is_real() { (25, 40, 40) } else { (1, 3, 5) };
        Self {
            subscribers,
            rounds,
            single,
            segments,
        }
    }

    /// The floor, whose publisher sends `command` and whose subscribers get `frame`.
    fn floor(&self, command: &[u8], frame: &[u8]) -> Result<Contestant> {
        let mut floor = Floor::start(command.len(), frame, self.subscribers)?;
        let load = Load::new(
            vec![floor.pid()],
            floor.publisher.try_clone()?,
            std::mem::take(&mut floor.subscribers),
            &[command.to_vec()],
            frame.len(),
        )?;
        let mut floor = self.contestant("floor", load, Box::new(floor));
        floor.segments = self.segments.div_ceil(5);
        Ok(floor)
    }

    /// All the others, and the frame that their subscribers get, which has to be as long for each.
    fn contestants(&self) -> Result<(Vec<Contestant>, Vec<u8>)> {
        let mut contestants = Vec::new();
        let mut frames = Vec::new();
        let mut add = |name, server, processes, running: Box<dyn Any>| -> Result<()> {
            let (load, frame) = subscribe(server, processes, self.subscribers)?;
            contestants.push(self.contestant(name, load, running));
            frames.push(frame);
            Ok(())
        };
        for transport in [Transport::Link, Transport::Relay] {
            let fleet = Fleet::start(transport, &[&[]], &[])?;
            let mut processes = vec![fleet.gateway.pid()];
            processes.extend(fleet.workers.iter().map(Server::pid));
            let address = fleet.gateway.address;
            add(transport.name(), address, processes, Box::new(fleet))?;
        }
        for kind in [Kind::Nginx, Kind::HaProxy] {
            let worker = worker::start(&[])?;
            let Some(balancer) = Balancer::start(kind, worker.address)? else {
                println!("{}: LEFT OUT, it is not installed", kind.name());
                continue;
            };
            let processes = vec![balancer.pid(), worker.pid()];
            let address = balancer.address;
            let running = (balancer, worker);
            add(kind.name(), address, processes, Box::new(running))?;
        }
        let worker = worker::start(&[])?;
        let (address, processes) = (worker.address, vec![worker.pid()]);
        add("worker alone", address, processes, Box::new(worker))?;
        let frame = frames.first().cloned().unwrap_or_default();
        // They differ in who published.
        ensure!(
            frames.iter().all(|other| other.len() == frame.len()),
            "not everyone delivers the same"
        );
        Ok((contestants, frame))
    }

    fn contestant(&self, name: &str, load: Load, running: Box<dyn Any>) -> Contestant {
        Contestant {
            name: name.to_owned(),
            load,
            segments: self.segments,
            single: Vec::new(),
            bursts: Vec::new(),
            _running: running,
        }
    }
}

/// Measures and reports.
pub(crate) fn measure(subscribers: usize) -> Result<()> {
    let scale = Scale::with(subscribers);
    // The clients must not take the cycles of what is measured.
    let has_two_cores = std::thread::available_parallelism()?.get() > 1;
    pin_to(0)?;
    let (mut contestants, sample) = scale.contestants()?;
    let floor = scale.floor(&frame(&publish()), &sample)?;
    contestants.push(floor);
    pin_to(usize::from(has_two_cores))?;

    println!(
        "{subscribers} subscribers, {PAYLOAD_BYTES} bytes published, frames of {} bytes, {} rounds",
        sample.len(),
        scale.rounds
    );
    // One round more than is counted: the first warms everything up.
    for _ in 0..=scale.rounds {
        for contestant in &mut contestants {
            let used = contestant.load.run(scale.single, 1, 1)?;
            contestant.single.push(used);
        }
        for contestant in &mut contestants {
            let used = contestant.load.run(contestant.segments, BURST, IN_FLIGHT)?;
            contestant.bursts.push(used);
        }
    }
    println!("one message in flight:");
    compare(&contestants, |contestant| &contestant.single)?;
    println!("bursts of {BURST}, {} in flight:", BURST * IN_FLIGHT);
    compare(&contestants, |contestant| &contestant.bursts)
}

/// Reports each contestant over the floor, and the link over each of the others.
fn compare(contestants: &[Contestant], times: fn(&Contestant) -> &Vec<f64>) -> Result<()> {
    let Some((floor, others)) = contestants.split_last() else {
        return Ok(());
    };
    let over = |contestant: &Contestant, base: &Contestant| {
        let pairs = times(base).iter().zip(times(contestant));
        let pairs: Vec<_> = pairs.map(|(base, time)| (*base, *time)).collect();
        report(&contestant.name, &base.name, DELIVERY, &pairs)
    };
    for contestant in others {
        over(contestant, floor)?;
    }
    if let Some((link, others)) = others.split_first() {
        for other in others {
            over(link, other)?;
        }
    }
    Ok(())
}
