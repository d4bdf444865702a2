//! What the broker does not deliver is read and delivered in its place; what cannot be read is told.

use super::recovery::{POSITIONED, delivered, offsets, page, pair, recover};
use super::*;
use crate::hub::held::SHARD_BYTES_MAX;

impl Bench {
    /// The one read that is due.
    pub(super) fn gap(&mut self) -> GapQuery {
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

    pub(super) fn repaired(
        &mut self,
        gap: &GapQuery,
        page: impl Into<Option<HistoryPage>>,
    ) -> Fanout {
        let (mut fanout, mut scratch) = (Fanout::default(), BytesMut::new());
        let GapQuery { token, ticket, .. } = gap;
        let (hub, now) = (&mut self.hub, self.now);
        hub.repaired(*token, *ticket, page.into(), &mut scratch, &mut fanout, now);
        hub.flush(&mut fanout, now);
        fanout
    }

    /// A moment later.
    pub(super) fn sweep(&mut self, after: Duration) {
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

impl Bench {
    /// So many channels with a gap, in each of which something is held back.
    fn many_gaps(&mut self, count: u32, bytes: usize) -> Vec<(u64, Rc<Listener>)> {
        let payload = payload(&vec![b'1'; bytes]);
        let (mut fanout, mut scratch) = (Fanout::default(), BytesMut::new());
        let open = |number| {
            let ann = Listener::new(number, Format::Protobuf);
            let subscribing = Subscribing {
                delivery: POSITIONED,
                recover: None,
            };
            let name = channel(&number.to_string());
            let Join::Open(token) = self.hub.join(&name, &ann, subscribing, self.now) else {
                panic!("{number} is open already");
            };
            self.hub.opened(token, Ok(Some(history(1, 5))), self.now);
            let stamp = Some(stamp(6, 7));
            let (hub, now) = (&mut self.hub, self.now);
            hub.receive(
                token,
                payload.clone(),
                stamp,
                &mut scratch,
                &mut fanout,
                now,
            );
            hub.flush(&mut fanout, now);
            assert!(hub.held_bytes.get() <= SHARD_BYTES_MAX);
            (token, ann)
        };
        (1..=count).map(open).collect()
    }
}

#[test]
fn what_many_channels_hold_back_is_bounded_together() {
    const HALF_A_CHANNELS: usize = 128 * 1024;
    let mut bench = Bench::new();
    bench.many_gaps(200, HALF_A_CHANNELS);
    assert_eq!(bench.settled().1.len(), 0, "there is room for all of them");
    let mut bench = Bench::new();
    let channels = bench.many_gaps(300, HALF_A_CHANNELS);
    let told = bench.settled().1;
    assert_eq!(told.first(), Some(&256), "which would have been too much");
    assert_eq!(told.len(), 300 - 255);
    // The others are as they were, and make room when they are done.
    for _ in 0..255 {
        for gap in bench.hub.due_repairs() {
            bench.repaired(&gap, page(&[6], 6));
        }
    }
    let bytes = |(_, ann): &(u64, Rc<Listener>)| ann.text().len();
    assert!(
        channels[..255]
            .iter()
            .all(|ann| bytes(ann) > HALF_A_CHANNELS)
    );
    assert_eq!(bench.hub.held_bytes.get(), 0);
}

#[test]
fn a_channel_that_is_gone_holds_nothing_back() {
    let mut bench = Bench::new();
    let channels = bench.many_gaps(2, 1000);
    for (number, (_, ann)) in channels.iter().enumerate() {
        let name = channel(&(number + 1).to_string());
        bench.hub.leave(&name, ann, bench.now);
    }
    bench.sweep(LINGER);
    assert_eq!((bench.hub.channels(), bench.hub.held_bytes.get()), (0, 0));
}

#[test]
fn many_gaps_are_read_a_few_at_a_time() {
    let mut bench = Bench::new();
    let channels = bench.many_gaps(100, 1);
    let mut open = VecDeque::from(bench.hub.due_repairs());
    let at_once = open.len();
    assert!((2..20).contains(&at_once), "{at_once}");
    assert_eq!(bench.hub.due_repairs(), []);
    // One that could not be read makes room, and comes again when the others have had their turn.
    let failed = open.pop_front().unwrap();
    bench.repaired(&failed, None);
    bench.sweep(MOMENT);
    let mut reads = 0;
    loop {
        open.extend(bench.hub.due_repairs());
        assert!(open.len() <= at_once);
        let Some(gap) = open.pop_front() else {
            break;
        };
        bench.repaired(&gap, page(&[6], 6));
        bench.repaired(&gap, page(&[6], 6));
        reads += 1;
    }
    assert_eq!(reads, 100);
    for (_, ann) in &channels {
        assert_eq!(ann.publications().len(), 2);
    }
}

#[test]
fn the_channels_that_are_gone_take_nobodys_turn() {
    let mut bench = Bench::new();
    let channels = bench.many_gaps(20, 1);
    let open = bench.hub.due_repairs();
    for (number, (_, ann)) in channels.iter().enumerate() {
        let name = channel(&(number + 1).to_string());
        bench.hub.leave(&name, ann, bench.now);
    }
    bench.sweep(LINGER);
    for gap in &open {
        bench.repaired(gap, None);
    }
    let (ann, _) = pair();
    let token = bench.open_stream(5, &ann);
    bench.receive(token, &[(6, 7)]);
    let gap = bench.gap();
    bench.repaired(&gap, page(&[6], 6));
    assert_eq!(delivered(&ann), [6, 7]);
}

#[test]
fn nobody_waits_for_ever_for_a_turn() {
    let mut bench = Bench::new();
    bench.many_gaps(100, 1);
    let open = bench.hub.due_repairs().len();
    let mut give_up = |after| {
        bench.now += after;
        let (mut fanout, mut scratch) = (Fanout::default(), BytesMut::new());
        let (hub, now) = (&mut bench.hub, bench.now);
        hub.give_up_overdue(&mut scratch, &mut fanout, now);
        bench.settled().1.len()
    };
    assert_eq!(give_up(Duration::from_secs(9)), 0);
    assert_eq!(give_up(Duration::from_secs(1)), 100 - open);
    assert_eq!(bench.hub.due_repairs(), []);
}

#[test]
fn what_a_gap_that_is_given_up_showed_of_the_stream_is_not_forgotten() {
    let mut bench = Bench::new();
    let (ann, bob) = pair();
    let token = bench.open_stream(5, &ann);
    bench.join("news", &bob);
    bench.receive(token, &[(6, 7)]);
    let gap = bench.gap();
    let lost = HistoryPage {
        is_complete: false,
        ..page(&[7, 8], 8)
    };
    bench.repaired(&gap, lost);
    assert_eq!(bench.settled().1, [1]);
    assert_eq!(delivered(&bob), [7]);
    // 8 was lost as well, and nothing follows it.
    bench.sweep(MOMENT);
    let gap = bench.gap();
    assert_eq!(gap.query.since, Some(7));
    bench.repaired(&gap, page(&[8], 8));
    assert_eq!(delivered(&bob), [7, 8]);
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
