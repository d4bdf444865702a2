//! What becomes of a stream's members: recovered, told, or refused; never silently short of anything.

use std::borrow::Borrow;

use flotilla_shared::broker::{HistoryPage, HistoryQuery, StoredPublication};

use super::*;

pub(super) const POSITIONED: Delivery = Delivery {
    mode: Mode::Full,
    join_leave: false,
    positioned: true,
};

pub(super) fn recover(offset: u64) -> Recover {
    Recover {
        offset,
        epoch: Some(Epoch(1)),
        kind: RecoveryKind::Stream,
        limit: 100,
    }
}

fn cache(offset: u64) -> Recover {
    Recover {
        kind: RecoveryKind::Cache,
        ..recover(offset)
    }
}

fn stored(offset: u64) -> StoredPublication {
    StoredPublication {
        offset,
        payload: payload(offset.to_string().as_bytes()),
    }
}

pub(super) fn page(offsets: &[u64], end: u64) -> HistoryPage {
    HistoryPage {
        publications: offsets.iter().copied().map(stored).collect(),
        end: position(1, end),
        is_complete: true,
    }
}

/// The offsets that a member was given when it joined; `None`: unrecoverable.
pub(super) fn offsets(joined: &Joined) -> Option<Vec<u64>> {
    match joined.recovery.as_ref().unwrap() {
        Recovery::Unrecoverable => None,
        Recovery::Recovered(publications) => {
            for publication in publications {
                assert_eq!(publication.data, publication.offset.to_string());
            }
            Some(
                publications
                    .iter()
                    .map(|publication| publication.offset)
                    .collect(),
            )
        }
    }
}

pub(super) fn delivered(listener: &Listener) -> Vec<u64> {
    let publications = listener.publications();
    publications
        .iter()
        .map(|publication| publication.offset)
        .collect()
}

impl Bench {
    /// A channel whose stream ends at `end`, with one positioned member.
    pub(super) fn open_stream(&mut self, end: u64, member: &Rc<Listener>) -> u64 {
        let subscribing = Subscribing {
            delivery: POSITIONED,
            recover: None,
        };
        let Join::Open(token) = self
            .hub
            .join(&channel("news"), member, subscribing, self.now)
        else {
            panic!()
        };
        let opened = self.hub.opened(token, Ok(Some(history(1, end))), self.now);
        assert_eq!(opened.joined[0].1.position, Some(position(1, end)));
        assert_eq!(opened.joined[0].1.recovery, None);
        token
    }

    fn recover(&mut self, member: &Rc<Listener>, recover: Recover) -> Join {
        let subscribing = Subscribing {
            delivery: POSITIONED,
            recover: Some(recover),
        };
        self.hub
            .join(&channel("news"), member, subscribing, self.now)
    }

    pub(super) fn fetch(&mut self, member: &Rc<Listener>, recover: Recover) -> Fetch {
        match self.recover(member, recover) {
            Join::Fetch(fetch) => fetch,
            join => panic!("{join:?}"),
        }
    }

    /// However often it is read, this is what is found.
    pub(super) fn fetched(&mut self, mut fetch: Fetch, page: impl Borrow<HistoryPage>) -> Joined {
        loop {
            let page = Some(page.borrow());
            let mut fetched = self.hub.fetched(fetch, page, self.now);
            match (fetched.answers.pop(), fetched.again) {
                (Some((_, joined)), None) => return joined.unwrap(),
                (None, Some(again)) => fetch = again,
                other => panic!("{other:?}"),
            }
        }
    }

    pub(super) fn joined_at_once(&mut self, member: &Rc<Listener>, recover: Recover) -> Joined {
        match self.recover(member, recover) {
            Join::Joined(joined) => joined,
            join => panic!("{join:?}"),
        }
    }

