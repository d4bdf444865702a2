//! How subscriptions and connections end, and what is said when something cannot be done.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::task::yield_now;

use super::peer::topic;
use super::{Outcome, Peer, Violation, demand};
use crate::broker::{BrokerError, BrokerEvent, Brokers, Topic};

/// Batches gathered after `unsubscribe` hold nothing of the subscription, not even what was queued.
///
/// # Errors
/// If the promise is broken.
pub async fn nothing_arrives_after_unsubscribe(brokers: &Brokers) -> Outcome {
    let mut peer = Peer::connect(brokers).await?;
    let (left, kept) = (topic("left")?, topic("kept")?);
    peer.broker.subscribe(&left, 1).await?;
    peer.broker.subscribe(&kept, 2).await?;
    peer.broker.publish(&left, "queued".into()).await?;
    peer.broker.publish(&kept, "both are queued".into()).await?;
    peer.expect_any_order([(1, "queued"), (2, "both are queued")])
        .await?;

    peer.broker
        .publish(&left, "queued and never taken".into())
        .await?;
    peer.broker.unsubscribe(1);
    peer.broker.unsubscribe(1);
    peer.broker.unsubscribe(99);
    peer.broker
        .publish(&left, "nobody wants this".into())
        .await?;
    peer.broker.publish(&kept, "last".into()).await?;
    peer.expect(2, "last").await?;
    peer.expect_no_more()
}

/// A token can take over another topic right after `unsubscribe`, wherever the old subscription stood at that moment:
/// nothing of it is mixed in, and its end does not end the new one.
///
/// # Errors
/// If the promise is broken.
pub async fn a_token_may_be_used_again_at_once(brokers: &Brokers) -> Outcome {
    let mut peer = Peer::connect(brokers).await?;
    let broker = Arc::clone(&peer.broker);
    for round in 0..50 {
        let (old, new) = (
            topic(&format!("old:{round}"))?,
            topic(&format!("new:{round}"))?,
        );
        let mut opening = Box::pin(broker.subscribe(&old, 1));
        let opened = poll_for(round, opening.as_mut()).await.is_ready();
        if opened {
            broker.publish(&old, "old".into()).await?;
        }
        broker.unsubscribe(1);
        broker.subscribe(&new, 1).await?;
        drop(opening);
        broker.publish(&old, "old".into()).await?;
        broker.publish(&new, "new".into()).await?;
        peer.expect(1, "new").await?;
        broker.unsubscribe(1);
    }
    peer.expect_no_more()
}

/// A second subscription under a token is refused, and the first goes on.
///
/// # Errors
/// If the promise is broken.
pub async fn a_token_in_use_is_refused(brokers: &Brokers) -> Outcome {
    let mut peer = Peer::connect(brokers).await?;
    peer.broker.subscribe(&topic("first")?, 1).await?;
    let second = peer.broker.subscribe(&topic("second")?, 1).await;
    demand(matches!(second, Err(BrokerError::Refused(_))), || {
        format!("{second:?}")
    })?;
    peer.broker
        .publish(&topic("second")?, "stray".into())
        .await?;
    peer.broker
        .publish(&topic("first")?, "hello".into())
        .await?;
    peer.expect(1, "hello").await?;
    peer.expect_no_more()
}

/// A `subscribe` whose future is dropped half-way, and one that is overtaken by `unsubscribe`, subscribe nothing.
///
/// # Errors
/// If the promise is broken.
pub async fn a_cancelled_subscribe_leaves_nothing_behind(brokers: &Brokers) -> Outcome {
    let mut peer = Peer::connect(brokers).await?;
    let (dropped, kept) = (topic("dropped")?, topic("kept")?);
    for round in 0..100 {
        // The further a round goes, the later the moment that its subscription is given up at.
        if round % 2 == 0 {
            abandon(&peer, &dropped, round).await;
        } else {
            overtake(&peer, &dropped, round).await?;
        }
        peer.broker.subscribe(&kept, 1).await?;
        peer.broker.publish(&dropped, "stray".into()).await?;
        peer.broker.publish(&kept, "hello".into()).await?;
        peer.expect(1, "hello").await?;
        peer.broker.unsubscribe(1);
    }
    peer.expect_no_more()
}

/// A payload above the limit is refused with both sizes, and does the connection no harm.
///
/// # Errors
/// If the promise is broken.
pub async fn a_payload_that_is_too_large_is_refused(brokers: &Brokers) -> Outcome {
    const SIZE: usize = 64 * 1024 * 1024;
    let mut peer = Peer::connect(brokers).await?;
    let topic = topic("large")?;
    peer.broker.subscribe(&topic, 1).await?;
    let outcome = peer
        .broker
        .publish(&topic, Bytes::from(vec![0; SIZE]))
        .await;
    let Err(BrokerError::TooLarge { size: SIZE, limit }) = outcome else {
        return Err(Violation::Broken(format!("{outcome:?}")));
    };
    demand(limit < SIZE, || format!("limit {limit}"))?;
    let largest = Bytes::from(vec![1; limit]);
    peer.broker.publish(&topic, largest.clone()).await?;
    peer.expect(1, largest).await
}

