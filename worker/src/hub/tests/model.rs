//! The hub against a model: whatever happens, and in whatever order, whoever relies on getting everything gets each
//! publication behind its position once and in order, or is told that it does not.
//!
//! The model's broker keeps the contract: it may lose and repeat messages, lose the connection and begin a new life of
//! the stream, and it tells what it lost. Its answers take their time: a question is asked, read and answered in steps
//! between which anything can happen.

use std::collections::{BTreeMap, HashMap, HashSet};

use flotilla_shared::broker::{HistoryPage, HistoryQuery, StoredPublication};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::recovery::POSITIONED;
use super::*;

const MEMBERS: u32 = 4;

/// What is kept of the stream.
const SIZE: usize = 8;

#[derive(Clone, Debug)]
enum Step {
    /// So many offsets further.
    Publish(u64),
    /// A tick of so many events.
    Deliver(usize),
    Join(Index, From),
    Leave(Index),
    /// The broker reads what was asked.
    Read(Index),
    /// The shard learns what was read.
    Answer(Index),
    RemoveHistory,
    /// The broker forgets the stream.
    Forget,
    /// So many minutes pass, in which what is on its way comes. The broker forgets what is too old.
    Age(u64),
    Repeat(Index),
    /// A message is dropped, which is told before or behind the others.
    Drop(Index, bool),
    /// The connection is lost, with or without what is on its way.
    Cut(bool),
    Restore,
    Wait(u64),
}

/// What a member recovers from.
#[derive(Clone, Debug)]
enum From {
    Nothing,
    WhereItWas,
    Offset(u64),
    OtherLife,
}

fn step() -> impl Strategy<Value = Step> {
    let from = prop_oneof![
        1 => Just(From::Nothing),
        4 => Just(From::WhereItWas),
        2 => (0..20_u64).prop_map(From::Offset),
        1 => Just(From::OtherLife),
    ];
    prop_oneof![
        8 => (1..3_u64).prop_map(Step::Publish),
        8 => (1..5_usize).prop_map(Step::Deliver),
        6 => (any::<Index>(), from).prop_map(|(who, from)| Step::Join(who, from)),
        2 => any::<Index>().prop_map(Step::Leave),
        6 => any::<Index>().prop_map(Step::Read),
        6 => any::<Index>().prop_map(Step::Answer),
        1 => Just(Step::RemoveHistory),
        1 => Just(Step::Forget),
        2 => (1..40_u64).prop_map(Step::Age),
        1 => any::<Index>().prop_map(Step::Repeat),
        1 => (any::<Index>(), any::<bool>()).prop_map(|(which, first)| Step::Drop(which, first)),
        1 => any::<bool>().prop_map(Step::Cut),
        2 => Just(Step::Restore),
        3 => (0..1500_u64).prop_map(Step::Wait),
    ]
}

/// What loses messages on their way, and nothing that the broker has. Not so much time passes that anyone gives up.
fn forgiving_step() -> impl Strategy<Value = Step> {
    step().prop_map(|step| match step {
        Step::RemoveHistory | Step::Forget | Step::Age(_) => Step::Publish(1),
        Step::Wait(milliseconds) => Step::Wait(milliseconds % 20),
        step => step,
    })
}

#[derive(Clone, Debug)]
enum Event {
    Message(u64, Stamp),
    Removed(u64, Stamp),
    Overflow(u64),
    Disconnected,
    Reconnected,
}

#[derive(Debug)]
enum Question {
    Opening(u64),
    Fetching(Fetch),
    Checking(Vec<EndQuery>),
    Repairing(GapQuery),
}

/// The broker, and what is on its way between it and the shard.
struct Broker {
    epoch: u64,
    /// The offsets of each life.
    lives: BTreeMap<u64, Vec<u64>>,
    /// Which of them are removals of the history.
    removals: HashSet<StreamPosition>,
    /// Most publications that can be read.
    size: usize,
    /// How many of this life's publications can be read.
    kept: usize,
    /// When each place of this life was taken, and what was said to be before it.
    places: Vec<(Instant, u64)>,
    /// Of how many of them nothing is known any more, and up to where in each life.
    aged: usize,
    forgotten: HashMap<Epoch, u64>,
    subscriptions: Vec<u64>,
    on_the_way: VecDeque<Event>,
    is_cut: bool,
    /// With what was read, once it was: `None` inside, if that was not possible.
    questions: Vec<(Question, Option<Option<HistoryPage>>)>,
}

