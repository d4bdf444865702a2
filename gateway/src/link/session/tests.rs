//! Where a session lives, by example; and that nothing is lost, reordered or mixed up, whatever happens.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn numbers(messages: &[Message]) -> Vec<u64> {
    messages.iter().map(|message| message.number).collect()
}

fn said(session: &mut Session) -> Option<(LinkNumber, u64)> {
    session.said(Bytes::from_static(b"x"));
    let (link, messages) = session.unsent()?;
    assert_eq!(messages.len(), 1);
    Some((link, messages[0].number))
}

/// One that is attached to this link.
fn attached(link: LinkNumber) -> Session {
    let mut session = Session::new(9);
    session.open(link).unwrap();
    assert_eq!(session.opened(link), Some(Vec::new()));
    session
}

#[test]
fn the_first_worker_is_told_nothing_of_a_past() {
    let mut session = Session::new(9);
    let opening = session.open(1).unwrap();
    assert_eq!((opening.generation, opening.state), (1, None));
    // It is being asked for already.
    assert_eq!(session.open(2), None);
    assert!(session.refused(1));
    let opening = session.open(2).unwrap();
    assert_eq!((opening.generation, opening.state), (2, None));
    // Late.
    assert_eq!(session.opened(1), None);
    assert_eq!(said(&mut session), None);
    assert_eq!(numbers(&session.opened(2).unwrap()), [1]);
}

#[test]
fn another_worker_gets_the_state_and_what_nobody_has_acknowledged() {
    let mut session = attached(1);
    session.became(1, Bytes::from_static(b"old"));
    session.became(1, Bytes::from_static(b"state"));
    for number in 1..4 {
        assert_eq!(said(&mut session), Some((1, number)));
    }
    assert!(session.acknowledged(1, 2));
    assert!(session.is_owed());
    assert!(session.lost(1));
    assert_eq!(said(&mut session), None);
    let opening = session.open(2).unwrap();
    assert_eq!(opening.state.as_deref(), Some(&b"state"[..]));
    assert_eq!(numbers(&opening.messages), [1, 3, 4]);
    assert_eq!(said(&mut session), None);
    assert_eq!(numbers(&session.opened(2).unwrap()), [5]);
    assert_eq!(said(&mut session), Some((2, 6)));
}

#[test]
fn what_comes_from_where_it_does_not_live_changes_nothing() {
    let mut session = attached(1);
    session.became(1, Bytes::from_static(b"state"));
    said(&mut session);
    session.lost(1);
    session.open(2).unwrap();
    session.opened(2).unwrap();
    session.became(1, Bytes::from_static(b"older"));
    assert!(session.acknowledged(1, 1));
    assert!(!session.lost(1) && !session.release(1) && !session.detached(2));
    assert!(session.takes_from(2) && !session.takes_from(1));
    session.lost(2);
    let opening = session.open(3).unwrap();
    assert_eq!(opening.state.as_deref(), Some(&b"state"[..]));
    assert_eq!(numbers(&opening.messages), [1]);
}

#[test]
fn a_session_that_is_handed_over_keeps_what_is_said_meanwhile() {
    let mut session = attached(1);
    assert!(session.release(1) && !session.release(1));
    assert_eq!(said(&mut session), None);
    assert!(session.takes_from(1));
    session.became(1, Bytes::from_static(b"last"));
    assert!(session.detached(1));
    assert!(!session.takes_from(1));
    let opening = session.open(2).unwrap();
    assert_eq!(opening.state.as_deref(), Some(&b"last"[..]));
    assert_eq!(numbers(&opening.messages), [1]);
}

#[test]
fn an_acknowledgement_of_what_was_not_sent_is_noticed() {
    let mut session = attached(1);
    said(&mut session);
    assert!(!session.acknowledged(1, 2));
    session.release(1);
    said(&mut session);
    assert!(!session.acknowledged(1, 2));
}

#[test]
fn whoever_has_it_hears_of_its_end() {
    assert_eq!(Session::new(9).close(), None);
    let mut session = attached(1);
    assert_eq!(session.close(), Some(1));
    assert!(session.is_closed() && !session.may_read());
    assert_eq!(
        (session.close(), session.open(2), said(&mut session)),
        (None, None, None)
    );
    let mut session = attached(1);
    session.release(1);
    assert_eq!(session.close(), Some(1));
}

/// Something that may happen, on one of four links.
#[derive(Clone, Copy, Debug)]
enum Event {
    Open(LinkNumber),
    Opened(LinkNumber),
    Refused(LinkNumber),
    Lost(LinkNumber),
    Release(LinkNumber),
    Detached(LinkNumber),
    State(LinkNumber),
    Say,
    /// The worker acknowledges the first, second, ... of what it has been given.
    Acknowledge(LinkNumber, prop::sample::Index),
    Close,
}

