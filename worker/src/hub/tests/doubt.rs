//! Who relies on getting everything is told of what was lost, also in a channel where nothing is said any more.

use super::recovery::{POSITIONED, delivered, offsets, page, pair, recover};
use super::*;

impl Bench {
    fn reconnect(&mut self) {
        self.hub.disconnected();
        self.hub.reconnected();
        self.hub.flush(&mut Fanout::default(), self.now);
    }

    /// The one question that is due.
    fn due(&mut self) -> EndQuery {
        let mut due = self.hub.due_checks();
        assert_eq!(due.len(), 1, "{due:?}");
        due.remove(0)
    }

    fn checked(&mut self, query: &EndQuery, end: Option<StreamPosition>) {
        let ends = end.map(|end| vec![end]);
        self.hub
            .checked(std::slice::from_ref(query), ends, self.now);
    }

    /// Who has been told that something is missing, where nothing of it can be read any more.
    fn told(&mut self, after: Duration) -> Vec<u32> {
        self.now += after;
        self.hub.sweep(self.now);
        self.nothing_is_kept();
        self.settled().1
    }
}

const LONG: Duration = Duration::from_secs(10);

#[test]
fn after_a_lost_connection_each_stream_is_checked_once() {
    let mut bench = Bench::new();
    let (ann, bob) = pair();
    let token = bench.open_stream(5, &ann);
    bench.stream(token, &[(5, 6)]);
    bench.open("gossip", &bob);
    bench.told(Duration::from_secs(1));
    let routine = bench.due();
    bench.checked(&routine, Some(position(1, 6)));
    bench.reconnect();
    let query = bench.due();
    assert_eq!((&query.channel, query.token), (&channel("news"), token));
    assert_eq!(bench.hub.due_checks(), [], "it has been asked");
    // Until the answer is there, nobody knows what has become of the history.
    let fetch = bench.fetch(&bob, recover(5));
    let joined = bench.fetched(fetch, page(&[6], 6));
    assert_eq!(offsets(&joined).unwrap(), [6]);
    bench.checked(&query, Some(position(1, 6)));
    assert!(bench.told(LONG).is_empty());
    assert_eq!(bench.hub.due_checks(), []);
    bench.stream(token, &[(6, 7)]);
    assert_eq!((delivered(&ann), delivered(&bob)), (vec![6, 7], vec![7]));
    let carl = Listener::new(3, Format::Json);
    let joined = bench.joined_at_once(&carl, recover(6));
    assert_eq!(offsets(&joined).unwrap(), [7]);
}

#[test]
fn what_was_lost_in_a_quiet_channel_is_told() {
    let mut bench = Bench::new();
    let (ann, bob) = pair();
    bench.open_stream(5, &ann);
    bench.join("news", &bob);
    bench.reconnect();
    let query = bench.due();
    bench.checked(&query, Some(position(1, 6)));
    assert!(
        bench.told(Duration::from_secs(1)).is_empty(),
        "it may be on its way"
    );
    assert_eq!(bench.told(LONG), [1], "the other relies on nothing");
    let query = bench.due();
    bench.checked(&query, Some(position(1, 6)));
    let joined = bench.joined_at_once(&ann, recover(6));
    assert_eq!(offsets(&joined).unwrap(), [0; 0], "and now all is known");
}

#[test]
fn what_comes_a_little_later_was_not_lost() {
    let mut bench = Bench::new();
    let (ann, _) = pair();
    let token = bench.open_stream(5, &ann);
    bench.reconnect();
    let query = bench.due();
    bench.checked(&query, Some(position(1, 7)));
    bench.told(Duration::ZERO);
    bench.stream(token, &[(5, 6), (6, 7)]);
    assert!(bench.told(LONG).is_empty());
    assert_eq!(delivered(&ann), [6, 7]);
}

#[test]
fn another_life_of_the_stream_is_told_at_once() {
    let mut bench = Bench::new();
    let (ann, _) = pair();
    bench.open_stream(5, &ann);
    bench.reconnect();
    let query = bench.due();
    bench.checked(&query, Some(position(2, 5)));
    assert_eq!(bench.told(Duration::ZERO), [1]);
}

#[test]
fn an_answer_from_before_the_connection_was_lost_again_proves_nothing() {
    let mut bench = Bench::new();
    let (ann, _) = pair();
    bench.open_stream(5, &ann);
    bench.reconnect();
    let stale = bench.due();
    bench.reconnect();
    bench.checked(&stale, Some(position(1, 5)));
    let query = bench.due();
    bench.checked(&query, None);
    let again = bench.due();
    bench.checked(&again, Some(position(1, 6)));
    bench.told(Duration::ZERO);
    assert_eq!(bench.told(LONG), [1]);
}

#[test]
fn nothing_that_was_read_before_the_connection_was_lost_proves_anything() {
    let mut bench = Bench::new();
    let (ann, bob) = pair();
    let token = bench.open_stream(5, &ann);
    bench.hub.overflowed(token);
    bench.hub.flush(&mut Fanout::default(), bench.now);
    let stale = bench.fetch(&bob, recover(5));
    bench.reconnect();
    let joined = bench.fetched(stale, page(&[], 5));
    assert_eq!(offsets(&joined).unwrap(), [0; 0]);
    let query = bench.due();
    bench.checked(&query, Some(position(1, 6)));
    bench.told(Duration::ZERO);
    assert_eq!(bench.told(LONG), [1, 2]);
}