fn data(position: StreamPosition) -> String {
    format!("[{},{}]", position.epoch.0, position.offset)
}

impl Broker {
    fn life(&self) -> &[u64] {
        self.lives.get(&self.epoch).map_or(&[], Vec::as_slice)
    }

    /// What is not forgotten yet.
    fn known(&self) -> &[u64] {
        &self.life()[self.aged..]
    }

    fn end(&self) -> StreamPosition {
        position(self.epoch, self.known().last().copied().unwrap_or(0))
    }

    fn take_place(&mut self, stride: u64, now: Instant) -> Stamp {
        let previous = self.end().offset;
        let offset = self.life().last().copied().unwrap_or(0) + stride;
        self.lives.entry(self.epoch).or_default().push(offset);
        self.places.push((now, previous));
        Stamp {
            position: position(self.epoch, offset),
            previous,
        }
    }

    fn age(&mut self, now: Instant) {
        let memory = history(0, 0).retention.meta_ttl;
        let is_over = |place: &&(Instant, u64)| now - place.0 >= memory;
        self.aged = self.places.iter().take_while(is_over).count();
        self.kept = self.kept.min(self.known().len());
        if let Some(last) = self.life()[..self.aged].last() {
            self.forgotten.insert(Epoch(self.epoch), *last);
        }
    }

    /// What a reader must have seen, at least, so that what is kept is all that it lacks; `None`: no place is known from
    /// where that is so, but those that are kept.
    fn proof(&self) -> Option<u64> {
        let life = self.life();
        let kept = life.len() - self.kept;
        match life[..kept].split_last() {
            None => Some(0),
            Some(_) if kept == self.aged => None,
            // Whoever has seen all that a removal removed has missed nothing.
            Some((last, before)) if self.removals.contains(&position(self.epoch, *last)) => {
                before.last().copied()
            }
            Some((last, _)) => Some(*last),
        }
    }

    fn forget(&mut self) {
        self.epoch += 1;
        (self.kept, self.aged) = (0, 0);
        self.places.clear();
    }

    fn publish(&mut self, stride: u64, now: Instant) {
        let stamp = self.take_place(stride, now);
        self.kept = (self.kept + 1).min(self.size);
        self.send(|token| Event::Message(token, stamp));
    }

    fn remove_history(&mut self, now: Instant) {
        if self.kept > 0 {
            self.kept = 0;
            let stamp = self.take_place(1, now);
            self.removals.insert(stamp.position);
            self.send(|token| Event::Removed(token, stamp));
        }
    }

    /// The publications of a life.
    fn publications(&self, epoch: Epoch) -> impl Iterator<Item = u64> {
        let life = self.lives.get(&epoch.0).into_iter().flatten().copied();
        life.filter(move |offset| !self.removals.contains(&position(epoch.0, *offset)))
    }

    fn send(&mut self, event: impl Fn(u64) -> Event) {
        if !self.is_cut {
            let events = self.subscriptions.iter().map(|token| event(*token));
            self.on_the_way.extend(events);
        }
    }

    fn repeat(&mut self, which: Index) {
        let life = self.life();
        if !self.known().is_empty() {
            let at = self.aged + which.index(self.known().len());
            let stamp = Stamp {
                position: position(self.epoch, life[at]),
                previous: self.places[at].1,
            };
            if self.removals.contains(&stamp.position) {
                self.send(|token| Event::Removed(token, stamp));
            } else {
                self.send(|token| Event::Message(token, stamp));
            }
        }
    }

