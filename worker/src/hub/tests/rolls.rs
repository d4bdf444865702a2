//! What the hub promises to those who want to know who comes and goes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use flotilla_shared::protocol::types::{ClientInfo, Join as Coming, Leave as Going};
use flotilla_shared::roster::{LEASE, Life};
use uuid::Uuid;

use super::recovery::POSITIONED;
use super::*;
use crate::roll::{Attachment, Lives, Peer, announcement};

const A: Life = Life(1);
const B: Life = Life(2);

fn lives(lives: &[(Life, u64)]) -> Lives {
    let peers = lives.iter().map(|(life, missed)| {
        let peer = Peer {
            worker: format!("worker-{}", life.0),
            missed: *missed,
        };
        (*life, peer)
    });
    Arc::new(peers.collect::<BTreeMap<_, _>>())
}

fn client(number: u32) -> ClientInfo {
    ClientInfo {
        client: Uuid::from_u128(u128::from(number)).to_string(),
        ..ClientInfo::default()
    }
}

fn join(number: u32, life: Life) -> Bytes {
    let push = Push {
        join: Some(Coming {
            info: Some(client(number)),
        }),
        ..Push::default()
    };
    announcement(&push, life, Attachment::default())
}

fn leave(number: u32, life: Life) -> Bytes {
    let push = Push {
        leave: Some(Going {
            info: Some(client(number)),
        }),
        ..Push::default()
    };
    announcement(&push, life, Attachment::default())
}

fn who_wants_to_know() -> Subscribing {
    Subscribing {
        delivery: Delivery {
            join_leave: true,
            ..Delivery::default()
        },
        recover: None,
    }
}

impl Bench {
    /// Opens a channel for a member who wants to know who comes and goes.
    fn open_hall(&mut self, member: &Rc<Listener>) -> u64 {
        let join = self
            .hub
            .join(&channel("hall"), member, who_wants_to_know(), self.now);
        let Join::Open(token) = join else {
            panic!("{join:?}");
        };
        self.hub.opened(token, Ok(None), self.now);
        token
    }

    fn announce(&mut self, token: u64, payload: Bytes) {
        let (mut scratch, mut fanout) = (BytesMut::new(), Fanout::default());
        let hub = &mut self.hub;
        hub.receive(token, payload, None, &mut scratch, &mut fanout, self.now);
        hub.flush(&mut fanout, self.now);
    }

    fn call(&mut self) {
        let (mut scratch, mut fanout) = (BytesMut::new(), Fanout::default());
        self.hub.call_rolls(&mut scratch, &mut fanout, self.now);
    }

    /// Answers all questions; returns who was asked.
    fn answer(&mut self, there: &[u32]) -> Vec<String> {
        let questions = self.hub.roll_questions(self.now);
        let mut asked = Vec::new();
        for question in questions {
            let members = there.iter().map(|number| (client(*number), 0)).collect();
            let members = Account {
                members,
                is_passing: false,
            };
            let answer = RollAnswer::Members(HashMap::from([(0, members)]));
            self.hub
                .roll_answered(question.life, &question.about, &answer, self.now);
            asked.push(question.worker);
        }
        asked.sort();
        asked
    }
}

fn told(listener: &Listener) -> usize {
    listener.text().matches("\"leave\"").count()
}

#[test]
fn the_members_of_a_lost_worker_have_left_also_those_who_were_there_before() {
    let (mut bench, listener) = (Bench::new(), Listener::new(1, Format::Json));
    bench.hub.hear_of(&lives(&[(A, 0)]), false);
    let token = bench.open_hall(&listener);
    assert_eq!(bench.answer(&[7]), ["worker-1"]);
    bench.announce(token, join(8, A));
    assert_eq!(bench.hub.members_remembered(), 2);
    bench.hub.hear_of(&lives(&[]), false);
    bench.call();
    bench.announce(token, leave(8, A));
    assert_eq!(told(&listener), 2, "{}", listener.text());
    assert_eq!(bench.hub.members_remembered(), 0);
}