/// Whoever misses messages because a queue was full is told so, and told no more than is true.
///
/// `messages` times `size` bytes must be more than the queues of `brokers` hold.
///
/// # Errors
/// If the promise is broken.
pub async fn a_missing_message_is_told(brokers: &Brokers, messages: u64, size: usize) -> Outcome {
    let mut peer = Peer::connect(brokers).await?;
    let topic_full = topic("full")?;
    peer.broker.subscribe(&topic_full, 1).await?;
    for _ in 0..messages {
        peer.broker
            .publish(&topic_full, Bytes::from(vec![0; size]))
            .await?;
    }
    // A barrier after one's own messages: all of them have arrived, or were dropped.
    peer.broker.subscribe(&topic("barrier")?, 2).await?;
    let mut received = 0;
    let mut missing: BTreeMap<u64, u64> = BTreeMap::new();
    while !missing.contains_key(&1) || received == 0 {
        match peer.next().await? {
            BrokerEvent::Message { token: 1, .. } => received += 1,
            BrokerEvent::Overflow { token, dropped } => {
                *missing.entry(token).or_default() += dropped
            }
            other => return Err(Violation::Broken(format!("{other:?}"))),
        }
    }
    // What is published once the queue has room again arrives behind all the rest.
    peer.broker.publish(&topic_full, "again".into()).await?;
    loop {
        match peer.next().await? {
            BrokerEvent::Message { token: 1, payload } if payload == "again" => break,
            BrokerEvent::Message { token: 1, .. } => received += 1,
            BrokerEvent::Overflow { token, dropped } => {
                *missing.entry(token).or_default() += dropped
            }
            other => return Err(Violation::Broken(format!("{other:?}"))),
        }
    }
    let told = missing.get(&1).copied().unwrap_or_default();
    demand(received < messages, || {
        "nothing was dropped: the test is void".to_owned()
    })?;
    demand(told > 0 && received + told <= messages, || {
        format!("{messages} published, {received} received, {told} told as missing")
    })?;
    demand(!missing.contains_key(&2), || {
        "an unaffected subscription was told, too".to_owned()
    })
}

/// Without the half that acts the listener ends; without the listener nothing more can be done.
///
/// # Errors
/// If the promise is broken.
pub async fn dropping_either_half_closes_the_connection(brokers: &Brokers) -> Outcome {
    let topic = topic("closing")?;
    let Peer {
        broker, mut events, ..
    } = Peer::connect(brokers).await?;
    broker.subscribe(&topic, 1).await?;
    drop(broker);
    let mut batch = Vec::new();
    demand(!events.next_batch(&mut batch).await, || {
        format!("not closed, but {batch:?}")
    })?;
    demand(batch.is_empty(), || format!("closed, yet {batch:?}"))?;

    let Peer { broker, events, .. } = Peer::connect(brokers).await?;
    drop(events);
    let subscribed = broker.subscribe(&topic, 1).await;
    demand(subscribed == Err(BrokerError::Closed), || {
        format!("{subscribed:?}")
    })?;
    let published = broker.publish(&topic, "hello".into()).await;
    demand(published == Err(BrokerError::Closed), || {
        format!("{published:?}")
    })?;
    demand(!broker.is_connected(), || "still connected".to_owned())
}

/// Drops a `subscribe` after some turns; ends it properly if it was done by then.
async fn abandon(peer: &Peer, topic: &Topic, turns: usize) {
    let mut subscribing = pin!(peer.broker.subscribe(topic, 1));
    if poll_for(turns, subscribing.as_mut()).await.is_ready() {
        peer.broker.unsubscribe(1);
    }
}

/// Unsubscribes while `subscribe` is under way, if it still is after some turns.
async fn overtake(peer: &Peer, topic: &Topic, turns: usize) -> Outcome {
    let mut subscribing = pin!(peer.broker.subscribe(topic, 1));
    let early = poll_for(turns, subscribing.as_mut()).await;
    peer.broker.unsubscribe(1);
    if early.is_ready() {
        return Ok(());
    }
    let outcome = subscribing.await;
    demand(outcome.is_err(), || {
        "subscribed although unsubscribed".to_owned()
    })
}

/// Polls a future at least once, and lets other tasks run in between.
async fn poll_for<F: Future>(turns: usize, mut future: Pin<&mut F>) -> Poll<F::Output> {
    for _ in 0..turns {
        if let Poll::Ready(output) = future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            return Poll::Ready(output);
        }
        yield_now().await;
    }
    future.poll(&mut Context::from_waker(Waker::noop()))
}
