//! What publishers wrote, what of it was acknowledged, and the judgement of a client's record by that.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};

use super::{Event, Given, Message, Record};

/// Events shown around the first mistake of a channel.
const SHOWN: usize = 6;

/// Mistakes of one channel that are spelled out.
const SPELLED: usize = 10;

/// What one publisher has written so far. It writes its next message when the last one is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Writer {
    /// Number of the last message that it has sent.
    pub written: u64,
    /// Number of the last message that was acknowledged.
    pub acknowledged: u64,
}

/// All that was published, by channel.
#[derive(Debug, Default)]
pub struct Ledger {
    channels: BTreeMap<String, Stream>,
}

/// The stream of one channel, as publishers were told.
#[derive(Debug, Default)]
struct Stream {
    writers: BTreeMap<usize, Writer>,
    /// What was acknowledged, by offset.
    acknowledged: BTreeMap<u64, Message>,
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

    /// Notes that a message was acknowledged as the publication with this offset.
    ///
    /// # Errors
    /// When that cannot be: another message is at this place, or an earlier one of the same publisher behind it.
    pub fn acknowledge(&mut self, channel: &str, message: Message, offset: u64) -> Result<()> {
        let stream = self.channels.entry(channel.to_owned()).or_default();
        let mut behind = stream.acknowledged.range(offset..);
        if let Some((at, other)) = behind.find(|(_, other)| other.publisher == message.publisher) {
            anyhow::bail!("{channel}: {message} was acknowledged at {offset}, {other} at {at}");
        }
        match stream.acknowledged.entry(offset) {
            Entry::Vacant(place) => place.insert(message),
            Entry::Occupied(place) => anyhow::bail!(
                "{channel}: {message} was acknowledged at {offset}, and {} too",
                place.get()
            ),
        };
        let writer = stream.writers.entry(message.publisher).or_default();
        writer.acknowledged = message.number;
        Ok(())
    }

    /// How many messages were acknowledged, in all channels together.
    pub fn acknowledged(&self) -> usize {
        let channels = self.channels.values();
        channels.map(|stream| stream.acknowledged.len()).sum()
    }

    /// The number that every publisher has reached: of the last message acknowledged to the slowest one.
    pub fn reached(&self) -> u64 {
        let writers = self
            .channels
            .values()
            .flat_map(|stream| stream.writers.values());
        writers.map(|writer| writer.acknowledged).min().unwrap_or(0)
    }

    /// Whether a client, which was subscribed before the first message, has everything that was acknowledged.
    pub fn is_complete(&self, record: &Record) -> bool {
        record.channels().all(|(channel, events)| {
            let Some(stream) = self.channels.get(channel) else {
                return true;
            };
            let given: BTreeSet<u64> = given(events).map(|given| given.offset).collect();
            stream
                .acknowledged
                .keys()
                .all(|offset| given.contains(offset))
        })
    }

    /// Judges the record of a client that was subscribed before the first message: everything acknowledged is in it
    /// exactly once, what was not acknowledged at most once, all of it in the order of the stream, and the client was
    /// never told that it has missed something.
    ///
    /// # Errors
    /// The mistakes of every channel, with what happened around the first one.
    pub fn audit(&self, record: &Record) -> Result<()> {
        let mut mistakes = String::new();
        for (channel, events) in record.channels() {
            let found = self.mistakes(channel, events);
            if let Some(first) = found.first() {
                let texts = found.iter().take(SPELLED).map(|mistake| &*mistake.text);
                mistakes += &format!(
                    "\n  {channel}: {}{}\n    around: {}",
                    texts.collect::<Vec<_>>().join(", "),
                    if found.len() > SPELLED { ", ..." } else { "" },
                    around(events, first.at)
                );
            }
        }
        ensure!(mistakes.is_empty(), "{}:{mistakes}", record.client());
        Ok(())
    }

