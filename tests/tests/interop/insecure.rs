//! The npm package `centrifuge` over each of its transports, against the profile `insecure`.

use anyhow::{Context, Result};
use flotilla_tests::dev::Dev;
use flotilla_tests::process::Process;

use crate::scripts::{SCRIPT_MAX, command};

/// Steps that the script reports.
const STEPS: usize = 10;

#[tokio::test]
async fn insecure_websocket_json() -> Result<()> {
    play("websocket", "json").await
}

#[tokio::test]
async fn insecure_websocket_protobuf() -> Result<()> {
    play("websocket", "protobuf").await
}

#[tokio::test]
async fn insecure_http_stream_json() -> Result<()> {
    play("http_stream", "json").await
}

#[tokio::test]
async fn insecure_http_stream_protobuf() -> Result<()> {
    play("http_stream", "protobuf").await
}

/// Server-sent events are text.
#[tokio::test]
async fn insecure_sse() -> Result<()> {
    play("sse", "json").await
}

async fn play(transport: &str, format: &str) -> Result<()> {
    let mut fleet = Dev::start("insecure").await?;
    let mut command = command("node".into(), "insecure.mjs");
    command
        .env("ADDRESS", fleet.address())
        .env("API_KEY", "test-api-key")
        .env("TRANSPORT", transport)
        .env("FORMAT", format);
    let mut script =
        Process::spawn("insecure.mjs", &mut command).context("run `tests/run setup`")?;
    script.completes(STEPS, SCRIPT_MAX).await?;
    fleet.stop().await
}
