//! What is appended, and how it arrives: places in a stream, for those who listen.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::peer::{RETENTION, channel, plain};
use super::{Outcome, Peer, Violation, demand};
use crate::broker::{
    Append, Appended, Broker, BrokerError, BrokerEvent, Brokers, HistoryQuery, Stamp,
    StreamPosition, Topic,
};
use crate::channel::Channel;

/// Offsets grow from message to message, and each message names the offset before it in its own channel, whoever
/// appended and whatever other channels do. Nothing comes before the first.
///
/// # Errors
/// If the promise is broken.
pub async fn every_message_names_the_one_before_it(brokers: &Brokers) -> Outcome {
    let mut listener = Peer::connect(brokers).await?;
    let publishers = [Peer::connect(brokers).await?, Peer::connect(brokers).await?];
    let channels = [channel("one")?, channel("other")?];
    let mut chains = [Chain::default(), Chain::default()];
    for (token, channel) in (0..).zip(&channels) {
        let topic = Topic::Channel(channel.clone());
        listener.broker.subscribe(&topic, token).await?;
    }
    for round in 0..20 {
        for (index, channel) in channels.iter().enumerate() {
            // The channels do not take turns evenly.
            if round % (index + 1) == 0 {
                let publisher = &publishers[(round + index) % 2];
                let payload = format!("{round}");
                let position = publisher.append(channel, plain(payload.clone())).await?;
                let stamp = listener.expect_stamped(index as u64, payload).await?;
                demand(stamp.position == position, || {
                    format!("appended at {position:?}, arrived as {stamp:?}")
                })?;
                chains[index].add(stamp)?;
            }
        }
    }
    listener.expect_no_more()
}

/// Two connections append to one channel at the same time: everyone who listens sees one and the same order, which is
/// that of the offsets, and every publisher was told the right place.
///
/// # Errors
/// If the promise is broken.
pub async fn everyone_sees_the_offsets_in_order(brokers: &Brokers) -> Outcome {
    const APPENDS: usize = 200;
    let channel = channel("busy")?;
    let topic = Topic::Channel(channel.clone());
    let mut peers = [Peer::connect(brokers).await?, Peer::connect(brokers).await?];
    for peer in &peers {
        peer.broker.subscribe(&topic, 1).await?;
    }
    let appending = peers.each_ref().map(|peer| {
        let broker = Arc::clone(&peer.broker);
        let name = format!("{:p}", Arc::as_ptr(&broker));
        tokio::spawn(append_all(broker, channel.clone(), name, APPENDS))
    });
    let mut told = HashMap::new();
    for task in appending {
        let positions = task.await;
        told.extend(positions.map_err(|error| Violation::Broken(error.to_string()))??);
    }
    for peer in &mut peers {
        let mut chain = Chain::default();
        for _ in 0..2 * APPENDS {
            let BrokerEvent::StreamMessage { payload, stamp, .. } = peer.next().await? else {
                let reason = "something other than a message of a stream";
                return Err(Violation::Broken(reason.to_owned()));
            };
            chain.add(stamp)?;
            demand(told.get(&payload) == Some(&stamp.position), || {
                format!("{payload:?} is not where its publisher was told")
            })?;
        }
        peer.expect_no_more()?;
    }
    Ok(())
}

/// A second append with the same key, also through another connection, appends nothing, delivers nothing, and gives the
/// first place. Another channel has keys of its own.
///
/// # Errors
/// If the promise is broken.
pub async fn a_repeated_key_gives_the_first_place(brokers: &Brokers) -> Outcome {
    let mut peer = Peer::connect(brokers).await?;
    let other_peer = Peer::connect(brokers).await?;
    let (channel, other_channel) = (channel("keys")?, channel("other keys")?);
    let topic = Topic::Channel(channel.clone());
    peer.broker.subscribe(&topic, 1).await?;
    let keyed = |key: &str, payload: &'static str| Append {
        payload: payload.into(),
        idempotency_key: key.to_owned(),
        ..Append::default()
    };
    let key = "a key.with *odd* > characters\r\n";
    let first = peer.append(&channel, keyed(key, "first")).await?;
    peer.append(&channel, keyed("another", "second")).await?;
    for broker in [&peer.broker, &other_peer.broker] {
        let again = keyed(key, "again");
        let again = broker.append(&channel, RETENTION, again).await?;
        demand(again == Appended::Repeated(first), || format!("{again:?}"))?;
    }
    peer.append(&other_channel, keyed(key, "elsewhere")).await?;
    peer.append(&channel, plain("third")).await?;
    for payload in ["first", "second", "third"] {
        peer.expect_stamped(1, payload).await?;
    }
    peer.expect_no_more()?;
    let page = peer.read_since(&channel, 0).await?;
    demand(page.publications.len() == 3, || format!("{page:?}"))
}

