//! The PyPI package `cent` uses the server API, unchanged.

use anyhow::{Context, Result};
use flotilla_shared::protocol::Format::Json;
use flotilla_tests::fleet::{Fleet, namespace};
use flotilla_tests::process::Process;
use toml::Value;

use crate::scripts::{SCRIPT_MAX, command, python};

const KEY: &str = "the key of the back end";

/// Steps that the script reports.
const STEPS: usize = 15;

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
    let api = fleet.workers[0].addresses().api.as_ref();
    let mut command = command(python(), "back_end.py");
    command
        .env("API_URL", format!("http://{}/api", api.context("no API")?))
        .env("API_KEY", KEY);
    let mut script =
        Process::spawn("back_end.py", &mut command).context("run `tests/run setup`")?;
    script.completes(STEPS, SCRIPT_MAX).await?;
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
