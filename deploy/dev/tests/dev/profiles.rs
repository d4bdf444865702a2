//! What the built-in configurations promise to client suites that others wrote, as such a suite would see it.

use anyhow::{Context, Result, ensure};
use flotilla_shared::protocol::types::{
    Command, HistoryRequest, PresenceRequest, Reply, Request, SubscribeRequest, SubscribeResult,
};
use flotilla_tests::client::{Client, publish, subscribe};
use flotilla_tests::token;
use serde_json::{Value, json};

use crate::launcher::{Launcher, runtime};

/// What both profiles are known to sign with.
const SECRET: &str = "secret";

/// Not in the past while this is run.
const EXPIRES: u64 = 4_102_444_800;

/// Longer than what makes a delta of it not worth while.
const FILLER: usize = 500;

/// A fleet of three workers on a free port. The directory has to outlive it.
async fn start(profile: &str) -> Result<(tempfile::TempDir, Launcher)> {
    let runtime = runtime()?;
    let arguments = ["dev", "--profile", profile, "--port", "0"];
    let fleet = Launcher::start(runtime.path(), &arguments).await?;
    Ok((runtime, fleet))
}

fn signed(claims: &Value) -> Result<String> {
    token::sign(SECRET, claims)
}

fn connection_token(user: &str) -> Result<String> {
    signed(&json!({"sub": user, "exp": EXPIRES}))
}

fn with_token(channel: &str, user: &str) -> Result<Command> {
    let token = signed(&json!({"sub": user, "channel": channel, "exp": EXPIRES}))?;
    let request = SubscribeRequest {
        channel: channel.to_owned(),
        token,
        ..SubscribeRequest::default()
    };
    Ok(Command::new(0, Request::Subscribe(request)))
}

fn history(channel: &str) -> Command {
    let request = HistoryRequest {
        channel: channel.to_owned(),
        limit: -1,
        ..HistoryRequest::default()
    };
    Command::new(0, Request::History(request))
}

fn presence(channel: &str) -> Command {
    let channel = channel.to_owned();
    Command::new(0, Request::Presence(PresenceRequest { channel }))
}

fn subscribed(reply: Reply) -> Result<SubscribeResult> {
    reply.subscribe.context("a subscribe result")
}

/// A channel that this client may use remembers so many publications, and recovers them without being asked to.
async fn remembers(client: &mut Client, channel: &str, size: usize) -> Result<()> {
    let before = client.subscribe(channel).await?;
    ensure!(
        before.recoverable && before.positioned,
        "{channel}: {before:?}"
    );
    for number in 0..=size {
        client.publish(channel, number.to_string()).await?;
    }
    let kept = client.call(history(channel)).await?;
    let kept = kept.history.context("a history")?.publications;
    ensure!(kept.len() == size, "{channel} keeps {}", kept.len());

    client.unsubscribe(channel).await?;
    for (behind, recovers) in [(size, true), (size + 1, false)] {
        let end = before.offset + size as u64 + 1;
        let request = SubscribeRequest {
            channel: channel.to_owned(),
            recover: true,
            epoch: before.epoch.clone(),
            offset: end - behind as u64,
            ..SubscribeRequest::default()
        };
        let command = Command::new(0, Request::Subscribe(request));
        let result = subscribed(client.call(command).await?)?;
        ensure!(
            result.recovered == recovers,
            "{channel}, {behind} behind: {result:?}"
        );
        client.unsubscribe(channel).await?;
    }
    Ok(())
}

/// Others hear of who comes and goes, and see who is there, without asking for it.
async fn shows_who_is_there(one: &mut Client, other: &mut Client, channel: &str) -> Result<()> {
    one.subscribe(channel).await?;
    other.subscribe(channel).await?;
    let id = other.session().client.clone();
    let is_other = |info: Option<&flotilla_shared::protocol::types::ClientInfo>| {
        info.is_some_and(|info| info.client == id)
    };
    one.push(channel, |push| {
        push.join
            .as_ref()
            .is_some_and(|join| is_other(join.info.as_ref()))
    })
    .await?;
    let there = one.call(presence(channel)).await?;
    let there = there.presence.context("a presence")?.presence;
    ensure!(there.len() == 2 && there.contains_key(&id), "{there:?}");
    other.unsubscribe(channel).await?;
    one.push(channel, |push| {
        push.leave
            .as_ref()
            .is_some_and(|leave| is_other(leave.info.as_ref()))
    })
    .await?;
    one.unsubscribe(channel).await
}