/// Of versions in one epoch only newer ones are taken; the first of another epoch is taken whatever it is, and what has
/// no version always is.
///
/// # Errors
/// If the promise is broken.
pub async fn a_version_that_is_not_newer_is_dropped(brokers: &Brokers) -> Outcome {
    let mut peer = Peer::connect(brokers).await?;
    let channel = channel("versions")?;
    let topic = Topic::Channel(channel.clone());
    peer.broker.subscribe(&topic, 1).await?;
    let appends = [
        (5, "x", true),
        (5, "x", false),
        (4, "x", false),
        (0, "", true),
        (5, "x", false),
        (6, "x", true),
        (1, "y", true),
        (1, "y", false),
        (2, "y", true),
    ];
    let mut end = None;
    for (version, epoch, taken) in appends {
        let payload = format!("{version} {epoch}");
        let append = Append {
            payload: payload.clone().into(),
            version,
            version_epoch: epoch.to_owned(),
            ..Append::default()
        };
        let appended = peer.broker.append(&channel, RETENTION, append).await?;
        let as_it_should_be = match appended {
            Appended::Published(_) => taken,
            Appended::Outdated(position) => !taken && Some(position) == end,
            Appended::Repeated(_) => false,
        };
        demand(as_it_should_be, || {
            format!("version {payload}: {appended:?}")
        })?;
        end = Some(appended.position());
        if taken {
            peer.expect_stamped(1, payload).await?;
        }
    }
    peer.expect_no_more()
}

/// A key that is remembered decides before the version does; a removal of the history forgets neither.
///
/// # Errors
/// If the promise is broken.
pub async fn keys_and_versions_outlive_what_they_came_with(brokers: &Brokers) -> Outcome {
    let peer = Peer::connect(brokers).await?;
    let channel = channel("both")?;
    let append = |key: &str, version| Append {
        payload: "x".into(),
        idempotency_key: key.to_owned(),
        version,
        version_epoch: String::new(),
    };
    let first = peer.append(&channel, append("a", 2)).await?;
    for _ in 0..2 {
        for (key, version, repeated) in [("a", 2, true), ("a", 1, true), ("b", 2, false)] {
            let again = append(key, version);
            let appended = peer.broker.append(&channel, RETENTION, again).await?;
            let as_it_should_be = match appended {
                Appended::Repeated(position) => repeated && position == first,
                Appended::Outdated(_) => !repeated,
                Appended::Published(_) => false,
            };
            demand(as_it_should_be, || format!("{key} {version}: {appended:?}"))?;
        }
        peer.broker.remove_history(&channel).await?;
    }
    peer.append(&channel, append("b", 3)).await?;
    Ok(())
}

/// What is published without being appended arrives, and is not remembered.
///
/// # Errors
/// If the promise is broken.
pub async fn a_plain_publication_is_in_no_stream(brokers: &Brokers) -> Outcome {
    let mut peer = Peer::connect(brokers).await?;
    let channel = channel("mixed")?;
    let topic = Topic::Channel(channel.clone());
    peer.broker.subscribe(&topic, 1).await?;
    let first = peer.append(&channel, plain("first")).await?;
    peer.expect_stamped(1, "first").await?;
    peer.broker.publish(&topic, "plain".into()).await?;
    peer.expect(1, "plain").await?;
    let second = peer.append(&channel, plain("second")).await?;
    let stamp = peer.expect_stamped(1, "second").await?;
    let expected = Stamp {
        position: second,
        previous: first.offset,
    };
    demand(stamp == expected, || {
        format!("{stamp:?} instead of {expected:?}")
    })?;
    let page = peer.read_since(&channel, 0).await?;
    let found: Vec<u64> = page.publications.iter().map(|it| it.offset).collect();
    demand(found == [first.offset, second.offset], || {
        format!("{page:?}")
    })
}