    pub(super) fn settled(&mut self) -> (Vec<Joined>, Vec<u32>) {
        let (mut joined, mut insufficient) = (Vec::new(), Vec::new());
        for settled in self.hub.take_settled() {
            match settled {
                Settled::Joined(_, _, got) => joined.push(got),
                Settled::Insufficient(_, member) => insufficient.push(member.id),
            }
        }
        (joined, insufficient)
    }
}

pub(super) fn pair() -> (Rc<Listener>, Rc<Listener>) {
    (
        Listener::new(1, Format::Json),
        Listener::new(2, Format::Protobuf),
    )
}

#[test]
fn publications_say_where_they_stand_and_the_first_one_in_which_life() {
    let mut bench = Bench::new();
    let (ann, _) = pair();
    let token = bench.open_stream(0, &ann);
    bench.stream(token, &[(0, 1), (1, 2)]);
    let publications = ann.publications();
    assert_eq!(publications[0].epoch, Epoch(1).to_string());
    assert_eq!(
        (publications[1].offset, publications[1].epoch.as_str()),
        (2, "")
    );
}

#[test]
fn what_this_shard_has_just_delivered_is_recovered_without_asking_the_broker() {
    let mut bench = Bench::new();
    let (ann, bob) = pair();
    let token = bench.open_stream(3, &ann);
    bench.stream(token, &[(3, 5), (5, 6), (6, 9)]);
    let joined = bench.joined_at_once(&bob, recover(5));
    assert_eq!(joined.position, Some(position(1, 9)));
    assert_eq!(offsets(&joined).unwrap(), [6, 9]);
    bench.stream(token, &[(9, 10)]);
    assert_eq!(delivered(&bob), [10]);
}

#[test]
fn whoever_missed_nothing_is_recovered_at_once() {
    let mut bench = Bench::new();
    let (ann, bob) = pair();
    bench.open_stream(3, &ann);
    let joined = bench.joined_at_once(&bob, recover(3));
    assert_eq!(offsets(&joined).unwrap(), [0; 0]);
}

#[test]
fn a_position_of_another_life_is_never_taken_for_one_of_this() {
    let mut bench = Bench::new();
    let (ann, bob) = pair();
    bench.open_stream(3, &ann);
    let other = Recover {
        epoch: Some(Epoch(2)),
        ..recover(3)
    };
    let joined = bench.joined_at_once(&bob, other);
    assert_eq!(
        (offsets(&joined), joined.position),
        (None, Some(position(1, 3)))
    );
}

#[test]
fn a_channel_without_history_recovers_nothing() {
    let mut bench = Bench::new();
    let (ann, bob) = pair();
    bench.open("news", &ann);
    let joined = bench.joined_at_once(&bob, recover(3));
    assert_eq!((offsets(&joined), joined.position), (None, None));
}

#[test]
fn older_publications_are_fetched_and_what_is_delivered_meanwhile_is_added() {
    let mut bench = Bench::new();
    let (ann, bob) = pair();
    let token = bench.open_stream(5, &ann);
    let fetch = bench.fetch(&bob, recover(2));
    assert_eq!(fetch.query.since, Some(2));
    bench.stream(token, &[(5, 6)]);
    assert!(delivered(&bob).is_empty(), "it would get that twice");
    let joined = bench.fetched(fetch, page(&[3, 4, 5], 5));
    assert_eq!(offsets(&joined).unwrap(), [3, 4, 5, 6]);
    bench.stream(token, &[(6, 7)]);
    assert_eq!(delivered(&bob), [7]);
}

#[test]
fn what_was_read_but_not_delivered_yet_is_left_to_the_delivery() {
    let mut bench = Bench::new();
    let (ann, bob) = pair();
    let token = bench.open_stream(5, &ann);
    let fetch = bench.fetch(&bob, recover(4));
    let joined = bench.fetched(fetch, page(&[5, 6, 7], 7));
    assert_eq!(offsets(&joined).unwrap(), [5]);
    bench.stream(token, &[(5, 6), (6, 7)]);
    assert_eq!(delivered(&bob), [6, 7]);
}

