//! What a roll promises, by example and under whatever order of things.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

mod moves;

const A: Life = Life(1);
const B: Life = Life(2);

fn client(number: u32) -> ClientInfo {
    ClientInfo {
        user: format!("user-{number}"),
        client: id(number).to_string(),
        conn_info: "{}".into(),
        ..ClientInfo::default()
    }
}

/// Announced by a life whose sessions do not move.
fn anew(life: Life) -> Source {
    let attachment = Attachment::default();
    Source { life, attachment }
}

fn id(number: u32) -> Uuid {
    Uuid::from_u128(u128::from(number))
}

fn due(roll: &mut Roll) -> Vec<Notice> {
    std::iter::from_fn(|| roll.next_due()).collect()
}

fn leaves(numbers: &[u32]) -> BTreeSet<String> {
    numbers
        .iter()
        .map(|number| id(*number).to_string())
        .collect()
}

/// The clients of notices that are all leaves.
fn left(notices: &[Notice]) -> BTreeSet<String> {
    let clients = notices.iter().map(|notice| match notice {
        Notice::Leave(info) => info.client.clone(),
        Notice::Join(info) => panic!("{info:?}"),
    });
    clients.collect()
}

fn answer(roll: &mut Roll, life: Life, there: &[u32]) {
    let asked = roll.ask(life).unwrap();
    let there: Vec<_> = there.iter().map(|number| client(*number)).collect();
    roll.answered(life, asked, there.iter().map(|info| (info, 0)));
}

#[test]
fn the_members_of_a_life_that_is_over_have_left_once() {
    let mut roll = Roll::new([&A, &B]);
    answer(&mut roll, A, &[1]);
    answer(&mut roll, B, &[2]);
    assert!(roll.joined(anew(A), &client(3)));
    roll.vanished(A);
    let told = due(&mut roll);
    assert_eq!((told.len(), left(&told)), (2, leaves(&[1, 3])));
    assert!(told.contains(&Notice::Leave(client(3))), "as it was known");
    assert!(!roll.has_left(anew(A), &client(1)), "it was told already");
    roll.vanished(A);
    assert_eq!(due(&mut roll), []);
}

#[test]
fn who_has_left_by_itself_does_not_leave_again() {
    let mut roll = Roll::new([&A]);
    answer(&mut roll, A, &[1]);
    assert!(roll.joined(anew(A), &client(2)));
    assert!(roll.has_left(anew(A), &client(1)));
    assert!(roll.has_left(anew(A), &client(2)));
    roll.vanished(A);
    assert_eq!(due(&mut roll), []);
}

#[test]
fn who_is_there_when_its_worker_comes_back_has_joined_once() {
    let mut roll = Roll::new([&A]);
    answer(&mut roll, A, &[1, 2]);
    roll.vanished(A);
    assert_eq!(left(&due(&mut roll)), leaves(&[1, 2]));
    roll.appeared(A, false);
    assert!(!roll.has_left(anew(A), &client(2)), "it has been told");
    answer(&mut roll, A, &[1]);
    assert_eq!(due(&mut roll), [Notice::Join(client(1))]);
    assert!(!roll.joined(anew(A), &client(1)), "it has been told");
}

#[test]
fn a_worker_that_is_back_before_the_leaves_are_told_has_never_been_away() {
    let mut roll = Roll::new([&A]);
    answer(&mut roll, A, &[1, 2]);
    roll.vanished(A);
    roll.appeared(A, false);
    answer(&mut roll, A, &[1]);
    assert_eq!(due(&mut roll), [Notice::Leave(client(2))]);
}

#[test]
fn whoever_a_new_shard_hears_of_late_was_there_before_all_the_same() {
    let mut roll = Roll::new([]);
    roll.appeared(A, true);
    answer(&mut roll, A, &[1]);
    assert_eq!(due(&mut roll), []);
    // A worker that comes later has new members.
    roll.appeared(B, false);
    answer(&mut roll, B, &[2]);
    assert_eq!(due(&mut roll), [Notice::Join(client(2))]);
}

