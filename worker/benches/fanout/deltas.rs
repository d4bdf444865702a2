//! CPU time that the worker spends for each delivery to subscribers that take deltas, over that to subscribers that take
//! everything whole.
//!
//! Two channels of one worker, as many subscribers in each, and the same documents: two that differ in one number, in
//! turn. Making a delta costs the same however many take it; that there is less to write counts for each of them.

use anyhow::{Result, ensure};

use super::load::{BURST, IN_FLIGHT, Load};
use super::support::client::{Client, frame};
use super::support::server::Server;
use super::{DELIVERY, Scale, report};

const DOCUMENT_BYTES: usize = 2048;

/// Publications say their offset, which must not get longer while bytes are counted: the first to be counted has as many
/// digits as the last.
const FIRST_OFFSET: usize = 10_000;

pub(crate) fn measure(worker: &Server, scale: &Scale) -> Result<()> {
    let (mut whole, whole_bytes) = subscribe(worker, scale.subscribers, "docs:whole", "")?;
    let (mut deltas, delta_bytes) = subscribe(worker, scale.subscribers, "docs:deltas", "fossil")?;
    println!(
        "documents of {DOCUMENT_BYTES} bytes with one value changed: frames of {} bytes whole, of {} bytes as deltas",
        whole_bytes / 2,
        delta_bytes / 2
    );
    let mut pairs = Vec::new();
    let mut bursts = Vec::new();
    for _ in 0..=scale.rounds {
        let run = |load: &mut Load| load.run(scale.single / 2, 1, 1);
        pairs.push((run(&mut whole)?, run(&mut deltas)?));
        let run = |load: &mut Load| load.run(scale.worker_segments, BURST / 2, IN_FLIGHT);
        bursts.push((run(&mut whole)?, run(&mut deltas)?));
    }
    report("deltas, two in flight", "whole", DELIVERY, &pairs)?;
    report("deltas, bursts", "whole", DELIVERY, &bursts)
}

/// Brings up the subscribers of a channel. Also returns how many bytes each gets of a pair of documents.
fn subscribe(worker: &Server, count: usize, channel: &str, delta: &str) -> Result<(Load, usize)> {
    let mut publisher = Client::connect(worker.address)?;
    for _ in 1..FIRST_OFFSET {
        publisher.call(&publish(channel, 0))?;
    }
    let mut clients = (0..count)
        .map(|_| {
            let mut client = Client::connect(worker.address)?;
            client.call(&format!(
                r#"{{"id":2,"subscribe":{{"channel":"{channel}","delta":"{delta}"}}}}"#
            ))?;
            Ok(client)
        })
        .collect::<Result<Vec<_>>>()?;
    // The first one is whole for everyone.
    for number in [1, 0, 1, 0] {
        publisher.call(&publish(channel, number))?;
    }
    let mut bytes = 0;
    for client in &mut clients {
        client.receive()?;
        client.receive()?;
        let pair = [client.receive()?, client.receive()?];
        for (_, payload) in &pair {
            let is_delta = String::from_utf8_lossy(payload).contains(r#""delta":true"#);
            ensure!(
                is_delta != delta.is_empty(),
                "a publication in another form"
            );
        }
        bytes = pair.iter().map(|(whole, _)| whole.len()).sum();
    }
    let pair = [1, 0].map(|number| frame(&publish(channel, number)));
    let load = Load::new(
        vec![worker.pid()],
        publisher.socket,
        clients.into_iter().map(|client| client.socket).collect(),
        &pair,
        bytes,
    )?;
    Ok((load, bytes))
}

/// The command that publishes a document with this number in its middle.
fn publish(channel: &str, number: u32) -> String {
    let half: String = (1..)
        .flat_map(|word: u32| format!("{:x} ", word * 12_345).into_bytes())
        .take(DOCUMENT_BYTES / 2 - 16)
        .map(char::from)
        .collect();
    let data = format!(r#"{{"a":"{half}","n":{number},"b":"{half}"}}"#);
    format!(r#"{{"id":3,"publish":{{"channel":"{channel}","data":{data}}}}}"#)
}
