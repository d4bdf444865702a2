//! CPU time that the worker spends for each command of a client, over that of the same worker when it only sends the same
//! message back: what a command costs beyond the WebSocket, from its decoding to its encoded reply.
//!
//! Both are processes of their own on the same core, take the same bytes in, and take turns within each round. One client;
//! many commands wait at a time, so that few of them wake anybody.
//!
//! `cargo bench -p flotilla-worker --bench commands`

#[path = "support/measure.rs"]
mod measure;
mod support;

use std::io::Write as _;

use anyhow::{Result, ensure};
use measure::{cpu_nanoseconds, pin_to, report};
use support::client::{Client, frame};
use support::server::Server;
use support::worker;

/// Frames that are on their way at a time.
const IN_FLIGHT: usize = 32;

/// What a round repeats: its name, and its commands, each of which has one reply.
const KINDS: [(&str, &[&str]); 6] = [
    (
        "publish",
        &[r#"{"id":3,"publish":{"channel":"nobody","data":{"text":"a line of a chat"}}}"#],
    ),
    (
        "publish, with history",
        &[r#"{"id":3,"publish":{"channel":"docs:chat","data":{"text":"a line of a chat"}}}"#],
    ),
    (
        "subscribe, unsubscribe",
        &[
            r#"{"id":3,"subscribe":{"channel":"news"}}"#,
            r#"{"id":4,"unsubscribe":{"channel":"news"}}"#,
        ],
    ),
    (
        "history, of 10",
        &[r#"{"id":3,"history":{"channel":"docs:chat","limit":10}}"#],
    ),
    (
        "presence, of 1",
        &[r#"{"id":3,"presence":{"channel":"docs:room"}}"#],
    ),
    (
        "an error",
        &[r#"{"id":3,"publish":{"channel":"nowhere:a","data":{"text":"a line of a chat"}}}"#],
    ),
];

/// One client of a process under load.
struct Load {
    pid: u32,
    client: Client,
}

impl Load {
    fn on(worker: &Server) -> Result<Self> {
        Ok(Self {
            pid: worker.pid(),
            client: Client::connect(worker.address)?,
        })
    }

    /// Sends `commands` so many times. Returns the process' CPU time for each, in nanoseconds.
    fn run(&mut self, commands: &[Vec<u8>], times: usize) -> Result<f64> {
        let batch = commands.concat().repeat(IN_FLIGHT / commands.len());
        let before = cpu_nanoseconds(self.pid)?;
        for _ in 0..times {
            self.client.socket.write_all(&batch)?;
            for _ in 0..IN_FLIGHT {
                self.client.receive()?;
            }
        }
        let used = cpu_nanoseconds(self.pid)? - before;
        Ok(used as f64 / (times * IN_FLIGHT) as f64)
    }
}

fn main() -> Result<()> {
    let (rounds, times) = if support::is_real() {
        (11, 200)
    } else {
        (1, 2)
    };
    // The client must not take the cycles of what is measured.
    let has_two_cores = std::thread::available_parallelism()?.get() > 1;
    pin_to(0)?;
    let worker = worker::start(&[])?;
    let echo = worker::start(&["websocket_echo=true"])?;
    pin_to(usize::from(has_two_cores))?;
    let (mut commands, mut echoes) = (Load::on(&worker)?, Load::on(&echo)?);
    // Somebody is in the room.
    Client::subscribe(&mut commands.client, "docs:room")?;
    for _ in 0..10 {
        let answer = commands.client.call(KINDS[1].1[0])?;
        ensure!(answer.starts_with(b"{\"id\":3"), "an unexpected answer");
    }
    println!("{IN_FLIGHT} commands in flight, {rounds} rounds");
    for (name, kind) in KINDS {
        let kind: Vec<_> = kind.iter().map(|command| frame(command)).collect();
        // One round more than is counted: the first warms everything up.
        let mut counted = Vec::new();
        for _ in 0..=rounds {
            let floor = echoes.run(&kind, times)?;
            counted.push((floor, commands.run(&kind, times)?));
        }
        report(name, "echo", "command", &counted)?;
    }
    Ok(())
}