#[test]
fn what_is_not_proved_to_be_everything_is_not_given_out() {
    let check = |recover: Recover, page: HistoryPage| {
        let mut bench = Bench::new();
        let (ann, bob) = pair();
        bench.open_stream(5, &ann);
        let fetch = bench.fetch(&bob, recover);
        let joined = bench.fetched(fetch, page.clone());
        assert_eq!(offsets(&joined), None, "{page:?}");
        assert_eq!(joined.position, Some(position(1, 5)));
        assert_eq!(bench.hub.subscriptions(), 2, "it is a member all the same");
    };
    let trimmed = HistoryPage {
        is_complete: false,
        ..page(&[4, 5], 5)
    };
    check(recover(2), trimmed);
    // Older than what is known here, and the ring does not close it.
    check(recover(2), page(&[3, 4], 4));
    let reborn = HistoryPage {
        end: position(2, 5),
        ..page(&[3, 4, 5], 5)
    };
    check(recover(2), reborn);
    // Nobody can have seen that.
    check(recover(9), page(&[], 8));
    let few = Recover {
        limit: 2,
        ..recover(2)
    };
    check(few, page(&[3, 4, 5], 5));
}

#[test]
fn a_read_that_failed_leaves_nobody_behind() {
    let mut bench = Bench::new();
    let (ann, bob) = pair();
    let token = bench.open_stream(5, &ann);
    bench.hub.leave(&channel("news"), &ann, bench.now);
    let fetch = bench.fetch(&bob, recover(2));
    let mut fetched = bench.hub.fetched(fetch, None, bench.now);
    let (member, joined) = fetched.answers.remove(0);
    assert_eq!((member.id, joined), (2, Err(())));
    assert_eq!(bench.hub.subscriptions(), 0);
    assert!(bench.hub.sweep(bench.now).is_empty());
    assert_eq!(bench.hub.sweep(bench.now + LINGER), [token]);
}

#[test]
fn an_answer_for_somebody_who_left_meanwhile_is_not_taken_for_another() {
    let mut bench = Bench::new();
    let (ann, bob) = pair();
    bench.open_stream(5, &ann);
    let stale = bench.fetch(&bob, recover(4));
    bench.hub.leave(&channel("news"), &bob, bench.now);
    let fetch = bench.fetch(&bob, recover(2));
    let answer = bench.hub.fetched(stale, Some(&page(&[5], 5)), bench.now);
    assert!(answer.answers.is_empty());
    let joined = bench.fetched(fetch, page(&[3, 4, 5], 5));
    assert_eq!(offsets(&joined).unwrap(), [3, 4, 5]);
}

#[test]
fn whoever_is_ahead_of_this_shard_waits_until_it_has_caught_up() {
    let mut bench = Bench::new();
    let (ann, bob) = pair();
    let token = bench.open_stream(5, &ann);
    let fetch = bench.fetch(&bob, recover(7));
    let answer = bench.hub.fetched(fetch, Some(&page(&[], 8)), bench.now);
    assert!(answer.answers.is_empty());
    bench.stream(token, &[(5, 6)]);
    assert!(bench.settled().0.is_empty());
    bench.stream(token, &[(6, 7), (7, 8)]);
    let (joined, _) = bench.settled();
    assert_eq!(joined.len(), 1);
    assert_eq!(joined[0].position, Some(position(1, 8)));
    assert_eq!(offsets(&joined[0]).unwrap(), [8]);
    bench.stream(token, &[(8, 9)]);
    assert_eq!(delivered(&bob), [9], "what came before was in its answer");
}

