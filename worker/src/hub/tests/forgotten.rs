//! What the broker has forgotten altogether leaves nothing behind that shows it: a message then says that nothing is
//! before it. That is believed only while it can be true.

use super::recovery::{POSITIONED, delivered, offsets, page, pair, recover};
use super::*;

/// How long the broker knows that there was something: see [`history`].
const MEMORY: Duration = Duration::from_secs(3600);

/// What is read where nothing that was before is known any more.
fn unproved(offsets: &[u64], end: u64) -> HistoryPage {
    HistoryPage {
        is_complete: false,
        ..page(offsets, end)
    }
}

impl Bench {
    /// Time passes; whenever the hub asks, the stream ends there. `None`: nobody answers.
    fn quiet(&mut self, time: Duration, end: Option<u64>) {
        let until = self.now + time;
        while self.now < until {
            self.now += Duration::from_secs(5);
            self.hub.sweep(self.now);
            let due = self.hub.due_checks();
            if !due.is_empty() {
                let end = end.map(|end| position(1, end));
                let ends = end.map(|end| vec![end; due.len()]);
                self.hub.checked(&due, ends, self.now);
            }
        }
    }

    /// Comes while a read is under way.
    fn comes_too(&mut self, member: &Rc<Listener>, offset: u64) {
        self.hub.leave(&channel("news"), member, self.now);
        let subscribing = Subscribing {
            delivery: POSITIONED,
            recover: Some(recover(offset)),
        };
        let join = self
            .hub
            .join(&channel("news"), member, subscribing, self.now);
        assert_eq!(join, Join::Waiting);
    }

    fn lost_and_back(&mut self) {
        self.hub.disconnected();
        self.hub.reconnected();
    }
}

#[test]
fn a_quiet_channel_goes_on_when_all_it_had_has_expired() {
    for here in [0, 5] {
        let mut bench = Bench::new();
        let (ann, bob) = pair();
        let token = bench.open_stream(here, &ann);
        bench.quiet(MEMORY / 2, Some(here));
        bench.quiet(MEMORY, Some(0));
        assert_eq!(
            offsets(&bench.joined_at_once(&bob, recover(here))).unwrap(),
            [0; 0]
        );
        bench.receive(token, &[(0, 9), (9, 10)]);
        assert_eq!(bench.hub.due_repairs(), []);
        assert_eq!(
            (delivered(&ann), delivered(&bob)),
            (vec![9, 10], vec![9, 10])
        );
        assert!(bench.settled().1.is_empty());
    }
}

#[test]
fn what_was_lost_and_forgotten_while_the_connection_was_lost_is_told() {
    for here in [0, 5] {
        let mut bench = Bench::new();
        let (ann, bob) = pair();
        let token = bench.open_stream(here, &ann);
        bench.join("news", &bob);
        bench.lost_and_back();
        bench.receive(token, &[(0, 9), (9, 10)]);
        assert_eq!(delivered(&ann), [0; 0], "something may have been before it");
        let gap = bench.gap();
        assert_eq!(gap.query.since, Some(here));
        bench.repaired(&gap, unproved(&[9, 10], 10));
        assert_eq!(bench.settled().1, [1]);
        assert_eq!((delivered(&ann), delivered(&bob)), (vec![], vec![9, 10]));
        assert_eq!(bench.hub.due_repairs(), []);
    }
}

#[test]
fn the_first_publication_of_a_channel_after_a_lost_connection_is_proved_by_what_is_read() {
    let mut bench = Bench::new();
    let (ann, _) = pair();
    let token = bench.open_stream(0, &ann);
    bench.lost_and_back();
    bench.receive(token, &[(0, 9)]);
    for too_early in [page(&[], 0), page(&[7], 7)] {
        let gap = bench.gap();
        bench.repaired(&gap, too_early);
        assert_eq!(delivered(&ann), [0; 0], "it has to have what shows the gap");
        bench.sweep(Duration::from_millis(100));
    }
    let gap = bench.gap();
    bench.repaired(&gap, page(&[7, 9], 9));
    assert_eq!(delivered(&ann), [7, 9]);
    assert_eq!(bench.gaps(), [Gap::Repaired]);
    bench.receive(token, &[(9, 10)]);
    assert_eq!(delivered(&ann), [7, 9, 10]);
}

