//! The PyPI package `cent` uses the server API, unchanged.

use anyhow::{Context, Result};
use flotilla_shared::protocol::Format::Json;
use flotilla_tests::client::Dial;
use flotilla_tests::fleet::{Fleet, namespace};
use flotilla_tests::process::Process;
use flotilla_tests::token;
use toml::Value;

use crate::scripts::{SCRIPT_MAX, command, python};

const KEY: &str = "the key of the back end";

/// Steps that each script reports.
const STEPS: usize = 15;
const HISTORY_STEPS: usize = 12;

#[tokio::test]
async fn python_back_end() -> Result<()> {
    let namespaces = vec![namespace(
        "news",
        &["allow_subscribe_for_client", "presence"],
    )];
    let fleet = Fleet::builder()
        .workers(2)
        .worker("http_api.listen", "127.0.0.1:0")
        .worker("http_api.key", KEY)
        .worker("channel.namespaces", Value::Array(namespaces))
        .start()
        .await?;
    let mut clients = fleet.spread(&[Json, Json]).await?;
    for client in &mut clients {
        client.subscribe("news:1").await?;
    }
    run(&fleet, "back_end.py", STEPS).await?;
    for client in &mut clients {
        for number in 1..=4 {
            let publication = client.publication("news:1").await?;
            assert_eq!(publication.data, format!("{{\"n\": {number}}}"));
            assert_eq!(publication.tags.contains_key("kind"), number == 1);
        }
        assert_eq!(client.closed().await?.code, 4000);
    }
    Ok(())
}

#[tokio::test]
async fn python_back_end_of_channels_with_history() -> Result<()> {
    let mut kept = namespace("kept", &[]);
    for (key, value) in [
        ("history_size", Value::from(10)),
        ("history_ttl", "5m".into()),
    ] {
        let table = kept.as_table_mut().context("a table")?;
        table.insert(key.to_owned(), value);
    }
    let fleet = Fleet::builder()
        .gateways(0)
        .in_memory()
        .worker("http_api.listen", "127.0.0.1:0")
        .worker("http_api.key", KEY)
        .worker("channel.namespaces", vec![kept])
        .start()
        .await?;
    let mut ann = Dial::to(fleet.workers[0].url())
        .connect(&token::user("ann")?)
        .await?;
    run(&fleet, "back_end_history.py", HISTORY_STEPS).await?;
    let subscribed = ann.push("kept:1", |push| push.subscribe.is_some()).await?;
    let subscribed = subscribed.subscribe.context("a subscription")?;
    assert_eq!(subscribed.data, "{\"greeting\": \"welcome\"}");
    assert!(subscribed.recoverable, "{subscribed:?}");
    for (offset, data) in [(2, "{\"n\": 2}"), (4, "{\"n\": 4}")] {
        let publication = ann.publication("kept:1").await?;
        assert_eq!(
            (publication.offset, &publication.data[..]),
            (offset, data.as_bytes())
        );
    }
    Ok(())
}

/// Runs a script against the API of the first worker.
async fn run(fleet: &Fleet, script: &str, steps: usize) -> Result<()> {
    let api = fleet.workers[0].addresses().api.as_ref();
    let mut command = command(python(), script);
    command
        .env("API_URL", format!("http://{}/api", api.context("no API")?))
        .env("API_KEY", KEY);
    let mut script = Process::spawn(script, &mut command).context("run `tests/run setup`")?;
    script.completes(steps, SCRIPT_MAX).await
}