#[test]
fn nobody_waits_for_what_the_broker_has_lost() {
    let wait = |bench: &mut Bench| {
        let (ann, bob) = pair();
        let token = bench.open_stream(5, &ann);
        let fetch = bench.fetch(&bob, recover(7));
        bench.hub.fetched(fetch, Some(&page(&[], 8)), bench.now);
        token
    };
    let mut bench = Bench::new();
    let token = wait(&mut bench);
    bench.stream(token, &[(8, 9)]);
    assert_eq!(offsets(&bench.settled().0[0]), None, "a gap");

    let mut bench = Bench::new();
    wait(&mut bench);
    bench.hub.sweep(bench.now);
    bench.nothing_is_kept();
    bench.hub.sweep(bench.now + Duration::from_secs(1));
    assert!(bench.settled().0.is_empty());
    bench.hub.sweep(bench.now + Duration::from_secs(10));
    assert_eq!(offsets(&bench.settled().0[0]), None, "silence");
}

#[test]
fn a_repeated_publication_is_dropped_and_counted() {
    let mut bench = Bench::new();
    let (ann, _) = pair();
    let token = bench.open_stream(5, &ann);
    let fanout = bench.stream(token, &[(5, 6), (5, 6), (4, 5), (6, 7)]);
    assert_eq!((fanout.repeated, bench.gaps()), (2, vec![]));
    assert_eq!(delivered(&ann), [6, 7]);
}

#[test]
fn nobody_who_relies_on_everything_sees_what_is_behind_a_gap() {
    let mut bench = Bench::new();
    let (ann, bob) = pair();
    let token = bench.open_stream(5, &ann);
    bench.join("news", &bob);
    bench.stream(token, &[(5, 6), (7, 8)]);
    assert_eq!(bench.gaps(), [Gap::Unrecoverable]);
    assert_eq!(bench.settled().1, [1]);
    assert_eq!(
        delivered(&ann),
        [6],
        "or it would recover from behind the gap"
    );
    assert_eq!(delivered(&bob), [6, 8], "it was promised nothing");
    assert_eq!(bench.hub.subscriptions(), 1);
    let fetch = bench.fetch(&ann, recover(6));
    let joined = bench.fetched(fetch, page(&[7, 8], 8));
    assert_eq!(offsets(&joined).unwrap(), [7, 8]);
}

#[test]
fn a_new_life_of_the_stream_is_a_gap() {
    let mut bench = Bench::new();
    let (ann, bob) = pair();
    let token = bench.open_stream(5, &ann);
    let stamp = Stamp {
        position: position(2, 6),
        previous: 5,
    };
    let mut fanout = Fanout::default();
    bench.hub.receive(
        token,
        payload(b"6"),
        Some(stamp),
        &mut BytesMut::new(),
        &mut fanout,
        bench.now,
    );
    bench.hub.flush(&mut fanout, bench.now);
    assert_eq!(bench.settled().1, [1]);
    let joined = bench.joined_at_once(&bob, recover(6));
    assert_eq!(
        (offsets(&joined), joined.position),
        (None, Some(position(2, 6)))
    );
}

#[test]
fn after_an_overflow_the_broker_is_asked_where_a_quiet_channel_stands() {
    let mut bench = Bench::new();
    let (ann, bob) = pair();
    let token = bench.open_stream(5, &ann);
    bench.hub.overflowed(token);
    bench.hub.flush(&mut Fanout::default(), bench.now);
    // 6 was dropped, and nothing has come after it.
    let fetch = bench.fetch(&bob, recover(4));
    let joined = bench.fetched(fetch, page(&[5, 6], 6));
    assert_eq!(offsets(&joined).unwrap(), [5], "both wait for the rest");
    assert_eq!(joined.position, Some(position(1, 5)));
    let queries = bench.hub.due_checks();
    assert_eq!(queries.len(), 1);
    bench
        .hub
        .checked(&queries, Some(vec![position(1, 6)]), bench.now);
    bench.hub.sweep(bench.now);
    assert_eq!(bench.hub.due_repairs().len(), 1, "it is read");
}

