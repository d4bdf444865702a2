//! What is read back of a stream, and what an answer proves.
//!
//! Offsets only grow here; that one follows another by one is promised nowhere.

use super::peer::{RETENTION, channel, odd_names, plain};
use super::{Outcome, Peer, Violation, demand};
use crate::broker::{
    BrokerEvent, Brokers, Epoch, HistoryPage, HistoryQuery, Stamp, StreamPosition, Topic,
};
use crate::channel::Channel;

/// Everything, oldest first.
const ALL: HistoryQuery = HistoryQuery {
    limit: usize::MAX,
    since: None,
    reverse: false,
};

/// What was appended is read at once, through any connection, at the places that were told, byte for byte.
///
/// # Errors
/// If the promise is broken.
pub async fn what_was_appended_is_read(brokers: &Brokers) -> Outcome {
    let publisher = Peer::connect(brokers).await?;
    let reader = Peer::connect(brokers).await?;
    let channel = channel("read")?;
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    let mut expected = Vec::new();
    for payload in [Vec::new(), every_byte.clone(), every_byte.repeat(512)] {
        let append = plain(payload.clone());
        let position = publisher.append(&channel, append).await?;
        expected.push((position.offset, payload));
        let page = reader.read(&channel, ALL).await?;
        let found = page.publications.iter();
        let found = found.map(|stored| (stored.offset, stored.payload.to_vec()));
        demand(found.eq(expected.iter().cloned()), || {
            format!("{} were not read as appended", expected.len())
        })?;
        demand(page.end == position, || {
            format!("another end: {position:?}")
        })?;
    }
    Ok(())
}

/// A stream keeps its last publications, as many as its size says. An answer is complete if nothing behind `since` was
/// dropped: also from the beginning, as long as nothing was dropped at all.
///
/// # Errors
/// If the promise is broken.
pub async fn a_stream_keeps_its_last_publications(brokers: &Brokers) -> Outcome {
    let peer = Peer::connect(brokers).await?;
    let channel = channel("size")?;
    let mut offsets = vec![0];
    for appended in 1..=2 * RETENTION.size as usize {
        offsets.extend(fill(&peer, &channel, 1).await?);
        let kept = appended.min(RETENTION.size as usize);
        let page = peer.read(&channel, ALL).await?;
        check(&page, &offsets[offsets.len() - kept..])?;
        for (index, &since) in offsets.iter().enumerate() {
            let page = peer.read_since(&channel, since).await?;
            let behind = (offsets.len() - 1 - index).min(kept);
            check(&page, &offsets[offsets.len() - behind..])?;
            let complete = index + 1 >= offsets.len() - kept;
            demand(page.is_complete == complete, || {
                let told = page.is_complete;
                format!("{appended} appended, since the {index}th: is_complete is {told}")
            })?;
        }
    }
    Ok(())
}

/// A position that the stream has not reached is no proof of anything.
///
/// # Errors
/// If the promise is broken.
pub async fn a_position_beyond_the_end_proves_nothing(brokers: &Brokers) -> Outcome {
    let peer = Peer::connect(brokers).await?;
    let channel = channel("beyond")?;
    for _ in 0..2 {
        let end = peer.read(&channel, HistoryQuery::default()).await?.end;
        for since in [end.offset + 1, end.offset + 1_000_000, u64::MAX] {
            let page = peer.read_since(&channel, since).await?;
            check(&page, &[])?;
            demand(!page.is_complete && page.end == end, || format!("{page:?}"))?;
        }
        fill(&peer, &channel, 3).await?;
    }
    Ok(())
}

/// `reverse` gives the newest first, and with `since` only what is older than that; it proves nothing.
///
/// # Errors
/// If the promise is broken.
pub async fn history_is_read_in_reverse(brokers: &Brokers) -> Outcome {
    let peer = Peer::connect(brokers).await?;
    let channel = channel("reverse")?;
    let offsets = fill(&peer, &channel, 5).await?;
    let newest_first: Vec<u64> = offsets.iter().rev().copied().collect();
    let beyond = offsets[4] + 1;
    let cases = [
        (None, usize::MAX, &newest_first[..]),
        (None, 2, &newest_first[..2]),
        (Some(offsets[4]), usize::MAX, &newest_first[1..]),
        (Some(offsets[2]), usize::MAX, &newest_first[3..]),
        (Some(offsets[2]), 1, &newest_first[3..4]),
        (Some(offsets[0]), usize::MAX, &[]),
        (Some(0), usize::MAX, &[]),
        (Some(beyond), usize::MAX, &newest_first[..]),
    ];
    for (since, limit, expected) in cases {
        let query = HistoryQuery {
            limit,
            since,
            reverse: true,
        };
        let page = peer.read(&channel, query).await?;
        check(&page, expected)?;
        demand(!page.is_complete && page.end.offset == offsets[4], || {
            format!("{page:?}")
        })?;
    }
    Ok(())
}

