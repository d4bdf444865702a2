//! What a roll promises about clients whose sessions move from worker to worker.

use super::*;

const C: Life = Life(3);

fn attached(life: Life, generation: u32) -> Source {
    let attachment = Attachment {
        generation,
        from: None,
    };
    Source { life, attachment }
}

fn moved(from: Life, life: Life, generation: u32) -> Source {
    let attachment = Attachment {
        generation,
        from: Some(from),
    };
    Source { life, attachment }
}

/// A roll that knows one client, number 1, at A; its subscribers have been told that it has come.
fn one_at_a() -> Roll {
    let mut roll = Roll::new([&A, &B, &C]);
    for life in [A, B, C] {
        answer(&mut roll, life, &[]);
    }
    assert!(roll.joined(attached(A, 1), &client(1)));
    roll
}

#[test]
fn who_has_moved_is_told_to_nobody_and_stays_when_its_old_worker_goes() {
    let mut roll = one_at_a();
    assert!(!roll.joined(moved(A, B, 2), &client(1)));
    roll.vanished(A);
    assert_eq!(due(&mut roll), []);
    roll.vanished(B);
    assert_eq!(due(&mut roll), [Notice::Leave(client(1))]);
}

#[test]
fn who_was_there_before_its_subscribers_still_was_when_it_moves() {
    let mut roll = Roll::new([&A]);
    answer(&mut roll, A, &[1]);
    assert!(!roll.joined(moved(A, B, 2), &client(1)));
    assert!(!roll.joined(moved(A, B, 2), &client(1)));
    assert!(roll.has_left(attached(B, 2), &client(1)));

    let mut unasked = Roll::new([&A]);
    assert!(!unasked.joined(moved(A, B, 2), &client(1)));
    answer(&mut unasked, A, &[1]);
    assert_eq!(due(&mut unasked), [], "the old worker's account is older");
    assert!(unasked.has_left(attached(B, 2), &client(1)));
}

#[test]
fn a_leave_from_where_a_client_was_before_is_passed_over() {
    let mut roll = one_at_a();
    assert!(!roll.joined(moved(A, B, 2), &client(1)));
    assert!(!roll.has_left(attached(A, 1), &client(1)));
    assert!(!roll.joined(moved(B, A, 3), &client(1)));
    assert!(
        !roll.has_left(attached(A, 1), &client(1)),
        "of its first time"
    );
    assert!(!roll.has_left(attached(B, 2), &client(1)));
    assert!(roll.has_left(attached(A, 3), &client(1)));
}

#[test]
fn moves_count_by_their_generation_in_whatever_order_they_are_heard() {
    let mut roll = one_at_a();
    assert!(!roll.joined(moved(B, C, 3), &client(1)));
    assert!(!roll.joined(moved(A, B, 2), &client(1)));
    roll.vanished(A);
    roll.vanished(B);
    assert_eq!(due(&mut roll), []);
    assert!(roll.has_left(attached(C, 3), &client(1)));
}

#[test]
fn a_move_that_is_heard_before_the_join_does_not_swallow_it() {
    let mut roll = Roll::new([&A]);
    assert!(!roll.joined(moved(A, B, 2), &client(1)));
    assert!(roll.joined(attached(A, 1), &client(1)));
    assert!(!roll.joined(attached(A, 1), &client(1)));
    roll.vanished(A);
    assert_eq!(due(&mut roll), []);
}

#[test]
fn a_move_in_time_takes_back_the_leave_that_is_not_told_yet() {
    let mut roll = one_at_a();
    roll.vanished(A);
    assert!(!roll.joined(moved(A, B, 2), &client(1)));
    assert_eq!(due(&mut roll), []);
}

#[test]
fn a_move_that_comes_when_the_leave_has_been_told_is_a_join() {
    let mut roll = one_at_a();
    roll.vanished(A);
    assert_eq!(due(&mut roll), [Notice::Leave(client(1))]);
    assert!(roll.joined(moved(A, B, 2), &client(1)));
    let asked = roll.ask(B).unwrap();
    assert!(!roll.answered(B, asked, [(&client(1), 2)]));
    assert_eq!(due(&mut roll), []);
}

#[test]
fn old_news_of_one_who_has_left_is_put_right() {
    let mut roll = one_at_a();
    assert!(!roll.joined(moved(B, C, 3), &client(1)));
    assert!(roll.has_left(attached(C, 3), &client(1)));
    assert!(
        roll.joined(moved(A, B, 2), &client(1)),
        "nobody knows better"
    );
    answer(&mut roll, B, &[]);
    assert_eq!(due(&mut roll), [Notice::Leave(client(1))]);
}

