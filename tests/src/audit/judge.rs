//! The judgement of what a client saw of one channel.

use std::collections::{BTreeMap, BTreeSet};

use super::ledger::Stream;
use super::{Event, Message, Position};

/// Events shown around the first mistake of a channel.
const SHOWN: usize = 6;

/// Mistakes of a channel that are spelled out.
const SPELLED: usize = 10;

/// What clients may be told that they have missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Losses {
    /// Nothing: what was published is still there for all of them.
    None,
    /// What they really have missed.
    Told,
}

/// Whether everything acknowledged was given, but for what the client was told that it has missed.
pub(super) fn is_complete(stream: &Stream, events: &[Event]) -> bool {
    Walk::through(stream, events).missing().next().is_none()
}

/// What is wrong, if anything is.
pub(super) fn mistakes(stream: &Stream, events: &[Event], losses: Losses) -> Option<String> {
    let mut walk = Walk::through(stream, events);
    let missing: Vec<_> = walk.missing().collect();
    walk.mistakes.extend(missing);
    if losses == Losses::None {
        let told = events.iter().enumerate();
        let told = told.filter(|(_, event)| matches!(event, Event::Missed(_)));
        walk.mistakes
            .extend(told.map(|(index, event)| (index, event.to_string())));
    }
    walk.mistakes.sort_by_key(|(index, _)| *index);
    let (first, _) = *walk.mistakes.first()?;
    let spelled = walk.mistakes.iter().take(SPELLED);
    let mut text = spelled
        .map(|(_, text)| text.as_str())
        .collect::<Vec<_>>()
        .join(", ");
    if walk.mistakes.len() > SPELLED {
        text += &format!(" and {} more", walk.mistakes.len() - SPELLED);
    }
    let around = &events[first.saturating_sub(SHOWN)..events.len().min(first + SHOWN)];
    let around = around.iter().map(Event::to_string).collect::<Vec<_>>();
    Some(format!("{text}\n    around: {}", around.join(", ")))
}

/// One pass through the events of a channel.
struct Walk<'a> {
    stream: &'a Stream,
    /// Where the client is; what comes next is behind it.
    here: Position,
    /// Where each publication was given, and as which event.
    given: BTreeMap<Position, usize>,
    seen: BTreeSet<(String, Message)>,
    /// From where to where the client may have missed something.
    excused: Vec<(Position, Position)>,
    /// The index of the event that shows it, and what it is.
    mistakes: Vec<(usize, String)>,
    /// How many events there are.
    events: usize,
}

impl<'a> Walk<'a> {
    fn through(stream: &'a Stream, events: &[Event]) -> Self {
        let mut walk = Self {
            stream,
            here: Position::default(),
            given: BTreeMap::new(),
            seen: BTreeSet::new(),
            excused: Vec::new(),
            mistakes: Vec::new(),
            events: events.len(),
        };
        for (index, event) in events.iter().enumerate() {
            if let Some(wrong) = walk.step(index, event) {
                walk.mistakes.push((index, wrong));
            }
        }
        walk
    }

    /// What is wrong with the next event, if anything is.
    fn step(&mut self, index: usize, event: &Event) -> Option<String> {
        match event {
            Event::Given(offset, message) => {
                let place = Position {
                    epoch: self.here.epoch.clone(),
                    offset: *offset,
                };
                let is_new = self.seen.insert((place.epoch.clone(), *message));
                let is_behind = place.offset > self.here.offset;
                self.here.offset = self.here.offset.max(*offset);
                self.given.insert(place.clone(), index);
                match (is_new, is_behind) {
                    (false, _) => Some(format!("repeated {event}")),
                    (true, false) => Some(format!("out of order {event}")),
                    (true, true) => self.misplaced(&place, *message),
                }
            }
            Event::Subscribed(start) | Event::Missed(start) => {
                let from = std::mem::replace(&mut self.here, start.clone());
                self.excused.push((from, start.clone()));
                None
            }
            Event::Announced(..)
            | Event::Recovered(_)
            | Event::Unsubscribed(_)
            | Event::Disconnected(..) => None,
        }
    }