/// An append above the system's limit is refused, and takes no place.
///
/// # Errors
/// If the promise is broken.
pub async fn an_append_that_is_too_large_is_refused(brokers: &Brokers) -> Outcome {
    let peer = Peer::connect(brokers).await?;
    let channel = channel("too large")?;
    let huge = plain(vec![0; 64 * 1024 * 1024]);
    let refused = peer.broker.append(&channel, RETENTION, huge).await;
    let told = |error: &BrokerError| matches!(error, BrokerError::TooLarge { .. });
    demand(refused.as_ref().is_err_and(told), || format!("{refused:?}"))?;
    let page = peer.read(&channel, HistoryQuery::default()).await?;
    demand(page.end.offset == 0, || format!("{page:?}"))
}

/// Messages of a stream that found the queue full are told as any others, and the next one that arrives shows the gap.
///
/// The connections of `brokers` must be unable to queue `messages` of `size` bytes.
///
/// # Errors
/// If the promise is broken.
pub async fn a_full_queue_shows_in_the_stream(
    brokers: &Brokers,
    size: usize,
    messages: u64,
) -> Outcome {
    let mut peer = Peer::connect(brokers).await?;
    let channel = channel("full")?;
    peer.broker
        .subscribe(&Topic::Channel(channel.clone()), 1)
        .await?;
    for _ in 0..messages {
        peer.append(&channel, plain(vec![0; size])).await?;
    }
    let (mut received, mut told, mut last) = (0, 0, 0);
    while told == 0 || received == 0 {
        match peer.next().await? {
            BrokerEvent::StreamMessage { stamp, .. } => {
                received += 1;
                last = stamp.position.offset;
            }
            BrokerEvent::Overflow { token: 1, dropped } => told += dropped,
            other => return Err(Violation::Broken(format!("{other:?}"))),
        }
    }
    let again = peer.append(&channel, plain("again")).await?;
    let mut gap = false;
    loop {
        match peer.next().await? {
            BrokerEvent::StreamMessage { stamp, .. } => {
                gap |= stamp.previous != last;
                last = stamp.position.offset;
                if stamp.position == again {
                    break;
                }
                received += 1;
            }
            BrokerEvent::Overflow { token: 1, dropped } => told += dropped,
            other => return Err(Violation::Broken(format!("{other:?}"))),
        }
    }
    demand(received < messages, || {
        "nothing was dropped: the test is void".to_owned()
    })?;
    demand(told > 0 && received + told <= messages, || {
        format!("{messages} appended, {received} received, {told} told as missing")
    })?;
    demand(gap, || "no message showed a gap".to_owned())
}

/// What was seen of a stream so far.
#[derive(Default)]
struct Chain {
    last: Option<StreamPosition>,
}

impl Chain {
    /// Demands that this is the next message.
    fn add(&mut self, stamp: Stamp) -> Outcome {
        let follows = match self.last {
            None => stamp.previous == 0 && stamp.position.offset > 0,
            Some(last) => {
                stamp.position.epoch == last.epoch
                    && stamp.previous == last.offset
                    && stamp.position.offset > last.offset
            }
        };
        let last = self.last.replace(stamp.position);
        demand(follows, || format!("{stamp:?} came after {last:?}"))
    }
}

/// Appends as often as said; gives the places by payload.
async fn append_all(
    broker: Arc<dyn Broker>,
    channel: Channel,
    name: String,
    appends: usize,
) -> Result<Vec<(Bytes, StreamPosition)>, BrokerError> {
    let mut positions = Vec::new();
    for number in 0..appends {
        let payload = Bytes::from(format!("{name} {number}"));
        let append = broker.append(&channel, RETENTION, plain(payload.clone()));
        positions.push((payload, append.await?.position()));
    }
    Ok(positions)
}