#[test]
fn nobody_is_asked_for_those_who_do_not_want_to_know() {
    let (mut bench, listener) = (Bench::new(), Listener::new(1, Format::Json));
    bench.hub.hear_of(&lives(&[(A, 0)]), false);
    let token = bench.open("room", &listener);
    assert!(bench.hub.roll_questions(bench.now).is_empty());
    bench.announce(token, join(8, A));
    assert_eq!(bench.hub.members_remembered(), 0);
}

#[test]
fn who_does_not_want_to_know_any_more_costs_nothing() {
    let (mut bench, listener) = (Bench::new(), Listener::new(1, Format::Json));
    bench.hub.hear_of(&lives(&[(A, 0)]), false);
    bench.open_hall(&listener);
    bench.answer(&[7]);
    bench.join("hall", &Listener::new(2, Format::Json));
    bench.hub.leave(&channel("hall"), &listener, bench.now);
    assert_eq!(bench.hub.members_remembered(), 0);
    assert_eq!(bench.hub.subscriptions(), 1);
}

#[test]
fn a_newcomer_a_worker_that_missed_something_and_our_own_loss_are_asked_about() {
    let (mut bench, listener) = (Bench::new(), Listener::new(1, Format::Json));
    bench.hub.hear_of(&lives(&[(A, 0)]), false);
    let token = bench.open_hall(&listener);
    bench.answer(&[]);
    bench.hub.hear_of(&lives(&[(A, 0), (B, 0)]), false);
    assert_eq!(bench.answer(&[]), ["worker-2"]);
    bench.hub.hear_of(&lives(&[(A, 1), (B, 0)]), false);
    assert_eq!(bench.answer(&[]), ["worker-1"]);
    bench.hub.doubt_roll(token);
    assert_eq!(bench.answer(&[]), ["worker-1", "worker-2"]);
    bench.hub.doubt_rolls();
    assert_eq!(bench.answer(&[]), ["worker-1", "worker-2"]);
    assert_eq!(bench.answer(&[]), Vec::<String>::new());
}

#[test]
fn a_worker_that_does_not_answer_is_asked_again_a_little_later() {
    let (mut bench, listener) = (Bench::new(), Listener::new(1, Format::Json));
    bench.hub.hear_of(&lives(&[(A, 0)]), false);
    bench.open_hall(&listener);
    let question = bench.hub.roll_questions(bench.now).remove(0);
    assert!(
        bench.hub.roll_questions(bench.now).is_empty(),
        "it is asked"
    );
    let about = &question.about;
    bench
        .hub
        .roll_answered(A, about, &RollAnswer::Silence, bench.now);
    assert!(bench.hub.roll_questions(bench.now).is_empty());
    bench.now += Duration::from_secs(1);
    assert_eq!(bench.answer(&[7]), ["worker-1"]);
    assert_eq!(bench.hub.members_remembered(), 1);
}

#[test]
fn more_than_an_answer_holds_is_asked_for_in_smaller_pieces() {
    let mut bench = Bench::new();
    bench.hub.hear_of(&lives(&[(A, 0)]), false);
    for number in 0..8 {
        let (channel, listener) = (
            channel(&format!("hall-{number}")),
            Listener::new(number, Format::Json),
        );
        let join = bench
            .hub
            .join(&channel, &listener, who_wants_to_know(), bench.now);
        let Join::Open(token) = join else { panic!() };
        bench.hub.opened(token, Ok(None), bench.now);
    }
    let sizes: Vec<usize> = std::iter::from_fn(|| {
        let question = bench.hub.roll_questions(bench.now).pop()?;
        let about = &question.about;
        bench
            .hub
            .roll_answered(A, about, &RollAnswer::TooMany, bench.now);
        Some(about.len())
    })
    .collect();
    assert_eq!(sizes, [8, 2, 1, 1, 1, 1, 1, 1, 1, 1], "and then no more");
}

