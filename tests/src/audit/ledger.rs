//! What publishers wrote, and what of it was acknowledged.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail, ensure};

use super::judge::{self, Losses};
use super::{Message, Position, Record};

/// All that was published, by channel.
#[derive(Debug, Default)]
pub struct Ledger {
    channels: BTreeMap<String, Stream>,
}

/// The stream of one channel, as publishers were told.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// By number.
    writers: BTreeMap<usize, Writer>,
    /// What was acknowledged, and where.
    pub(super) acknowledged: BTreeMap<Position, Message>,
    /// What was acknowledged without saying where.
    unplaced: BTreeSet<Message>,
    /// What was refused for the time being, and may be there all the same.
    refused: BTreeSet<Message>,
}

/// What one publisher has written so far. It writes its next message when the last one is acknowledged.
#[derive(Clone, Copy, Debug, Default)]
struct Writer {
    /// Number of the last message that it has sent.
    written: u64,
    /// Number of the last message that was acknowledged.
    acknowledged: u64,
}

impl Stream {
    /// Whether this was written, and is not known to have been acknowledged; `None` if it was never written.
    pub(super) fn is_open(&self, message: Message) -> Option<bool> {
        let writer = self.writers.get(&message.publisher)?;
        let is_open = message.number > writer.acknowledged || self.refused.contains(&message);
        (message.number <= writer.written).then_some(is_open)
    }

    /// Whether this was acknowledged, and only in another life of the stream than that of `place`.
    pub(super) fn is_of_another_life(&self, message: Message, place: &Position) -> bool {
        let acknowledged = self.acknowledged.iter();
        let mut places = acknowledged.filter(|(_, other)| **other == message);
        places.all(|(other, _)| other.epoch != place.epoch)
    }
}

impl Ledger {
    /// Notes that a publisher is about to write its next message, and returns that.
    pub fn write(&mut self, channel: &str, publisher: usize) -> Message {
        let stream = self.channels.entry(channel.to_owned()).or_default();
        let writer = stream.writers.entry(publisher).or_default();
        writer.written += 1;
        Message {
            publisher,
            number: writer.written,
        }
    }

    /// Notes that a message was acknowledged as the publication at this place.
    ///
    /// # Errors
    /// When that cannot be: another message is at this place, or an earlier one of the same publisher behind it.
    pub fn acknowledge(&mut self, channel: &str, message: Message, place: Position) -> Result<()> {
        let stream = self.channels.entry(channel.to_owned()).or_default();
        let behind = stream.acknowledged.range(place.clone()..);
        let mut behind = behind.take_while(|(other, _)| other.epoch == place.epoch);
        if let Some((at, other)) = behind.find(|(_, other)| other.publisher == message.publisher) {
            bail!("{channel}: {message} was acknowledged at {place}, {other} at {at}");
        }
        match stream.acknowledged.entry(place) {
            Entry::Vacant(free) => free.insert(message),
            Entry::Occupied(taken) => {
                let (place, other) = (taken.key(), taken.get());
                bail!("{channel}: {message} was acknowledged at {place}, and {other} too")
            }
        };
        stream
            .writers
            .entry(message.publisher)
            .or_default()
            .acknowledged = message.number;
        Ok(())
    }

    /// Notes that a message was acknowledged without a word of its place, which [`Ledger::place`] will find.
    pub fn acknowledge_unplaced(&mut self, channel: &str, message: Message) {
        let stream = self.channels.entry(channel.to_owned()).or_default();
        stream.unplaced.insert(message);
        let writer = stream.writers.entry(message.publisher).or_default();
        writer.acknowledged = message.number;
    }

    /// Notes that a message was refused for the time being: it may be in the stream once, or not.
    pub fn leave_open(&mut self, channel: &str, message: Message) {
        let stream = self.channels.entry(channel.to_owned()).or_default();
        stream.refused.insert(message);
        let writer = stream.writers.entry(message.publisher).or_default();
        writer.acknowledged = message.number;
    }

    /// Takes over what others wrote to other channels, or to the same ones.
    ///
    /// # Errors
    /// When both know of the same writer.
    pub fn join(&mut self, other: Self) -> Result<()> {
        for (channel, stream) in other.channels {
            let own = self.channels.entry(channel.clone()).or_default();
            let is_known = |writer: &usize| own.writers.contains_key(writer);
            ensure!(
                !stream.writers.keys().any(is_known),
                "{channel}: two ledgers of a writer"
            );
            own.writers.extend(stream.writers);
            own.acknowledged.extend(stream.acknowledged);
            own.unplaced.extend(stream.unplaced);
            own.refused.extend(stream.refused);
        }
        Ok(())
    }

    /// The channels that were written to.
    pub fn channels(&self) -> impl Iterator<Item = &str> {
        self.channels.keys().map(String::as_str)
    }

    /// Holds what was acknowledged against all that is in the channel's stream: everything is there, nothing is there twice.
    ///
    /// # Errors
    /// When it is not so.
    pub fn place(&mut self, channel: &str, content: &[(Position, Message)]) -> Result<()> {
        let stream = self.channels.entry(channel.to_owned()).or_default();
        let mut places = BTreeMap::new();
        for (place, message) in content {
            if let Some(before) = places.insert(*message, place) {
                bail!("{channel}: {message} is in the stream twice, at {before} and at {place}");
            }
        }
        for (place, message) in &stream.acknowledged {
            let found = places.get(message).copied();
            ensure!(
                found == Some(place),
                "{channel}: {message} was acknowledged at {place}, and is at {found:?}"
            );
        }
        for message in std::mem::take(&mut stream.unplaced) {
            match places.get(&message) {
                Some(place) => stream.acknowledged.insert((*place).clone(), message),
                None => bail!("{channel}: {message} was acknowledged, and is not in the stream"),
            };
        }
        Ok(())
    }