    fn misplaced(&self, place: &Position, message: Message) -> Option<String> {
        match self.stream.is_open(message) {
            None => Some(format!("{message} at {place} was never written")),
            Some(true) => None,
            Some(false) => match self.stream.acknowledged.get(place) {
                Some(there) if *there == message => None,
                Some(other) => Some(format!("{message} at {place}, where {other} is")),
                // The stream's life ended before the publisher was told, which then wrote it into the next one.
                None if self.stream.is_of_another_life(message, place) => None,
                None => Some(format!("{message} at {place}, where nothing is")),
            },
        }
    }

    /// What was acknowledged, and neither given nor told as missed; at the event before which it should have come.
    fn missing(&self) -> impl Iterator<Item = (usize, String)> {
        let acknowledged = self.stream.acknowledged.iter();
        let missing = acknowledged.filter(|(place, _)| {
            let mut excused = self.excused.iter();
            !self.given.contains_key(place) && !excused.any(|(from, to)| lies(place, from, to))
        });
        missing.map(|(place, message)| {
            let mut behind = self.given.range(place.clone()..);
            let next = behind.find(|(other, _)| other.epoch == place.epoch);
            let index = next.map_or(self.events, |(_, index)| *index);
            (index, format!("missing {message} at {place}"))
        })
    }
}

