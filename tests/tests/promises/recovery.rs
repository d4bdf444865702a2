//! In a channel with history nobody misses anything unnoticed: who was away gets what was published meanwhile, or is
//! told that this is not possible.

use anyhow::{Context, Result, ensure};
use flotilla_shared::protocol::Format::{self, Json, Protobuf};
use flotilla_shared::protocol::types::{
    Command, HistoryRequest, Publication, Request, SubscribeRequest, SubscribeResult,
};
use flotilla_tests::client::{Client, Dial};
use flotilla_tests::fleet::{Builder, Fleet};
use flotilla_tests::token;
use serde_json::json;
use toml::{Table, Value};

use crate::server_api::{KEY, call};

/// What is kept of each channel.
const KEPT: i64 = 20;

/// More than is kept, though a worker remembers as many by itself of a channel that somebody listens to.
const TOO_MANY: u64 = KEPT as u64 + 1;

/// One worker with several shards, and history in memory.
async fn fleet() -> Result<Fleet> {
    builder().start().await
}

fn builder() -> Builder {
    let mut namespace = Table::new();
    for (key, value) in [
        ("name", Value::from("kept")),
        ("history_size", KEPT.into()),
        ("history_ttl", "5m".into()),
        ("force_recovery", true.into()),
        ("join_leave", true.into()),
        ("force_push_join_leave", true.into()),
        ("allow_subscribe_for_client", true.into()),
        ("allow_publish_for_client", true.into()),
        ("allow_history_for_subscriber", true.into()),
    ] {
        namespace.insert(key.to_owned(), value);
    }
    Fleet::builder()
        .workers(1)
        .gateways(0)
        .worker("shards", 3)
        .worker("http_api.listen", "127.0.0.1:0")
        .worker("http_api.key", KEY)
        .in_memory()
        .worker("channel.namespaces", vec![Value::from(namespace)])
}

async fn user(fleet: &Fleet, name: &str, format: Format) -> Result<Client> {
    let worker = fleet.workers.first().context("a worker")?;
    Dial::to(worker.url())
        .format(format)
        .connect(&token::user(name)?)
        .await
}

async fn recover(
    client: &mut Client,
    channel: &str,
    since: &SubscribeResult,
) -> Result<SubscribeResult> {
    let request = SubscribeRequest {
        channel: channel.to_owned(),
        recover: true,
        epoch: since.epoch.clone(),
        offset: since.offset,
        ..SubscribeRequest::default()
    };
    let reply = client
        .call(Command::new(0, Request::Subscribe(request)))
        .await?;
    reply.subscribe.context("a subscribe result")
}

fn texts(publications: &[Publication]) -> Vec<String> {
    publications
        .iter()
        .map(|publication| String::from_utf8_lossy(&publication.data).into_owned())
        .collect()
}

#[tokio::test]
async fn who_was_away_gets_what_was_published_meanwhile_and_then_what_follows() -> Result<()> {
    let fleet = fleet().await?;
    let mut publisher = user(&fleet, "publisher", Json).await?;
    for format in [Json, Protobuf] {
        let channel = format!("kept:{format:?}");
        let mut reader = user(&fleet, "reader", format).await?;
        let before = reader.subscribe(&channel).await?;
        ensure!(before.recoverable && before.positioned, "{before:?}");
        publisher.publish(&channel, "0").await?;
        ensure!(reader.publication(&channel).await?.offset == before.offset + 1);
        reader.close().await?;
        for number in 1..=10 {
            publisher.publish(&channel, number.to_string()).await?;
        }
        // Which shard takes the client is the system's choice: each has to know.
        for _ in 0..6 {
            let mut back = user(&fleet, "reader", format).await?;
            let result = recover(&mut back, &channel, &before).await?;
            let expected: Vec<_> = (0..=10).map(|number| number.to_string()).collect();
            ensure!(result.recovered && result.was_recovering, "{result:?}");
            ensure!(texts(&result.publications) == expected, "{result:?}");
            back.close().await?;
        }
        let mut back = user(&fleet, "reader", format).await?;
        recover(&mut back, &channel, &before).await?;
        publisher.publish(&channel, "\"next\"").await?;
        let next = back.publication(&channel).await?;
        ensure!(next.data == "\"next\"" && next.offset == before.offset + 12);
    }
    Ok(())
}

