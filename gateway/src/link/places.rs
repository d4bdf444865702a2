//! Which topics a session is in, and how far it has come in each.
//!
//! Owns: a session's places on the link where it lives, and the positions that it had before. Positions go by the topics'
//! names: another worker has other numbers.

use std::collections::BTreeMap;

use bytes::Bytes;
use flotilla_shared::link::Position;

use super::topics::{Topic, Topics};

/// A session's place in one topic.
#[derive(Clone, Copy, Debug)]
struct Place {
    topic: u32,
    /// Where it stands among those that casts go to, if it gets casts.
    stands: Option<u32>,
    /// As far as it had come when it joined, or by what it got alone since.
    offset: Option<u64>,
    /// How many casts there had been when it joined.
    casts: u64,
}

impl Place {
    fn position<M>(&self, topic: &Topic<M>) -> Option<u64> {
        let by_casts = self.stands.and_then(|_| topic.position_after(self.casts));
        self.offset.max(by_casts)
    }
}

/// See the module's documentation. A session without channels has no heap memory.
#[derive(Debug, Default)]
pub(super) struct Places {
    here: Vec<Place>,
    /// How far the session had come when it was left, in the topics that it has not been put into again.
    before: Vec<Position>,
}

impl Places {
    /// The session is put into a topic; `member` if it gets casts there. False if there is no such topic.
    pub(super) fn join<M>(
        &mut self,
        topics: &mut Topics<M>,
        number: u32,
        offset: Option<u64>,
        member: Option<M>,
    ) -> bool {
        let Some(topic) = topics.get(number) else {
            return false;
        };
        // Its worker knows better now.
        self.before
            .retain(|position| position.topic != topic.name());
        let casts = topic.casts();
        self.remove(topics, number);
        let stands = topics.join(number, member);
        self.here.push(Place {
            topic: number,
            stands: stands.and_then(|place| u32::try_from(place).ok()),
            offset,
            casts,
        });
        true
    }

    /// The session is taken out of a topic.
    pub(super) fn leave<M>(&mut self, topics: &mut Topics<M>, number: u32) {
        if let Some(topic) = topics.get(number) {
            self.before
                .retain(|position| position.topic != topic.name());
        }
        self.remove(topics, number);
    }

    fn remove<M>(&mut self, topics: &mut Topics<M>, number: u32) {
        if let Some(at) = self.here.iter().position(|place| place.topic == number) {
            let place = self.here.swap_remove(at);
            topics.leave(number, place.stands.map(|stands| stands as usize));
        }
        if self.here.is_empty() {
            self.here = Vec::new();
        }
    }

    /// What was sent to the session alone brings it this far in a topic. False if it is not in there.
    pub(super) fn placed(&mut self, number: u32, offset: u64) -> bool {
        let place = self.here.iter_mut().find(|place| place.topic == number);
        if let Some(place) = place {
            place.offset = place.offset.max(Some(offset));
            return true;
        }
        false
    }

    /// The session is taken out of every topic, and remembers how far it has come.
    pub(super) fn keep<M>(&mut self, topics: &mut Topics<M>) {
        let mut reached: BTreeMap<Bytes, u64> = BTreeMap::new();
        for position in self.before.drain(..) {
            reached.insert(position.topic, position.offset);
        }
        for place in std::mem::take(&mut self.here) {
            if let Some(topic) = topics.get(place.topic)
                && let Some(offset) = place.position(topic)
            {
                let slot = reached.entry(topic.name().clone()).or_insert(offset);
                *slot = offset.max(*slot);
            }
            topics.leave(place.topic, place.stands.map(|stands| stands as usize));
        }
        let reached = reached.into_iter();
        self.before = reached
            .map(|(topic, offset)| Position { topic, offset })
            .collect();
    }

