//! Ends of connections.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use flotilla_shared::protocol::Format::{self, Json, Protobuf};
use flotilla_shared::protocol::codes::DisconnectCode;
use flotilla_shared::protocol::types::{Command, PresenceRequest, Request, SendRequest};
use flotilla_tests::client::{Client, Close, subscribe};
use flotilla_tests::fleet::Fleet;
use flotilla_tests::token::seconds_from_now;
use futures_util::future::try_join_all;
use nix::sys::signal::Signal::SIGTERM;
use serde_json::json;

use super::stage::{ERRORS, FEW, Stage, connect, token};
use super::{Seen, check};

/// Large enough to fill the kernel's buffers on the way in few messages.
const PAYLOAD_BYTES: usize = 48 * 1024;

#[tokio::test]
async fn every_end_of_a_connection_is_seen_by_a_client_or_never_comes() -> Result<()> {
    let stage = Stage::start().await?;
    for format in [Json, Protobuf] {
        try_join_all(DisconnectCode::ALL.iter().map(async |code| {
            let seen = close(&stage, *code, format).await;
            let expected = Close {
                code: code.code(),
                reason: code.text().to_owned(),
            };
            check(code, seen.with_context(|| code.to_string())?, &expected);
            anyhow::Ok(())
        }))
        .await?;
    }
    Ok(())
}

async fn close(stage: &Stage, code: DisconnectCode, format: Format) -> Result<Seen<Close>> {
    use DisconnectCode as Code;
    let user = format!("{}-{format:?}", code.label());
    let soon = seconds_from_now(Duration::from_secs(2));
    let mut client = match code {
        Code::ConnectionClosed => {
            return Ok(Seen::Never("who closes by himself is not told so"));
        }
        // Those that need a fleet of their own.
        Code::Shutdown => return leaving(format).await,
        Code::Internal => return waiting_for_the_broker(format).await,
        Code::WriteError => return taking_nothing(format).await,
        Code::NoPong => return silent(format).await,
        // Those without having connected.
        Code::Stale => stage.open(format).await?,
        Code::InvalidToken => presenting(stage, "nonsense", format).await?,
        Code::PermissionDenied => presenting(stage, &token("", json!({}))?, format).await?,
        Code::ChannelLimit => {
            let channels: Vec<String> = (0..=FEW).map(|number| number.to_string()).collect();
            presenting(stage, &token(&user, json!({"channels": channels}))?, format).await?
        }
        Code::ConnectionLimit => {
            let mut others = Vec::new();
            for _ in 0..FEW {
                others.push(stage.connect(&user, json!({}), format).await?);
            }
            let mut client = presenting(stage, &token(&user, json!({}))?, format).await?;
            let close = client.closed().await?;
            // Whoever was there stays, and leaves room.
            others[0].subscribe("a").await?;
            others.remove(1).close().await?;
            stage.connect(&user, json!({}), format).await?;
            return Ok(Seen::Said(close));
        }
        Code::ConnectionExpired => stage.connect(&user, json!({"exp": soon}), format).await?,
        Code::InsufficientState => {
            let channel = format!("short:server-{format:?}");
            let claims = json!({"channels": [channel]});
            let client = stage.connect(&user, claims, format).await?;
            stage.restart_numbering(&channel).await?;
            client
        }
        _ => stage.connect(&user, json!({}), format).await?,
    };
    provoke(stage, code, &user, &mut client).await?;
    Ok(Seen::Said(client.closed().await?))
}