    /// Judges all records, each of which belongs to a client as in [`Ledger::audit`].
    ///
    /// # Errors
    /// The mistakes of all of them; or there is nothing to judge.
    pub fn audit_all(&self, records: &[Record]) -> Result<()> {
        ensure!(
            !records.is_empty() && self.acknowledged() > 0,
            "nothing to judge"
        );
        let judged = records.iter().filter_map(|record| self.audit(record).err());
        let mistakes: Vec<String> = judged.map(|mistake| format!("{mistake:#}")).collect();
        let (bad, all) = (mistakes.len(), records.len());
        ensure!(
            bad == 0,
            "{bad} of {all} records are wrong:\n{}",
            mistakes.join("\n")
        );
        Ok(())
    }

    /// What of a publisher's messages may be in a record.
    fn writer(&self, channel: &str, publisher: usize) -> Result<Writer> {
        let stream = self.channels.get(channel).context("no such channel")?;
        let writer = stream.writers.get(&publisher).copied();
        writer.context("no such publisher")
    }

    fn mistakes(&self, channel: &str, events: &[Event]) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        let mut seen = BTreeMap::new();
        let mut last = 0;
        for (at, event) in events.iter().enumerate() {
            let wrong = match event {
                Event::Given(given) => self.wrong(channel, *given, last, &mut seen),
                Event::NotRecovered(_) => Some(event.to_string()),
                _ => None,
            };
            if let Event::Given(Given { offset, .. }) = event {
                last = last.max(*offset);
            }
            mistakes.extend(wrong.map(|text| Mistake { at, text }));
        }
        let offsets: BTreeSet<u64> = given(events).map(|given| given.offset).collect();
        let acknowledged = self
            .channels
            .get(channel)
            .map(|stream| &stream.acknowledged);
        for (offset, message) in acknowledged.into_iter().flatten() {
            if !offsets.contains(offset) {
                // Where it should have been: before the first publication that is behind it.
                let behind =
                    |event: &Event| matches!(event, Event::Given(given) if given.offset > *offset);
                let at = events.iter().position(behind).unwrap_or(events.len());
                let text = format!("missing {message} at {offset}");
                mistakes.push(Mistake { at, text });
            }
        }
        mistakes.sort_by_key(|mistake| mistake.at);
        mistakes
    }

    /// What is wrong with a publication, which was given after one at the offset `last`.
    fn wrong(
        &self,
        channel: &str,
        given: Given,
        last: u64,
        seen: &mut BTreeMap<Message, u64>,
    ) -> Option<String> {
        let Given { offset, message } = given;
        let event = Event::Given(given);
        if let Some(before) = seen.insert(message, offset) {
            return Some(format!("repeated {event}, before at {before}"));
        }
        if offset <= last {
            return Some(format!("out of order {event}, after {last}"));
        }
        match self.writer(channel, message.publisher) {
            Err(unknown) => return Some(format!("foreign {event}: {unknown}")),
            Ok(writer) if message.number > writer.written => {
                return Some(format!("foreign {event}: never written"));
            }
            Ok(writer) if message.number > writer.acknowledged => return None,
            Ok(_) => {}
        }
        let stream = self.channels.get(channel)?;
        let there = stream.acknowledged.get(&offset);
        (there != Some(&message)).then(|| match there {
            Some(other) => format!("misplaced {event}, where {other} is"),
            None => format!("misplaced {event}, where nothing was acknowledged"),
        })
    }
}

/// Something wrong in a channel of a record.
struct Mistake {
    /// Index of the event that shows it.
    at: usize,
    text: String,
}

fn given(events: &[Event]) -> impl Iterator<Item = Given> {
    events.iter().filter_map(|event| match event {
        Event::Given(given) => Some(*given),
        _ => None,
    })
}

