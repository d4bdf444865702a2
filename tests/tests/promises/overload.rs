//! Who cannot be served is told to come again, and not left to wait.

use std::time::Duration;

use anyhow::Result;
use flotilla_shared::protocol::Format::Json;
use flotilla_tests::SOON;
use flotilla_tests::eventually::eventually;
use flotilla_tests::fleet::Fleet;
use flotilla_tests::raw::{Socket, upgrade_head};

/// What an upgrade at this address is answered; it must be 503, and say when to come again.
async fn must_come_again(address: &str) -> Result<()> {
    let answer = Socket::connect(address)
        .await?
        .exchange(&upgrade_head(address, &[]))
        .await?;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    let lower = answer.to_lowercase();
    let after = lower
        .lines()
        .find_map(|line| line.strip_prefix("retry-after: "));
    let after = after.unwrap_or_else(|| panic!("no Retry-After: {answer}"));
    assert!(Duration::from_secs(after.trim().parse()?) <= Duration::from_secs(60));
    Ok(())
}

#[tokio::test]
async fn without_a_worker_the_client_is_asked_to_come_again() -> Result<()> {
    let fleet = Fleet::builder().workers(0).start().await?;
    must_come_again(&fleet.gateways[0].addresses().websocket).await
}

#[tokio::test]
async fn without_a_worker_a_page_can_be_told_by_a_close_code() -> Result<()> {
    let fleet = Fleet::builder()
        .workers(0)
        .gateway("overload_response", "websocket");
    let close = fleet.start().await?.dial().open().await?.closed().await?;
    assert_eq!(close.code, 1013);
    assert!(
        !close.reason.is_empty(),
        "an SDK ignores a code without a reason"
    );
    Ok(())
}

#[tokio::test]
async fn when_one_worker_is_full_another_is_tried_until_all_are() -> Result<()> {
    // The gateway has only a list, so it learns that a worker is full by being refused.
    let fleet = Fleet::builder()
        .workers(3)
        .listed()
        .worker("connections_max", 1)
        .start()
        .await?;
    let mut clients = Vec::new();
    for _ in 0..3 {
        // One user: the sticky choice would always be the same worker.
        clients.push(fleet.user("ada", Json).await?);
    }
    for service in [&fleet.gateways[0], &fleet.workers[0]] {
        must_come_again(&service.addresses().websocket).await?;
    }
    // Once somebody has left there is room again.
    clients.remove(1).close().await?;
    eventually("there is room again", SOON, async || {
        fleet.user("bob", Json).await
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_gateway_takes_no_more_than_it_may() -> Result<()> {
    let fleet = Fleet::builder()
        .gateway("connections_max", 2)
        .start()
        .await?;
    let _clients = [
        fleet.user("ada", Json).await?,
        fleet.user("bob", Json).await?,
    ];
    must_come_again(&fleet.gateways[0].addresses().websocket).await
}
