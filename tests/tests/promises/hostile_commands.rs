//! Commands that are right one by one, and far too many: they cost whoever sends them, and nobody else.

use anyhow::{Context, Result, ensure};
use flotilla_shared::protocol::Format::{Json, Protobuf};
use flotilla_shared::protocol::types::{
    Command, Request, RpcRequest, SubscribeRequest, SubscribeResult, UnsubscribeRequest,
};
use flotilla_tests::SOON;
use flotilla_tests::client::subscribe;
use flotilla_tests::eventually::eventually;
use flotilla_tests::fleet::Fleet;
use flotilla_tests::token;
use toml::{Table, Value};

/// Most channels of a client; the worker's default.
const CHANNELS: usize = 128;

/// Commands in one message, which stays below the limit of its size.
const BATCH: u32 = 500;

#[tokio::test]
async fn ten_thousand_subscribes_are_answered_and_leave_nothing_behind() -> Result<()> {
    let fleet = Fleet::builder().start().await?;
    let worker = &fleet.workers[0];
    let mut bystander = fleet.user("bystander", Json).await?;
    bystander.subscribe("room").await?;
    let mut greedy = fleet.user("greedy", Protobuf).await?;
    let count = 10_000;
    for first in (0..count).step_by(BATCH as usize) {
        let batch = (first..first + BATCH).map(|number| Command {
            id: 100 + number,
            ..subscribe(&format!("channel-{number}"))
        });
        greedy.send(&batch.collect::<Vec<_>>()).await?;
        bystander.publish("room", "1").await?;
        bystander.publication("room").await?;
    }
    let mut taken = 0;
    for number in 0..count {
        match greedy.reply(100 + number).await?.error {
            None => taken += 1,
            Some(error) => assert_eq!(error.code, 106),
        }
    }
    assert_eq!(taken, CHANNELS);
    let channels =
        |left: usize| worker.metric_becomes("flotilla_worker_channels", &[], left as f64);
    channels(CHANNELS + 1).await?;
    greedy.close().await?;
    channels(1).await
}

#[tokio::test]
async fn commands_with_one_id_are_answered_one_by_one() -> Result<()> {
    let fleet = Fleet::builder().start().await?;
    let mut client = fleet.user("ada", Json).await?;
    for id in [7, u32::MAX] {
        let rpc = || Command::new(id, Request::Rpc(RpcRequest::default()));
        client.send(&[rpc(), rpc(), rpc()]).await?;
        for _ in 0..3 {
            let error = client.reply(id).await?.error;
            assert_eq!(error.context("an error")?.code, 108);
        }
    }
    Ok(())
}

/// What a channel keeps: publications, and bytes of each. Little enough for a worker to know it without asking.
const KEPT: (usize, usize) = (10, 5_000);

/// Messages of a client that reads nothing.
const MESSAGES: usize = 4;

#[tokio::test]
async fn answers_do_not_pile_up_for_a_client_that_reads_none() -> Result<()> {
    let fleet = keeping().await?;
    let worker = &fleet.workers[0];
    let mut bystander = fleet.user("bystander", Json).await?;
    let start = bystander.subscribe("kept:a").await?;
    for _ in 0..KEPT.0 {
        let payload = format!("\"{}\"", "x".repeat(KEPT.1));
        bystander.publish("kept:a", payload).await?;
        bystander.publication("kept:a").await?;
    }

    let dial = fleet.dial().small_receive_buffer();
    let mut deaf = dial.connect(&token::user("deaf")?).await?;
    let commands = recoveries(&start);
    let resident = async || {
        let scrape = worker.scrape().await?;
        scrape.sum("process_resident_memory_bytes", &[])
    };
    let before = resident().await?;
    for _ in 0..MESSAGES {
        deaf.send(&commands).await?;
    }
    eventually("answers are waiting", SOON, async || {
        let scrape = worker.scrape().await?;
        let waiting = scrape.sum("flotilla_worker_send_queue_bytes", &[])?;
        ensure!(waiting > 0.0, "{waiting} bytes are waiting");
        Ok(())
    })
    .await?;
    bystander.subscribe("room").await?;
    for _ in 0..20 {
        bystander.publish("room", "1").await?;
        bystander.publication("room").await?;
    }
    let grown = resident().await? - before;
    let count = MESSAGES * commands.len();
    let answers = (KEPT.0 * KEPT.1 * count / 2) as f64;
    assert!(
        grown < answers / 4.0,
        "{grown} bytes for answers of {answers}"
    );

    // Who begins to read after all has lost nothing.
    for number in 0..count {
        let reply = deaf.reply(9).await?;
        ensure!(reply.error.is_none(), "{number}: {reply:?}");
    }
    Ok(())
}

/// A fleet of one worker, whose channels keep a lot.
async fn keeping() -> Result<Fleet> {
    let mut namespace = Table::new();
    for (key, value) in [
        ("name", Value::from("kept")),
        ("history_size", (KEPT.0 as i64).into()),
        ("history_ttl", "5m".into()),
        ("force_recovery", true.into()),
        ("allow_subscribe_for_client", true.into()),
        ("allow_publish_for_client", true.into()),
    ] {
        namespace.insert(key.to_owned(), value);
    }
    let fleet = Fleet::builder().in_memory().listed();
    // One shard, so that what others in the channel have heard is known where it is asked for.
    let fleet = fleet.worker("shards", 1);
    let namespaces = vec![Value::from(namespace)];
    fleet.worker("channel.namespaces", namespaces).start().await
}

/// As many commands as a message takes, every other of which asks for all that the channel keeps.
fn recoveries(start: &SubscribeResult) -> Vec<Command> {
    let everything = SubscribeRequest {
        channel: "kept:a".to_owned(),
        recover: true,
        epoch: start.epoch.clone(),
        offset: start.offset,
        ..SubscribeRequest::default()
    };
    let leave = UnsubscribeRequest {
        channel: "kept:a".to_owned(),
    };
    let pair = [
        Command::new(9, Request::Subscribe(everything)),
        Command::new(9, Request::Unsubscribe(leave)),
    ];
    let pairs = std::iter::repeat_n(pair, BATCH as usize / 2);
    pairs.flatten().collect()
}
