//! The filters that client libraries send mean to us what they mean to them.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use flotilla_tests::fleet::{Fleet, namespace};
use flotilla_tests::process::Process;
use flotilla_tests::token;
use serde_json::json;

use crate::scripts::{SCRIPT_MAX, command, python};

const KEY: &str = "the key of the back end";

const CHANNEL: &str = "prices:all";

#[tokio::test]
async fn javascript_json() -> Result<()> {
    play("node".into(), "filter.mjs", "json").await
}

#[tokio::test]
async fn javascript_protobuf() -> Result<()> {
    play("node".into(), "filter.mjs", "protobuf").await
}

#[tokio::test]
async fn python_json() -> Result<()> {
    play(python(), "filter.py", "json").await
}

#[tokio::test]
async fn python_protobuf() -> Result<()> {
    play(python(), "filter.py", "protobuf").await
}

/// Has a script subscribe to the symbols A and B, where the price is above 10 or the kind begins with `ind`, and which
/// are no test.
async fn play(interpreter: PathBuf, script: &str, format: &str) -> Result<()> {
    let allowed = ["allow_subscribe_for_client", "allow_tags_filter"];
    let fleet = Fleet::builder()
        .worker("http_api.listen", "127.0.0.1:0")
        .worker("http_api.key", KEY)
        .worker("channel.namespaces", vec![namespace("prices", &allowed)])
        .start()
        .await?;
    let mut command = command(interpreter, script);
    command
        .env("URL", fleet.url())
        .env("TOKEN", token::user("reader")?)
        .env("CHANNEL", CHANNEL)
        .env("FORMAT", format);
    let mut script = Process::spawn(script, &mut command).context("run `tests/run setup`")?;
    let is_subscribed = |line: &str| (line == "subscribed").then_some(());
    script.line("that it is subscribed", is_subscribed).await?;

    let publications = [
        ("above", json!({"symbol": "A", "price": "10.01"})),
        ("below", json!({"symbol": "A", "price": "9.99"})),
        ("of another symbol", json!({"symbol": "C", "price": "11"})),
        ("index", json!({"symbol": "B", "kind": "index"})),
        ("a test", json!({"symbol": "B", "price": "12", "test": ""})),
        ("without tags", json!({})),
        ("last", json!({"symbol": "B", "price": "1000"})),
    ];
    let api = fleet.workers[0].addresses().api.as_ref();
    let url = format!("http://{}/api/publish", api.context("no API")?);
    for (data, tags) in publications {
        let body = json!({"channel": CHANNEL, "data": data, "tags": tags});
        let request = reqwest::Client::new().post(&url).header("X-API-Key", KEY);
        let answer = request.json(&body).send().await?.text().await?;
        ensure!(answer == r#"{"result":{}}"#, "{answer}");
    }
    script.completes(1, SCRIPT_MAX).await
}
