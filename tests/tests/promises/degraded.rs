//! What each user is told while NATS is not as it should be, and that it takes nobody longer than the time limit.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flotilla_shared::protocol::Format::{Json, Protobuf};
use flotilla_tests::SOON;
use flotilla_tests::client::{Client, Dial, publish, subscribe};
use flotilla_tests::eventually::eventually;
use flotilla_tests::fault::Link;
use flotilla_tests::fleet::{Builder, Fleet, PASSPORT_SECRET, namespace};
use flotilla_tests::nats::{Layout, Nats};
use flotilla_tests::service::{Service, Settings};
use flotilla_tests::token;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::nats_login::kept;
use crate::server_api::call;

/// Far below what it takes to notice that a silent connection is lost, with the usual `ping_interval`.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A worker and a gateway that is told where it is, while `nats` may be away.
async fn pair(nats: &Nats, folder: &std::path::Path) -> Result<(Service, Service)> {
    let servers = vec![format!("nats://{}", nats.address())];
    let mut settings = Settings::default();
    settings.set("listen", "127.0.0.1:0");
    settings.set("admin_listen", "127.0.0.1:0");
    settings.set("passport.secret_key", PASSPORT_SECRET);
    settings.set("log.format", "json");
    settings.set("broker.nats.servers", servers);
    let (mut worker, mut gateway) = (settings.clone(), settings);
    worker.set("shards", 2);
    worker.set("client.token.hmac_secret_key", token::SECRET);
    worker.set("channel.without_namespace.allow_subscribe_for_client", true);
    worker.set("channel.without_namespace.allow_publish_for_client", true);
    let worker = Service::start("flotilla-worker", "worker", &worker, folder).await?;
    gateway.set("identity.token.hmac_secret_key", token::SECRET);
    gateway.set("pool.workers", vec![worker.addresses().websocket.clone()]);
    // A gateway that waited for a worker without an answer would wait longer than the test.
    gateway.set("pool.handshake_timeout", "60s");
    let gateway = Service::start("flotilla-gateway", "gateway", &gateway, folder).await?;
    Ok((worker, gateway))
}

#[tokio::test]
async fn a_fleet_that_starts_without_nats_says_so_and_comes_up_when_it_is_there() -> Result<()> {
    let mut nats = Nats::start().await?;
    nats.kill().await?;
    let folder = tempfile::tempdir()?;
    let (worker, gateway) = pair(&nats, folder.path()).await?;
    eventually("the worker says why it is not ready", SOON, async || {
        let said = worker.readiness().await?;
        let why = "not ready: starting: 2 of 2 shards: cannot connect to the broker: ";
        ensure!(said.starts_with(why), "{said}");
        Ok(())
    })
    .await?;
    assert_eq!(worker.health("/livez").await?, 200);
    for url in [worker.url(), gateway.url()] {
        let header = format!("Bearer {}", token::user("ada")?);
        let dial = Dial::to(&url).header("authorization", &header);
        let (status, _) = timeout(AT_ONCE, dial.refused())
            .await
            .with_context(|| format!("{url} does not answer"))??;
        assert_eq!(status, 503, "{url}");
    }

    nats.restart().await?;
    worker.ready().await?;
    eventually("a client is served", SOON, async || {
        let dial = Dial::to(gateway.url()).format(Protobuf);
        let mut client = dial.connect(&token::user("ada")?).await?;
        client.subscribe("room").await?;
        client.publish("room", "\"hello\"").await?;
        ensure!(client.publication("room").await?.data == "\"hello\"");
        Ok(())
    })
    .await
}