#[test]
fn an_account_says_who_has_moved_although_the_move_was_not_heard() {
    let mut roll = one_at_a();
    roll.doubt(B);
    let asked = roll.ask(B).unwrap();
    roll.answered(B, asked, [(&client(1), 2)]);
    roll.vanished(A);
    assert_eq!(due(&mut roll), []);
    roll.doubt(B);
    answer(&mut roll, B, &[]);
    assert_eq!(due(&mut roll), [Notice::Leave(client(1))]);
}

#[test]
fn a_move_in_an_overfull_roll_is_told_to_nobody() {
    let mut roll = one_at_a();
    for number in 1..=MEMBERS_MAX as u32 + 1 {
        roll.joined(attached(A, 1), &client(number));
    }
    let beyond = client(MEMBERS_MAX as u32 + 1);
    assert!(!roll.joined(moved(A, B, 2), &beyond));
    assert!(roll.has_left(attached(B, 2), &beyond));
}

const LIVES: usize = 5;
const CLIENTS: u32 = 2;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The session goes on elsewhere; where it was, it still seems to be.
    Move(u32, usize),
    /// Its old worker hears of it.
    Forget(u32),
    /// The client goes.
    Quit(u32),
    Deliver(usize),
    Doubt(usize),
    Ask(usize),
    Look(usize),
    Answer(usize),
    GiveUp(usize),
    /// The worker dies: its sessions go on elsewhere.
    Crash(usize),
    /// That is noticed.
    Vanish(usize),
    Tell,
}

fn step() -> impl Strategy<Value = Step> {
    let (life, client) = (0..LIVES, 0..CLIENTS);
    prop_oneof![
        6 => (client.clone(), life.clone()).prop_map(|(client, life)| Step::Move(client, life)),
        4 => client.clone().prop_map(Step::Forget),
        1 => client.prop_map(Step::Quit),
        10 => life.clone().prop_map(Step::Deliver),
        2 => life.clone().prop_map(Step::Doubt),
        4 => life.clone().prop_map(Step::Ask),
        4 => life.clone().prop_map(Step::Look),
        4 => life.clone().prop_map(Step::Answer),
        1 => life.clone().prop_map(Step::GiveUp),
        1 => life.clone().prop_map(Step::Crash),
        2 => life.prop_map(Step::Vanish),
        4 => Just(Step::Tell),
    ]
}

/// Clients, and their generations.
type Account = Vec<(u32, u32)>;

#[derive(Debug, Default)]
struct Worker {
    is_dead: bool,
    /// Sessions that are there, or seem to be, with their generations.
    members: BTreeSet<(u32, u32)>,
    /// Announcements on their way: whether it is a join, of whom, and how it is attached.
    sent: VecDeque<(bool, u32, Source)>,
    question: Option<(u32, Option<Account>)>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    at: usize,
    generation: u32,
}

struct World {
    roll: Roll,
    workers: Vec<Worker>,
    /// Where the clients are; `None`: gone.
    places: Vec<Option<Place>>,
    /// What has been heard of their places.
    known: Vec<Place>,
    heard: HashMap<u32, bool>,
    /// Old workers are left only when the news is everywhere, and nobody quits.
    is_orderly: bool,
}

impl World {
    fn new(is_orderly: bool) -> Self {
        let lives: Vec<Life> = (0..LIVES).map(life).collect();
        let place = Place {
            at: 0,
            generation: 1,
        };
        let mut workers: Vec<Worker> = (0..LIVES).map(|_| Worker::default()).collect();
        workers[0].members = (0..CLIENTS).map(|client| (client, 1)).collect();
        Self {
            roll: Roll::new(&lives),
            workers,
            places: vec![Some(place); CLIENTS as usize],
            known: vec![place; CLIENTS as usize],
            heard: HashMap::new(),
            is_orderly,
        }
    }