fn event() -> impl Strategy<Value = Event> {
    let link = || 1_u64..4;
    prop_oneof![
        3 => link().prop_map(Event::Open),
        4 => link().prop_map(Event::Opened),
        1 => link().prop_map(Event::Refused),
        1 => link().prop_map(Event::Lost),
        2 => link().prop_map(Event::Release),
        2 => link().prop_map(Event::Detached),
        2 => link().prop_map(Event::State),
        6 => Just(Event::Say),
        4 => (link(), any::<prop::sample::Index>()).prop_map(|(link, at)| Event::Acknowledge(link, at)),
        1 => Just(Event::Close),
    ]
}

/// What a worker has been given in the attachment that it has.
#[derive(Default)]
struct Given(Vec<u64>);

struct Model {
    session: Session,
    said: u64,
    acknowledged: BTreeSet<u64>,
    given: BTreeMap<LinkNumber, Given>,
    generation: u32,
    /// The last link that anything was taken from, by the generation it was attached in.
    attached_in: u32,
}

impl Model {
    fn new() -> Self {
        Self {
            session: Session::new(9),
            said: 0,
            acknowledged: BTreeSet::new(),
            given: BTreeMap::new(),
            generation: 0,
            attached_in: 0,
        }
    }

    fn owed(&self) -> Vec<u64> {
        (1..=self.said)
            .filter(|number| !self.acknowledged.contains(number))
            .collect()
    }

    fn give(&mut self, link: LinkNumber, messages: &[Message]) {
        let given = self.given.entry(link).or_default();
        given.0.extend(numbers(messages));
        // In the client's order, and each once in an attachment.
        assert!(
            given.0.is_sorted_by(|one, other| one < other),
            "{:?}",
            given.0
        );
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Open(link) => {
                if let Some(opening) = self.session.open(link) {
                    assert_eq!(opening.generation, self.generation + 1);
                    self.generation = opening.generation;
                    self.given.insert(link, Given::default());
                    if opening.state.is_some() {
                        assert_eq!(numbers(&opening.messages), self.owed());
                    }
                    self.give(link, &opening.messages);
                }
            }
            Event::Opened(link) => {
                if let Some(messages) = self.session.opened(link) {
                    self.give(link, &messages);
                    assert!(self.generation > self.attached_in);
                    self.attached_in = self.generation;
                }
            }
            Event::Refused(link) => drop(self.session.refused(link)),
            Event::Lost(link) => drop(self.session.lost(link)),
            Event::Release(link) => drop(self.session.release(link)),
            Event::Detached(link) => drop(self.session.detached(link)),
            Event::State(link) => self.session.became(link, Bytes::from_static(b"state")),
            Event::Say => {
                // The client is not read otherwise.
                if self.session.may_read() {
                    self.said += 1;
                    self.session.said(Bytes::from_static(b"x"));
                    if let Some((link, messages)) = self.session.unsent() {
                        assert_eq!(numbers(&messages), [self.said]);
                        self.give(link, &messages);
                    }
                }
            }
            Event::Acknowledge(link, at) => {
                let takes = self.session.takes_from(link);
                let given = self
                    .given
                    .get(&link)
                    .filter(|given| takes && !given.0.is_empty());
                if let Some(given) = given {
                    let number = given.0[at.index(given.0.len())];
                    assert!(self.session.acknowledged(link, number));
                    self.acknowledged.insert(number);
                }
            }
            Event::Close => drop(self.session.close()),
        }
    }

    fn check(&self) {
        let living: Vec<u64> = (1..4)
            .filter(|link| self.session.takes_from(*link))
            .collect();
        assert!(living.len() <= 1, "frames are taken from one link at most");
        if self.session.is_closed() {
            assert!(!self.session.is_owed());
            return;
        }
        assert_eq!(self.session.is_owed(), !self.owed().is_empty());
        assert!(self.owed().len() <= flotilla_shared::link::UNACKED_MAX);
        // An attached worker has everything that is owed.
        if let Some(link) = self.session.sends_to() {
            let given = &self.given[&link].0;
            assert!(self.owed().iter().all(|number| given.contains(number)));
        }
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_reordered_or_mixed_up(events in vec(event(), 0..120)) {
        let mut model = Model::new();
        for event in events {
            model.happen(event);
            model.check();
        }
        // In the end somebody takes it, and has everything.
        for link in 1..4 {
            model.session.lost(link);
        }
        model.happen(Event::Open(1));
        model.happen(Event::Opened(1));
        model.check();
    }
}
