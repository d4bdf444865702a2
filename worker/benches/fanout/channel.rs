//! The channel that everything is published in: its subscribers, and what they get.

use std::net::SocketAddr;

use anyhow::Result;

use super::load::Load;
use super::support::client::{Client, frame};

const CHANNEL: &str = "bench";
/// A JSON string of this size is what gets published.
pub(crate) const PAYLOAD_BYTES: usize = 128;

/// Brings up subscribers, and a publisher, of a server whose processes are these. Also returns the frame that they get.
pub(crate) fn subscribe(
    server: SocketAddr,
    processes: Vec<u32>,
    count: usize,
) -> Result<(Load, Vec<u8>)> {
    let mut clients = (0..count)
        .map(|_| {
            let mut client = Client::connect(server)?;
            client.subscribe(CHANNEL)?;
            Ok(client)
        })
        .collect::<Result<Vec<_>>>()?;
    let mut publisher = Client::connect(server)?;
    publisher.call(&publish())?;
    let mut sample = Vec::new();
    for client in &mut clients {
        (sample, _) = client.receive()?;
    }
    let load = Load::new(
        processes,
        publisher.socket,
        clients.into_iter().map(|client| client.socket).collect(),
        &[frame(&publish())],
        sample.len(),
    )?;
    Ok((load, sample))
}

/// The command that publishes a message.
pub(crate) fn publish() -> String {
    let data = "x".repeat(PAYLOAD_BYTES - 2);
    format!(r#"{{"id":3,"publish":{{"channel":"{CHANNEL}","data":"{data}"}}}}"#)
}
