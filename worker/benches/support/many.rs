//! Many commands on their way at a time, on many connections.

use std::io::Write as _;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::support::client::{Client, frame};

/// Bytes of a publication, a JSON string.
const PAYLOAD_BYTES: usize = 128;

/// Sends all of a client's commands at once, and takes as many replies.
pub(crate) fn call_all(client: &mut Client, commands: &[String]) -> Result<()> {
    send(client, commands)?;
    take(client, commands.len())
}

fn send(client: &mut Client, commands: &[String]) -> Result<()> {
    let frames: Vec<_> = commands.iter().flat_map(|command| frame(command)).collect();
    Ok(client.socket.write_all(&frames)?)
}

fn take(client: &mut Client, replies: usize) -> Result<()> {
    for _ in 0..replies {
        let (_, reply) = client.receive()?;
        let text = String::from_utf8_lossy(&reply);
        ensure!(!text.contains(r#""error""#), "{text}");
    }
    Ok(())
}

/// Publishes so many times in each channel, in as many channels at the same time as there are clients.
pub(crate) fn fill(clients: &mut [Client], channels: &[String], count: usize) -> Result<()> {
    let data = "x".repeat(PAYLOAD_BYTES - 2);
    for channels in channels.chunks(clients.len()) {
        for (client, channel) in clients.iter_mut().zip(channels) {
            let publish =
                format!(r#"{{"id":3,"publish":{{"channel":"{channel}","data":"{data}"}}}}"#);
            send(client, &vec![publish; count])?;
        }
        for (client, _) in clients.iter_mut().zip(channels) {
            take(client, count)?;
        }
    }
    Ok(())
}

/// The command with which somebody comes back who has seen only the first publication that is there.
pub(crate) fn return_to(client: &mut Client, channel: &str) -> Result<String> {
    let first = client.call(&format!(
        r#"{{"id":3,"history":{{"channel":"{channel}","limit":1}}}}"#
    ))?;
    let first: Value = serde_json::from_slice(&first)?;
    let history = &first["history"];
    let offset = &history["publications"][0]["offset"];
    let offset = offset.as_u64().context("no publication")?;
    let epoch = &history["epoch"];
    Ok(format!(
        r#"{{"id":4,"subscribe":{{"channel":"{channel}","recover":true,"offset":{offset},"epoch":{epoch}}}}}"#
    ))
}

/// Takes the reply to that, which has all that was missed.
pub(crate) fn take_recovery(client: &mut Client, missed: usize) -> Result<()> {
    let (_, reply) = client.receive()?;
    let text = String::from_utf8_lossy(&reply);
    let is_whole =
        text.contains(r#""recovered":true"#) && text.matches(r#""data":"#).count() == missed;
    ensure!(is_whole, "not recovered: {text:.300}");
    Ok(())
}