#[test]
fn a_position_of_another_life_is_none_after_a_lost_connection_either() {
    let mut bench = Bench::new();
    let (ann, bob) = pair();
    bench.open_stream(5, &ann);
    bench.reconnect();
    let elsewhere = Recover {
        epoch: Some(Epoch(2)),
        ..recover(5)
    };
    let fetch = bench.fetch(&bob, elsewhere);
    assert_eq!(offsets(&bench.fetched(fetch, page(&[], 5))), None);
}

#[test]
fn many_streams_are_checked_with_few_questions() {
    let mut bench = Bench::new();
    let (ann, _) = pair();
    for number in 0..10_000 {
        let token = bench.ask(&number.to_string(), &ann);
        bench.hub.opened(token, Ok(Some(history(1, 5))), bench.now);
    }
    bench.reconnect();
    let (mut open, mut asked, mut questions) = (VecDeque::new(), 0, 0);
    loop {
        let due = bench.hub.due_checks();
        if !due.is_empty() {
            open.push_back(due);
            assert!(open.len() <= 4);
            continue;
        }
        let Some(queries) = open.pop_front() else {
            break;
        };
        questions += 1;
        asked += queries.len();
        let ends = Some(vec![position(1, 5); queries.len()]);
        bench.hub.checked(&queries, ends, bench.now);
    }
    assert_eq!((asked, questions), (10_000, 10));
}

#[test]
fn whoever_comes_in_behind_a_loss_is_told_of_it_too() {
    let positioned = || Subscribing {
        delivery: POSITIONED,
        recover: None,
    };
    // Messages were dropped before it came.
    let mut bench = Bench::new();
    let (ann, bob) = pair();
    let token = bench.open_stream(5, &ann);
    bench.hub.overflowed(token);
    bench.hub.flush(&mut Fanout::default(), bench.now);
    let join = bench
        .hub
        .join(&channel("news"), &bob, positioned(), bench.now);
    assert!(matches!(join, Join::Joined(_)), "{join:?}");
    let query = bench.due();
    bench.checked(&query, Some(position(1, 6)));
    bench.told(Duration::ZERO);
    assert_eq!(bench.told(LONG), [1, 2]);

    // Messages were dropped while the channel opened.
    for lose in [
        |hub: &mut Hub<Listener>, token| hub.overflowed(token),
        |hub: &mut Hub<Listener>, _| hub.reconnected(),
    ] {
        let mut bench = Bench::new();
        let join = bench
            .hub
            .join(&channel("news"), &ann, positioned(), bench.now);
        let Join::Open(token) = join else {
            panic!("{join:?}");
        };
        lose(&mut bench.hub, token);
        bench.hub.opened(token, Ok(Some(history(1, 5))), bench.now);
        let query = bench.due();
        bench.checked(&query, Some(position(1, 6)));
        bench.told(Duration::ZERO);
        assert_eq!(bench.told(LONG), [1]);
    }
}

#[test]
fn what_comes_after_the_connection_was_lost_is_not_given_out_of_memory_either() {
    let mut bench = Bench::new();
    let (ann, bob) = pair();
    let token = bench.open_stream(5, &ann);
    bench.hub.disconnected();
    // It was on its way, and may have been removed since.
    bench.stream(token, &[(5, 6)]);
    assert_eq!(delivered(&ann), [6]);
    bench.fetch(&bob, recover(5));
    bench.hub.leave(&channel("news"), &bob, bench.now);
    // A channel that is opened meanwhile fares no better.
    let gossip = bench.ask("gossip", &ann);
    let opened = bench.hub.opened(gossip, Ok(Some(history(1, 5))), bench.now);
    assert_eq!(opened.joined.len(), 1);
    bench.stream(gossip, &[(5, 6)]);
    let subscribing = Subscribing {
        delivery: POSITIONED,
        recover: Some(recover(5)),
    };
    let join = bench
        .hub
        .join(&channel("gossip"), &bob, subscribing, bench.now);
    assert!(matches!(join, Join::Fetch(_)), "{join:?}");
    bench.hub.reconnected();
    let due = bench.hub.due_checks();
    let ends = Some(vec![position(1, 6); due.len()]);
    bench.hub.checked(&due, ends, bench.now);
    bench.stream(token, &[(6, 7)]);
    let joined = bench.joined_at_once(&bob, recover(6));
    assert_eq!(offsets(&joined).unwrap(), [7]);
}

#[test]
fn a_channel_of_which_nothing_but_repetitions_comes_is_a_quiet_one() {
    let mut bench = Bench::new();
    let (ann, _) = pair();
    let token = bench.open_stream(5, &ann);
    bench.told(Duration::from_secs(1));
    let routine = bench.due();
    bench.checked(&routine, Some(position(1, 5)));
    // As if the stream had lost its end, and went on with the same offsets.
    assert_eq!(bench.stream(token, &[(3, 4)]).repeated, 1);
    bench.told(Duration::from_secs(30));
    assert_eq!(bench.due().token, token);
}
