//! Who is not let in by NATS says so and ends; who is let in can do its work with no more permissions than that takes.

use anyhow::{Context, Result, ensure};
use flotilla_shared::broker::{BrokerMetrics, Brokers, NatsConfig, Topic};
use flotilla_shared::channel::Channel;
use flotilla_shared::protocol::Format::{Json, Protobuf};
use flotilla_tests::SOON;
use flotilla_tests::client::Client;
use flotilla_tests::eventually::eventually;
use flotilla_tests::fleet::Fleet;
use flotilla_tests::nats::{Layout, Nats};
use flotilla_tests::process::binary;
use prometheus::Registry;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::server_api::call;

const GATEWAY_PASSWORD: &str = "gateways-only";
const WORKER_PASSWORD: &str = "workers-only";

/// Servers that allow each tier what the file for operators says.
fn guarded() -> Layout {
    Layout {
        stores: true,
        configuration: concat!(
            "FLOTILLA_GATEWAY_PASSWORD: gateways-only\nFLOTILLA_WORKER_PASSWORD: workers-only\n",
            include_str!("../../../deploy/nats/permissions.conf"),
        ),
        ..Layout::default()
    }
}

#[tokio::test]
async fn a_fleet_needs_no_more_permissions_than_the_file_for_operators_says() -> Result<()> {
    let fleet = Fleet::builder()
        .workers(2)
        .nats(guarded())
        .worker("broker.nats.user", "worker")
        .worker("broker.nats.password", WORKER_PASSWORD)
        .worker("http_api.listen", "127.0.0.1:0")
        .worker("http_api.insecure", true)
        .worker("broker.nats.history.partitions", 2)
        .worker("channel.namespaces", vec![kept()])
        .gateway("broker.nats.user", "gateway")
        .gateway("broker.nats.password", GATEWAY_PASSWORD)
        .start()
        .await?;
    let mut clients = fleet.spread(&[Json, Protobuf]).await?;
    for client in &mut clients {
        client.subscribe("room").await?;
    }
    let [first, second] = &mut clients[..] else {
        panic!("two clients")
    };
    let api = fleet.workers[0].addresses().api.clone().context("no API")?;
    eventually("workers ask each other", SOON, async || {
        let (_, answer) = call(&api, "info", &[], &json!({})).await?;
        let answer: Value = serde_json::from_str(&answer)?;
        let nodes = answer["result"]["nodes"].as_array().map(Vec::len);
        ensure!(nodes == Some(2), "{answer}");
        Ok(())
    })
    .await?;

    keeps_history(&api, first).await?;

    // A gateway's login says something in a channel. The server has worked through that before it confirms the
    // subscription.
    let config = NatsConfig {
        servers: vec![format!(
            "nats://gateway:{GATEWAY_PASSWORD}@{}",
            fleet.nats.address()
        )],
        ..NatsConfig::default()
    };
    let metrics = BrokerMetrics::register(&Registry::new())?;
    let gateway = Brokers::Nats(config).connect("intruder", &metrics).await?;
    let room = Topic::Channel(Channel::parse("room", 255)?);
    gateway.broker.publish(&room, "\"forged\"".into()).await?;
    gateway.broker.subscribe(&Topic::Roster, 0).await?;
    first.publish("room", "\"real\"").await?;
    for client in [first, second] {
        assert_eq!(client.publication("room").await?.data, "\"real\"");
    }
    for service in fleet.workers.iter().chain(&fleet.gateways) {
        let labels = ["kind=\"permission\""];
        let denied = service
            .scrape()
            .await?
            .sum("flotilla_broker_errors_total", &labels)?;
        assert_eq!(denied, 0.0, "{}", service.id());
    }
    Ok(())
}

/// A namespace with a history.
pub(crate) fn kept() -> toml::Value {
    let mut namespace = toml::Table::new();
    for (key, value) in [
        ("name", toml::Value::from("kept")),
        ("history_size", 10.into()),
        ("history_ttl", "5m".into()),
        ("allow_subscribe_for_client", true.into()),
        ("allow_publish_for_client", true.into()),
    ] {
        namespace.insert(key.to_owned(), value);
    }
    namespace.into()
}

/// What is published in a channel with history is delivered, can be read, and can be removed.
async fn keeps_history(api: &str, client: &mut Client) -> Result<()> {
    const CHANNEL: &str = "kept:1";
    client.subscribe(CHANNEL).await?;
    client.publish(CHANNEL, "\"stored\"").await?;
    assert_eq!(client.publication(CHANNEL).await?.data, "\"stored\"");
    let stored = async || {
        let body = json!({"channel": CHANNEL, "limit": 10});
        let (_, answer) = call(api, "history", &[], &body).await?;
        let answer: Value = serde_json::from_str(&answer)?;
        let publications = answer["result"]["publications"].as_array().map(Vec::len);
        publications.with_context(|| answer.to_string())
    };
    assert_eq!(stored().await?, 1);
    let body = json!({"channel": CHANNEL});
    let (_, removed) = call(api, "history_remove", &[], &body).await?;
    assert_eq!(removed, "{\"result\":{}}");
    assert_eq!(stored().await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_worker_that_is_to_keep_histories_where_none_can_be_stored_says_so_and_ends() -> Result<()>
{
    let nats = Nats::start().await?;
    let settings = [
        format!("broker.nats.servers=[\"nats://{}\"]", nats.address()),
        "channel.namespaces=[{name=\"kept\",history_size=10,history_ttl=\"5m\"}]".to_owned(),
    ];
    let text = ends("worker", settings.into()).await?;
    ensure!(text.contains("history needs JetStream"), "{text}");
    Ok(())
}

#[tokio::test]
async fn who_is_not_let_in_says_so_and_ends_and_tells_no_secret() -> Result<()> {
    let nats = guarded().start().await?.remove(0);
    for (service, more) in [("worker", ""), ("gateway", "pool.roster=true")] {
        for login in ["in the options", "in the address"] {
            let text = refused(service, more, login, &nats).await?;
            let told = "NATS does not accept the login";
            ensure!(text.contains(told), "{service}, {login}: {text}");
            ensure!(
                !text.contains("guessed-s3cr3t"),
                "{service}, {login}: {text}"
            );
        }
    }
    Ok(())
}

/// What a service with a wrong login says until it ends, at the level that says most.
async fn refused(service: &str, more: &str, login: &str, nats: &Nats) -> Result<String> {
    let mut settings = vec!["log.level=trace,async_nats=trace".to_owned()];
    let mut host = nats.address();
    if login == "in the address" {
        host = format!("{service}:guessed-s3cr3t@{host}");
    } else {
        settings.push(format!("broker.nats.user={service}"));
        settings.push("broker.nats.password=guessed-s3cr3t".to_owned());
    }
    settings.push(format!("broker.nats.servers=[\"nats://{host}\"]"));
    settings.extend((!more.is_empty()).then(|| more.to_owned()));
    ends(service, settings).await
}

/// What a service says until it ends, as it has to, because it cannot do its work.
async fn ends(service: &str, mut settings: Vec<String>) -> Result<String> {
    settings.push("listen=127.0.0.1:0".to_owned());
    settings.push("admin_listen=127.0.0.1:0".to_owned());
    let mut command = Command::new(binary(&format!("flotilla-{service}"))?);
    for setting in settings {
        command.args(["--set", &setting]);
    }
    let ended = tokio::time::timeout(SOON, command.kill_on_drop(true).output()).await;
    let output = ended.with_context(|| format!("{service} goes on"))??;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    ensure!(output.status.code() == Some(1), "{}: {text}", output.status);
    Ok(text)
}
