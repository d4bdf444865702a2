//! Memory that both tiers hold for each session that does nothing: private bytes of their processes. What the kernel holds
//! for sockets is not in it; the relay has two more of those for each session.

use std::io::{Read, Write};

use anyhow::Result;

use super::fleet::{Fleet, Transport};
use super::memory::private_bytes;
use super::support::client::Client;
use super::support::is_real;
use super::tls::Tls;

/// Sessions that are there before anything is measured, so that what is allocated once is not counted.
const WARM_UP: usize = 16;

/// Measures and reports.
pub(crate) fn measure() -> Result<()> {
    let count = if is_real() { 2000 } else { 20 };
    println!("{count} idle sessions; private memory for each");
    for transport in [Transport::Link, Transport::Relay] {
        let plain = |fleet: &Fleet, count| -> Result<_> {
            let clients = (0..count).map(|_| Client::connect(fleet.gateway.address));
            clients.collect::<Result<Vec<_>>>()
        };
        measure_with(transport, "plain", &[], count, plain)?;
        let tls = Tls::new()?;
        let settings = tls.settings();
        let settings = settings.each_ref().map(String::as_str);
        measure_with(transport, "TLS", &settings, count, |_, count| {
            tls.connect(count)
        })?;
    }
    Ok(())
}

fn measure_with<S: Read + Write>(
    transport: Transport,
    kind: &str,
    settings: &[&str],
    count: usize,
    connect: impl Fn(&Fleet, usize) -> Result<Vec<Client<S>>>,
) -> Result<()> {
    let fleet = Fleet::start(transport, &[&[]], settings)?;
    let mut warm = connect(&fleet, WARM_UP)?;
    for client in &mut warm {
        client.subscribe("all")?;
    }
    let base = memory(&fleet)?;
    let report = |state: &str| -> Result<()> {
        let now = memory(&fleet)?;
        let each = |now: u64, base: u64| now.saturating_sub(base) / count as u64;
        let (gateway, workers) = (each(now.0, base.0), each(now.1, base.1));
        let name = transport.name();
        println!(
            "{name:<5} {kind:<5} {:>6} bytes, {gateway:>5} in the gateway, {workers:>5} in the worker  {state}",
            gateway + workers
        );
        Ok(())
    };
    let mut clients = connect(&fleet, count)?;
    report("connected")?;
    for client in &mut clients {
        client.subscribe("all")?;
    }
    report("subscribed to one channel, the same for all")?;
    for (number, client) in clients.iter_mut().enumerate() {
        client.subscribe(&format!("own-{number}"))?;
    }
    report("subscribed to one more, each to its own")
}

/// Private bytes of the gateway, and of the workers.
fn memory(fleet: &Fleet) -> Result<(u64, u64)> {
    let workers = fleet
        .workers
        .iter()
        .map(|worker| private_bytes(worker.pid()));
    Ok((
        private_bytes(fleet.gateway.pid())?,
        workers.sum::<Result<u64>>()?,
    ))
}