#[test]
fn who_was_there_before_is_not_announced() {
    let mut roll = Roll::new([&A]);
    answer(&mut roll, A, &[1]);
    assert_eq!(due(&mut roll), []);
    assert!(roll.has_left(anew(A), &client(1)));
}

#[test]
fn who_leaves_while_its_worker_is_asked_is_not_let_in_again() {
    let mut roll = Roll::new([&A]);
    let asked = roll.ask(A).unwrap();
    assert!(roll.has_left(anew(A), &client(1)));
    roll.answered(A, asked, [(&client(1), 0)]);
    roll.vanished(A);
    assert_eq!(due(&mut roll), []);
}

#[test]
fn who_joins_while_its_worker_is_asked_need_not_be_in_the_answer() {
    let mut roll = Roll::new([&A]);
    let asked = roll.ask(A).unwrap();
    assert!(roll.joined(anew(A), &client(1)));
    roll.answered(A, asked, []);
    assert_eq!(due(&mut roll), []);
}

#[test]
fn what_was_missed_is_told_once_it_is_known() {
    let mut roll = Roll::new([&A]);
    answer(&mut roll, A, &[1, 2]);
    roll.doubt(A);
    answer(&mut roll, A, &[2, 3]);
    let told = due(&mut roll);
    assert_eq!(
        told,
        [Notice::Join(client(3)), Notice::Leave(client(1))],
        "and nothing of the one that is still there"
    );
}

#[test]
fn doubts_that_come_up_during_a_question_are_asked_about_again() {
    let mut roll = Roll::new([&A]);
    let asked = roll.ask(A).unwrap();
    assert_eq!(roll.ask(A), None);
    roll.doubt(A);
    assert!(roll.answered(A, asked, []));
    let asked = roll.ask(A).unwrap();
    assert!(roll.unanswered(A, asked));
    assert!(!roll.answered(A, asked, []), "nobody asks any more");
    let asked = roll.ask(A).unwrap();
    assert!(!roll.answered(A, asked, []));
    assert_eq!(roll.ask(A), None);
}

#[test]
fn members_beyond_the_limit_are_announced_and_not_remembered() {
    let mut roll = Roll::new([&A]);
    answer(&mut roll, A, &[]);
    for number in 0..MEMBERS_MAX as u32 + 1 {
        assert!(roll.joined(anew(A), &client(number)));
    }
    assert_eq!(roll.members.len(), MEMBERS_MAX);
    assert!(roll.has_left(anew(A), &client(MEMBERS_MAX as u32)));
}

#[test]
fn a_life_with_more_members_than_an_answer_holds_can_be_asked_again() {
    let mut roll = Roll::new([&A, &B]);
    let asked = roll.ask(A).unwrap();
    roll.has_left(anew(A), &client(1));
    roll.unanswerable(A, asked);
    assert!(roll.left.is_empty());
    for _ in 0..2 {
        assert!(roll.has_left(anew(A), &client(2)), "nobody knows it");
    }
    assert!(roll.left.is_empty(), "nobody will ask for it");
    assert_eq!(roll.ask(A), None);
    roll.doubt(A);
    answer(&mut roll, A, &[3]);
    assert_eq!(due(&mut roll), [Notice::Join(client(3))]);
    assert!(roll.open.iter().all(|open| open.life == B));
}

#[test]
fn who_leaves_during_a_question_is_not_remembered_without_bound() {
    let mut roll = Roll::new([&A]);
    let asked = roll.ask(A).unwrap();
    for number in 0..=MEMBERS_MAX as u32 {
        assert!(roll.has_left(anew(A), &client(number)));
    }
    assert_eq!(roll.left.len(), MEMBERS_MAX);
    let late = client(MEMBERS_MAX as u32);
    assert!(
        roll.answered(A, asked, [(&late, 0)]),
        "it is asked once more"
    );
    answer(&mut roll, A, &[]);
    assert_eq!(due(&mut roll), [Notice::Leave(late)]);
    assert_eq!(roll.len(), 0);
}