/// What is asked of a fleet that cannot do it now is answered at once: by a temporary error, where that can be said.
async fn each_is_told_at_once(fleet: &Fleet, client: &mut Client) -> Result<()> {
    for channel in ["room", "kept:1"] {
        let error = client.refusal(publish(channel, "1")).await?;
        ensure!(error.temporary, "{channel}: {error:?}");
    }
    let error = client.refusal(subscribe("new")).await?;
    ensure!(error.temporary, "{error:?}");
    let api = fleet.workers[0].addresses().api.clone().context("no API")?;
    for (method, body) in [
        ("publish", json!({"channel": "room", "data": 1})),
        ("presence_stats", json!({"channel": "lobby:1"})),
    ] {
        let (status, answer) = call(&api, method, &[], &body).await?;
        let answer: Value = serde_json::from_str(&answer)?;
        ensure!(
            status == 200 && answer["error"]["code"] == 100,
            "{method}: {answer}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn while_nats_is_away_everyone_is_told_at_once_and_who_comes_is_let_in() -> Result<()> {
    let mut fleet = fleet(false).await?;
    let mut client = fleet.user("ada", Json).await?;
    client.subscribe("room").await?;
    fleet.nats.kill().await?;
    let worker = &fleet.workers[0];
    eventually("the worker says why it is not ready", SOON, async || {
        let said = worker.readiness().await?;
        let why = "not ready: 2 of 2 shards: the connection to the broker is lost";
        ensure!(said.starts_with(why), "{said}");
        Ok(())
    })
    .await?;
    assert_eq!(worker.health("/livez").await?, 200);
    let told = each_is_told_at_once(&fleet, &mut client);
    timeout(AT_ONCE, told).await.context("somebody waits")??;
    // Who has been told apart from NATS: the gateway knows its workers, and a connection needs nothing else.
    let mut newcomer = timeout(AT_ONCE, fleet.user("bob", Protobuf)).await??;

    fleet.nats.restart().await?;
    fleet.workers[0].ready().await?;
    newcomer.subscribe("room").await?;
    newcomer.publish("room", "\"again\"").await?;
    for client in [&mut client, &mut newcomer] {
        assert_eq!(client.publication("room").await?.data, "\"again\"");
    }
    Ok(())
}

#[tokio::test]
async fn while_nats_says_nothing_nobody_waits_longer_than_the_time_limit() -> Result<()> {
    let fleet = fleet(true).await?;
    let mut client = fleet.user("ada", Json).await?;
    client.subscribe("room").await?;
    fleet.links.iter().for_each(Link::stall);
    // A subscription and what is stored have to be confirmed; another publication only has to find room.
    let told = async {
        for command in [subscribe("new"), publish("kept:1", "1")] {
            let error = client.refusal(command).await?;
            ensure!(error.temporary, "{error:?}");
        }
        client.publish("room", "\"before\"").await
    };
    timeout(AT_ONCE, told).await.context("somebody waits")??;
    let newcomer = timeout(AT_ONCE, fleet.user("bob", Protobuf)).await;
    let mut newcomer = newcomer.context("a newcomer waits")??;

    // The connection was never lost, so nothing was.
    fleet.links.iter().for_each(Link::mend);
    assert_eq!(client.publication("room").await?.data, "\"before\"");
    for client in [&mut client, &mut newcomer] {
        client.subscribe("new").await?;
    }
    newcomer.publish("new", "\"after\"").await?;
    for client in [&mut client, &mut newcomer] {
        assert_eq!(client.publication("new").await?.data, "\"after\"");
    }
    Ok(())
}

#[tokio::test]
async fn a_full_nats_refuses_what_it_cannot_keep_and_carries_the_rest() -> Result<()> {
    let full = Layout {
        stores: true,
        configuration: "accounts { fleet: { jetstream: { max_file: 65536 }, users: [{ user: u, password: p }] } }\n\
                        no_auth_user: u",
        ..Layout::default()
    };
    let fleet = builder().nats(full).start().await?;
    let mut client = fleet.user("ada", Json).await?;
    client.subscribe("room").await?;
    let large = || publish("kept:1", format!("\"{}\"", "x".repeat(20_000)));
    let mut taken = 0;
    let error = loop {
        ensure!(taken < 5, "there was room for {taken}");
        match client.call(large()).await?.error {
            Some(error) => break error,
            None => taken += 1,
        }
    };
    ensure!(error.temporary && taken > 0, "{error:?} after {taken}");
    client.publish("room", "\"live\"").await?;
    assert_eq!(client.publication("room").await?.data, "\"live\"");
    assert_eq!(fleet.workers[0].health("/readyz").await?, 200);

    // Whoever makes room is served again.
    let api = fleet.workers[0].addresses().api.clone().context("no API")?;
    call(&api, "history_remove", &[], &json!({"channel": "kept:1"})).await?;
    eventually("there is room again", SOON, async || {
        let reply = client.call(large()).await?;
        ensure!(reply.publish.is_some(), "{:?}", reply.error);
        Ok(())
    })
    .await
}

/// One worker; with `linked`, NATS can be made to hang for it.
async fn fleet(linked: bool) -> Result<Fleet> {
    let stores = Layout {
        stores: true,
        ..Layout::default()
    };
    let builder = builder().nats(stores);
    let builder = if linked { builder.linked() } else { builder };
    builder.start().await
}

/// One worker that keeps some histories and little patience.
fn builder() -> Builder {
    let lobby = namespace("lobby", &["presence"]);
    Fleet::builder()
        .worker("broker.nats.request_timeout", "500ms")
        .worker("http_api.listen", "127.0.0.1:0")
        .worker("http_api.insecure", true)
        .worker("broker.nats.history.partitions", 2)
        .worker("channel.namespaces", vec![lobby, kept()])
}
