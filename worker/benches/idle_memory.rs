//! Memory that the worker holds for each connection that does nothing: private bytes of its process
//! over the number of connections. What the kernel holds for sockets is not in it.
//!
//! `cargo bench -p flotilla-worker --bench idle_memory`

#[path = "support/memory.rs"]
mod memory;
mod support;

use anyhow::{Result, ensure};
use memory::private_bytes;
use support::client::Client;
use support::worker;

const CHANNEL: &str = "bench";
const MESSAGE_BYTES: usize = 16 * 1024;

fn main() -> Result<()> {
    let count = if support::is_real() { 2000 } else { 20 };
    let worker = worker::start(&[])?;
    // What the first connection makes the process allocate is not of any one connection.
    drop(Client::connect(worker.address)?);
    let base = private_bytes(worker.pid())?;
    println!("{count} connections; the worker alone: {} KiB", base / 1024);

    let report = |state: &str| -> Result<()> {
        let more = private_bytes(worker.pid())?.saturating_sub(base);
        println!("{:>8} bytes each  {state}", more / count);
        Ok(())
    };
    let mut clients = (0..count)
        .map(|_| Client::connect(worker.address))
        .collect::<Result<Vec<_>>>()?;
    report("connected")?;
    for client in &mut clients {
        client.subscribe(CHANNEL)?;
    }
    report("subscribed to one channel, the same for all")?;

    let text = "x".repeat(MESSAGE_BYTES);
    for client in &mut clients {
        client.call(&publish("nobody-listens", &text))?;
    }
    report("after each has sent a message of 16 KiB")?;

    let mut publisher = Client::connect(worker.address)?;
    publisher.call(&publish(CHANNEL, &text))?;
    for client in &mut clients {
        let (_, payload) = client.receive()?;
        ensure!(payload.len() > MESSAGE_BYTES, "a message is cut off");
    }
    report("after each has received a message of 16 KiB")
}

fn publish(channel: &str, text: &str) -> String {
    format!(r#"{{"id":3,"publish":{{"channel":"{channel}","data":"{text}"}}}}"#)
}