fn around(events: &[Event], at: usize) -> String {
    let shown = &events[at.saturating_sub(SHOWN)..events.len().min(at + SHOWN)];
    let texts: Vec<String> = shown.iter().map(Event::to_string).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANNEL: &str = "kept:1";

    /// Two publishers take turns: message `n` of publisher 1 is at 10n, of publisher 2 at 10n + 5. The last one of
    /// publisher 2 was never acknowledged.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        for number in 1..=3 {
            for publisher in [1, 2] {
                let message = ledger.write(CHANNEL, publisher);
                if (publisher, number) != (2, 3) {
                    let offset = place(publisher, number);
                    ledger.acknowledge(CHANNEL, message, offset).unwrap();
                }
            }
        }
        ledger
    }

    fn place(publisher: usize, number: u64) -> u64 {
        10 * number + if publisher == 2 { 5 } else { 0 }
    }

    fn given(publisher: usize, number: u64) -> Event {
        Event::Given(Given {
            offset: place(publisher, number),
            message: Message { publisher, number },
        })
    }

    fn good() -> Vec<Event> {
        [(1, 1), (2, 1), (1, 2), (2, 2), (1, 3)]
            .map(|(publisher, number)| given(publisher, number))
            .into()
    }

    #[track_caller]
    fn check(events: Vec<Event>, mistakes: &[&str]) {
        let mut record = Record::new("client-7", &[CHANNEL.to_owned()]);
        events
            .into_iter()
            .for_each(|event| record.note(CHANNEL, event));
        let found = ledger().audit(&record).err().map(|error| error.to_string());
        let Some(found) = found else {
            assert!(mistakes.is_empty(), "nothing was found");
            return;
        };
        let listed = format!(
            "client-7:\n  {CHANNEL}: {}\n    around: ",
            mistakes.join(", ")
        );
        assert!(found.starts_with(&listed), "{found}");
    }

    #[test]
    fn a_complete_record_is_good_whatever_the_client_lived_through() {
        check(good(), &[]);
        let mut events = good();
        events.insert(0, Event::Subscribed);
        events.insert(3, Event::Disconnected(1012, "restart".to_owned()));
        events.insert(4, Event::Recovered(15));
        events.insert(5, Event::Unsubscribed(2500));
        check(events, &[]);
    }

    #[test]
    fn what_was_not_acknowledged_may_be_there_once() {
        let mut events = good();
        events.push(given(2, 3));
        check(events.clone(), &[]);
        events.push(given(2, 3));
        check(events, &["repeated 2#3 at 35, before at 35"]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut events = good();
        events.remove(4);
        events.remove(1);
        check(events, &["missing 2#1 at 15", "missing 1#3 at 30"]);
    }

    #[test]
    fn what_comes_twice_is_named() {
        let mut events = good();
        events.insert(3, given(2, 1));
        check(events, &["repeated 2#1 at 15, before at 15"]);
    }

    #[test]
    fn what_comes_in_the_wrong_order_is_named() {
        let mut events = good();
        events.swap(1, 2);
        check(events, &["out of order 2#1 at 15, after 20"]);
    }

    #[test]
    fn what_comes_at_another_place_than_was_acknowledged_is_named() {
        let mut events = good();
        let message = Message {
            publisher: 1,
            number: 3,
        };
        events[4] = Event::Given(Given {
            offset: 31,
            message,
        });
        check(
            events,
            &[
                "misplaced 1#3 at 31, where nothing was acknowledged",
                "missing 1#3 at 30",
            ],
        );
    }

    #[test]
    fn what_nobody_wrote_is_named() {
        let mut events = good();
        events.extend([given(1, 4), given(3, 5)]);
        check(
            events,
            &[
                "foreign 1#4 at 40: never written",
                "foreign 3#5 at 50: no such publisher",
            ],
        );
    }

    #[test]
    fn a_client_that_was_told_of_a_loss_is_no_success() {
        let mut events = good();
        events.insert(2, Event::NotRecovered(15));
        check(events, &["NOT recovered from 15"]);
    }

    #[test]
    fn nothing_to_judge_is_no_success() {
        let empty = Record::new("client-7", &[]);
        assert!(Ledger::default().audit_all(&[empty]).is_err());
        assert!(ledger().audit_all(&[]).is_err());
    }

    #[test]
    fn an_acknowledgement_that_cannot_be_is_refused() {
        let mut ledger = ledger();
        let message = ledger.write(CHANNEL, 3);
        assert!(ledger.acknowledge(CHANNEL, message, 15).is_err());
        let message = ledger.write(CHANNEL, 1);
        assert!(ledger.acknowledge(CHANNEL, message, 29).is_err());
    }
}
