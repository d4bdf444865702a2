//! Any Unicode text is a channel of its own, whatever it means to the system underneath.

use anyhow::Result;
use flotilla_shared::protocol::Format::{Json, Protobuf};
use flotilla_tests::client::{publish, subscribe};
use flotilla_tests::fleet::Fleet;

/// Names that a careless mapping would confuse, refuse or take for wildcards.
const NAMES: [&str; 24] = [
    "a",
    "A",
    "a.b",
    "a.b.c",
    "a..b",
    ".",
    "..",
    ".a",
    "a.",
    "*",
    "a.*",
    ">",
    "a.>",
    " ",
    "a b",
    "a\tb",
    "a\r\nPUB a 1\r\nx",
    "a\0b",
    "%2e",
    "a%2Eb",
    "a_b",
    "naïve",
    "nai\u{308}ve",
    "船隊🚢",
];

#[tokio::test]
async fn every_name_is_a_channel_of_its_own() -> Result<()> {
    let fleet = Fleet::builder().workers(2).start().await?;
    let mut clients = fleet.spread(&[Json, Protobuf]).await?;
    let [publisher, subscriber] = &mut clients[..] else {
        panic!("two clients")
    };
    for name in NAMES {
        subscriber.subscribe(name).await?;
    }
    for (number, name) in NAMES.iter().enumerate() {
        publisher.publish(name, number.to_string()).await?;
    }
    for (number, name) in NAMES.iter().enumerate() {
        assert_eq!(
            subscriber.publication(name).await?.data,
            number.to_string(),
            "{name:?}"
        );
    }
    // Had a message gone to two channels, the second round would meet it first.
    for name in NAMES {
        publisher.publish(name, "\"again\"").await?;
    }
    for name in NAMES {
        assert_eq!(
            subscriber.publication(name).await?.data,
            "\"again\"",
            "{name:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn the_longest_name_works_and_a_longer_one_is_refused() -> Result<()> {
    let fleet = Fleet::builder().workers(2).start().await?;
    let mut clients = fleet.spread(&[Json, Protobuf]).await?;
    let [publisher, subscriber] = &mut clients[..] else {
        panic!("two clients")
    };
    // Every byte of it needs encoding.
    let longest = "*".repeat(255);
    subscriber.subscribe(&longest).await?;
    publisher.publish(&longest, "1").await?;
    assert_eq!(subscriber.publication(&longest).await?.data, "1");

    let longer = "*".repeat(256);
    assert_eq!(subscriber.refusal(subscribe(&longer)).await?.code, 107);
    assert_eq!(publisher.refusal(publish(&longer, "1")).await?.code, 107);
    Ok(())
}

#[tokio::test]
async fn an_empty_name_ends_the_connection() -> Result<()> {
    let fleet = Fleet::builder().start().await?;
    for command in [subscribe(""), publish("", "1")] {
        for format in [Json, Protobuf] {
            let mut client = fleet.user("ada", format).await?;
            let mut command = command.clone();
            command.id = 7;
            client.send(&[command]).await?;
            assert_eq!(client.closed().await?.code, 3501);
        }
    }
    Ok(())
}
