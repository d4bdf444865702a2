//! What arrives, where, and in which order.

use bytes::Bytes;
use futures_util::future::try_join_all;

use super::peer::{odd_names, topic};
use super::{Outcome, Peer, Violation, demand};
use crate::broker::{BATCH_EVENTS_MAX, BrokerEvent, Brokers, Topic};

/// What is published right after `subscribe` returned arrives; also when many subscribe at once.
///
/// # Errors
/// If the promise is broken.
pub async fn a_subscription_is_open_once_subscribe_returned(brokers: &Brokers) -> Outcome {
    let mut listener = Peer::connect(brokers).await?;
    let publisher = Peer::connect(brokers).await?;
    for round in 0..100 {
        let topic = topic(&format!("single:{round}"))?;
        listener.broker.subscribe(&topic, round).await?;
        publisher.broker.publish(&topic, "hello".into()).await?;
        listener.expect(round, "hello").await?;
    }
    let many = (1000..1500).map(|token| {
        let (listener, publisher) = (&listener.broker, &publisher.broker);
        async move {
            let topic = topic(&format!("many:{token}"))?;
            listener.subscribe(&topic, token).await?;
            publisher.publish(&topic, "hello".into()).await?;
            Ok::<u64, Violation>(token)
        }
    });
    let mut expected = try_join_all(many).await?;
    while !expected.is_empty() {
        match listener.next().await? {
            BrokerEvent::Message { token, .. } => expected.retain(|&other| other != token),
            other => return Err(Violation::Broken(format!("{other:?}"))),
        }
    }
    listener.expect_no_more()
}

/// Each subscriber sees each publisher's messages in their order, and all of them.
///
/// # Errors
/// If the promise is broken.
pub async fn messages_of_one_publisher_arrive_in_order(brokers: &Brokers) -> Outcome {
    const MESSAGES: u64 = 5000;
    let topic = topic("order")?;
    let mut listeners = [Peer::connect(brokers).await?, Peer::connect(brokers).await?];
    let publishers = [Peer::connect(brokers).await?, Peer::connect(brokers).await?];
    for listener in &listeners {
        listener.broker.subscribe(&topic, 1).await?;
    }
    for number in 0..MESSAGES {
        for (index, publisher) in publishers.iter().enumerate() {
            let text = format!("{index} {number}");
            publisher.broker.publish(&topic, text.into()).await?;
        }
    }
    for listener in &mut listeners {
        let mut next = [0, 0];
        while next != [MESSAGES, MESSAGES] {
            let BrokerEvent::Message { payload, .. } = listener.next().await? else {
                return Err(Violation::Broken(
                    "something other than a message".to_owned(),
                ));
            };
            let publisher = usize::from(payload.starts_with(b"1"));
            let expected = format!("{publisher} {}", next[publisher]);
            demand(payload == expected.as_bytes(), || {
                format!("expected {expected}, got {payload:?}")
            })?;
            next[publisher] += 1;
        }
        listener.expect_no_more()?;
    }
    Ok(())
}

/// A connection does not see topics that it has not subscribed to.
///
/// # Errors
/// If the promise is broken.
pub async fn only_what_is_subscribed_to_arrives(brokers: &Brokers) -> Outcome {
    let mut listener = Peer::connect(brokers).await?;
    let publisher = Peer::connect(brokers).await?;
    listener.broker.subscribe(&topic("mine")?, 1).await?;
    for other in ["other", "mine:not", "min", "mine "] {
        publisher
            .broker
            .publish(&topic(other)?, "stray".into())
            .await?;
    }
    publisher
        .broker
        .publish(&topic("mine")?, "hello".into())
        .await?;
    listener.expect(1, "hello").await?;
    listener.expect_no_more()
}

/// Each connection, and each token of one connection, gets its copy.
///
/// # Errors
/// If the promise is broken.
pub async fn everyone_who_subscribes_receives(brokers: &Brokers) -> Outcome {
    let topic = topic("fan-out")?;
    let publisher = Peer::connect(brokers).await?;
    let mut listeners = Vec::new();
    for _ in 0..4 {
        let listener = Peer::connect(brokers).await?;
        listener.broker.subscribe(&topic, 1).await?;
        listener.broker.subscribe(&topic, 2).await?;
        listeners.push(listener);
    }
    publisher.broker.publish(&topic, "hello".into()).await?;
    for listener in &mut listeners {
        let mut tokens = Vec::new();
        while tokens.len() < 2 {
            let BrokerEvent::Message { token, payload } = listener.next().await? else {
                return Err(Violation::Broken(
                    "something other than a message".to_owned(),
                ));
            };
            demand(payload == "hello", || {
                format!("another payload: {payload:?}")
            })?;
            tokens.push(token);
        }
        tokens.sort_unstable();
        demand(tokens == [1, 2], || format!("tokens {tokens:?}"))?;
    }
    Ok(())
}

