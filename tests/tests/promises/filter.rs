//! Who subscribes with a tags filter gets what passes it, live and recovered, and knows where it stands all the same.

use anyhow::{Context, Result, ensure};
use flotilla_shared::protocol::Format::{Json, Protobuf};
use flotilla_shared::protocol::codes::ErrorCode;
use flotilla_shared::protocol::types::{
    Command, FilterNode, Publication, Request, SubscribeRequest, SubscribeResult,
};
use flotilla_tests::client::Client;
use flotilla_tests::fleet::Fleet;
use serde_json::json;
use toml::{Table, Value};

const KEY: &str = "the key of the back end";

const CHANNEL: &str = "prices:all";

async fn fleet() -> Result<Fleet> {
    let mut namespace = Table::new();
    for (key, value) in [
        ("name", Value::from("prices")),
        ("history_size", 20.into()),
        ("history_ttl", "5m".into()),
        ("force_recovery", true.into()),
        ("allow_tags_filter", true.into()),
        ("allow_subscribe_for_client", true.into()),
    ] {
        namespace.insert(key.to_owned(), value);
    }
    Fleet::builder()
        .in_memory()
        .listed()
        .worker("http_api.listen", "127.0.0.1:0")
        .worker("http_api.key", KEY)
        .worker("channel.namespaces", vec![Value::from(namespace)])
        .start()
        .await
}

/// Publishes a price, tagged with its symbol and itself.
async fn publish(fleet: &Fleet, symbol: &str, price: u32) -> Result<()> {
    let worker = fleet.workers.first().context("a worker")?;
    let api = worker.addresses().api.as_ref().context("an API")?;
    let body = json!({
        "channel": CHANNEL,
        "data": price,
        "tags": {"symbol": symbol, "price": price.to_string()},
    });
    let request = reqwest::Client::new().post(format!("http://{api}/api/publish"));
    let response = request.header("X-API-Key", KEY).json(&body).send().await?;
    let answer = response.text().await?;
    ensure!(answer.contains("offset"), "{answer}");
    Ok(())
}

/// Prices of the symbol A above 10.
fn filter() -> FilterNode {
    let leaf = |key: &str, cmp: &str, val: &str| FilterNode {
        key: key.to_owned(),
        cmp: cmp.to_owned(),
        val: val.to_owned(),
        ..FilterNode::default()
    };
    FilterNode {
        op: "and".to_owned(),
        nodes: vec![leaf("symbol", "eq", "A"), leaf("price", "gt", "10")],
        ..FilterNode::default()
    }
}

fn subscribe(channel: &str, filter: FilterNode, since: Option<(u64, &SubscribeResult)>) -> Command {
    let (offset, epoch) = since.map_or((0, String::new()), |(offset, first)| {
        (offset, first.epoch.clone())
    });
    let request = SubscribeRequest {
        channel: channel.to_owned(),
        tf: Some(Box::new(filter)),
        recover: since.is_some(),
        offset,
        epoch,
        ..SubscribeRequest::default()
    };
    Command::new(0, Request::Subscribe(request))
}

async fn subscribed(client: &mut Client, command: Command) -> Result<SubscribeResult> {
    let reply = client.call(command).await?;
    reply.subscribe.context("a subscribe result")
}

/// The data of publications.
fn prices<'a>(publications: impl IntoIterator<Item = &'a Publication>) -> Vec<String> {
    let publications = publications.into_iter();
    publications
        .map(|publication| String::from_utf8_lossy(&publication.data).into_owned())
        .collect()
}

#[tokio::test]
async fn only_what_passes_comes_and_nothing_of_it_is_missed() -> Result<()> {
    let fleet = fleet().await?;
    for format in [Json, Protobuf] {
        let mut all = fleet.user("all", format).await?;
        let start = all.subscribe(CHANNEL).await?;
        let mut reader = fleet.user("reader", format).await?;
        let first = subscribed(&mut reader, subscribe(CHANNEL, filter(), None)).await?;
        let sent = [("A", 5), ("A", 11), ("B", 12), ("A", 13), ("B", 14)];
        for (symbol, price) in sent {
            publish(&fleet, symbol, price).await?;
        }
        let came = [
            reader.publication(CHANNEL).await?,
            reader.publication(CHANNEL).await?,
        ];
        ensure!(prices(&came) == ["11", "13"], "{came:?}");
        ensure!(came[1].offset == start.offset + 4, "{came:?}");
        for (_, price) in sent {
            let publication = all.publication(CHANNEL).await?;
            ensure!(publication.data == price.to_string());
        }

        // From a position between what it got and what did not pass.
        reader.close().await?;
        publish(&fleet, "A", 15).await?;
        let since = Some((came[1].offset, &first));
        let mut back = fleet.user("reader", format).await?;
        let result = subscribed(&mut back, subscribe(CHANNEL, filter(), since)).await?;
        ensure!(
            result.recovered && prices(&result.publications) == ["15"],
            "{result:?}"
        );
        ensure!(result.publications[0].offset == start.offset + 6);
        back.close().await?;

        // Nothing was missed that passes: that is a recovery as well, up to the end.
        publish(&fleet, "B", 16).await?;
        let since = Some((start.offset + 6, &first));
        let mut back = fleet.user("reader", format).await?;
        let result = subscribed(&mut back, subscribe(CHANNEL, filter(), since)).await?;
        ensure!(
            result.recovered && result.publications.is_empty(),
            "{result:?}"
        );
        ensure!(result.offset == start.offset + 7, "{result:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_filter_is_refused_where_it_is_not_allowed_or_not_one() -> Result<()> {
    let fleet = fleet().await?;
    let mut client = fleet.user("reader", Json).await?;
    let nonsense = FilterNode {
        op: "xor".to_owned(),
        ..filter()
    };
    for command in [
        subscribe("elsewhere", filter(), None),
        subscribe(CHANNEL, nonsense, None),
    ] {
        let error = client.refusal(command).await?;
        ensure!(error.code == ErrorCode::BadRequest.code(), "{error:?}");
    }
    subscribed(&mut client, subscribe(CHANNEL, filter(), None)).await?;
    Ok(())
}
