//! What the broker does not deliver is read and delivered in its place; what cannot be read is told.

use super::recovery::{POSITIONED, delivered, offsets, page, pair, recover};
use super::*;

impl Bench {
    /// The one read that is due.
    fn gap(&mut self) -> GapQuery {
        let mut due = self.hub.due_repairs();
        assert_eq!(due.len(), 1, "{due:?}");
        due.remove(0)
    }

    /// The broker drops what was in the channel up to `end`, and its end is asked for; what is to be read.
    fn overflow(&mut self, token: u64, end: u64) -> GapQuery {
        self.hub.overflowed(token);
        let queries = self.hub.due_checks();
        let ends = Some(vec![position(1, end)]);
        self.hub.checked(&queries, ends, self.now);
        self.sweep(MOMENT);
        self.gap()
    }

    fn repaired(&mut self, gap: &GapQuery, page: impl Into<Option<HistoryPage>>) -> Fanout {
        let (mut fanout, mut scratch) = (Fanout::default(), BytesMut::new());
        let GapQuery { token, ticket, .. } = gap;
        let (hub, now) = (&mut self.hub, self.now);
        hub.repaired(*token, *ticket, page.into(), &mut scratch, &mut fanout, now);
        hub.flush(&mut fanout, now);
        fanout
    }

    /// A moment later.
    fn sweep(&mut self, after: Duration) {
        self.now += after;
        self.hub.sweep(self.now);
    }
}

const MOMENT: Duration = Duration::from_millis(100);

#[test]
fn what_is_missing_comes_before_what_follows_it() {
    let mut bench = Bench::new();
    let (ann, bob) = pair();
    let token = bench.open_stream(5, &ann);
    bench.join("news", &bob);
    bench.receive(token, &[(5, 6), (8, 9), (9, 11)]);
    assert_eq!(delivered(&ann), [6], "the others wait for what is missing");
    let gap = bench.gap();
    assert_eq!((gap.query.since, gap.query.reverse), (Some(6), false));
    bench.receive(token, &[(11, 12)]);
    let fanout = bench.repaired(&gap, page(&[7, 8, 9], 9));
    assert_eq!(bench.gaps(), [Gap::Repaired]);
    assert_eq!(fanout.repeated, 0, "the broker repeated nothing");
    for member in [&ann, &bob] {
        assert_eq!(delivered(member), [6, 7, 8, 9, 11, 12]);
    }
    assert!(bench.settled().1.is_empty());
    assert_eq!(bench.hub.due_repairs(), []);
}

#[test]
fn who_comes_in_while_a_gap_is_read_misses_nothing_either() {
    let mut bench = Bench::new();
    let (ann, bob) = pair();
    let token = bench.open_stream(5, &ann);
    bench.receive(token, &[(6, 7)]);
    let positioned = Subscribing {
        delivery: POSITIONED,
        recover: None,
    };
    let join = bench
        .hub
        .join(&channel("news"), &bob, positioned, bench.now);
    let Join::Joined(joined) = join else {
        panic!("{join:?}");
    };
    assert_eq!(joined.position, Some(position(1, 5)));
    let gap = bench.gap();
    bench.repaired(&gap, page(&[6], 6));
    assert_eq!((delivered(&ann), delivered(&bob)), (vec![6, 7], vec![6, 7]));
}

#[test]
fn a_gap_behind_a_gap_is_read_too() {
    let mut bench = Bench::new();
    let (ann, _) = pair();
    let token = bench.open_stream(5, &ann);
    bench.receive(token, &[(6, 7), (8, 9)]);
    let gap = bench.gap();
    bench.repaired(&gap, page(&[6, 7], 7));
    assert_eq!(delivered(&ann), [6, 7]);
    let gap = bench.gap();
    assert_eq!(gap.query.since, Some(7));
    bench.repaired(&gap, page(&[8, 9], 9));
    assert_eq!(delivered(&ann), [6, 7, 8, 9]);
}

#[test]
fn a_page_from_where_not_everything_is_known_yet_is_read_again() {
    let mut bench = Bench::new();
    let (ann, _) = pair();
    let token = bench.open_stream(5, &ann);
    bench.receive(token, &[(6, 7)]);
    for too_early in [Some(page(&[], 5)), None] {
        let gap = bench.gap();
        bench.repaired(&gap, too_early);
        assert_eq!(bench.hub.due_repairs(), [], "not at once");
        bench.sweep(MOMENT);
    }
    let stale = bench.gap();
    bench.repaired(&stale, page(&[6], 6));
    bench.repaired(&stale, page(&[6], 6));
    assert_eq!(delivered(&ann), [6, 7]);
}