const LIVES: usize = 3;
const CLIENTS: u32 = 3;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The client joins or leaves, on its worker.
    Toggle(usize, u32),
    /// An announcement arrives.
    Deliver(usize),
    /// All announcements that are on their way are lost, and that is noticed later.
    Lose(usize),
    Notice(usize),
    Ask(usize),
    /// The worker looks who is there.
    Look(usize),
    Answer(usize),
    GiveUp(usize),
    Vanish(usize),
    Appear(usize),
    /// The worker dies, which is not noticed by that.
    Die(usize),
    Tell,
}

fn step() -> impl Strategy<Value = Step> {
    let life = 0..LIVES;
    prop_oneof![
        8 => (life.clone(), 0..CLIENTS).prop_map(|(life, client)| Step::Toggle(life, client)),
        8 => life.clone().prop_map(Step::Deliver),
        1 => life.clone().prop_map(Step::Lose),
        2 => life.clone().prop_map(Step::Notice),
        4 => life.clone().prop_map(Step::Ask),
        4 => life.clone().prop_map(Step::Look),
        4 => life.clone().prop_map(Step::Answer),
        1 => life.clone().prop_map(Step::GiveUp),
        2 => life.clone().prop_map(Step::Vanish),
        2 => life.clone().prop_map(Step::Appear),
        1 => life.prop_map(Step::Die),
        4 => Just(Step::Tell),
    ]
}

/// A worker as it really is.
#[derive(Debug, Default)]
struct Worker {
    is_dead: bool,
    /// Whether it is in the fleet, to the listener's mind.
    is_known: bool,
    members: BTreeSet<u32>,
    /// Announcements on their way: whether it is a join, and whose.
    sent: VecDeque<(bool, u32)>,
    has_loss: bool,
    /// The number of the question on its way, and what it saw.
    question: Option<(u32, Option<Vec<u32>>)>,
}

struct World {
    roll: Roll,
    workers: Vec<Worker>,
    /// What a subscriber who was there from the beginning has heard last: that somebody is there, or not.
    heard: HashMap<u32, bool>,
    has_lost: bool,
    /// Members at the beginning.
    first: BTreeSet<u32>,
}

fn life(at: usize) -> Life {
    Life(at as u64 + 1)
}

fn number(at: usize, client: u32) -> u32 {
    at as u32 * CLIENTS + client
}

impl World {
    fn new(known: [bool; LIVES], first: &BTreeSet<(usize, u32)>) -> Self {
        let mut workers: Vec<Worker> = (0..LIVES).map(|_| Worker::default()).collect();
        for (at, worker) in workers.iter_mut().enumerate() {
            worker.is_known = known[at];
            let own = first.iter().filter(|(of, _)| *of == at);
            worker.members = own.map(|(_, client)| number(at, *client)).collect();
        }
        let lives: Vec<Life> = (0..LIVES).filter(|at| known[*at]).map(life).collect();
        let members = workers.iter().flat_map(|worker| worker.members.clone());
        Self {
            roll: Roll::new(&lives),
            first: members.collect(),
            workers,
            heard: HashMap::new(),
            has_lost: false,
        }
    }

