//! `flotilla` as a new user starts it: everything in one process.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt};

use crate::launcher::{Launcher, output, runtime, token};
use anyhow::{Context, Result, ensure};
use flotilla_tests::SOON;
use flotilla_tests::client::Dial;
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::time::timeout;

#[tokio::test]
async fn one_command_joins_clients_on_different_workers() -> Result<()> {
    let runtime = runtime()?;
    let fleet = Launcher::start(runtime.path(), &["--port", "0"]).await?;
    let (mut alice, mut bob) = fleet.two_clients(&fleet.token()?).await?;
    alice.subscribe("chat:lobby").await?;
    bob.subscribe("chat:lobby").await?;
    alice.publish("chat:lobby", r#"{"text":"hello"}"#).await?;
    let received = bob.publication("chat:lobby").await?;
    assert_eq!(received.data, r#"{"text":"hello"}"#);
    assert_eq!(received.info.context("who said so")?.user, "demo");
    Ok(())
}

#[tokio::test]
async fn a_back_end_publishes_as_it_is_told() -> Result<()> {
    let runtime = runtime()?;
    let fleet = Launcher::start(runtime.path(), &["--port", "0"]).await?;
    let (mut alice, mut bob) = fleet.two_clients(&fleet.token()?).await?;
    alice.subscribe("chat:lobby").await?;
    bob.subscribe("chat:lobby").await?;
    assert_eq!(fleet.publish("chat:lobby", "1").await?, r#"{"result":{}}"#);
    for client in [&mut alice, &mut bob] {
        assert_eq!(client.publication("chat:lobby").await?.data, "1");
    }
    Ok(())
}

#[tokio::test]
async fn who_only_listens_needs_no_library() -> Result<()> {
    let runtime = runtime()?;
    let fleet = Launcher::start(runtime.path(), &["--port", "0"]).await?;
    let url = format!(
        "http://127.0.0.1:{}/connection/uni_http_stream",
        fleet.port()?
    );
    let introduction = json!({"token": fleet.token()?, "subs": {"chat:lobby": {}}});
    let request = reqwest::Client::new().post(url).json(&introduction);
    let mut stream = request.send().await?.error_for_status()?;
    let mut heard = String::new();
    let mut hears = async |words: &str| -> Result<()> {
        while !heard.contains(words) {
            let chunk = stream.chunk().await?.context("the stream has ended")?;
            heard.push_str(std::str::from_utf8(&chunk)?);
        }
        Ok(())
    };
    timeout(SOON, hears(r#""chat:lobby""#)).await??;
    fleet.publish("chat:lobby", r#""hello""#).await?;
    timeout(SOON, hears(r#""data":"hello""#)).await??;
    Ok(())
}

#[tokio::test]
async fn the_secret_is_the_users_alone_and_goes_with_the_fleet() -> Result<()> {
    let runtime = runtime()?;
    let mut fleet =
        Launcher::start(runtime.path(), &["dev", "--port", "0", "--workers", "1"]).await?;
    let directory = runtime
        .path()
        .join(format!("flotilla/dev-{}", fleet.port()?));
    let secret = directory.join("token-secret");
    assert_eq!(fs::metadata(&secret)?.permissions().mode() & 0o777, 0o600);
    fleet.signal(Signal::SIGINT)?;
    fleet.ends_well().await?;
    assert!(!directory.exists());
    Ok(())
}

#[tokio::test]
async fn ending_takes_moments_also_with_clients() -> Result<()> {
    let runtime = runtime()?;
    let mut fleet = Launcher::start(runtime.path(), &["--port", "0"]).await?;
    let mut client = fleet.client(&fleet.token()?).await?;
    fleet.signal(Signal::SIGTERM)?;
    let close = client.closed().await?;
    assert!(!close.reason.is_empty(), "{close:?}");
    fleet.ends_well().await
}

#[tokio::test]
async fn the_token_command_signs_for_the_fleet_that_runs() -> Result<()> {
    let runtime = runtime()?;
    let fleet = Launcher::start(runtime.path(), &["--port", "0", "--workers", "1"]).await?;
    let mine = token(runtime.path(), &["--user", "ann"]).await?;
    let mut client = fleet.client(&mine).await?;
    client.subscribe("chat:lobby").await?;
    client.publish("chat:lobby", "1").await?;
    let received = client.publication("chat:lobby").await?;
    assert_eq!(received.info.context("who said so")?.user, "ann");
    Ok(())
}

#[tokio::test]
async fn fleets_run_side_by_side_and_the_token_command_tells_them_apart() -> Result<()> {
    let runtime = runtime()?;
    let first = Launcher::start(runtime.path(), &["--port", "0", "--workers", "1"]).await?;
    let second = Launcher::start(runtime.path(), &["--port", "0", "--workers", "1"]).await?;
    for fleet in [&first, &second] {
        let token = token(runtime.path(), &["--user", "ann", "--port", &fleet.port()?]).await?;
        fleet.client(&token).await?;
    }
    let newest = token(runtime.path(), &["--user", "ann"]).await?;
    second.client(&newest).await?;
    ensure!(
        first.client(&newest).await.is_err(),
        "each fleet has a secret of its own"
    );
    Ok(())
}

#[tokio::test]
async fn without_a_fleet_the_token_command_says_what_to_do() -> Result<()> {
    let runtime = runtime()?;
    let output = output(runtime.path(), &["token", "--user", "ann", "--port", "1"]).await?;
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr)?;
    assert!(
        error.contains("no development fleet of yours runs on port 1"),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn a_port_that_was_asked_for_and_is_taken_is_an_error() -> Result<()> {
    let runtime = runtime()?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port().to_string();
    let output = output(runtime.path(), &["--port", &port]).await?;
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr)?;
    assert!(error.contains(&port), "{error}");
    Ok(())
}

#[tokio::test]
async fn the_open_profile_takes_clients_without_a_token_and_chat_does_not() -> Result<()> {
    let runtime = runtime()?;
    let arguments = ["--port", "0", "--workers", "1", "--profile", "open"];
    let open = Launcher::start(runtime.path(), &arguments).await?;
    let mut client = open.client("").await?;
    client.subscribe("lobby").await?;
    client.publish("lobby", "1").await?;
    assert_eq!(client.publication("lobby").await?.data, "1");

    let chat = Launcher::start(runtime.path(), &["--port", "0", "--workers", "1"]).await?;
    ensure!(chat.client("").await.is_err(), "chat wants a token");
    Ok(())
}

#[tokio::test]
async fn only_the_demo_page_may_connect_from_a_browser() -> Result<()> {
    let runtime = runtime()?;
    let fleet = Launcher::start(runtime.path(), &["--port", "0", "--workers", "1"]).await?;
    let from =
        |origin: &str| Ok::<_, anyhow::Error>(Dial::to(fleet.url()?).header("origin", origin));
    let origin = fleet.demo_origin()?;
    from(&origin)?.connect(&fleet.token()?).await?;
    from(&origin.replace("127.0.0.1", "localhost"))?
        .connect(&fleet.token()?)
        .await?;
    let (status, _) = from("https://elsewhere.example")?.refused().await?;
    assert_eq!(status, 403);
    Ok(())
}