    fn told(&mut self, is_join: bool, number: u32) {
        assert!(is_join || !self.is_orderly, "client {number} has not left");
        let before = self.heard.insert(number, is_join);
        assert_ne!(before, Some(is_join), "client {number} twice");
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Move(client, to) => self.go(client, to),
            Step::Forget(client) => self.forget(client),
            Step::Quit(client) => self.quit(client),
            Step::Deliver(at) => self.deliver(at),
            Step::Doubt(at) => self.roll.doubt(life(at)),
            Step::Ask(at) => {
                let worker = &mut self.workers[at];
                if worker.question.is_none()
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
                    let there: Vec<_> = saw
                        .iter()
                        .map(|(of, times)| (client(*of), *times))
                        .collect();
                    let there = there.iter().map(|(info, generation)| (info, *generation));
                    self.roll.answered(life(at), asked, there);
                }
            }
            Step::GiveUp(at) => {
                if let Some((asked, _)) = self.workers[at].question.take() {
                    self.roll.unanswered(life(at), asked);
                }
            }
            Step::Crash(at) => self.crash(at),
            Step::Vanish(at) => {
                let is_known_there = self.known.iter().any(|known| known.at == at);
                if self.workers[at].is_dead && !(self.is_orderly && is_known_there) {
                    self.roll.vanished(life(at));
                }
            }
            Step::Tell => match self.roll.next_due() {
                Some(Notice::Join(info)) => self.told(true, number_of(&info)),
                Some(Notice::Leave(info)) => self.told(false, number_of(&info)),
                None => {}
            },
        }
    }

    fn go(&mut self, client: u32, to: usize) {
        let Some(place) = &mut self.places[client as usize] else {
            return;
        };
        if self.workers[to].is_dead || place.at == to {
            return;
        }
        let from = std::mem::replace(&mut place.at, to);
        place.generation += 1;
        let worker = &mut self.workers[to];
        // It knows itself what it had.
        worker.members.retain(|(of, _)| *of != client);
        worker.members.insert((client, place.generation));
        let source = moved(life(from), life(to), place.generation);
        worker.sent.push_back((true, client, source));
    }

    fn forget(&mut self, client: u32) {
        let known = self.known[client as usize];
        let place = self.places[client as usize];
        for worker in &mut self.workers {
            worker.members.retain(|(of, generation)| {
                let is_old = place.is_none_or(|place| place.generation > *generation);
                let may_go = !self.is_orderly || known.generation > *generation;
                *of != client || !is_old || !may_go
            });
        }
    }

    fn quit(&mut self, client: u32) {
        if self.is_orderly {
            return;
        }
        if let Some(Place { at, generation }) = self.places[client as usize].take() {
            let worker = &mut self.workers[at];
            worker.members.remove(&(client, generation));
            let source = attached(life(at), generation);
            worker.sent.push_back((false, client, source));
        }
    }

    fn crash(&mut self, at: usize) {
        let others: Vec<usize> = (0..LIVES)
            .filter(|other| *other != at && !self.workers[*other].is_dead)
            .collect();
        if let Some(to) = others.first() {
            for client in 0..CLIENTS {
                if self.places[client as usize].is_some_and(|place| place.at == at) {
                    self.go(client, *to);
                }
            }
            self.workers[at].is_dead = true;
            self.workers[at].members.clear();
        }
    }

    fn deliver(&mut self, at: usize) {
        let Some((is_join, number, source)) = self.workers[at].sent.pop_front() else {
            return;
        };
        let info = client(number);
        let generation = source.attachment.generation;
        let known = &mut self.known[number as usize];
        if generation > known.generation {
            *known = Place { at, generation };
        }
        let is_told = if is_join {
            self.roll.joined(source, &info)
        } else {
            self.roll.has_left(source, &info)
        };
        if is_told {
            self.told(is_join, number);
        }
    }

    fn come_to_rest(&mut self) {
        for at in 0..LIVES {
            while !self.workers[at].sent.is_empty() {
                self.take(Step::Deliver(at));
            }
        }
        (0..CLIENTS).for_each(|client| self.take(Step::Forget(client)));
        for _ in 0..3 {
            for at in 0..LIVES {
                if self.workers[at].is_dead {
                    self.take(Step::GiveUp(at));
                    self.take(Step::Vanish(at));
                }
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
        for (number, place) in self.places.iter().enumerate() {
            let number = number as u32;
            let known = self.roll.members.get(&id(number));
            let known = known.map(|known| (known.life, known.generation));
            let truth = place.map(|place| (life(place.at), place.generation));
            assert_eq!(known, truth, "client {number}");
            let heard = self.heard.get(&number).copied();
            assert!(heard.is_none_or(|is_there| is_there == place.is_some()));
        }
        assert!(self.roll.left.is_empty() && self.roll.open.is_empty());
    }
}

proptest! {
    #[test]
    fn who_moves_has_not_left(steps in prop::collection::vec(step(), 0..120)) {
        let mut world = World::new(true);
        steps.into_iter().for_each(|step| world.take(step));
        world.come_to_rest();
        world.is_right();
    }

    #[test]
    fn joins_and_leaves_alternate_and_come_out_right_although_sessions_move(
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let mut world = World::new(false);
        steps.into_iter().for_each(|step| world.take(step));
        world.come_to_rest();
        world.is_right();
    }
}
