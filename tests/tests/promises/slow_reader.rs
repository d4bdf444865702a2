//! A client that does not read is closed as slow; nobody else has to wait for it.

use anyhow::Result;
use flotilla_shared::protocol::Format::{Json, Protobuf};
use flotilla_tests::fleet::Fleet;
use flotilla_tests::token;

/// Large enough to fill the kernel's buffers on the way in few messages.
const PAYLOAD_BYTES: usize = 48 * 1024;

#[tokio::test]
async fn a_slow_reader_is_closed_and_slows_nobody() -> Result<()> {
    let fleet = Fleet::builder()
        .workers(2)
        .worker("client.queue_max_size", 256 * 1024)
        .start()
        .await?;
    let mut clients = fleet.spread(&[Json, Protobuf]).await?;
    let [publisher, listener] = &mut clients[..] else {
        panic!("two clients")
    };
    listener.subscribe("firehose").await?;
    let mut slow = fleet
        .dial()
        .small_receive_buffer()
        .connect(&token::user("slow")?)
        .await?;
    slow.subscribe("firehose").await?;
    let node = slow.node().to_owned();
    let worker = fleet
        .workers
        .iter()
        .find(|worker| worker.id() == node)
        .expect("its worker");

    let filler = "x".repeat(PAYLOAD_BYTES);
    let mut sent = 0;
    // Each publication reaches the listener before the next is sent, all the while the slow
    // reader takes none.
    while worker
        .scrape()
        .await?
        .sum("flotilla_worker_slow_consumers_total", &[])?
        == 0.0
    {
        assert!(sent < 2_000, "{sent} publications, and nobody is slow");
        publisher
            .publish("firehose", format!("\"{sent} {filler}\""))
            .await?;
        let heard = listener.publication("firehose").await?;
        assert!(heard.data.starts_with(format!("\"{sent} ").as_bytes()));
        sent += 1;
    }
    let close = slow.closed().await?;
    assert_eq!((close.code, close.reason.as_str()), (3008, "slow"));

    // What it did get is the beginning, without a hole: never dropped silently.
    let mut got = 0;
    while let Some(publication) = slow.received("firehose") {
        assert!(
            publication.data.starts_with(format!("\"{got} ").as_bytes()),
            "after {got}"
        );
        got += 1;
    }
    assert!(got < sent, "it got everything: {got}");
    Ok(())
}