#[test]
fn a_position_of_another_life_is_none_after_an_overflow_either() {
    let mut bench = Bench::new();
    let (ann, bob) = pair();
    let token = bench.open_stream(5, &ann);
    bench.hub.overflowed(token);
    bench.hub.flush(&mut Fanout::default(), bench.now);
    bench.settled();
    let elsewhere = Recover {
        epoch: Some(Epoch(2)),
        ..recover(5)
    };
    let fetch = bench.fetch(&bob, elsewhere);
    let joined = bench.fetched(fetch, page(&[6], 6));
    assert_eq!(offsets(&joined), None);
}

#[test]
fn what_arrives_while_a_channel_opens_is_no_gap_and_not_lost() {
    let open = |end: u64| {
        let mut bench = Bench::new();
        let (ann, bob) = pair();
        let token = bench.ask("news", &ann);
        assert_eq!(bench.recover(&bob, recover(3)), Join::Waiting);
        bench.stream(token, &[(4, 5), (5, 6)]);
        let opened = bench
            .hub
            .opened(token, Ok(Some(history(1, end))), bench.now);
        (bench, bob, token, opened)
    };
    // The stream's end was read before 5 was appended.
    let (mut bench, bob, token, opened) = open(4);
    assert_eq!(opened.joined[0].1.position, Some(position(1, 6)));
    let joined = bench.fetched(opened.fetches[0], page(&[4], 4));
    assert_eq!(offsets(&joined).unwrap(), [4, 5, 6]);
    bench.stream(token, &[(6, 7)]);
    assert_eq!(bench.gaps(), []);
    assert_eq!(delivered(&bob), [7]);
    // It was read after 7 was appended, which is still on its way.
    let (mut bench, bob, token, opened) = open(7);
    let joined = bench.fetched(opened.fetches[0], page(&[4, 5, 6, 7], 7));
    assert_eq!(offsets(&joined).unwrap(), [4, 5, 6, 7]);
    let fanout = bench.stream(token, &[(6, 7), (7, 8)]);
    assert_eq!((fanout.repeated, bench.gaps()), (1, vec![]));
    assert_eq!(delivered(&bob), [8]);
}

#[test]
fn a_channel_that_nobody_is_in_any_more_goes_on_being_followed() {
    let mut bench = Bench::new();
    let (ann, _) = pair();
    let token = bench.open_stream(5, &ann);
    bench.hub.leave(&channel("news"), &ann, bench.now);
    bench.stream(token, &[(5, 6), (6, 7)]);
    let joined = bench.joined_at_once(&ann, recover(5));
    assert_eq!(offsets(&joined).unwrap(), [6, 7]);
}

#[test]
fn a_cache_gives_the_latest_publication_to_whoever_does_not_have_it() {
    let mut bench = Bench::new();
    let (ann, bob) = pair();
    let token = bench.open_stream(5, &ann);
    let fetch = bench.fetch(&bob, cache(2));
    let query = HistoryQuery {
        limit: 1,
        since: None,
        reverse: true,
    };
    assert_eq!(fetch.query, query);
    let joined = bench.fetched(fetch, page(&[5], 5));
    assert_eq!(offsets(&joined).unwrap(), [5]);
    bench.stream(token, &[(5, 6)]);
    let carl = Listener::new(3, Format::Json);
    let dora = Listener::new(4, Format::Json);
    let joined = bench.joined_at_once(&carl, cache(2));
    assert_eq!(offsets(&joined).unwrap(), [6]);
    let joined = bench.joined_at_once(&dora, cache(6));
    assert_eq!(offsets(&joined).unwrap(), [0; 0]);
}

#[test]
fn an_empty_cache_recovers_nothing() {
    let mut bench = Bench::new();
    let (ann, bob) = pair();
    bench.open_stream(5, &ann);
    let fetch = bench.fetch(&bob, cache(2));
    let joined = bench.fetched(fetch, page(&[], 5));
    assert_eq!(offsets(&joined), None);
}

