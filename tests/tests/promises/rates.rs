//! A client that is faster than it may be is slowed down or refused; others do not notice.

use std::time::{Duration, Instant};

use anyhow::Result;
use flotilla_shared::protocol::Format::Json;
use flotilla_tests::client::publish;
use flotilla_tests::fleet::Fleet;

#[tokio::test]
async fn a_client_that_sends_too_much_is_read_more_slowly_and_loses_nothing() -> Result<()> {
    let fleet = Fleet::builder()
        .worker("client.channel_limit", 1)
        .worker("client.rate_limits.messages.per_second", 20)
        .start()
        .await?;
    let mut fast = fleet.user("fast", Json).await?;
    let mut other = fleet.user("other", Json).await?;
    fast.subscribe("fast").await?;
    other.subscribe("other").await?;
    let (began, count) = (Instant::now(), 60);
    for number in 0..count {
        let mut command = publish("fast", number.to_string());
        command.id = 100 + number;
        fast.send(&[command]).await?;
    }
    // All of it is on its way; the worker goes on serving the other one.
    other.publish("other", "1").await?;
    other.publication("other").await?;
    let texts = fast.texts("fast", count as usize).await?;
    assert!((0..count).map(|number| number.to_string()).eq(texts));
    // 20 of them at once, the others one after the other.
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(1_900), "{took:?}");
    let labels = ["scope=\"connection\"", "limit=\"messages\""];
    let metrics = fleet.workers[0].scrape().await?;
    assert!(metrics.sum("flotilla_worker_rate_limited_total", &labels)? >= 30.0);
    Ok(())
}