#[test]
fn a_channel_with_more_members_than_an_answer_holds_is_asked_about_after_the_next_loss() {
    let (mut bench, listener) = (Bench::new(), Listener::new(1, Format::Json));
    bench.hub.hear_of(&lives(&[(A, 0)]), false);
    let token = bench.open_hall(&listener);
    let question = bench.hub.roll_questions(bench.now).remove(0);
    let (about, answer) = (&question.about, RollAnswer::TooMany);
    bench.hub.roll_answered(A, about, &answer, bench.now);
    assert!(bench.hub.roll_questions(bench.now).is_empty());
    bench.announce(token, leave(7, A));
    assert_eq!(told(&listener), 1, "who was not listed leaves all the same");
    bench.hub.doubt_roll(token);
    assert_eq!(bench.answer(&[8]), ["worker-1"]);
    assert_eq!(bench.hub.members_remembered(), 1);
}

#[test]
fn however_often_announcements_are_lost_a_channel_waits_once_to_be_asked_about() {
    let mut bench = Bench::new();
    let (ann, bob) = (
        Listener::new(1, Format::Json),
        Listener::new(2, Format::Json),
    );
    bench.hub.hear_of(&lives(&[(A, 0), (B, 0)]), false);
    let token = bench.open_hall(&ann);
    bench.join("hall", &bob);
    let waiting = format!("{:?}", bench.hub.rolls);
    for _ in 0..10 {
        bench.hub.overflowed(token);
        bench.hub.doubt_roll(token);
        bench.hub.doubt_rolls();
        bench.hub.leave(&channel("hall"), &ann, bench.now);
        bench
            .hub
            .join(&channel("hall"), &ann, who_wants_to_know(), bench.now);
    }
    assert_eq!(format!("{:?}", bench.hub.rolls), waiting);
    assert_eq!(bench.answer(&[]), ["worker-1", "worker-2"]);
    assert_eq!(bench.answer(&[]), Vec::<String>::new());
}

#[test]
fn who_comes_after_a_loss_hears_of_nobody_who_left_before() {
    let (mut bench, ann) = (Bench::new(), Listener::new(1, Format::Json));
    bench.hub.hear_of(&lives(&[(A, 0)]), false);
    let positioned = Subscribing {
        delivery: Delivery {
            join_leave: true,
            ..POSITIONED
        },
        recover: None,
    };
    let hall = channel("hall");
    let Join::Open(token) = bench.hub.join(&hall, &ann, positioned.clone(), bench.now) else {
        panic!()
    };
    bench.hub.opened(token, Ok(Some(history(1, 5))), bench.now);
    bench.answer(&[7, 8]);
    bench.stream(token, &[(6, 7)]);
    assert_eq!(bench.hub.take_settled().len(), 1, "everybody is taken out");
    bench.announce(token, leave(7, A));
    bench.hub.join(&hall, &ann, positioned, bench.now);
    bench.answer(&[8]);
    bench.hub.hear_of(&lives(&[]), false);
    bench.call();
    assert_eq!(told(&ann), 1, "{}", ann.text());
}

#[test]
fn members_of_a_worker_of_whom_the_fleet_never_hears_leave_with_a_lease() {
    let (mut bench, listener) = (Bench::new(), Listener::new(1, Format::Json));
    let token = bench.open_hall(&listener);
    bench.announce(token, join(8, A));
    bench.announce(token, join(9, B));
    bench.hub.hear_of(&lives(&[(B, 0)]), false);
    bench.now += LEASE;
    bench.call();
    assert_eq!(told(&listener), 1, "{}", listener.text());
}

#[test]
fn thousands_of_leaves_come_a_turn_at_a_time() {
    let (mut bench, listener) = (Bench::new(), Listener::new(1, Format::Json));
    bench.hub.hear_of(&lives(&[(A, 0)]), false);
    bench.open_hall(&listener);
    bench.answer(&(0..3000).collect::<Vec<_>>());
    bench.hub.hear_of(&lives(&[]), false);
    bench.call();
    let first = told(&listener);
    assert!((100..1500).contains(&first), "{first}");
    (0..30).for_each(|_| bench.call());
    assert_eq!(told(&listener), 3000);
}

#[test]
fn announcements_of_an_older_version_are_passed_on() {
    let (mut bench, listener) = (Bench::new(), Listener::new(1, Format::Json));
    let token = bench.open_hall(&listener);
    for _ in 0..2 {
        bench.announce(token, leave(8, Life::UNKNOWN));
    }
    assert_eq!(told(&listener), 2);
}