/// Whether a place is behind `from` and not behind `to`, which may be of another life of the stream.
fn lies(place: &Position, from: &Position, to: &Position) -> bool {
    let behind = place.epoch == from.epoch && place.offset > from.offset;
    let before = place.epoch == to.epoch && place.offset <= to.offset;
    if from.epoch == to.epoch {
        behind && before
    } else {
        behind || before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Ledger, Record};

    const CHANNEL: &str = "kept:1";

    fn at(epoch: &str, offset: u64) -> Position {
        let epoch = epoch.to_owned();
        Position { epoch, offset }
    }

    /// Two publishers take turns: message `n` of publisher 1 is at 10n, of publisher 2 at 10n + 5. The last one of
    /// publisher 2 was never acknowledged.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        for number in 1..=3 {
            for publisher in [1, 2] {
                let message = ledger.write(CHANNEL, publisher);
                if (publisher, number) != (2, 3) {
                    let place = at("e", place(publisher, number));
                    ledger.acknowledge(CHANNEL, message, place).unwrap();
                }
            }
        }
        ledger
    }

    fn place(publisher: usize, number: u64) -> u64 {
        10 * number + if publisher == 2 { 5 } else { 0 }
    }

    fn given(publisher: usize, number: u64) -> Event {
        Event::Given(place(publisher, number), Message { publisher, number })
    }

    /// Subscribed, and given all that was acknowledged.
    fn good() -> Vec<Event> {
        vec![
            Event::Subscribed(at("e", 0)),
            given(1, 1),
            given(2, 1),
            given(1, 2),
            given(2, 2),
            given(1, 3),
        ]
    }

    #[track_caller]
    fn check(ledger: &Ledger, losses: Losses, events: Vec<Event>, mistakes: &[&str]) {
        let mut record = Record::new("client-7", &[CHANNEL.to_owned()]);
        for event in events {
            record.note(CHANNEL, event);
        }
        let Err(found) = ledger.audit(&[record], losses) else {
            assert!(mistakes.is_empty(), "nothing was found");
            return;
        };
        let listed = mistakes.join(", ");
        let listed = format!("client-7:\n  {CHANNEL}: {listed}\n    around: ");
        assert!(found.to_string().contains(&listed), "{found}");
    }

    #[track_caller]
    fn strictly(events: Vec<Event>, mistakes: &[&str]) {
        check(&ledger(), Losses::None, events, mistakes);
    }

    #[test]
    fn a_complete_record_is_good_whatever_the_client_lived_through() {
        strictly(good(), &[]);
        let mut events = good();
        events.insert(3, Event::Disconnected(1012, "restart".to_owned()));
        events.insert(4, Event::Recovered(at("e", 15)));
        events.insert(5, Event::Unsubscribed(2500));
        strictly(events, &[]);
    }

    #[test]
    fn what_was_not_acknowledged_may_be_there_once() {
        let mut events = good();
        events.push(given(2, 3));
        strictly(events.clone(), &[]);
        events.push(given(2, 3));
        strictly(events, &["repeated 2#3 at 35"]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut events = good();
        events.remove(5);
        events.remove(2);
        let missing = ["missing 2#1 at 15 of \"e\"", "missing 1#3 at 30 of \"e\""];
        strictly(events, &missing);
    }

    #[test]
    fn who_was_never_given_anything_misses_everything() {
        let mut events = good();
        events.truncate(1);
        let missing = [(1, 1), (2, 1), (1, 2), (2, 2), (1, 3)]
            .map(|(publisher, number)| format!("missing {} of \"e\"", given(publisher, number)));
        strictly(events, &missing.each_ref().map(String::as_str));
    }

    #[test]
    fn what_comes_twice_is_named() {
        let mut events = good();
        events.insert(4, given(2, 1));
        strictly(events, &["repeated 2#1 at 15"]);
    }

    #[test]
    fn what_comes_in_the_wrong_order_is_named() {
        let mut events = good();
        events.swap(2, 3);
        strictly(events, &["out of order 2#1 at 15"]);
    }

    #[test]
    fn what_comes_at_another_place_than_was_acknowledged_is_named() {
        let mut events = good();
        let (publisher, number) = (1, 3);
        events[5] = Event::Given(31, Message { publisher, number });
        let missing = "missing 1#3 at 30 of \"e\"";
        strictly(events, &["1#3 at 31 of \"e\", where nothing is", missing]);
    }

    #[test]
    fn what_nobody_wrote_is_named() {
        for invented in [given(1, 4), given(3, 5)] {
            let mut events = good();
            events.push(invented.clone());
            let never = format!("{invented} of \"e\" was never written");
            strictly(events, &[&never]);
        }
    }

    #[test]
    fn a_loss_that_was_told_is_one_where_there_should_be_none() {
        let mut events = good();
        events.insert(3, Event::Missed(at("e", 15)));
        strictly(events.clone(), &["told of a loss before 15 of \"e\""]);
        check(&ledger(), Losses::Told, events, &[]);
    }

    #[test]
    fn only_what_was_told_may_be_missing() {
        let mut events = good();
        // Told of a loss up to the second message, and not given the third one either.
        events.splice(2..4, [Event::Missed(at("e", 15))]);
        let missing = ["missing 1#2 at 20 of \"e\""];
        check(&ledger(), Losses::Told, events, &missing);
    }

    #[test]
    fn who_comes_later_need_not_have_what_was_before() {
        let mut events = good();
        events.splice(0..3, [Event::Subscribed(at("e", 15))]);
        strictly(events, &[]);
    }

    #[test]
    fn what_a_life_that_ended_did_not_acknowledge_any_more_is_no_mistake() {
        let mut ledger = ledger();
        let message = ledger.write(CHANNEL, 1);
        ledger.acknowledge(CHANNEL, message, at("f", 1)).unwrap();
        let mut events = good();
        events.push(Event::Given(40, message));
        events.push(Event::Missed(at("f", 1)));
        check(&ledger, Losses::Told, events.clone(), &[]);
        // In one life each message has one place.
        events.push(Event::Given(2, message));
        let twice = [r#"1#4 at 2 of "f", where nothing is"#];
        check(&ledger, Losses::Told, events, &twice);
    }

    #[test]
    fn a_new_life_of_the_stream_counts_anew() {
        let mut ledger = ledger();
        let message = ledger.write(CHANNEL, 1);
        ledger.acknowledge(CHANNEL, message, at("f", 1)).unwrap();
        let next = ledger.write(CHANNEL, 1);
        ledger.acknowledge(CHANNEL, next, at("f", 2)).unwrap();
        let mut events = good();
        events.splice(4.., [Event::Missed(at("f", 1)), Event::Given(2, next)]);
        check(&ledger, Losses::Told, events.clone(), &[]);
        events.pop();
        let missing = ["missing 1#5 at 2 of \"f\""];
        check(&ledger, Losses::Told, events, &missing);
    }
}
