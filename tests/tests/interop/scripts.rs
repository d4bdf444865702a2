//! SDKs of other languages: their part of the story is a script under `tests/interop`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use flotilla_tests::process::Process;
use flotilla_tests::token;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::stage::Stage;

/// Longest time for a whole script; each of its waits has a shorter deadline.
pub(crate) const SCRIPT_MAX: Duration = Duration::from_secs(120);

/// Steps that every script reports.
const STEPS: usize = 10;

#[tokio::test]
async fn javascript_json() -> Result<()> {
    play("node".into(), "client.mjs", "json", "websocket").await
}

#[tokio::test]
async fn javascript_protobuf() -> Result<()> {
    play("node".into(), "client.mjs", "protobuf", "websocket").await
}

#[tokio::test]
async fn javascript_json_over_an_http_stream() -> Result<()> {
    play("node".into(), "client.mjs", "json", "http_stream").await
}

#[tokio::test]
async fn javascript_protobuf_over_an_http_stream() -> Result<()> {
    play("node".into(), "client.mjs", "protobuf", "http_stream").await
}

#[tokio::test]
async fn javascript_json_over_server_sent_events() -> Result<()> {
    play("node".into(), "client.mjs", "json", "sse").await
}

#[tokio::test]
async fn python_json() -> Result<()> {
    play(python(), "client.py", "json", "websocket").await
}

#[tokio::test]
async fn python_protobuf() -> Result<()> {
    play(python(), "client.py", "protobuf", "websocket").await
}

/// The interpreter of the tests' own environment.
pub(crate) fn python() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python")
}

/// What runs one of the scripts of the folder `interop`.
pub(crate) fn command(interpreter: PathBuf, script: &str) -> Command {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop");
    let mut command = Command::new(interpreter);
    command.arg(folder.join(script));
    command
}

/// Runs a script to its end, doing for it what it asks for.
async fn play(interpreter: PathBuf, script: &str, format: &str, transport: &str) -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut command = command(interpreter, script);
    command
        .env("ALICE_URL", &stage.alice_url)
        .env("BOB_URL", &stage.bob_url)
        .env("TOKEN_SECRET", token::SECRET)
        .env("FORMAT", format)
        .env("TRANSPORT", transport);
    let mut script = Process::spawn(script, &mut command).context("run `tests/run setup`")?;
    let mut input = script.take_stdin()?;
    asks(
        &mut script,
        "wait until the worker of alice has left the room",
    )
    .await?;
    stage.worker_of_alice_has_left().await?;
    input.write_all(b"left\n").await?;
    asks(&mut script, "kill the worker of alice").await?;
    stage.kill_worker_of_alice().await?;
    input.write_all(b"killed\n").await?;

    script.completes(STEPS, SCRIPT_MAX).await
}

/// Waits until the script asks for this.
async fn asks(script: &mut Process, what: &str) -> Result<()> {
    script.line(what, |line| (line == what).then_some(())).await
}