/// There is no way around the broker for messages of one's own.
///
/// # Errors
/// If the promise is broken.
pub async fn a_publisher_receives_its_own_messages(brokers: &Brokers) -> Outcome {
    let mut peer = Peer::connect(brokers).await?;
    peer.broker.subscribe(&topic("own")?, 7).await?;
    peer.broker.publish(&topic("own")?, "hello".into()).await?;
    peer.expect(7, "hello").await
}

/// Any text can name a channel, and what looks special to the system behind is not.
///
/// # Errors
/// If the promise is broken.
pub async fn odd_channel_names_are_kept_apart(brokers: &Brokers) -> Outcome {
    let mut listener = Peer::connect(brokers).await?;
    let publisher = Peer::connect(brokers).await?;
    for (token, name) in (0..).zip(odd_names()) {
        listener.broker.subscribe(&topic(&name)?, token).await?;
    }
    for (token, name) in (0..).zip(odd_names()) {
        publisher
            .broker
            .publish(&topic(&name)?, name.clone().into())
            .await?;
        listener.expect(token, name).await?;
    }
    listener.expect_no_more()
}

/// Any text can be a worker's id, and what is meant for one worker reaches no other. No channel's name leads there.
///
/// # Errors
/// If the promise is broken.
pub async fn only_the_addressed_worker_receives(brokers: &Brokers) -> Outcome {
    let mut worker = Peer::connect(brokers).await?;
    let publisher = Peer::connect(brokers).await?;
    for (token, id) in (0..).zip(odd_names()) {
        worker.broker.subscribe(&Topic::Worker(id), token).await?;
    }
    for (token, id) in (0..).zip(odd_names()) {
        for channel in [
            id.clone(),
            format!("worker.{id}"),
            format!("../worker.{id}"),
        ] {
            publisher
                .broker
                .publish(&topic(&channel)?, "forged".into())
                .await?;
        }
        publisher
            .broker
            .publish(&Topic::Worker(id.clone()), id.clone().into())
            .await?;
        worker.expect(token, id).await?;
    }
    publisher
        .broker
        .publish(&Topic::Worker("another".to_owned()), "stray".into())
        .await?;
    publisher
        .broker
        .publish(&Topic::Worker("a".to_owned()), "last".into())
        .await?;
    worker.expect(0, "last").await?;
    worker.expect_no_more()
}

/// A payload is opaque: empty, binary or large, it arrives as it was.
///
/// # Errors
/// If the promise is broken.
pub async fn payloads_arrive_byte_for_byte(brokers: &Brokers) -> Outcome {
    let every_byte: Bytes = (0..=u8::MAX).collect();
    let large = every_byte.repeat(2048);
    let payloads = [
        Bytes::new(),
        "\r\n".into(),
        "PING\r\n".into(),
        every_byte,
        large.into(),
    ];
    let mut listener = Peer::connect(brokers).await?;
    let publisher = Peer::connect(brokers).await?;
    listener.broker.subscribe(&topic("bytes")?, 1).await?;
    for payload in payloads {
        publisher
            .broker
            .publish(&topic("bytes")?, payload.clone())
            .await?;
        listener.expect(1, payload).await?;
    }
    Ok(())
}

/// A backlog comes in several batches, and a busy topic does not keep a quiet one waiting until its end.
///
/// # Errors
/// If the promise is broken.
pub async fn batches_are_bounded(brokers: &Brokers) -> Outcome {
    let mut peer = Peer::connect(brokers).await?;
    let (busy, quiet) = (topic("busy")?, topic("quiet")?);
    let backlog = 3 * BATCH_EVENTS_MAX;
    peer.broker.subscribe(&busy, 1).await?;
    peer.broker.subscribe(&quiet, 2).await?;
    peer.broker.publish(&quiet, "first".into()).await?;
    peer.expect(2, "first").await?;
    for _ in 0..backlog {
        peer.broker.publish(&busy, "busy".into()).await?;
    }
    peer.broker.publish(&quiet, "last".into()).await?;
    let (mut seen_busy, mut seen_quiet) = (0, 0);
    while seen_busy < backlog || seen_quiet < 1 {
        match peer.next().await? {
            BrokerEvent::Message { token: 1, .. } => seen_busy += 1,
            BrokerEvent::Message { token: 2, .. } => seen_quiet += 1,
            other => return Err(Violation::Broken(format!("{other:?}"))),
        }
    }
    peer.expect_no_more()
}

/// No channel's name leads to the fleet's own topic.
///
/// # Errors
/// If the promise is broken.
pub async fn the_roster_is_no_channel(brokers: &Brokers) -> Outcome {
    let mut listener = Peer::connect(brokers).await?;
    let publisher = Peer::connect(brokers).await?;
    listener.broker.subscribe(&Topic::Roster, 1).await?;
    for name in ["roster", ".roster", "../roster", "*", ">"] {
        publisher
            .broker
            .publish(&topic(name)?, "forged".into())
            .await?;
    }
    publisher
        .broker
        .publish(&Topic::Roster, "genuine".into())
        .await?;
    listener.expect(1, "genuine").await?;
    listener.expect_no_more()
}