    /// How many messages were acknowledged, in all channels together.
    pub fn acknowledged(&self) -> usize {
        let channels = self.channels.values();
        channels.map(|stream| stream.acknowledged.len()).sum()
    }

    /// The number that every publisher has reached: of the last message acknowledged to the slowest one.
    pub fn reached(&self) -> u64 {
        let streams = self.channels.values();
        let writers = streams.flat_map(|stream| stream.writers.values());
        writers.map(|writer| writer.acknowledged).min().unwrap_or(0)
    }

    /// Whether a client has everything that was acknowledged, but for what it was told that it has missed.
    pub fn is_complete(&self, record: &Record) -> bool {
        record.channels().all(|(channel, events)| {
            let stream = self.channels.get(channel);
            stream.is_none_or(|stream| judge::is_complete(stream, events))
        })
    }

    /// Judges all records: everything acknowledged is in each one exactly once, what was not acknowledged at most once,
    /// all of it in the order of the stream; and what the client was told that it has missed is as `losses` says.
    ///
    /// # Errors
    /// The mistakes of every record and channel, with what happened around the first one; or there is nothing to judge.
    pub fn audit(&self, records: &[Record], losses: Losses) -> Result<()> {
        let any = !records.is_empty() && self.acknowledged() > 0;
        ensure!(any, "nothing to judge");
        let nothing = Stream::default();
        let mut wrong = Vec::new();
        for record in records {
            let channels = record.channels().filter_map(|(channel, events)| {
                let stream = self.channels.get(channel).unwrap_or(&nothing);
                let mistakes = judge::mistakes(stream, events, losses)?;
                Some(format!("\n  {channel}: {mistakes}"))
            });
            let mistakes: String = channels.collect();
            if !mistakes.is_empty() {
                wrong.push(format!("{}:{mistakes}", record.client()));
            }
        }
        let (bad, all) = (wrong.len(), records.len());
        let wrong = wrong.join("\n");
        ensure!(bad == 0, "{bad} of {all} records are wrong:\n{wrong}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64) -> Position {
        let epoch = "e".to_owned();
        Position { epoch, offset }
    }

    #[test]
    fn nothing_to_judge_is_no_success() {
        let empty = Record::new("client-7", &[]);
        let mut ledger = Ledger::default();
        assert!(ledger.audit(&[empty], Losses::None).is_err());
        let message = ledger.write("kept:1", 1);
        ledger.acknowledge("kept:1", message, at(1)).unwrap();
        assert!(ledger.audit(&[], Losses::None).is_err());
    }

    #[test]
    fn an_acknowledgement_that_cannot_be_is_refused() {
        let mut ledger = Ledger::default();
        for (publisher, place, fits) in
            [(1, 10, true), (2, 10, false), (1, 9, false), (1, 11, true)]
        {
            let message = ledger.write("kept:1", publisher);
            let result = ledger.acknowledge("kept:1", message, at(place));
            assert_eq!(result.is_ok(), fits, "{publisher} at {place}");
        }
    }

    #[test]
    fn what_was_acknowledged_without_a_place_has_to_be_in_the_stream_once() {
        let spoken = || {
            let mut ledger = Ledger::default();
            let [first, second] = [(); 2].map(|()| ledger.write("kept:1", 1));
            ledger.acknowledge_unplaced("kept:1", first);
            ledger.leave_open("kept:1", second);
            (ledger, first, second)
        };
        for (places, fits) in [
            (vec![(1, 7)], true),
            (vec![(1, 7), (2, 9)], true),
            (vec![(2, 9)], false),
            (vec![(1, 7), (1, 8)], false),
            (vec![(1, 7), (2, 8), (2, 9)], false),
        ] {
            let (mut ledger, first, second) = spoken();
            let content = places
                .iter()
                .map(|(number, offset)| (at(*offset), if *number == 1 { first } else { second }));
            let content: Vec<_> = content.collect();
            assert_eq!(ledger.place("kept:1", &content).is_ok(), fits, "{places:?}");
            assert_eq!(ledger.acknowledged(), usize::from(fits), "{places:?}");
        }
    }

    #[test]
    fn ledgers_of_different_writers_become_one() {
        let mut ledger = Ledger::default();
        let message = ledger.write("kept:1", 1);
        ledger.acknowledge("kept:1", message, at(1)).unwrap();
        let mut other = Ledger::default();
        let message = other.write("kept:1", 2);
        other.acknowledge("kept:1", message, at(2)).unwrap();
        ledger.join(other).unwrap();
        assert_eq!(ledger.acknowledged(), 2);
        let mut same = Ledger::default();
        same.write("kept:1", 1);
        assert!(ledger.join(same).is_err());
    }

    #[test]
    fn the_slowest_publisher_says_how_far_they_are() {
        let mut ledger = Ledger::default();
        for (publisher, place) in [(1, 1), (2, 2), (1, 3)] {
            let message = ledger.write("kept:1", publisher);
            ledger.acknowledge("kept:1", message, at(place)).unwrap();
        }
        assert_eq!((ledger.reached(), ledger.acknowledged()), (1, 3));
        ledger.write("kept:2", 3);
        assert_eq!(ledger.reached(), 0);
    }
}
