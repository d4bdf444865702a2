//! How histories are written into JetStream. What is here cannot be changed while streams exist.
//!
//! - A channel is in partition `FNV-1a 64(name) mod partitions` of its namespace.
//! - The stream of a partition has the subjects `<prefix>.h.<namespace>.<partition>.*`, one per channel, and republishes
//!   to the live subjects `<prefix>.ch.*`. Channels without a namespace are in `_`, which no namespace is called.
//! - The stream's name ends in the partition and the epoch: `<prefix>_<namespace>_<partition>_<epoch>`. Every
//!   confirmation, republished message and answer names the stream, and so says which life it belongs to.
//! - The headers below stand in stored messages; those of the server (`Nats-*`) besides them.

use async_nats::header::{NATS_LAST_SEQUENCE, NATS_SEQUENCE, NATS_STREAM};
use async_nats::{HeaderMap, Subject};

use crate::broker::nats::subject::push_token;
use crate::broker::{BrokerError, Epoch};
use crate::channel::Channel;

/// Marks a removal: the sequence of the last message before it, all of which cannot be read any more.
pub(super) const REMOVED: &str = "Flotilla-Removed";

/// The version of a publication that has one.
pub(super) const VERSION: &str = "Flotilla-Version";

/// What the version is to be compared within.
pub(super) const VERSION_EPOCH: &str = "Flotilla-Version-Epoch";

/// In the metadata of a stream: how many partitions its namespace has.
pub(super) const PARTITIONS: &str = "flotilla_partitions";

/// In the metadata of a stream: the smallest history size that it has had.
pub(super) const SIZE_MIN: &str = "flotilla_size_min";

/// Where a channel's history is.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) namespace: String,
    pub(super) partition: u32,
    /// What is published to it is stored, and filters for reading it.
    pub(super) subject: Subject,
    /// The channel's name as the last token of its subjects.
    token: String,
}

impl Place {
    /// # Errors
    /// [`BrokerError::Refused`] if the name is too long for a subject.
    pub(super) fn of(
        prefix: &str,
        channel: &Channel,
        partitions: u32,
    ) -> Result<Self, BrokerError> {
        let namespace = channel.namespace();
        let partition = partition_of(channel, partitions);
        let mut token = String::new();
        push_token(channel.as_str(), &mut token);
        let subject = format!("{}{partition}.{token}", subjects_of(prefix, namespace));
        if subject.len() > crate::broker::nats::subject::SUBJECT_MAX_BYTES {
            return Err(BrokerError::Refused("the name is too long".to_owned()));
        }
        Ok(Self {
            namespace: namespace.to_owned(),
            partition,
            subject: subject.into(),
            token,
        })
    }

    /// What tells the publications with this key from all others of the partition.
    pub(super) fn message_id(&self, key: &str) -> String {
        let mut id = format!("{}.", self.token);
        push_token(key, &mut id);
        id
    }
}

/// Which partition of its namespace a channel is in: FNV-1a, 64 bits.
fn partition_of(channel: &Channel, partitions: u32) -> u32 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in channel.as_str().bytes() {
        hash ^= u64::from(byte);
        hash = hash.wrapping_mul(0x0000_0100_0000_01b3);
    }
    u32::try_from(hash % u64::from(partitions.max(1))).unwrap_or_default()
}

/// What all subjects of a namespace's streams begin with.
pub(super) fn subjects_of(prefix: &str, namespace: &str) -> String {
    let mut subjects = format!("{prefix}.h.");
    if namespace.is_empty() {
        subjects.push('_');
    }
    push_token(namespace, &mut subjects);
    subjects.push('.');
    subjects
}

/// A name for a new life of a partition's stream. It is looked up by its subjects, so that its beginning is for people.
pub(super) fn new_name(prefix: &str, namespace: &str, partition: u32) -> String {
    let mut name: String = format!("{prefix}_{namespace}")
        .chars()
        .map(|letter| match letter {
            letter if letter.is_ascii_alphanumeric() => letter,
            '_' | '-' => letter,
            _ => '-',
        })
        .take(200)
        .collect();
    let epoch = rand::random_range(1..=u64::MAX);
    name.push_str(&format!("_{partition}_{epoch:016x}"));
    name
}

/// The partition and the epoch that a stream's name ends in; `None` if it is none of ours.
pub(super) fn read_name(name: &str) -> Option<(u32, Epoch)> {
    let mut parts = name.rsplitn(3, '_');
    let epoch = parts.next().filter(|epoch| epoch.len() == 16)?;
    let partition = parts.next()?.parse().ok()?;
    parts.next()?;
    Some((partition, epoch.parse().ok()?))
}

/// What a republished message says of itself. `None`: it is in no stream.
pub(in crate::broker::nats) struct Republished<'a> {
    pub(in crate::broker::nats) stream: &'a str,
    pub(in crate::broker::nats) sequence: u64,
    /// Of the message before it under its subject; 0: none that is kept.
    pub(in crate::broker::nats) previous: u64,
    /// It is not a publication, but the removal of all before it.
    pub(in crate::broker::nats) is_removal: bool,
}

impl<'a> Republished<'a> {
    pub(in crate::broker::nats) fn read(headers: &'a HeaderMap) -> Option<Self> {
        let number = |name| headers.get(name)?.as_str().parse().ok();
        Some(Self {
            stream: headers.get(NATS_STREAM)?.as_str(),
            sequence: number(NATS_SEQUENCE)?,
            previous: number(NATS_LAST_SEQUENCE)?,
            is_removal: headers.get(REMOVED).is_some(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> Channel {
        Channel::parse(name, 255).unwrap()
    }

    #[test]
    fn a_channel_stays_in_its_partition_for_good() {
        // Computed by hand of FNV-1a, 64 bits: another result would lose every history there is.
        for (name, partition) in [
            ("a", 0xaf63_dc4c_8601_ec8c_u64 % 64),
            ("foobar", 0x8594_4171_f739_67e8 % 64),
        ] {
            assert_eq!(u64::from(partition_of(&channel(name), 64)), partition);
        }
        assert_eq!(partition_of(&channel("anything"), 1), 0);
    }

    #[test]
    fn a_channel_of_no_namespace_is_apart_from_those_of_any() {
        let subject = |name| Place::of("flotilla", &channel(name), 1).unwrap().subject;
        assert_eq!(subject("news").as_str(), "flotilla.h._.0.news");
        assert_eq!(
            subject("$chat:a.b").as_str(),
            "flotilla.h.chat.0.$chat:a%2Eb"
        );
    }

    #[test]
    fn keys_of_different_channels_never_meet() {
        let id = |name, key| Place::of("f", &channel(name), 1).unwrap().message_id(key);
        assert_eq!(id("a", "b\r\n"), "a.b%0D%0A");
        assert_ne!(id("a", "b.c"), id("a.b", "c"));
    }

    #[test]
    fn a_name_leads_back_to_partition_and_epoch() {
        let name = new_name("eu.flotilla", "räume", 12);
        assert!(name.starts_with("eu-flotilla_r-ume_12_"), "{name}");
        let (partition, epoch) = read_name(&name).unwrap();
        assert_eq!(partition, 12);
        assert!(name.ends_with(&epoch.to_string()) && epoch != Epoch(0));
        for other in [
            "",
            "ORDERS",
            "a_b_c",
            "x_1_00000000000000zz",
            "_1_0000000000000001_",
        ] {
            assert!(read_name(other).is_none(), "{other}");
        }
    }
}