    fn drop_one(&mut self, which: Index, is_told_first: bool) {
        let droppable = |event: &Event| matches!(event, Event::Message(..) | Event::Removed(..));
        let events = self.on_the_way.iter().enumerate();
        let at: Vec<_> = events
            .filter_map(|(at, event)| droppable(event).then_some(at))
            .collect();
        if at.is_empty() {
            return;
        }
        let dropped = self.on_the_way.remove(*which.get(&at));
        let (Event::Message(token, _) | Event::Removed(token, _)) = dropped.unwrap() else {
            unreachable!()
        };
        if is_told_first {
            self.on_the_way.push_front(Event::Overflow(token));
        } else {
            self.on_the_way.push_back(Event::Overflow(token));
        }
    }

    fn cut(&mut self, keeps_what_is_on_its_way: bool) {
        if !keeps_what_is_on_its_way {
            self.on_the_way
                .retain(|event| matches!(event, Event::Overflow(_)));
        }
        self.is_cut = true;
        self.on_the_way.push_back(Event::Disconnected);
    }

    fn restore(&mut self) {
        if std::mem::take(&mut self.is_cut) {
            self.on_the_way.push_back(Event::Reconnected);
        }
    }

    fn read(&mut self, at: usize) {
        let query = match &self.questions[at].0 {
            Question::Fetching(fetch) => fetch.query,
            Question::Repairing(gap) => gap.query,
            Question::Opening(_) | Question::Checking(_) => HistoryQuery::default(),
        };
        let (end, proof) = (self.end(), self.proof());
        self.questions[at].1.get_or_insert_with(|| {
            let life = self.lives.get(&self.epoch).map_or(&[][..], Vec::as_slice);
            let kept = &life[life.len() - self.kept..];
            let since = query.since.unwrap_or(0);
            let found = kept.iter().filter(|offset| **offset > since);
            let page = HistoryPage {
                publications: found
                    .take(query.limit)
                    .map(|offset| StoredPublication {
                        offset: *offset,
                        payload: payload(data(position(self.epoch, *offset)).as_bytes()),
                    })
                    .collect(),
                end,
                // As NATS has it: from the beginning, what has expired altogether does not show.
                is_complete: match proof {
                    Some(proof) => (proof..=end.offset).contains(&since),
                    None => since == 0 || kept.contains(&since),
                },
            };
            (!self.is_cut).then_some(page)
        });
    }
}

struct Person {
    listener: Rc<Listener>,
    state: Presence,
    /// What it has got, and how many publications of it were pushed.
    position: StreamPosition,
    pushed: usize,
    /// What had been forgotten altogether before it came is not what it waits for.
    forgotten: u64,
    recover: Option<Recover>,
    /// Whether everything that it wants can be had.
    can_recover: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Out,
    Waiting,
    In,
}

struct Model {
    bench: Bench,
    broker: Broker,
    people: Vec<Person>,
    /// Up to where a removal has been heard of, in each life.
    removed: HashMap<Epoch, u64>,
    /// Whether there was a reason to refuse a recovery.
    was_disturbed: bool,
}

impl Model {
    fn new(size: usize) -> Self {
        let person = |id| Person {
            listener: Listener::new(id, Format::Json),
            state: Presence::Out,
            position: position(1, 0),
            pushed: 0,
            forgotten: 0,
            recover: None,
            can_recover: false,
        };
        Self {
            bench: Bench::new(),
            broker: Broker {
                epoch: 1,
                lives: BTreeMap::new(),
                removals: HashSet::new(),
                size,
                kept: 0,
                places: Vec::new(),
                aged: 0,
                forgotten: HashMap::new(),
                subscriptions: Vec::new(),
                on_the_way: VecDeque::new(),
                is_cut: false,
                questions: Vec::new(),
            },
            people: (1..=MEMBERS).map(person).collect(),
            removed: HashMap::new(),
            was_disturbed: false,
        }
    }