#[test]
fn nothing_can_be_before_the_very_first_publication() {
    let mut bench = Bench::new();
    let (ann, _) = pair();
    let token = bench.open_stream(0, &ann);
    bench.lost_and_back();
    bench.receive(token, &[(0, 1)]);
    assert_eq!(delivered(&ann), [1]);
}

#[test]
fn once_the_broker_has_been_asked_nothing_is_held_back_any_more() {
    let mut bench = Bench::new();
    let (ann, _) = pair();
    let token = bench.open_stream(5, &ann);
    bench.lost_and_back();
    bench.quiet(Duration::from_secs(1), Some(0));
    bench.receive(token, &[(0, 9)]);
    assert_eq!(delivered(&ann), [9]);
}

#[test]
fn where_nobody_could_be_asked_for_long_nothing_is_taken_for_proved() {
    let mut bench = Bench::new();
    let (ann, bob) = pair();
    let token = bench.open_stream(5, &ann);
    bench.quiet(MEMORY / 2, None);
    let fetch = bench.fetch(&bob, recover(5));
    assert_eq!(offsets(&bench.fetched(fetch, unproved(&[], 0))), None);
    bench.hub.leave(&channel("news"), &bob, bench.now);
    bench.receive(token, &[(0, 9)]);
    let gap = bench.gap();
    bench.repaired(&gap, unproved(&[9], 9));
    assert_eq!(bench.settled().1, [1]);
    assert_eq!(delivered(&ann), [0; 0]);
}

#[test]
fn who_was_cut_off_for_so_long_that_all_is_forgotten_is_told() {
    let mut bench = Bench::new();
    let (ann, bob) = pair();
    let token = bench.open_stream(5, &ann);
    bench.hub.disconnected();
    bench.quiet(MEMORY / 2, None);
    bench.hub.reconnected();
    bench.quiet(Duration::from_secs(5), Some(0));
    assert_eq!(bench.settled().1, [1]);
    // Who has what was there before cannot know either.
    let fetch = bench.fetch(&bob, recover(5));
    assert_eq!(offsets(&bench.fetched(fetch, unproved(&[], 0))), None);
    bench.receive(token, &[(0, 9)]);
    assert_eq!(delivered(&bob), [9]);
}

#[test]
fn what_is_read_from_the_beginning_proves_nothing_to_who_has_seen_something() {
    let mut bench = Bench::new();
    let (ann, bob) = pair();
    let carl = Listener::new(3, Format::Json);
    bench.open_stream(9, &ann);
    let first = bench.fetch(&carl, recover(7));
    bench.comes_too(&ann, 0);
    bench.comes_too(&bob, 5);
    let again = bench
        .hub
        .fetched(first, Some(&page(&[9], 9)), bench.now)
        .again;
    let read = again.unwrap();
    assert_eq!(read.query.since, Some(0));
    // Between 5 and 9 there was something that has been forgotten.
    let mut fetched = bench.hub.fetched(read, Some(&page(&[9], 9)), bench.now);
    let (_, joined) = fetched.answers.pop().unwrap();
    assert_eq!(offsets(&joined.unwrap()).unwrap(), [9]);
    let read = fetched.again.unwrap();
    assert_eq!(read.query.since, Some(5));
    assert_eq!(offsets(&bench.fetched(read, unproved(&[9], 9))), None);
}

#[test]
fn what_is_read_from_the_beginning_proves_nothing_where_nobody_could_be_asked_for_long() {
    let mut bench = Bench::new();
    let (ann, _) = pair();
    let token = bench.open_stream(0, &ann);
    bench.hub.disconnected();
    bench.quiet(MEMORY / 2, None);
    bench.hub.reconnected();
    bench.receive(token, &[(7, 9)]);
    let gap = bench.gap();
    bench.repaired(&gap, page(&[7, 9], 9));
    assert_eq!(
        bench.settled().1,
        [1],
        "there may have been others before 7"
    );
}
