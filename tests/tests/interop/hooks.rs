//! A client library does everything by the leave of a back end that answers hooks.

use anyhow::{Context, Result};
use flotilla_tests::back_end::BackEnd;
use flotilla_tests::fleet::{Fleet, namespace};
use flotilla_tests::process::Process;
use toml::Value;

use crate::scripts::{SCRIPT_MAX, command, python};

/// Steps that the script reports.
const STEPS: usize = 6;

#[tokio::test]
async fn python_with_hooks_json() -> Result<()> {
    play("json").await
}

#[tokio::test]
async fn python_with_hooks_protobuf() -> Result<()> {
    play("protobuf").await
}

async fn play(format: &str) -> Result<()> {
    let back_end = BackEnd::start().await?;
    back_end.says_at(
        "/connect",
        r#"{"result": {"user": "ann", "data": {"welcome": 1}}}"#,
    );
    back_end.does_at("/rpc", |asked| match asked.json()["method"].as_str() {
        Some("sum") => r#"{"result": {"data": {"sum": 3}}}"#.to_owned(),
        _ => r#"{"error": {"code": 1000, "message": "no such method"}}"#.to_owned(),
    });
    back_end.says_at("/subscribe", r#"{"result": {"data": "come in"}}"#);
    back_end.says_at("/publish", r#"{"result": {"data": {"text": "b"}}}"#);
    let mut fleet = Fleet::builder()
        .worker("client.proxy.connect.enabled", true)
        .worker("rpc.proxy.enabled", true);
    for (hook, path) in [
        ("client.proxy.connect", "connect"),
        ("rpc.proxy", "rpc"),
        ("channel.proxy.subscribe", "subscribe"),
        ("channel.proxy.publish", "publish"),
    ] {
        let endpoint = format!("{}/{path}", back_end.url());
        fleet = fleet.worker(&format!("{hook}.endpoint"), endpoint);
    }
    let switches = ["subscribe_proxy_enabled", "publish_proxy_enabled"];
    let namespaces = Value::Array(vec![namespace("asked", &switches)]);
    let fleet = fleet
        .worker("channel.namespaces", namespaces)
        .start()
        .await?;
    let mut command = command(python(), "hooks.py");
    command.env("URL", fleet.url()).env("FORMAT", format);
    let mut script = Process::spawn("hooks.py", &mut command).context("run `tests/run setup`")?;
    script.completes(STEPS, SCRIPT_MAX).await
}