    fn take(&mut self, step: Step) {
        self.was_disturbed |= match &step {
            Step::Publish(_) => self.broker.kept == self.broker.size,
            Step::Deliver(_) | Step::Join(..) | Step::Leave(_) | Step::Read(_) => false,
            Step::Answer(_) | Step::Repeat(_) | Step::Restore => false,
            Step::Wait(_) => self.broker.size == SIZE && !self.broker.on_the_way.is_empty(),
            // What the broker still has is read.
            Step::Drop(..) | Step::Cut(_) => self.broker.size == SIZE,
            Step::RemoveHistory | Step::Forget | Step::Age(_) => true,
        };
        let (broker, now) = (&mut self.broker, self.bench.now);
        match step {
            Step::Publish(stride) => broker.publish(stride, now),
            Step::Deliver(count) => self.deliver(count),
            Step::Join(who, from) => self.join(who.index(self.people.len()), &from),
            Step::Leave(who) => self.leave(who.index(self.people.len())),
            Step::Read(which) if !broker.questions.is_empty() => {
                broker.read(which.index(broker.questions.len()));
            }
            Step::Answer(which) if !broker.questions.is_empty() => {
                self.answer(which.index(self.broker.questions.len()));
            }
            Step::Read(_) | Step::Answer(_) => {}
            Step::RemoveHistory => broker.remove_history(now),
            Step::Forget => broker.forget(),
            Step::Age(minutes) => self.age(Duration::from_secs(60 * minutes)),
            Step::Repeat(which) => broker.repeat(which),
            Step::Drop(which, is_told_first) => broker.drop_one(which, is_told_first),
            Step::Cut(keeps) => broker.cut(keeps),
            Step::Restore => broker.restore(),
            Step::Wait(milliseconds) => self.wait(Duration::from_millis(milliseconds)),
        }
    }

    fn join(&mut self, who: usize, from: &From) {
        let person = &mut self.people[who];
        if person.state != Presence::Out {
            return;
        }
        let at = |offset, epoch| {
            Some(Recover {
                offset,
                epoch: Some(epoch),
                kind: RecoveryKind::Stream,
                limit: 100,
            })
        };
        person.recover = match from {
            From::Nothing => None,
            From::WhereItWas => at(person.position.offset, person.position.epoch),
            From::Offset(offset) => at(*offset, Epoch(self.broker.epoch)),
            From::OtherLife => at(person.position.offset, Epoch(1000)),
        };
        let end = self.broker.end();
        let recover = person.recover.as_ref();
        person.can_recover = recover.is_some_and(|recover| {
            recover.epoch == Some(end.epoch) && recover.offset <= end.offset
        });
        person.state = Presence::Waiting;
        let subscribing = Subscribing {
            delivery: POSITIONED,
            recover: person.recover.clone(),
        };
        let bench = &mut self.bench;
        let member = &person.listener;
        match bench
            .hub
            .join(&channel("news"), member, subscribing, bench.now)
        {
            Join::Joined(joined) => {
                let removed = self.removed.get(&joined.position.unwrap().epoch);
                if let (Some(Recovery::Recovered(publications)), Some(removed)) =
                    (&joined.recovery, removed)
                {
                    let mut given = publications.iter().map(|publication| publication.offset);
                    assert!(
                        given.all(|offset| offset > *removed),
                        "{joined:?} was removed"
                    );
                }
                self.joined(who, &joined);
            }
            Join::Waiting => {}
            Join::Refused => panic!("nobody asks for too much"),
            Join::Open(token) => {
                self.broker.subscriptions.push(token);
                self.broker.questions.push((Question::Opening(token), None));
            }
            Join::Fetch(fetch) => self
                .broker
                .questions
                .push((Question::Fetching(fetch), None)),
        }
    }

    /// A message, or an answer, is on its way for far less than a history lives.
    fn age(&mut self, time: Duration) {
        self.deliver(usize::MAX);
        let is_read = |(_, page): &(_, Option<_>)| page.is_some();
        while let Some(at) = self.broker.questions.iter().position(is_read) {
            self.answer(at);
        }
        self.bench.now += time;
        self.broker.age(self.bench.now);
        self.wait(Duration::ZERO);
    }