#[tokio::test]
async fn nothing_is_missed_or_doubled_whatever_is_published_while_clients_come_back() -> Result<()>
{
    let fleet = fleet().await?;
    let mut first = user(&fleet, "reader", Json).await?;
    let start = first.subscribe("kept:busy").await?;
    let mut publisher = user(&fleet, "publisher", Json).await?;
    let publishing = tokio::spawn(async move {
        for number in 0..KEPT {
            publisher.publish("kept:busy", number.to_string()).await?;
        }
        anyhow::Ok(publisher)
    });
    let mut readers = Vec::new();
    for at in 0..20 {
        let format = if at % 2 == 0 { Json } else { Protobuf };
        let mut reader = user(&fleet, &format!("reader-{at}"), format).await?;
        let result = recover(&mut reader, "kept:busy", &start).await?;
        ensure!(result.recovered, "{result:?}");
        readers.push((reader, texts(&result.publications)));
    }
    let _publisher = publishing.await??;
    let expected: Vec<_> = (0..KEPT).map(|number| number.to_string()).collect();
    for (mut reader, mut record) in readers {
        while record.len() < expected.len() {
            record.extend(texts(&[reader.publication("kept:busy").await?]));
        }
        ensure!(record == expected, "{record:?}");
    }
    Ok(())
}

#[tokio::test]
async fn who_was_away_for_too_long_is_told_so() -> Result<()> {
    let fleet = fleet().await?;
    let mut publisher = user(&fleet, "publisher", Json).await?;
    let mut reader = user(&fleet, "reader", Json).await?;
    let before = reader.subscribe("kept:1").await?;
    for number in 0..TOO_MANY {
        publisher.publish("kept:1", number.to_string()).await?;
    }
    let mut back = user(&fleet, "reader", Json).await?;
    let result = recover(&mut back, "kept:1", &before).await?;
    ensure!(result.was_recovering && !result.recovered, "{result:?}");
    ensure!(result.publications.is_empty(), "{result:?}");
    // It may begin a little before the end, which the broker is still delivering; from there on it gets everything.
    publisher.publish("kept:1", "\"next\"").await?;
    for offset in result.offset + 1..=before.offset + TOO_MANY + 1 {
        ensure!(back.publication("kept:1").await?.offset == offset);
    }
    let other = SubscribeResult {
        epoch: "1".to_owned(),
        ..result
    };
    let mut third = user(&fleet, "reader", Json).await?;
    ensure!(!recover(&mut third, "kept:1", &other).await?.recovered);
    Ok(())
}