#[test]
fn a_cached_publication_does_not_come_twice() {
    let mut bench = Bench::new();
    let (ann, bob) = pair();
    let token = bench.open_stream(5, &ann);
    let fetch = bench.fetch(&bob, cache(2));
    let answer = bench.hub.fetched(fetch, Some(&page(&[6], 6)), bench.now);
    assert!(answer.answers.is_empty());
    bench.stream(token, &[(5, 6)]);
    assert_eq!(offsets(&bench.settled().0[0]).unwrap(), [6]);
    bench.stream(token, &[(6, 7)]);
    assert_eq!(delivered(&bob), [7]);
}

#[test]
fn nobody_is_given_what_has_expired_or_was_removed() {
    let mut bench = Bench::new();
    let (ann, bob) = pair();
    let token = bench.open_stream(5, &ann);
    bench.stream(token, &[(5, 6)]);
    bench.now += Duration::from_secs(59);
    bench.stream(token, &[(6, 7)]);
    bench.now += Duration::from_secs(1);
    let joined = bench.joined_at_once(&bob, recover(6));
    assert_eq!(offsets(&joined).unwrap(), [7]);
    bench.hub.leave(&channel("news"), &bob, bench.now);
    bench.fetch(&bob, recover(5));
    bench.hub.leave(&channel("news"), &bob, bench.now);

    bench.removed(token, stamp(7, 8));
    for recover in [recover(6), cache(5)] {
        let fetch = bench.fetch(&bob, recover);
        let removed = HistoryPage {
            is_complete: false,
            ..page(&[], 8)
        };
        let joined = bench.fetched(fetch, removed);
        assert_eq!(offsets(&joined), None);
        bench.hub.leave(&channel("news"), &bob, bench.now);
    }
    let fetch = bench.fetch(&bob, recover(7));
    let joined = bench.fetched(fetch, page(&[], 8));
    assert_eq!(offsets(&joined).unwrap(), [0; 0]);
    bench.hub.leave(&channel("news"), &bob, bench.now);
    bench.stream(token, &[(8, 9)]);
    assert_eq!(delivered(&ann), [6, 7, 9], "a removal breaks nothing");
    let joined = bench.joined_at_once(&bob, recover(8));
    assert_eq!(offsets(&joined).unwrap(), [9]);
}

#[test]
fn a_removal_behind_a_gap_shows_the_gap() {
    let mut bench = Bench::new();
    let (ann, _) = pair();
    let token = bench.open_stream(5, &ann);
    bench.removed(token, stamp(6, 7));
    bench.stream(token, &[(7, 8)]);
    assert_eq!(bench.settled().1.len(), 1);
    assert_eq!(delivered(&ann), [0; 0]);
}

#[test]
fn who_cannot_hear_of_a_removal_gives_nothing_out_of_memory() {
    let deafen: [fn(&mut Hub<Listener>, u64); 2] = [
        |hub, token| hub.overflowed(token),
        |hub, _| hub.disconnected(),
    ];
    for deafen in deafen {
        let mut bench = Bench::new();
        let (ann, bob) = pair();
        let token = bench.open_stream(5, &ann);
        bench.stream(token, &[(5, 6)]);
        deafen(&mut bench.hub, token);
        bench.fetch(&bob, recover(5));
    }
}