    /// How far the session had come when it was left.
    pub(super) fn positions(&self) -> &[Position] {
        &self.before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEWS: u32 = 1;
    const NEWS_TOO: u32 = 2;
    const PLAIN: u32 = 3;

    fn topics() -> Topics<()> {
        let mut topics = Topics::default();
        for (number, name) in [(NEWS, "news"), (NEWS_TOO, "news"), (PLAIN, "plain")] {
            assert!(topics.name(number, Bytes::from_static(name.as_bytes())));
        }
        topics
    }

    fn kept(places: &mut Places, topics: &mut Topics<()>) -> Vec<(String, u64)> {
        places.keep(topics);
        let positions = places.positions().iter();
        positions
            .map(|at| (String::from_utf8(at.topic.to_vec()).unwrap(), at.offset))
            .collect()
    }

    #[test]
    fn a_position_is_the_furthest_of_what_was_joined_with_sent_and_cast() {
        let check = |events: &dyn Fn(&mut Places, &mut Topics<()>), expected: Option<u64>| {
            let (mut places, mut topics) = (Places::default(), topics());
            topics.cast(NEWS, Some(10));
            events(&mut places, &mut topics);
            let expected: Vec<_> = expected
                .map(|at| ("news".to_owned(), at))
                .into_iter()
                .collect();
            assert_eq!(kept(&mut places, &mut topics), expected);
        };
        check(&|_, _| {}, None);
        let join = |places: &mut Places, topics: &mut Topics<()>, offset, casts: bool| {
            assert!(places.join(topics, NEWS, offset, casts.then_some(())));
        };
        // What was cast before it came does not count.
        check(
            &|places, topics| join(places, topics, Some(8), true),
            Some(8),
        );
        check(
            &|places, topics| {
                join(places, topics, Some(8), true);
                topics.cast(NEWS, Some(12));
            },
            Some(12),
        );
        // Nor does what it does not get.
        check(
            &|places, topics| {
                join(places, topics, Some(8), false);
                topics.cast(NEWS, Some(12));
            },
            Some(8),
        );
        check(
            &|places, topics| {
                join(places, topics, Some(8), false);
                assert!(places.placed(NEWS, 11) && places.placed(NEWS, 9));
            },
            Some(11),
        );
        // Two topics of one name are one channel.
        check(
            &|places, topics| {
                join(places, topics, Some(8), true);
                assert!(places.join(topics, NEWS_TOO, Some(9), None));
            },
            Some(9),
        );
        check(
            &|places, topics| {
                join(places, topics, Some(8), true);
                places.leave(topics, NEWS);
                topics.cast(NEWS, Some(12));
            },
            None,
        );
        // A topic without positions has none.
        check(
            &|places, topics| assert!(places.join(topics, PLAIN, None, Some(()))),
            None,
        );
    }

    #[test]
    fn a_position_outlives_workers_until_a_new_one_knows_better() {
        let mut places = Places::default();
        let mut first = topics();
        assert!(places.join(&mut first, NEWS, Some(5), Some(())));
        assert_eq!(kept(&mut places, &mut first), [("news".to_owned(), 5)]);
        // The next worker has gone before it came to the channel.
        let mut second = topics();
        assert!(places.join(&mut second, PLAIN, None, Some(())));
        assert_eq!(kept(&mut places, &mut second), [("news".to_owned(), 5)]);
        // The one behind it begins anew, as the stream has.
        let mut third = topics();
        assert!(places.join(&mut third, NEWS_TOO, Some(1), Some(())));
        assert_eq!(kept(&mut places, &mut third), [("news".to_owned(), 1)]);
        let mut fourth = topics();
        places.leave(&mut fourth, NEWS);
        assert_eq!(kept(&mut places, &mut fourth), []);
    }

    #[test]
    fn whoever_is_taken_out_gets_no_casts() {
        let (mut places, mut topics) = (Places::default(), topics());
        let members = |topics: &mut Topics<()>| topics.cast(NEWS, None).unwrap().len();
        assert!(places.join(&mut topics, NEWS, None, Some(())));
        // Joining again does not count twice.
        assert!(places.join(&mut topics, NEWS, None, Some(())));
        assert_eq!(members(&mut topics), 1);
        places.keep(&mut topics);
        assert_eq!(members(&mut topics), 0);
    }
}