/// A page holds no more than asked for, and one that was cut is not complete. With a limit of 0 there is only the end.
///
/// # Errors
/// If the promise is broken.
pub async fn a_limit_is_kept(brokers: &Brokers) -> Outcome {
    let peer = Peer::connect(brokers).await?;
    let channel = channel("limit")?;
    let offsets = fill(&peer, &channel, 4).await?;
    let cases = [
        (None, 0, &[][..], false),
        (None, 3, &offsets[..3], false),
        (None, 4, &offsets[..], false),
        (Some(0), 0, &[], false),
        (Some(0), 3, &offsets[..3], false),
        (Some(0), 4, &offsets[..], true),
        (Some(offsets[1]), 1, &offsets[2..3], false),
        (Some(offsets[1]), 2, &offsets[2..], true),
        (Some(offsets[3]), 0, &[], true),
    ];
    for (since, limit, expected, complete) in cases {
        let query = HistoryQuery {
            limit,
            since,
            reverse: false,
        };
        let page = peer.read(&channel, query).await?;
        check(&page, expected)?;
        demand(page.is_complete == complete, || {
            format!("{query:?}: {page:?}")
        })?;
        demand(page.end.offset == offsets[3], || format!("{page:?}"))?;
    }
    Ok(())
}

/// Whoever goes on from the last offset of a page sees everything once.
///
/// # Errors
/// If the promise is broken.
pub async fn a_stream_is_read_page_by_page(brokers: &Brokers) -> Outcome {
    let peer = Peer::connect(brokers).await?;
    let channel = channel("pages")?;
    let offsets = fill(&peer, &channel, 7).await?;
    for reverse in [false, true] {
        let mut query = HistoryQuery {
            limit: 3,
            since: None,
            reverse,
        };
        let mut found = Vec::new();
        loop {
            let page = peer.read(&channel, query).await?;
            let Some(last) = page.publications.last() else {
                break;
            };
            query.since = Some(last.offset);
            found.extend(page.publications.iter().map(|stored| stored.offset));
            demand(found.len() <= 7, || format!("too many: {found:?}"))?;
        }
        if reverse {
            found.reverse();
        }
        demand(found == offsets, || format!("{found:?}"))?;
    }
    Ok(())
}

/// Removing a history drops the publications and nothing else: the numbering goes on in the same epoch behind the place
/// that the removal takes, and whoever has seen all of them has missed nothing. Where nothing is left, nothing happens.
///
/// # Errors
/// If the promise is broken.
pub async fn a_removed_history_keeps_its_numbering(brokers: &Brokers) -> Outcome {
    let mut peer = Peer::connect(brokers).await?;
    let (removed, kept) = (channel("removed")?, channel("kept")?);
    let offsets = fill(&peer, &removed, 3).await?;
    let kept_offsets = fill(&peer, &kept, 3).await?;
    let before = peer.read(&removed, ALL).await?.end;
    let mut removal = before;
    for _ in 0..2 {
        peer.broker.remove_history(&removed).await?;
        let page = peer.read(&removed, ALL).await?;
        check(&page, &[])?;
        let goes_on = page.end.epoch == before.epoch && page.end.offset > before.offset;
        demand(goes_on && [before, page.end].contains(&removal), || {
            format!("{page:?} after {removal:?}")
        })?;
        removal = page.end;
    }
    check(&peer.read(&kept, ALL).await?, &kept_offsets)?;
    for (since, complete) in [
        (removal.offset, true),
        (before.offset, true),
        (offsets[1], false),
    ] {
        demand_complete(&peer, &removed, since, complete).await?;
    }

    let topic = Topic::Channel(removed.clone());
    peer.broker.subscribe(&topic, 1).await?;
    let next = fill(&peer, &removed, 1).await?;
    let stamp = peer.expect_stamped(1, "0").await?;
    let in_order = stamp.position.epoch == before.epoch && stamp.previous == removal.offset;
    demand(in_order && next[0] > removal.offset, || {
        format!("{stamp:?} after {removal:?}")
    })?;
    check(&peer.read(&removed, ALL).await?, &next)?;
    for (since, complete) in [
        (removal.offset, true),
        (before.offset, true),
        (offsets[1], false),
    ] {
        demand_complete(&peer, &removed, since, complete).await?;
    }
    demand_complete(&peer, &removed, 0, false).await
}