    fn told(&mut self, is_join: bool, number: u32) {
        let before = self.heard.insert(number, is_join);
        assert_ne!(before, Some(is_join), "client {number} twice");
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Toggle(at, client) => self.toggle(at, number(at, client)),
            Step::Deliver(at) => self.deliver(at),
            Step::Lose(at) => {
                let worker = &mut self.workers[at];
                if !worker.sent.is_empty() {
                    worker.sent.clear();
                    worker.has_loss = true;
                    self.has_lost = true;
                }
            }
            Step::Notice(at) => {
                if std::mem::take(&mut self.workers[at].has_loss) && self.workers[at].is_known {
                    self.roll.doubt(life(at));
                }
            }
            Step::Ask(at) => {
                let worker = &mut self.workers[at];
                if worker.is_known
                    && worker.question.is_none()
                    && let Some(asked) = self.roll.ask(life(at))
                {
                    worker.question = Some((asked, None));
                }
            }
            Step::Look(at) => {
                let worker = &mut self.workers[at];
                if let Some((_, saw @ None)) = &mut worker.question
                    && !worker.is_dead
                {
                    *saw = Some(worker.members.iter().copied().collect());
                }
            }
            Step::Answer(at) => {
                if let Some((_, Some(_))) = &self.workers[at].question
                    && let Some((asked, Some(saw))) = self.workers[at].question.take()
                {
                    let there: Vec<_> = saw.into_iter().map(client).collect();
                    let there = there.iter().map(|info| (info, 0));
                    self.roll.answered(life(at), asked, there);
                }
            }
            Step::GiveUp(at) => {
                if let Some((asked, _)) = self.workers[at].question.take() {
                    self.roll.unanswered(life(at), asked);
                }
            }
            Step::Vanish(at) => {
                self.workers[at].is_known = false;
                self.roll.vanished(life(at));
            }
            Step::Appear(at) => {
                let worker = &mut self.workers[at];
                if !worker.is_known && !worker.is_dead {
                    worker.is_known = true;
                    self.roll.appeared(life(at), false);
                }
            }
            Step::Die(at) => {
                self.workers[at].is_dead = true;
                self.workers[at].members.clear();
            }
            Step::Tell => self.tell(),
        }
    }

    fn deliver(&mut self, at: usize) {
        let Some((is_join, number)) = self.workers[at].sent.pop_front() else {
            return;
        };
        let info = client(number);
        let is_told = if is_join {
            self.roll.joined(anew(life(at)), &info)
        } else {
            self.roll.has_left(anew(life(at)), &info)
        };
        if is_told {
            self.told(is_join, number);
        }
    }

    fn tell(&mut self) {
        match self.roll.next_due() {
            Some(Notice::Join(info)) => self.told(true, number_of(&info)),
            Some(Notice::Leave(info)) => self.told(false, number_of(&info)),
            None => {}
        }
    }

    fn toggle(&mut self, at: usize, number: u32) {
        let worker = &mut self.workers[at];
        if worker.is_dead {
            return;
        }
        let is_join = !worker.members.remove(&number);
        if is_join {
            worker.members.insert(number);
        }
        worker.sent.push_back((is_join, number));
    }

    /// Everything arrives, everybody answers, and who is dead is known to be.
    fn come_to_rest(&mut self) {
        for at in 0..LIVES {
            while !self.workers[at].sent.is_empty() {
                self.take(Step::Deliver(at));
            }
            self.take(Step::Notice(at));
            if self.workers[at].is_dead || !self.workers[at].is_known {
                self.take(Step::Vanish(at));
            }
            for _ in 0..3 {
                self.take(Step::Ask(at));
                self.take(Step::Look(at));
                self.take(Step::Answer(at));
            }
        }
        while self.roll.has_due() {
            self.take(Step::Tell);
        }
    }

    fn is_right(&self) {
        let reachable = self.workers.iter().filter(|worker| worker.is_known);
        let truth: BTreeSet<u32> = reachable
            .flat_map(|worker| worker.members.clone())
            .collect();
        let known: BTreeSet<u32> = self
            .roll
            .members
            .keys()
            .map(|id| id.as_u128() as u32)
            .collect();
        assert_eq!(known, truth);
        assert!(self.roll.left.is_empty() && self.roll.open.is_empty());
        for (number, is_there) in &self.heard {
            assert_eq!(truth.contains(number), *is_there, "client {number}");
        }
        if !self.has_lost {
            let untold = truth
                .iter()
                .filter(|number| !self.heard.contains_key(number));
            let untold: BTreeSet<u32> = untold.copied().collect();
            assert!(
                untold.is_subset(&self.first),
                "{untold:?} have joined since"
            );
        }
    }
}

fn number_of(info: &ClientInfo) -> u32 {
    Uuid::parse_str(&info.client).unwrap().as_u128() as u32
}

proptest! {
    #[test]
    fn joins_and_leaves_alternate_and_come_out_right(
        known in any::<[bool; LIVES]>(),
        first in prop::collection::btree_set((0..LIVES, 0..CLIENTS), 0..5),
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let mut world = World::new(known, &first);
        for step in steps {
            world.take(step);
        }
        world.come_to_rest();
        world.is_right();
    }
}
