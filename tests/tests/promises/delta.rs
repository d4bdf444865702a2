//! Who asks for deltas gets them, each against what it has, and all others get what was published.

use anyhow::{Context, Result, ensure};
use flotilla_shared::delta::fossil_delta;
use flotilla_shared::protocol::Format::{self, Json, Protobuf};
use flotilla_shared::protocol::types::{
    Command, Publication, Request, SubscribeRequest, SubscribeResult,
};
use flotilla_tests::client::Client;
use flotilla_tests::fleet::Fleet;
use toml::{Table, Value};

/// More than is kept, and more than a worker remembers by itself of a channel that somebody listens to.
const TOO_MANY: u32 = 100;

async fn fleet() -> Result<Fleet> {
    let mut namespace = Table::new();
    for (key, value) in [
        ("name", Value::from("docs")),
        ("history_size", 10.into()),
        ("history_ttl", "5m".into()),
        ("force_recovery", true.into()),
        ("allowed_delta_types", vec!["fossil"].into()),
        ("delta_publish", true.into()),
        ("allow_subscribe_for_client", true.into()),
        ("allow_publish_for_client", true.into()),
    ] {
        namespace.insert(key.to_owned(), value);
    }
    Fleet::builder()
        .in_memory()
        .listed()
        .worker("shards", 2)
        .worker("channel.namespaces", vec![Value::from(namespace)])
        .start()
        .await
}

fn document(version: u32) -> String {
    format!(r#"{{"text":"Où est le café? It stays where it is.","version":{version}}}"#)
}

/// Subscribes with deltas, from a position if there is one.
async fn subscribe(
    client: &mut Client,
    channel: &str,
    since: Option<&SubscribeResult>,
) -> Result<SubscribeResult> {
    let request = SubscribeRequest {
        channel: channel.to_owned(),
        delta: "fossil".to_owned(),
        recover: since.is_some(),
        epoch: since.map(|since| since.epoch.clone()).unwrap_or_default(),
        offset: since.map(|since| since.offset).unwrap_or_default(),
        ..SubscribeRequest::default()
    };
    let command = Command::new(0, Request::Subscribe(request));
    let result = client.call(command).await?.subscribe;
    let result = result.context("a subscribe result")?;
    ensure!(result.delta, "{result:?}");
    Ok(result)
}

/// Checks that a publication is a version of the document: whole, or as a delta against the version `base`.
fn check(format: Format, publication: &Publication, version: u32, base: Option<u32>) -> Result<()> {
    let data = match format {
        Json => serde_json::from_slice::<String>(&publication.data)?.into_bytes(),
        Protobuf => publication.data.to_vec(),
    };
    let target = document(version);
    let expected = base.map_or(target.clone().into_bytes(), |base| {
        fossil_delta(document(base).as_bytes(), target.as_bytes())
    });
    ensure!(
        publication.delta == base.is_some() && data == expected,
        "{version} of {base:?}: {publication:?}"
    );
    Ok(())
}

#[tokio::test]
async fn deltas_follow_a_whole_publication_live_and_after_a_recovery() -> Result<()> {
    let fleet = fleet().await?;
    for format in [Json, Protobuf] {
        let channel = format!("docs:{format:?}");
        let mut publisher = fleet.user("publisher", Json).await?;
        let mut plain = fleet.user("plain", format).await?;
        plain.subscribe(&channel).await?;
        let mut reader = fleet.user("reader", format).await?;
        let mut position = subscribe(&mut reader, &channel, None).await?;
        for version in 1..=3 {
            publisher.publish(&channel, document(version)).await?;
            let publication = reader.publication(&channel).await?;
            let base = (version > 1).then(|| version - 1);
            check(format, &publication, version, base)?;
            position.offset = publication.offset;
        }
        reader.close().await?;
        for version in 4..=6 {
            publisher.publish(&channel, document(version)).await?;
        }

        let mut back = fleet.user("reader", format).await?;
        let result = subscribe(&mut back, &channel, Some(&position)).await?;
        ensure!(
            result.recovered && result.publications.len() == 3,
            "{result:?}"
        );
        for (version, publication) in (4..).zip(&result.publications) {
            let base = (version > 4).then(|| version - 1);
            check(format, publication, version, base)?;
        }
        publisher.publish(&channel, document(7)).await?;
        check(format, &back.publication(&channel).await?, 7, Some(6))?;
        for version in 1..=7 {
            let publication = plain.publication(&channel).await?;
            ensure!(publication.data == document(version) && !publication.delta);
        }
    }
    Ok(())
}

#[tokio::test]
async fn whose_base_is_no_longer_kept_begins_anew_with_a_whole_publication() -> Result<()> {
    let fleet = fleet().await?;
    let mut publisher = fleet.user("publisher", Json).await?;
    let mut reader = fleet.user("reader", Json).await?;
    let mut position = subscribe(&mut reader, "docs:1", None).await?;
    publisher.publish("docs:1", document(1)).await?;
    position.offset = reader.publication("docs:1").await?.offset;
    reader.close().await?;
    for version in 2..=TOO_MANY {
        publisher.publish("docs:1", document(version)).await?;
    }
    let mut back = fleet.user("reader", Json).await?;
    let result = subscribe(&mut back, "docs:1", Some(&position)).await?;
    ensure!(
        result.was_recovering && !result.recovered && result.publications.is_empty(),
        "{result:?}"
    );
    for (version, base) in [(201, None), (202, Some(201))] {
        publisher.publish("docs:1", document(version)).await?;
        check(Json, &back.publication("docs:1").await?, version, base)?;
    }
    Ok(())
}