/// Whoever has seen all that was removed can go on from there for as long as what follows is kept.
///
/// # Errors
/// If the promise is broken.
pub async fn a_removal_hides_no_loss(brokers: &Brokers) -> Outcome {
    let peer = Peer::connect(brokers).await?;
    let channel = channel("removed")?;
    let seen = fill(&peer, &channel, 2).await?[1];
    peer.broker.remove_history(&channel).await?;
    let mut offsets = Vec::new();
    for appended in 1..=RETENTION.size as usize + 2 {
        offsets.extend(fill(&peer, &channel, 1).await?);
        let kept = appended.min(RETENTION.size as usize);
        let page = peer.read_since(&channel, seen).await?;
        check(&page, &offsets[offsets.len() - kept..])?;
        demand(page.is_complete == (kept == appended), || {
            format!("{appended} appended behind the removal: {page:?}")
        })?;
    }
    Ok(())
}

/// Whoever subscribes to a channel hears that its history was removed, in the order of the stream: behind what was
/// removed, before what comes next. Where nothing was there to remove, there is nothing to hear.
///
/// # Errors
/// If the promise is broken.
pub async fn a_removed_history_is_told(brokers: &Brokers) -> Outcome {
    let mut listener = Peer::connect(brokers).await?;
    let remover = Peer::connect(brokers).await?;
    let channel = channel("removed")?;
    let topic = Topic::Channel(channel.clone());
    listener.broker.subscribe(&topic, 1).await?;
    remover.broker.remove_history(&channel).await?;
    let mut previous = 0;
    for _ in 0..2 {
        fill(&remover, &channel, 2).await?;
        for payload in ["0", "1"] {
            let stamp = listener.expect_stamped(1, payload).await?;
            demand(stamp.previous == previous, || {
                format!("{stamp:?} after {previous}")
            })?;
            previous = stamp.position.offset;
        }
        for _ in 0..2 {
            remover.broker.remove_history(&channel).await?;
        }
        let position = remover.read(&channel, ALL).await?.end;
        let stamp = Stamp { position, previous };
        let told = listener.next().await?;
        demand(
            told == BrokerEvent::HistoryRemoved { token: 1, stamp },
            || format!("{told:?} instead of {stamp:?}"),
        )?;
        previous = position.offset;
    }
    fill(&remover, &channel, 1).await?;
    listener.expect_stamped(1, "0").await?;
    listener.expect_no_more()
}

/// The ends of many channels are told at once, in the order asked for: those of histories that were removed and of
/// channels that nobody has appended to as well.
///
/// # Errors
/// If the promise is broken.
pub async fn the_ends_of_many_channels_are_told(brokers: &Brokers) -> Outcome {
    let publisher = Peer::connect(brokers).await?;
    let reader = Peer::connect(brokers).await?;
    let names: Vec<String> = (0..300).map(|number| format!("end:{number}")).collect();
    let names = names.into_iter().chain(odd_names());
    let channels: Vec<Channel> = names.map(|name| channel(&name)).collect::<Result<_, _>>()?;
    for round in 0..3 {
        for (index, channel) in channels.iter().enumerate() {
            if index % 4 == 1 {
                fill(&publisher, channel, 1).await?;
            }
            if index % 8 == 5 && round == 1 {
                publisher.broker.remove_history(channel).await?;
            }
        }
        let ends = reader.broker.ends(&channels).await?;
        demand(ends.len() == channels.len(), || {
            format!("{} ends of {} channels", ends.len(), channels.len())
        })?;
        for (channel, end) in channels.iter().zip(ends) {
            let expected = publisher.read(channel, HistoryQuery::default()).await?.end;
            demand(end == expected, || {
                format!("{channel:?} ends at {end:?} instead of {expected:?}")
            })?;
        }
    }
    let none = reader.broker.ends(&[]).await?;
    demand(none.is_empty(), || format!("{none:?}"))
}