#[test]
fn a_gap_that_nobody_can_fill_is_told_and_the_others_go_on() {
    let lost = HistoryPage {
        is_complete: false,
        ..page(&[7], 9)
    };
    let other_life = HistoryPage {
        end: position(2, 9),
        ..page(&[6, 7], 9)
    };
    for page in [lost, other_life] {
        let mut bench = Bench::new();
        let (ann, bob) = pair();
        let token = bench.open_stream(5, &ann);
        bench.join("news", &bob);
        bench.receive(token, &[(7, 8), (8, 9)]);
        let gap = bench.gap();
        bench.repaired(&gap, page);
        assert_eq!(bench.gaps(), [Gap::Unrecoverable]);
        assert_eq!(bench.settled().1, [1]);
        assert_eq!((delivered(&ann), delivered(&bob)), (vec![], vec![8, 9]));
    }
}

#[test]
fn a_broker_that_stays_away_is_not_waited_for_for_ever() {
    let mut bench = Bench::new();
    let (ann, _) = pair();
    let token = bench.open_stream(5, &ann);
    bench.receive(token, &[(6, 7)]);
    let mut tries = 0;
    while bench.settled().1.is_empty() {
        let gap = bench.gap();
        bench.repaired(&gap, None);
        bench.sweep(Duration::from_secs(1));
        tries += 1;
    }
    assert!((2..20).contains(&tries), "{tries}");
}

#[test]
fn what_is_held_back_is_bounded() {
    let mut bench = Bench::new();
    let (ann, bob) = pair();
    let token = bench.open_stream(5, &ann);
    bench.join("news", &bob);
    bench.receive(token, &[(6, 7)]);
    let gap = bench.gap();
    let mut offset = 7;
    while bench.settled().1.is_empty() {
        bench.receive(token, &[(offset, offset + 1)]);
        offset += 1;
        assert!(offset < 10_000);
    }
    let all: Vec<u64> = (7..=offset).collect();
    assert_eq!((delivered(&ann), delivered(&bob)), (vec![], all));
    bench.repaired(&gap, page(&[6], 6));
    bench.receive(token, &[(offset, offset + 1)]);
    assert_eq!(delivered(&bob).last(), Some(&(offset + 1)));
}

#[test]
fn what_was_dropped_is_read() {
    let mut bench = Bench::new();
    let (ann, _) = pair();
    let token = bench.open_stream(5, &ann);
    let gap = bench.overflow(token, 7);
    bench.repaired(&gap, page(&[6, 7], 7));
    assert_eq!(delivered(&ann), [6, 7]);
    bench.sweep(Duration::from_secs(5));
    assert!(bench.settled().1.is_empty());
}

#[test]
fn what_can_be_neither_read_nor_awaited_is_told_also_if_nothing_follows_it() {
    let lost = HistoryPage {
        is_complete: false,
        ..page(&[], 7)
    };
    let mut bench = Bench::new();
    let (ann, bob) = pair();
    let token = bench.open_stream(5, &ann);
    bench.join("news", &bob);
    let gap = bench.overflow(token, 7);
    bench.repaired(&gap, lost);
    bench.sweep(Duration::from_millis(1500));
    assert_eq!(bench.hub.due_repairs(), [], "it would be no other answer");
    assert!(bench.settled().1.is_empty(), "it may be on its way");
    bench.sweep(Duration::from_millis(500));
    assert_eq!(bench.settled().1, [1], "the other relies on nothing");
    assert_eq!(bench.gaps(), [Gap::Unrecoverable]);
}

#[test]
fn quiet_channels_are_looked_after_and_busy_ones_are_not() {
    let mut bench = Bench::new();
    let (ann, _) = pair();
    let token = bench.open_stream(5, &ann);
    bench.sweep(MOMENT);
    let queries = bench.hub.due_checks();
    assert_eq!(queries.len(), 1, "soon after it was opened");
    bench
        .hub
        .checked(&queries, Some(vec![position(1, 5)]), bench.now);
    bench.sweep(Duration::from_secs(31));
    let queries = bench.hub.due_checks();
    assert_eq!(queries.len(), 1, "nothing was heard of it");
    // Meanwhile its memory serves as ever: there is no reason for doubt.
    bench.hub.leave(&channel("news"), &ann, bench.now);
    let joined = bench.joined_at_once(&ann, recover(5));
    assert_eq!(offsets(&joined).unwrap(), [0; 0]);
    let ends = Some(vec![position(1, 6)]);
    bench.hub.checked(&queries, ends, bench.now);
    bench.sweep(MOMENT);
    let gap = bench.gap();
    bench.repaired(&gap, page(&[6], 6));
    assert_eq!(delivered(&ann), [6]);
    bench.receive(token, &[(6, 7)]);
    bench.sweep(Duration::from_secs(31));
    assert_eq!(bench.hub.due_checks(), [], "it spoke");
}