/// Who asks for deltas gets them, whoever publishes.
async fn sends_deltas(client: &mut Client, channel: &str) -> Result<()> {
    let request = SubscribeRequest {
        channel: channel.to_owned(),
        delta: "fossil".to_owned(),
        ..SubscribeRequest::default()
    };
    let command = Command::new(0, Request::Subscribe(request));
    let result = subscribed(client.call(command).await?)?;
    ensure!(result.delta, "{channel}: {result:?}");
    for number in 0..3 {
        let data = json!({"number": number, "filler": "x".repeat(FILLER)});
        client.publish(channel, data.to_string()).await?;
        let received = client.publication(channel).await?;
        ensure!(received.delta == (number > 0), "{channel}: {received:?}");
        ensure!(
            (received.data.len() < FILLER) == received.delta,
            "{channel}: {received:?}"
        );
    }
    client.unsubscribe(channel).await
}

#[tokio::test]
async fn the_profile_tokens_wants_tokens_signed_with_its_secret() -> Result<()> {
    let (_directory, fleet) = start("tokens").await?;
    let claims = json!({"sub": "ann", "exp": EXPIRES});
    for wrong in [
        String::new(),
        token::sign("another", &claims)?,
        token::unsigned(&claims),
    ] {
        ensure!(fleet.client(&wrong).await.is_err(), "{wrong:?} is no token");
    }
    let mut ann = fleet.client(&signed(&claims)?).await?;
    ann.call(with_token("$private", "ann")?).await?;
    let refused = ann.refusal(subscribe("$other")).await?;
    ensure!(refused.code == 103, "{refused:?}");
    let refused = ann.refusal(subscribe("nowhere:1")).await?;
    ensure!(refused.code == 102, "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn the_profile_tokens_gives_everyone_a_personal_channel() -> Result<()> {
    let (_directory, fleet) = start("tokens").await?;
    let mut ann = fleet.client(&connection_token("ann")?).await?;
    let channels: Vec<_> = ann.session().subs.keys().cloned().collect();
    ensure!(channels == ["#ann"], "{channels:?}");
    fleet.publish("#ann", "1").await?;
    ensure!(ann.publication("#ann").await?.data == "1");
    Ok(())
}

#[tokio::test]
async fn the_channels_of_the_profile_tokens_remember_show_and_compress() -> Result<()> {
    let (_directory, fleet) = start("tokens").await?;
    let token = connection_token("ann")?;
    let (mut one, mut other) = fleet.two_clients(&token).await?;
    for (channel, size) in [("a", 100), ("example:a", 100), ("smallhistory:a", 2)] {
        // Reading and writing are for subscribers.
        for command in [publish(channel, "1"), history(channel), presence(channel)] {
            let refused = one.refusal(command).await?;
            ensure!(refused.code == 103, "{channel}: {refused:?}");
        }
        shows_who_is_there(&mut one, &mut other, channel).await?;
        sends_deltas(&mut one, channel).await?;
        remembers(&mut one, channel, size).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_profile_insecure_allows_everything_without_tokens() -> Result<()> {
    let (_directory, fleet) = start("insecure").await?;
    let (mut one, mut other) = fleet.two_clients("").await?;
    for command in [
        publish("whatever", "1"),
        history("whatever"),
        presence("whatever"),
    ] {
        one.call(command).await?;
    }
    // A name can reserve a channel for those with a token for it, or for its user: that is not for options to change.
    for channel in ["$private", "#ann"] {
        let refused = one.refusal(subscribe(channel)).await?;
        ensure!(refused.code == 103, "{channel}: {refused:?}");
    }
    for (channel, size) in [
        ("a", 100),
        ("delta:a", 100),
        ("recovery:a", 100),
        ("smallhistory:a", 2),
    ] {
        shows_who_is_there(&mut one, &mut other, channel).await?;
        sends_deltas(&mut one, channel).await?;
        remembers(&mut one, channel, size).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_profile_insecure_verifies_tokens_that_are_sent() -> Result<()> {
    let (_directory, fleet) = start("insecure").await?;
    let claims = json!({"sub": "ann", "exp": EXPIRES});
    let wrong = token::sign("another", &claims)?;
    ensure!(fleet.client(&wrong).await.is_err(), "a token of nobody's");
    let mut ann = fleet.client(&connection_token("ann")?).await?;
    ann.call(with_token("$private", "ann")?).await?;
    let request = SubscribeRequest {
        channel: "$other".to_owned(),
        token: wrong,
        ..SubscribeRequest::default()
    };
    let refused = ann
        .refusal(Command::new(0, Request::Subscribe(request)))
        .await?;
    ensure!(refused.code == 103, "{refused:?}");
    ann.publish("whatever", "1").await?;
    let kept = ann
        .call(history("whatever"))
        .await?
        .history
        .context("a history")?;
    let publisher = kept.publications[0].info.as_ref().context("a publisher")?;
    ensure!(publisher.user == "ann", "{publisher:?}");
    Ok(())
}