    fn joined(&mut self, who: usize, joined: &Joined) {
        let person = &mut self.people[who];
        assert_eq!(person.state, Presence::Waiting);
        let position = joined.position.unwrap();
        let recovers_from = match joined.recovery {
            Some(Recovery::Recovered(_)) => person.recover.as_ref().map(|from| from.offset),
            _ => None,
        };
        // Who comes back from where it had seen nothing does not say since when.
        person.forgotten = match recovers_from {
            Some(1..) => 0,
            _ => *self.broker.forgotten.get(&position.epoch).unwrap_or(&0),
        };
        match (&joined.recovery, &person.recover) {
            (None, None) => {}
            (Some(Recovery::Unrecoverable), Some(_)) => {
                assert!(self.was_disturbed || !person.can_recover, "{joined:?}");
            }
            (Some(Recovery::Recovered(publications)), Some(recover)) => {
                assert_eq!(recover.epoch, Some(position.epoch));
                let given = publications.iter().map(|publication| publication.offset);
                let missed = self.broker.publications(position.epoch);
                let since = recover.offset.max(person.forgotten);
                let missed = missed.filter(|offset| (since + 1..=position.offset).contains(offset));
                assert!(given.eq(missed), "{joined:?} from {}", recover.offset);
            }
            other => panic!("{other:?}"),
        }
        person.position = position;
        person.state = Presence::In;
    }

    fn leave(&mut self, who: usize) {
        let person = &mut self.people[who];
        if person.state != Presence::Out {
            let bench = &mut self.bench;
            bench
                .hub
                .leave(&channel("news"), &person.listener, bench.now);
            person.state = Presence::Out;
        }
    }

    fn deliver(&mut self, count: usize) {
        let (mut fanout, mut scratch) = (Fanout::default(), BytesMut::new());
        let hub = &mut self.bench.hub;
        let count = count.min(self.broker.on_the_way.len());
        for event in self.broker.on_the_way.drain(..count) {
            match event {
                Event::Message(token, stamp) => {
                    let payload = payload(data(stamp.position).as_bytes());
                    let now = self.bench.now;
                    hub.receive(token, payload, Some(stamp), &mut scratch, &mut fanout, now);
                }
                Event::Removed(token, stamp) => {
                    let now = self.bench.now;
                    hub.history_removed(token, stamp, &mut scratch, &mut fanout, now);
                    let StreamPosition { offset, epoch } = stamp.position;
                    self.removed.insert(epoch, offset);
                }
                Event::Overflow(token) => hub.overflowed(token),
                Event::Disconnected => hub.disconnected(),
                Event::Reconnected => hub.reconnected(),
            }
        }
        hub.flush(&mut fanout, self.bench.now);
        self.settle();
    }

    fn answer(&mut self, at: usize) {
        self.broker.read(at);
        let (question, page) = self.broker.questions.swap_remove(at);
        let page = page.unwrap();
        let (hub, now) = (&mut self.bench.hub, self.bench.now);
        match question {
            Question::Opening(token) => {
                let mut history = history(0, 0);
                history.retention.size = self.broker.size as u32;
                let history = page.map(|page| History {
                    end: page.end,
                    ..history
                });
                if history.is_none() {
                    self.broker
                        .subscriptions
                        .retain(|subscription| *subscription != token);
                }
                let opened = hub.opened(token, history.map(Some).ok_or(()), now);
                for (member, joined) in opened.joined {
                    self.joined(member.id as usize - 1, &joined);
                }
                for member in opened.refused {
                    self.people[member.id as usize - 1].state = Presence::Out;
                }
                let fetches = opened.fetches.into_iter();
                let questions = fetches.map(|fetch| (Question::Fetching(fetch), None));
                self.broker.questions.extend(questions);
            }
            Question::Fetching(fetch) => {
                let fetched = hub.fetched(fetch, page.as_ref(), now);
                for (member, joined) in fetched.answers {
                    match joined {
                        Ok(joined) => self.joined(member.id as usize - 1, &joined),
                        Err(()) => self.people[member.id as usize - 1].state = Presence::Out,
                    }
                }
                let again = fetched.again.map(|fetch| (Question::Fetching(fetch), None));
                self.broker.questions.extend(again);
            }
            Question::Checking(queries) => {
                let ends = page.map(|page| vec![page.end; queries.len()]);
                hub.checked(&queries, ends, now);
            }
            Question::Repairing(GapQuery { token, ticket, .. }) => {
                let (mut fanout, mut scratch) = (Fanout::default(), BytesMut::new());
                hub.repaired(token, ticket, page, &mut scratch, &mut fanout, now);
                hub.flush(&mut fanout, now);
            }
        }
        self.settle();
    }