/// What was dropped between a position and the end is missed, also when what came after it is all there.
///
/// # Errors
/// If the promise is broken.
pub async fn what_was_dropped_is_missed(brokers: &Brokers) -> Outcome {
    let peer = Peer::connect(brokers).await?;
    let channel = channel("dropped")?;
    let old = fill(&peer, &channel, 2).await?;
    peer.broker.remove_history(&channel).await?;
    let new = fill(&peer, &channel, RETENTION.size as usize + 1).await?;
    check(&peer.read(&channel, ALL).await?, &new[1..])?;
    for missing in [0, old[0], old[1]] {
        demand_complete(&peer, &channel, missing, false).await?;
    }
    demand_complete(&peer, &channel, new[0], true).await
}

/// A channel that nobody has appended to has an end: offset 0, in an epoch that stays, and that its first publication
/// belongs to. Nothing was dropped there.
///
/// # Errors
/// If the promise is broken.
pub async fn untouched_channels_have_an_end(brokers: &Brokers) -> Outcome {
    let peer = Peer::connect(brokers).await?;
    let other = Peer::connect(brokers).await?;
    let untouched = channel("untouched")?;
    let first = peer.read_since(&untouched, 0).await?;
    check(&first, &[])?;
    demand(first.end.offset == 0 && first.is_complete, || {
        format!("{first:?}")
    })?;
    fill(&peer, &channel("touched")?, 2).await?;
    peer.broker.remove_history(&untouched).await?;
    let again = other.read_since(&untouched, 0).await?;
    demand(again == first, || format!("{again:?} after {first:?}"))?;
    let offsets = fill(&other, &untouched, 1).await?;
    let page = peer.read_since(&untouched, 0).await?;
    check(&page, &offsets)?;
    let expected = StreamPosition {
        offset: offsets[0],
        ..first.end
    };
    demand(page.end == expected && page.is_complete, || {
        format!("{page:?} after {first:?}")
    })
}

/// Any text can name a channel, and each has a stream of its own.
///
/// # Errors
/// If the promise is broken.
pub async fn streams_of_odd_channel_names_are_kept_apart(brokers: &Brokers) -> Outcome {
    let peer = Peer::connect(brokers).await?;
    for name in odd_names() {
        let append = plain(name.clone());
        peer.append(&channel(&name)?, append).await?;
    }
    for name in odd_names() {
        let page = peer.read(&channel(&name)?, ALL).await?;
        let found: Vec<&[u8]> = page.publications.iter().map(|it| &it.payload[..]).collect();
        demand(found == [name.as_bytes()], || {
            format!("{name:?}: {} found", found.len())
        })?;
    }
    Ok(())
}

/// Two systems that do not know each other never speak of the same epoch: `one` and `other` are both fresh.
///
/// # Errors
/// If the promise is broken.
pub async fn a_fresh_broker_is_another_epoch(one: &Brokers, other: &Brokers) -> Outcome {
    let channel = channel("epoch")?;
    let mut epochs = Vec::new();
    for brokers in [one, other] {
        let peer = Peer::connect(brokers).await?;
        fill(&peer, &channel, 1).await?;
        epochs.push(peer.read(&channel, ALL).await?.end.epoch);
    }
    let told_apart = epochs[0] != epochs[1] && !epochs.contains(&Epoch(0));
    demand(told_apart, || format!("{epochs:?}"))
}

/// Appends so many publications; gives their offsets.
async fn fill(peer: &Peer, channel: &Channel, count: usize) -> Result<Vec<u64>, Violation> {
    let mut offsets = Vec::new();
    for number in 0..count {
        let append = plain(number.to_string());
        offsets.push(peer.append(channel, append).await?.offset);
    }
    Ok(offsets)
}

/// Demands that a page holds exactly these offsets.
fn check(page: &HistoryPage, offsets: &[u64]) -> Outcome {
    let found = page.publications.iter().map(|stored| stored.offset);
    demand(found.eq(offsets.iter().copied()), || {
        format!("{page:?} instead of {offsets:?}")
    })
}

async fn demand_complete(peer: &Peer, channel: &Channel, since: u64, complete: bool) -> Outcome {
    let page = peer.read_since(channel, since).await?;
    demand(page.is_complete == complete, || {
        format!("since {since}, is_complete ought to be {complete}: {page:?}")
    })
}
