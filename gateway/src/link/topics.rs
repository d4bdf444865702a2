//! What is cast over one link, and to whom.
//!
//! Owns: the link's topics, their members, and how far the last cast of each went. A topic is a number that the worker has
//! chosen, and a name that only workers understand. What a member is does not matter here.

use std::collections::HashMap;

use bytes::Bytes;
use slab::Slab;

/// Most topics of one link. A worker that has more does not speak this protocol.
const TOPICS_MAX: usize = 4 * 1024 * 1024;

/// How many times in a row a topic has to be found without anybody until it is forgotten.
const SWEEPS: u8 = 2;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Topics<M> {
    by_number: HashMap<u32, Topic<M>>,
}

/// One topic.
#[derive(Debug)]
pub(super) struct Topic<M> {
    name: Bytes,
    members: Slab<M>,
    /// How many sessions are in it, members or not.
    sessions: usize,
    /// How many times in a row it was found without any.
    sweeps: u8,
    casts: u64,
    /// How far the last cast that said so went.
    last: Option<u64>,
    /// Which cast that was.
    last_cast: u64,
}

impl<M> Default for Topics<M> {
    fn default() -> Self {
        Self {
            by_number: HashMap::new(),
        }
    }
}

impl<M> Topics<M> {
    /// A topic has this name from now on. One that had the number before is forgotten. False if there are too many.
    pub(super) fn name(&mut self, number: u32, name: Bytes) -> bool {
        if self.by_number.len() >= TOPICS_MAX {
            return false;
        }
        let topic = Topic {
            name,
            members: Slab::new(),
            sessions: 0,
            sweeps: 0,
            casts: 0,
            last: None,
            last_cast: 0,
        };
        self.by_number.insert(number, topic);
        true
    }

    pub(super) fn get(&self, number: u32) -> Option<&Topic<M>> {
        self.by_number.get(&number)
    }

    /// Takes a session in, which gets what is cast if it is a member. Where it stands among those; `None` if it does not.
    pub(super) fn join(&mut self, number: u32, member: Option<M>) -> Option<usize> {
        let topic = self.by_number.get_mut(&number)?;
        topic.sessions += 1;
        topic.sweeps = 0;
        Some(topic.members.insert(member?))
    }

    /// Lets a session go, which stands there if it is a member.
    pub(super) fn leave(&mut self, number: u32, stands: Option<usize>) {
        let Some(topic) = self.by_number.get_mut(&number) else {
            return;
        };
        topic.sessions = topic.sessions.saturating_sub(1);
        if let Some(stands) = stands {
            let _ = topic.members.try_remove(stands);
        }
        if topic.members.is_empty() {
            topic.members = Slab::new();
        }
    }

    /// Forgets the topics in which nobody has been since the last time. Not at once: the worker learns of those who have gone
    /// a little later, and may put somebody in until then.
    pub(super) fn sweep(&mut self) {
        self.by_number.retain(|_, topic| {
            topic.sweeps = if topic.sessions == 0 {
                topic.sweeps + 1
            } else {
                0
            };
            topic.sweeps <= SWEEPS
        });
    }

    /// A cast goes as far as `offset`. Those that get it; `None` if there is no such topic.
    pub(super) fn cast(&mut self, number: u32, offset: Option<u64>) -> Option<&Slab<M>> {
        let topic = self.by_number.get_mut(&number)?;
        topic.casts += 1;
        if offset.is_some() {
            topic.last = offset;
            topic.last_cast = topic.casts;
        }
        Some(&topic.members)
    }
}

impl<M> Topic<M> {
    pub(super) fn name(&self) -> &Bytes {
        &self.name
    }

    /// How many casts there have been.
    pub(super) fn casts(&self) -> u64 {
        self.casts
    }

    /// How far the casts behind the first `casts` went.
    pub(super) fn position_after(&self, casts: u64) -> Option<u64> {
        self.last.filter(|_| self.last_cast > casts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics() -> Topics<char> {
        let mut topics = Topics::default();
        assert!(topics.name(7, Bytes::from_static(b"news")));
        topics
    }

    fn members(topics: &mut Topics<char>) -> Vec<char> {
        let members = topics.cast(7, None).expect("the topic is there");
        members.iter().map(|(_, member)| *member).collect()
    }

    #[test]
    fn a_cast_is_for_those_that_are_there() {
        let mut topics = topics();
        let first = topics.join(7, Some('a')).unwrap();
        topics.join(7, Some('b')).unwrap();
        assert_eq!(members(&mut topics), ['a', 'b']);
        topics.leave(7, Some(first));
        assert_eq!(members(&mut topics), ['b']);
        // Whoever is not there may leave.
        topics.leave(7, Some(first));
        topics.leave(8, None);
        assert_eq!(members(&mut topics), ['b']);
    }

    #[test]
    fn there_are_no_casts_and_members_without_a_topic() {
        let mut topics = topics();
        assert!(topics.cast(8, Some(1)).is_none());
        assert!(topics.join(8, Some('a')).is_none());
    }

    #[test]
    fn a_position_is_that_of_the_casts_that_came_later() {
        let mut topics = topics();
        topics.cast(7, Some(10));
        let topic = topics.get(7).unwrap();
        assert_eq!(topic.position_after(0), Some(10));
        let joined = topic.casts();
        assert_eq!(topic.position_after(joined), None);
        // One that says nothing of how far it goes changes nothing.
        topics.cast(7, None);
        assert_eq!(topics.get(7).unwrap().position_after(joined), None);
        topics.cast(7, Some(11));
        assert_eq!(topics.get(7).unwrap().position_after(joined), Some(11));
    }

    #[test]
    fn a_topic_is_forgotten_when_nobody_has_been_there_for_a_while() {
        let mut topics = topics();
        let there = topics.join(7, None);
        for _ in 0..5 {
            topics.sweep();
        }
        assert!(topics.get(7).is_some());
        topics.leave(7, there);
        topics.sweep();
        topics.sweep();
        // Somebody came back in time.
        topics.join(7, None);
        topics.leave(7, None);
        topics.sweep();
        topics.sweep();
        assert!(topics.get(7).is_some());
        topics.sweep();
        assert!(topics.get(7).is_none());
    }

    #[test]
    fn a_number_that_is_given_anew_is_another_topic() {
        let mut topics = topics();
        topics.join(7, Some('a')).unwrap();
        assert!(topics.name(7, Bytes::from_static(b"sport")));
        assert!(members(&mut topics).is_empty());
        assert_eq!(&topics.get(7).unwrap().name()[..], b"sport");
    }
}