    fn wait(&mut self, time: Duration) {
        self.bench.now += time;
        for token in self.bench.hub.sweep(self.bench.now) {
            self.broker
                .subscriptions
                .retain(|subscription| *subscription != token);
        }
        self.settle();
        let due = self.bench.hub.due_checks();
        if !due.is_empty() {
            self.broker.questions.push((Question::Checking(due), None));
        }
    }

    /// What was pushed comes before what is told.
    fn settle(&mut self) {
        let fetches = self.bench.hub.due_fetches().into_iter();
        let questions = fetches.map(|(_, fetch)| (Question::Fetching(fetch), None));
        self.broker.questions.extend(questions);
        let gaps = self.bench.hub.due_repairs().into_iter();
        let questions = gaps.map(|gap| (Question::Repairing(gap), None));
        self.broker.questions.extend(questions);
        for person in &mut self.people {
            let publications = person.listener.publications();
            for publication in &publications[person.pushed..] {
                assert_eq!(person.state, Presence::In, "{publication:?}");
                let mut life = self.broker.publications(person.position.epoch);
                let here = person.position.offset.max(person.forgotten);
                let next = life.find(|offset| *offset > here);
                assert_eq!(
                    Some(publication.offset),
                    next,
                    "behind {:?}",
                    person.position
                );
                person.position.offset = publication.offset;
                assert_eq!(publication.data, data(person.position));
            }
            person.pushed = publications.len();
        }
        for settled in self.bench.hub.take_settled() {
            match settled {
                Settled::Joined(_, member, joined) => self.joined(member.id as usize - 1, &joined),
                Settled::Insufficient(_, member) => {
                    assert!(self.was_disturbed, "nothing was lost");
                    let person = &mut self.people[member.id as usize - 1];
                    assert_eq!(person.state, Presence::In);
                    person.state = Presence::Out;
                }
            }
        }
    }

    /// Until nothing happens any more.
    fn come_to_rest(&mut self) {
        self.take(Step::Restore);
        for _ in 0..10 {
            self.deliver(usize::MAX);
            while !self.broker.questions.is_empty() {
                self.answer(0);
            }
            self.wait(Duration::from_secs(1));
        }
        // Quiet streams may be asked about as long as there are any.
        while !self.broker.questions.is_empty() {
            self.answer(0);
        }
    }

    fn nobody_lacks_anything(&self) {
        let end = self.broker.end();
        for person in &self.people {
            assert_ne!(person.state, Presence::Waiting);
            let has_all = if person.position.epoch == end.epoch {
                let last = self.broker.publications(end.epoch).last();
                last.is_none_or(|last| last <= person.position.offset.max(person.forgotten))
            } else {
                // The stream's new life shows with its first publication.
                self.broker.publications(end.epoch).next().is_none()
            };
            assert!(
                person.state == Presence::Out || has_all,
                "{:?} of {end:?}",
                person.position
            );
        }
        let present = self
            .people
            .iter()
            .filter(|person| person.state == Presence::In);
        assert_eq!(self.bench.hub.subscriptions(), present.count());
    }
}

proptest! {
    #[test]
    fn everyone_gets_everything_or_is_told(steps in vec(step(), 1..80)) {
        let mut model = Model::new(SIZE);
        for step in steps {
            model.take(step);
        }
        model.come_to_rest();
        model.nobody_lacks_anything();
        for who in 0..model.people.len() {
            model.leave(who);
        }
        model.wait(Duration::ZERO);
        model.wait(LINGER);
        prop_assert_eq!(model.bench.hub.channels(), 0);
        prop_assert_eq!(model.bench.hub.ring_bytes.get(), 0);
    }

    #[test]
    fn while_the_broker_has_everything_nobody_is_told_of_a_loss(steps in vec(forgiving_step(), 1..80)) {
        let mut model = Model::new(1000);
        for step in steps {
            model.take(step);
        }
        model.come_to_rest();
        prop_assert!(!model.was_disturbed);
        model.nobody_lacks_anything();
    }
}