#[tokio::test]
async fn what_the_back_end_removed_is_given_to_nobody() -> Result<()> {
    let fleet = fleet().await?;
    // In most shards somebody listens, so that they remember what was published.
    let mut readers = Vec::new();
    for _ in 0..6 {
        let mut reader = user(&fleet, "reader", Json).await?;
        readers.push((reader.subscribe("kept:1").await?, reader));
    }
    let start = readers[0].0.clone();
    let mut publisher = user(&fleet, "publisher", Json).await?;
    for number in 1..=3 {
        publisher.publish("kept:1", number.to_string()).await?;
    }
    let worker = fleet.workers.first().context("a worker")?;
    let api = worker.addresses().api.as_deref().context("an API")?;
    let body = json!({"channel": "kept:1"});
    let (status, answer) = call(api, "history_remove", &[("X-API-Key", KEY)], &body).await?;
    ensure!(status == 200 && answer == r#"{"result":{}}"#, "{answer}");
    // Whoever has this has passed the removal.
    publisher.publish("kept:1", "4").await?;
    for (_, reader) in &mut readers {
        while reader.publication("kept:1").await?.data != "4" {}
    }
    let removed = SubscribeResult {
        offset: 3,
        ..start.clone()
    };
    for _ in 0..6 {
        let mut back = user(&fleet, "reader", Json).await?;
        let result = recover(&mut back, "kept:1", &start).await?;
        ensure!(
            !result.recovered && result.publications.is_empty(),
            "{result:?}"
        );
        back.close().await?;
        let mut back = user(&fleet, "reader", Json).await?;
        let result = recover(&mut back, "kept:1", &removed).await?;
        ensure!(
            result.recovered && texts(&result.publications) == ["4"],
            "{result:?}"
        );
        back.close().await?;
    }
    Ok(())
}

#[tokio::test]
async fn subscribers_read_back_what_was_published() -> Result<()> {
    let fleet = fleet().await?;
    let mut reader = user(&fleet, "reader", Protobuf).await?;
    reader.subscribe("kept:1").await?;
    for number in 0..5 {
        reader.publish("kept:1", number.to_string()).await?;
    }
    let request = HistoryRequest {
        channel: "kept:1".to_owned(),
        limit: 2,
        reverse: true,
        ..HistoryRequest::default()
    };
    let reply = reader
        .call(Command::new(0, Request::History(request)))
        .await?;
    let history = reply.history.context("a history result")?;
    ensure!(texts(&history.publications) == ["4", "3"] && history.offset == 5);
    Ok(())
}

#[tokio::test]
async fn a_token_s_channels_are_there_from_the_start_and_others_hear_of_it() -> Result<()> {
    let fleet = fleet().await?;
    let mut watcher = user(&fleet, "watcher", Json).await?;
    watcher.subscribe("kept:1").await?;
    let worker = fleet.workers.first().context("a worker")?;
    let claims = json!({"sub": "42", "channels": ["kept:1"]});
    let mut client = Dial::to(worker.url())
        .connect(&token::sign(token::SECRET, &claims)?)
        .await?;
    ensure!(client.session().subs.contains_key("kept:1"));
    let is_ours = |info: Option<&flotilla_shared::protocol::types::ClientInfo>| {
        info.is_some_and(|info| info.user == "42")
    };
    watcher
        .push("kept:1", |push| {
            push.join
                .as_ref()
                .is_some_and(|join| is_ours(join.info.as_ref()))
        })
        .await?;
    watcher.publish("kept:1", "1").await?;
    ensure!(client.publication("kept:1").await?.data == "1");
    client.close().await?;
    watcher
        .push("kept:1", |push| {
            push.leave
                .as_ref()
                .is_some_and(|leave| is_ours(leave.info.as_ref()))
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn who_has_missed_more_than_its_queue_holds_gets_it_all_the_same() -> Result<()> {
    const CHANNELS: usize = 30;
    const QUEUE_BYTES: i64 = 64 * 1024;
    let fleet = builder()
        .worker("client.queue_max_size", QUEUE_BYTES)
        .start()
        .await?;
    let mut publisher = user(&fleet, "publisher", Json).await?;
    let line = format!("\"{}\"", "x".repeat(4096));
    let mut commands = Vec::new();
    for number in 0..CHANNELS {
        let channel = format!("kept:{number}");
        let start = publisher.subscribe(&channel).await?;
        publisher.unsubscribe(&channel).await?;
        for _ in 0..KEPT {
            publisher.publish(&channel, line.clone()).await?;
        }
        let subscribe = SubscribeRequest {
            channel: channel.clone(),
            recover: true,
            epoch: start.epoch,
            offset: start.offset,
            ..SubscribeRequest::default()
        };
        commands.push(Command::new(10, Request::Subscribe(subscribe)));
        let history = HistoryRequest {
            channel,
            limit: -1,
            ..HistoryRequest::default()
        };
        commands.push(Command::new(11, Request::History(history)));
    }
    let worker = fleet.workers.first().context("a worker")?;
    for format in [Json, Protobuf] {
        let dial = Dial::to(worker.url()).format(format).small_receive_buffer();
        let mut back = dial.connect(&token::user("reader")?).await?;
        // All that an SDK asks for after a connect, in one frame, and nothing of it is read before it is all asked for.
        back.send(&commands).await?;
        for _ in 0..CHANNELS {
            let subscribed = back.reply(10).await?.subscribe.context("not subscribed")?;
            ensure!(subscribed.recovered, "{subscribed:?}");
            assert_eq!(subscribed.publications.len(), KEPT as usize);
        }
        for _ in 0..CHANNELS {
            let history = back.reply(11).await?.history.context("no history")?;
            assert_eq!(history.publications.len(), KEPT as usize);
        }
    }
    Ok(())
}
