//! Client libraries read what was published out of the deltas that they get, whatever they missed in between.

use std::path::PathBuf;

use anyhow::{Context, Result};
use flotilla_tests::fleet::Fleet;
use flotilla_tests::process::Process;
use flotilla_tests::token;
use toml::{Table, Value};

use crate::scripts::{SCRIPT_MAX, command, python};

/// What is kept of each channel: more than a worker remembers by itself.
const KEPT: i64 = 100;

/// Steps that each script reports.
const STEPS: usize = 5;

#[tokio::test]
async fn javascript_json() -> Result<()> {
    play("node".into(), "delta.mjs", "json").await
}

#[tokio::test]
async fn javascript_protobuf() -> Result<()> {
    play("node".into(), "delta.mjs", "protobuf").await
}

#[tokio::test]
async fn python_json() -> Result<()> {
    play(python(), "delta.py", "json").await
}

#[tokio::test]
async fn python_protobuf() -> Result<()> {
    play(python(), "delta.py", "protobuf").await
}

async fn play(interpreter: PathBuf, script: &str, format: &str) -> Result<()> {
    let mut namespace = Table::new();
    for (key, value) in [
        ("name", Value::from("docs")),
        ("history_size", KEPT.into()),
        ("history_ttl", "5m".into()),
        ("allow_recovery", true.into()),
        ("allow_positioning", true.into()),
        ("allowed_delta_types", vec!["fossil"].into()),
        ("delta_publish", true.into()),
        ("allow_subscribe_for_client", true.into()),
        ("allow_publish_for_client", true.into()),
    ] {
        namespace.insert(key.to_owned(), value);
    }
    let fleet = Fleet::builder()
        .in_memory()
        .listed()
        .worker("channel.namespaces", vec![Value::from(namespace)])
        .start()
        .await?;
    let mut command = command(interpreter, script);
    command
        .env("URL", fleet.url())
        .env("TOKEN", token::user("reader")?)
        .env("CHANNEL", "docs:1")
        .env("KEPT", KEPT.to_string())
        .env("FORMAT", format);
    let mut script = Process::spawn(script, &mut command).context("run `tests/run setup`")?;
    script.completes(STEPS, SCRIPT_MAX).await
}