#[test]
fn a_thousand_that_come_back_at_once_cost_two_reads() {
    let mut bench = Bench::new();
    let (ann, _) = pair();
    let token = bench.open_stream(50, &ann);
    let crowd: Vec<_> = (2..1002)
        .map(|id| Listener::new(id, Format::Json))
        .collect();
    let first = bench.fetch(&crowd[0], recover(30));
    for (member, offset) in crowd[1..].iter().zip((20..50).cycle()) {
        let join = bench.recover(member, recover(offset));
        assert!(matches!(join, Join::Waiting), "{join:?}");
    }
    let missed: Vec<u64> = (31..=50).collect();
    let fetched = bench
        .hub
        .fetched(first, Some(&page(&missed, 50)), bench.now);
    assert_eq!(fetched.answers.len(), 1);
    let second = fetched.again.unwrap();
    assert_eq!(second.query.since, Some(20), "of whoever lacks the most");
    let missed: Vec<u64> = (21..=50).collect();
    let fetched = bench
        .hub
        .fetched(second, Some(&page(&missed, 50)), bench.now);
    assert!(fetched.again.is_none());
    assert_eq!(fetched.answers.len(), 999);
    let wanted = (20..50).cycle();
    for ((member, joined), (asked, offset)) in
        fetched.answers.iter().zip(crowd[1..].iter().zip(wanted))
    {
        assert_eq!(member.id, asked.id);
        let missed: Vec<u64> = (offset + 1..=50).collect();
        assert_eq!(offsets(joined.as_ref().unwrap()).unwrap(), missed);
    }
    bench.stream(token, &[(50, 51)]);
    assert_eq!(delivered(&crowd[999]), [51]);
}

#[test]
fn who_lacks_less_is_not_refused_for_who_lacks_too_much() {
    let mut bench = Bench::new();
    let (ann, bob) = pair();
    bench.open_stream(50, &ann);
    let first = bench.fetch(&bob, recover(49));
    let crowd: Vec<_> = (3..6).map(|id| Listener::new(id, Format::Json)).collect();
    for (member, offset) in crowd.iter().zip([10, 45, 41]) {
        bench.recover(member, recover(offset));
    }
    let fetched = bench.hub.fetched(first, Some(&page(&[50], 50)), bench.now);
    // The oldest that is kept is 42: 41 may have been followed by one that is not.
    let kept: Vec<u64> = (42..=50).collect();
    let trimmed = HistoryPage {
        is_complete: false,
        ..page(&kept, 50)
    };
    let second = fetched.again.unwrap();
    let fetched = bench.hub.fetched(second, Some(&trimmed), bench.now);
    let answers: Vec<_> = fetched
        .answers
        .iter()
        .map(|(member, joined)| (member.id, offsets(joined.as_ref().unwrap())))
        .collect();
    assert_eq!(
        answers,
        [(3, None), (4, Some((46..=50).collect::<Vec<_>>()))]
    );
    let third = fetched.again.unwrap();
    assert_eq!(third.query.since, Some(41), "its own read may prove it");
    let joined = bench.fetched(third, page(&kept, 50));
    assert_eq!(offsets(&joined).unwrap(), kept);
}

#[test]
fn a_page_that_does_not_reach_the_end_proves_nothing_however_short_it_is() {
    let mut bench = Bench::new();
    let (ann, bob) = pair();
    bench.open_stream(50, &ann);
    let first = bench.fetch(&bob, recover(49));
    let (lee, kim) = (
        Listener::new(3, Format::Json),
        Listener::new(4, Format::Json),
    );
    bench.recover(&lee, recover(10));
    bench.recover(&kim, recover(20));
    let fetched = bench.hub.fetched(first, Some(&page(&[50], 50)), bench.now);
    // The limit counted some that have expired, so that there are fewer, and more behind them.
    let cut_off = HistoryPage {
        is_complete: false,
        ..page(&(15..=40).collect::<Vec<_>>(), 50)
    };
    let second = fetched.again.unwrap();
    let fetched = bench.hub.fetched(second, Some(&cut_off), bench.now);
    let answered: Vec<_> = fetched
        .answers
        .iter()
        .map(|(member, joined)| (member.id, offsets(joined.as_ref().unwrap())))
        .collect();
    assert_eq!(answered, [(3, None)]);
    let third = fetched.again.unwrap();
    assert_eq!(third.query.since, Some(20), "its own read may prove it");
    let missed: Vec<u64> = (21..=50).collect();
    let joined = bench.fetched(third, page(&missed, 50));
    assert_eq!(offsets(&joined).unwrap(), missed);
}
