//! Tokens by public keys that are fetched: accepted in both tiers, and exchanged without a restart.

use anyhow::{Context, Result, bail, ensure};
use flotilla_shared::protocol::types::{Command, ConnectRequest};
use flotilla_tests::SOON;
use flotilla_tests::client::Dial;
use flotilla_tests::eventually::eventually;
use flotilla_tests::fleet::{Builder, Fleet};
use flotilla_tests::issuer::Issuer;
use flotilla_tests::service::{Service, Settings};
use flotilla_tests::token::sign;
use serde_json::json;
use toml::{Table, Value};

/// Options for tokens of this issuer and no others.
fn options(issuer: &Issuer) -> Value {
    let mut options = Table::new();
    options.insert("jwks_public_endpoint".to_owned(), issuer.url().into());
    options.insert("jwks_min_refresh_age".to_owned(), "50ms".into());
    options.into()
}

fn fleet(issuer: &Issuer) -> Builder {
    Fleet::builder()
        .worker("client.token", options(issuer))
        .gateway("identity.token", options(issuer))
}

/// A connection whose token the edge is to verify.
fn at_the_edge(fleet: &Fleet, token: &str) -> Dial {
    fleet
        .dial()
        .header("authorization", &format!("Bearer {token}"))
}

fn connect(token: &str) -> Command {
    Command {
        id: 1,
        connect: Some(ConnectRequest {
            token: token.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[tokio::test]
async fn tokens_of_an_issuer_are_verified_by_the_keys_it_publishes() -> Result<()> {
    let issuer = Issuer::start().await?;
    let fleet = fleet(&issuer).start().await?;
    fleet.gateways[0].ready().await?;
    let token = issuer.user("ada")?;
    for mut client in [
        fleet.dial().connect(&token).await?,
        at_the_edge(&fleet, &token).connect("").await?,
    ] {
        client.subscribe("room").await?;
        client.publish("room", "1").await?;
        let info = client.publication("room").await?.info;
        assert_eq!(info.context("who published it")?.user, "ada");
    }
    for process in [&fleet.workers[0], &fleet.gateways[0]] {
        let tier = process.id().split('-').next().unwrap_or_default();
        let keys = format!("flotilla_{tier}_jwks_keys");
        process.metric_becomes(&keys, &[], 1.0).await?;
    }
    Ok(())
}

#[tokio::test]
async fn whoever_knows_a_public_key_cannot_sign_with_it() -> Result<()> {
    let issuer = Issuer::start().await?;
    let fleet = fleet(&issuer).start().await?;
    fleet.gateways[0].ready().await?;
    let by_public_key = sign(&issuer.public_pem()?, &json!({"sub": "mallory"}))?;
    // Another issuer's key by the name of the right one.
    let by_another = Issuer::start().await?.user("mallory")?;
    for token in [by_public_key, by_another] {
        assert_eq!(at_the_edge(&fleet, &token).refused().await?.0, 401);
        let mut client = fleet.dial().open().await?;
        client.send(&[connect(&token)]).await?;
        assert_eq!(client.closed().await?.code, 3500);
    }
    Ok(())
}

#[tokio::test]
async fn keys_are_exchanged_without_a_restart() -> Result<()> {
    let mut issuer = Issuer::start().await?;
    let fleet = fleet(&issuer).start().await?;
    fleet.gateways[0].ready().await?;
    let old = issuer.user("ada")?;
    let mut early = fleet.dial().connect(&old).await?;
    issuer.rotate()?;
    let new = issuer.user("ada")?;

    // Whoever comes too early is told to come again, and is then let in.
    eventually(
        "the edge has the new key",
        SOON,
        async || match at_the_edge(&fleet, &new).connect("").await {
            Ok(_) => Ok(()),
            Err(error) if error.to_string().contains("503") => Err(error),
            Err(error) => panic!("turned away for good: {error:#}"),
        },
    )
    .await?;
    eventually("the worker has the new key", SOON, async || {
        let mut client = fleet.dial().open().await?;
        let reply = client.call(connect(&new)).await?;
        match reply.error {
            None => Ok(()),
            Some(error) => {
                assert!((error.code, error.temporary) == (100, true), "{error:?}");
                bail!("{error:?}")
            }
        }
    })
    .await?;

    // Nobody is let in by the old key any more; who is in, stays.
    let (status, _) = at_the_edge(&fleet, &old).refused().await?;
    assert_eq!(status, 503, "its key may be published again");
    early.subscribe("room").await?;
    Ok(())
}

#[tokio::test]
async fn an_issuer_that_is_down_turns_away_nobody_whose_key_is_known() -> Result<()> {
    let mut issuer = Issuer::start().await?;
    let fleet = fleet(&issuer).start().await?;
    fleet.gateways[0].ready().await?;
    let known = issuer.user("ada")?;
    issuer.out_of_order(true);
    issuer.rotate()?;
    let unknown = issuer.user("ada")?;
    let failures = ["result=\"failure\""];
    eventually("the gateway has asked in vain", SOON, async || {
        assert_eq!(at_the_edge(&fleet, &unknown).refused().await?.0, 503);
        let scrape = fleet.gateways[0].scrape().await?;
        let failed = scrape.sum("flotilla_gateway_jwks_refreshes_total", &failures)?;
        ensure!(failed > 0.0, "no failure yet");
        Ok(())
    })
    .await?;
    at_the_edge(&fleet, &known).connect("").await?;
    fleet.dial().connect(&known).await?;
    assert_eq!(fleet.gateways[0].health("/readyz").await?, 200);
    Ok(())
}

#[tokio::test]
async fn a_process_without_any_key_yet_is_not_ready() -> Result<()> {
    let issuer = Issuer::start().await?;
    issuer.out_of_order(true);
    let mut settings = Settings::default();
    settings.set("listen", "127.0.0.1:0");
    settings.set("admin_listen", "127.0.0.1:0");
    settings.set("broker.kind", "memory");
    settings.set("client.token", options(&issuer));
    settings.set("log.format", "json");
    let directory = tempfile::tempdir()?;
    let worker = Service::start("flotilla-worker", "worker-0", &settings, directory.path()).await?;
    eventually("it has asked twice", SOON, async || {
        ensure!(issuer.requests() >= 2, "{} requests", issuer.requests());
        Ok(())
    })
    .await?;
    assert_eq!(worker.health("/readyz").await?, 503);
    issuer.out_of_order(false);
    worker.ready().await?;
    Dial::to(worker.url()).connect(&issuer.user("ada")?).await?;
    Ok(())
}