/// Has a connection end that was just made.
async fn provoke(
    stage: &Stage,
    code: DisconnectCode,
    user: &str,
    client: &mut Client,
) -> Result<()> {
    use DisconnectCode as Code;
    let many = |command: &dyn Fn(u32) -> Command| -> Vec<Command> {
        (0..2 * ERRORS as u32)
            .map(|number| command(100 + number))
            .collect()
    };
    match code {
        Code::BadRequest => client.send(&[]).await?,
        Code::NotAvailable => {
            let send = Request::Send(SendRequest { data: "1".into() });
            client.send(&[Command::new(0, send)]).await?;
        }
        Code::TooManyErrors => {
            let wrong = |id| Command {
                id,
                ..subscribe("nowhere:1")
            };
            client.send(&many(&wrong)).await?;
        }
        Code::TooManyRequests => {
            let channel = || "a".to_owned();
            let fast = |id| {
                let request = PresenceRequest { channel: channel() };
                Command::new(id, Request::Presence(request))
            };
            client.send(&many(&fast)).await?;
        }
        Code::SubscriptionExpired => {
            let expire_at = seconds_from_now(Duration::from_secs(2));
            let body = json!({"user": user, "channel": "a", "expire_at": expire_at});
            stage.api("subscribe", &body).await?;
        }
        Code::ForceDisconnect => {
            stage.api("disconnect", &json!({"user": user})).await?;
        }
        // Only an application says these.
        Code::ForceReconnect | Code::StateInvalidated => {
            let said = json!({"code": code.code(), "reason": code.text()});
            stage
                .api("disconnect", &json!({"user": user, "disconnect": said}))
                .await?;
        }
        Code::InappropriateProtocol => {
            *client = stage
                .connect(&format!("{user}-text"), json!({}), Json)
                .await?;
            client.subscribe("binary:a").await?;
            let body = json!({"channel": "binary:a", "b64data": "/w=="});
            stage.api("publish", &body).await?;
        }
        Code::Slow => fill(stage, user, client, code).await?,
        _ => {}
    }
    Ok(())
}

/// A client that presents this token, whatever the answer.
async fn presenting(stage: &Stage, token: &str, format: Format) -> Result<Client> {
    let mut client = stage.open(format).await?;
    client.send(&[connect(token)]).await?;
    Ok(client)
}

/// Publishes to a client that does not read, until it is closed with this code.
async fn fill(stage: &Stage, user: &str, client: &mut Client, code: DisconnectCode) -> Result<()> {
    client.subscribe(user).await?;
    let before = stage.closed(code).await?;
    let body = json!({"channel": user, "data": "x".repeat(PAYLOAD_BYTES)});
    for _ in 0..2_000 {
        stage.api("publish", &body).await?;
        if stage.closed(code).await? > before {
            return Ok(());
        }
    }
    bail!("it takes everything")
}

/// A client of a worker that is told to stop.
async fn leaving(format: Format) -> Result<Seen<Close>> {
    let quick = Fleet::builder().worker("drain.settle", "100ms");
    let mut fleet = quick.worker("drain.window", "100ms").start().await?;
    let mut client = fleet.user("ada", format).await?;
    fleet.workers[0].process().signal(SIGTERM)?;
    Ok(Seen::Said(client.closed().await?))
}

/// A client whose channels do not come, because the broker says nothing.
async fn waiting_for_the_broker(format: Format) -> Result<Seen<Close>> {
    let patient = Fleet::builder().worker("client.stale_close_delay", "2s");
    let fleet = patient.linked().start().await?;
    let mut client = fleet.dial().format(format).open().await?;
    fleet.links[0].stall();
    let token = token("ada", json!({"channels": ["a"]}))?;
    client.send(&[connect(&token)]).await?;
    Ok(Seen::Said(client.closed().await?))
}

/// A client that reads nothing, though its queue has room for everything.
async fn taking_nothing(format: Format) -> Result<Seen<Close>> {
    let stage = Stage::of(|fleet| {
        let roomy = fleet.worker("client.queue_max_size", 256 * 1024 * 1024);
        roomy.worker("client.write_timeout", "300ms")
    });
    let stage = stage.await?;
    let mut client = stage.connect("ada", json!({}), format).await?;
    fill(&stage, "ada", &mut client, DisconnectCode::WriteError).await?;
    Ok(Seen::Said(client.closed().await?))
}

/// A client that does not answer pings.
async fn silent(format: Format) -> Result<Seen<Close>> {
    let impatient = Fleet::builder().worker("client.ping_interval", "600ms");
    let fleet = impatient
        .worker("client.pong_timeout", "300ms")
        .start()
        .await?;
    let mut client = fleet.user("ada", format).await?;
    // It answers only while it waits for something.
    let label = format!("code=\"{}\"", DisconnectCode::NoPong.code());
    let closed = "flotilla_worker_connections_closed_total";
    fleet.workers[0]
        .metric_becomes(closed, &[&label], 1.0)
        .await?;
    Ok(Seen::Said(client.closed().await?))
}
