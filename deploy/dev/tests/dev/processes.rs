//! `flotilla dev --nats`: real processes over a real nats-server.

use crate::launcher::{Launcher, processes_of, runtime};
use anyhow::{Context, Result, ensure};
use flotilla_tests::{
    SOON, client::Client, eventually::eventually, nats, process::Process, scrape::Scrape,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use std::path::Path;

/// A fleet over a nats-server of its own.
async fn start(runtime: &Path) -> Result<Launcher> {
    let server = nats::find_server()?;
    let server = server.to_str().context("a readable path")?;
    Launcher::start(runtime, &["dev", "--port", "0", "--nats-server", server]).await
}

async fn exchange(from: &mut Client, to: &mut Client, text: &str) -> Result<()> {
    from.publish("chat:lobby", format!("{text:?}")).await?;
    let received = to.publication("chat:lobby").await?;
    ensure!(received.data == format!("{text:?}"), "{received:?}");
    Ok(())
}

#[tokio::test]
async fn processes_join_clients_over_nats() -> Result<()> {
    let runtime = runtime()?;
    let mut fleet = start(runtime.path()).await?;
    let (mut alice, mut bob) = fleet.two_clients(&fleet.token()?).await?;
    for client in [&mut alice, &mut bob] {
        client.subscribe("chat:lobby").await?;
    }
    exchange(&mut alice, &mut bob, "there").await?;
    fleet.signal(Signal::SIGINT)?;
    fleet.ends_well().await?;
    fleet.leaves_no_process().await
}

#[tokio::test]
async fn a_running_nats_server_is_used_as_it_is() -> Result<()> {
    let runtime = runtime()?;
    let server = nats::Nats::start().await?;
    let url = format!("nats://{}", server.address());
    let fleet = Launcher::start(runtime.path(), &["--port", "0", "--nats", &url]).await?;
    let (mut alice, mut bob) = fleet.two_clients(&fleet.token()?).await?;
    for client in [&mut alice, &mut bob] {
        client.subscribe("chat:lobby").await?;
    }
    exchange(&mut alice, &mut bob, "over the given server").await?;
    let started = processes_of(runtime.path())?;
    ensure!(
        !started
            .iter()
            .any(|command| command.contains("nats-server")),
        "{started:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_killed_worker_is_told_and_comes_back_by_the_printed_command() -> Result<()> {
    let runtime = runtime()?;
    let mut fleet = start(runtime.path()).await?;
    let (mut alice, mut bob) = fleet.two_clients(&fleet.token()?).await?;
    for client in [&mut alice, &mut bob] {
        client.subscribe("chat:lobby").await?;
    }
    let lost = alice.node().to_owned();
    let (pid, _) = fleet.member(&lost)?;
    kill(Pid::from_raw(pid.context("a process")?), Signal::SIGKILL)?;
    fleet
        .prints(&format!("{lost} was killed by signal 9"))
        .await?;
    // Its client goes on at another one.
    exchange(&mut alice, &mut bob, "still here").await?;
    // Whoever publishes hears it, too.
    alice.publication("chat:lobby").await?;
    exchange(&mut bob, &mut alice, "so I see").await?;

    let again = fleet.prints("start it again with: ").await?;
    let (_, again) = again.split_once("with: ").context("a command")?;
    let mut words = again.split(' ');
    let program = words.next().context("a program")?;
    let _worker = Process::start(&lost, Path::new(program), words)?;
    let (_, gateway) = fleet.member("gateway")?;
    eventually("the gateway sees three workers again", SOON, async || {
        let metrics = Scrape::of(&gateway.to_string()).await?;
        let active = metrics.sum("flotilla_gateway_workers", &["state=\"active\""])?;
        ensure!(active == 3.0, "{active}");
        Ok(())
    })
    .await
}

/// Waits until the demo page shows the worker of this name in this state.
async fn shows(fleet: &Launcher, worker: &str, state: &str) -> Result<()> {
    let url = format!("{}/workers", fleet.demo_origin()?);
    eventually(&format!("{worker} is {state}"), SOON, async || {
        let shown: Value = reqwest::get(&url).await?.json().await?;
        let workers = shown["workers"].as_array().context("workers")?;
        let is_so = |one: &Value| one["name"] == worker && one["state"] == state;
        ensure!(workers.iter().any(is_so), "{shown}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_page_kills_drains_and_starts_workers() -> Result<()> {
    let runtime = runtime()?;
    let fleet = start(runtime.path()).await?;
    let (mut alice, mut bob) = fleet.two_clients(&fleet.token()?).await?;
    let origin = fleet.demo_origin()?;
    let order = async |worker: &str, action: &str| -> Result<u16> {
        let url = format!("{origin}/workers/{worker}/{action}");
        let request = reqwest::Client::new().post(url).header("Origin", &*origin);
        Ok(request.send().await?.status().as_u16())
    };
    let (killed, drained) = (alice.node().to_owned(), bob.node().to_owned());

    for client in [&mut alice, &mut bob] {
        client.subscribe("chat:lobby").await?;
    }
    assert_eq!(order(&killed, "start").await?, 409, "it runs");
    assert_eq!(order(&killed, "kill").await?, 204);
    shows(&fleet, &killed, "gone").await?;
    assert_eq!(order(&killed, "kill").await?, 409, "it is gone");
    assert_eq!(order(&killed, "start").await?, 204);
    // Where it is asked is where it was at the start.
    shows(&fleet, &killed, "up").await?;

    assert_eq!(order(&drained, "drain").await?, 204);
    // While it is leaving: it is started when it has left.
    assert_eq!(order(&drained, "start").await?, 204);
    shows(&fleet, &drained, "up").await?;
    // Neither of them has noticed.
    exchange(&mut alice, &mut bob, "still here").await?;
    // Whoever publishes hears it, too.
    alice.publication("chat:lobby").await?;
    exchange(&mut bob, &mut alice, "so am I").await?;

    for nobody in ["gateway", "nats", "worker-4"] {
        assert_eq!(order(nobody, "kill").await?, 404, "{nobody}");
    }
    fleet.client(&fleet.token()?).await?;
    Ok(())
}

#[tokio::test]
async fn no_process_outlives_a_killed_launcher() -> Result<()> {
    let runtime = runtime()?;
    let mut fleet = start(runtime.path()).await?;
    let before = processes_of(runtime.path())?;
    // The launcher, three workers, the gateway, nats-server and who watches over it.
    ensure!(before.len() == 7, "{before:?}");
    fleet.kill().await?;
    fleet.leaves_no_process().await
}
