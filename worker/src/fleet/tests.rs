//! Several workers' places in a fleet, over the memory broker. Their shards answer what a test says.

use std::sync::LazyLock;

use flotilla_shared::broker::{BrokerMetrics, Brokers, MemoryBus, NatsConfig};
use flotilla_shared::lifecycle::{Lifecycle, Phase};
use flotilla_shared::protocol::types::ClientInfo;
use flotilla_shared::roster::{LEASE, Life};
use flotilla_tests::nats::Layout;
use prometheus::Registry;
use tokio::task::JoinHandle;

use super::*;
use crate::announce::Announcement;
use crate::capacity::Capacity;
use crate::control::Control;
use crate::emulation::Delivery;
use crate::metrics::Metrics;
use crate::revocation::{Credentials, Refusal, Revocations as Keeper, Subject};

const CROWD_SIZE: usize = 50_000;

/// What a worker's one shard does with a question.
type Script = fn(&Question) -> Option<Answer>;

struct Worker {
    fleet: Fleet,
    revocations: Keeper,
    sessions: Sessions,
    lifecycle: Lifecycle,
    control: JoinHandle<()>,
    _in_step: JoinHandle<()>,
}

/// A worker on `bus`. A shard that answers `None` never answers.
fn worker(bus: &MemoryBus, id: &str, script: Script) -> Worker {
    worker_on(Brokers::Memory(bus.clone()), id, script)
}

fn worker_on(brokers: Brokers, id: &str, script: Script) -> Worker {
    let broker = ControlBroker::default();
    let shards = Shards::new(2);
    let mut errands = shards.open(0);
    tokio::spawn(async move {
        let mut unanswered = Vec::new();
        while let Some(errand) = errands.recv().await {
            match errand {
                Errand::Load(reply) => drop(reply.send(Load {
                    clients: 1,
                    ..Load::default()
                })),
                Errand::Question(question, reply) => match script(&question) {
                    Some(answer) => drop(reply.send(answer)),
                    None => unanswered.push(reply),
                },
                Errand::Link(_) => panic!("nobody links"),
            }
        }
    });
    let revocations = Keeper::default();
    let sessions = Sessions::default();
    let metrics = Metrics::register(&Registry::new()).unwrap();
    let life = Life::draw();
    let fleet = Fleet::new(
        (id.to_owned(), life),
        broker.clone(),
        shards,
        revocations.clone(),
        sessions.clone(),
        metrics.fleet,
    );
    let lifecycle = Lifecycle::new();
    let control = Control {
        announcement: Announcement {
            id: id.to_owned(),
            life,
            address: format!("{id}:8001"),
            capacity: Capacity::new(10),
            interval: Duration::from_secs(1),
        },
        fleet: fleet.clone(),
        broker,
        lifecycle: lifecycle.clone(),
    };
    let metrics = BrokerMetrics::register(&Registry::new()).unwrap();
    Worker {
        control: tokio::spawn(control.run(brokers, metrics)),
        _in_step: tokio::spawn(keep_in_step(fleet.clone())),
        fleet,
        revocations,
        sessions,
        lifecycle,
    }
}

/// A shard with one member in every channel.
fn one_member(question: &Question) -> Option<Answer> {
    Some(match question {
        Question::Presence(InChannel { channel }) => Answer::Members(Members {
            members: vec![ClientInfo {
                client: channel.clone(),
                ..ClientInfo::default()
            }],
        }),
        question => Answer::nothing_to(question),
    })
}

/// A shard with so many members that they do not fit into one message.
fn many_members(question: &Question) -> Option<Answer> {
    Some(match question {
        Question::Presence(_) => Answer::Members(Members {
            members: (0..5000)
                .map(|client: u32| ClientInfo {
                    client: client.to_string(),
                    conn_info: vec![b'x'; 1000].into(),
                    ..ClientInfo::default()
                })
                .collect(),
        }),
        question => Answer::nothing_to(question),
    })
}

/// A shard with as many members as a crowd has, made once.
fn a_crowd(question: &Question) -> Option<Answer> {
    static CROWD: LazyLock<Vec<ClientInfo>> = LazyLock::new(|| {
        let members = (0..CROWD_SIZE).map(|number| ClientInfo {
            user: format!("user-{}", number / 2),
            client: format!("{number:036}"),
            conn_info: r#"{"name":"somebody"}"#.into(),
            ..ClientInfo::default()
        });
        members.collect()
    });
    Some(match question {
        Question::Presence(_) => Answer::Members(Members {
            members: CROWD.clone(),
        }),
        Question::PresenceStats(_) => Answer::Counts(Counts {
            by_name: CROWD.iter().map(|info| (info.user.clone(), 2)).collect(),
        }),
        question => Answer::nothing_to(question),
    })
}

fn no_answer(question: &Question) -> Option<Answer> {
    match question {
        Question::Revoke(_) => Some(Answer::done()),
        _ => None,
    }
}

fn presence(channel: &str) -> Question {
    Question::Presence(InChannel {
        channel: channel.to_owned(),
    })
}

fn members(gathered: &Gathered) -> usize {
    let answers = gathered.answers.iter().map(|(_, answer)| match answer {
        Answer::Members(members) => members.members.len(),
        other => panic!("{other:?}"),
    });
    answers.sum()
}

#[tokio::test(start_paused = true)]
async fn every_worker_answers_whoever_asks() {
    let bus = MemoryBus::default();
    let workers = ["a", "b", "c"].map(|id| worker(&bus, id, one_member));
    for worker in &workers {
        let gathered = worker.fleet.ask(presence("room")).await.unwrap();
        assert_eq!(members(&gathered), 3);
        assert_eq!(gathered.silent, Vec::<String>::new());
        let ids: Vec<&str> = gathered.answers.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids, ["a", "b", "c"]);
    }
}

#[tokio::test(start_paused = true)]
async fn one_worker_alone_needs_nobody_else() {
    let alone = worker(&MemoryBus::default(), "a", one_member);
    let gathered = alone.fleet.ask(presence("room")).await.unwrap();
    assert_eq!(members(&gathered), 1);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_does_not_answer_is_named_when_the_time_is_over() {
    let bus = MemoryBus::default();
    let asker = worker(&bus, "a", one_member);
    let _others = [worker(&bus, "b", no_answer), worker(&bus, "c", one_member)];
    let began = Instant::now();
    let gathered = asker.fleet.ask(presence("room")).await.unwrap();
    assert_eq!(began.elapsed().as_secs(), ANSWER_TIMEOUT.as_secs());
    assert_eq!(members(&gathered), 2);
    assert_eq!(gathered.silent, ["b"]);
}

#[tokio::test(start_paused = true)]
async fn the_asker_s_own_silence_is_named_too() {
    let bus = MemoryBus::default();
    let asker = worker(&bus, "a", no_answer);
    let _other = worker(&bus, "b", one_member);
    let gathered = asker.fleet.ask(presence("room")).await.unwrap();
    assert_eq!(
        (members(&gathered), gathered.silent),
        (1, vec!["a".to_owned()])
    );
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_leaves_is_not_waited_for() {
    let bus = MemoryBus::default();
    let asker = worker(&bus, "a", one_member);
    let leaver = worker(&bus, "b", no_answer);
    asker.fleet.0.peers.known().await;
    let began = Instant::now();
    let leave = async {
        tokio::time::sleep(ANSWER_TIMEOUT / 4).await;
        leaver.lifecycle.stop();
    };
    let (gathered, ()) = tokio::join!(asker.fleet.ask(presence("room")), leave);
    assert_eq!(gathered.unwrap().silent, ["b"]);
    assert!(began.elapsed() < ANSWER_TIMEOUT / 2);
    let gathered = asker.fleet.ask(presence("room")).await.unwrap();
    assert_eq!(
        gathered.silent,
        Vec::<String>::new(),
        "nobody asks it again"
    );
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_vanished_is_forgotten_when_its_lease_lapses() {
    let bus = MemoryBus::default();
    let asker = worker(&bus, "a", one_member);
    let vanished = worker(&bus, "b", one_member);
    asker.fleet.0.peers.known().await;
    vanished.control.abort();
    let gathered = asker.fleet.ask(presence("room")).await.unwrap();
    assert_eq!(gathered.silent, ["b"]);
    tokio::time::sleep(LEASE + Duration::from_secs(1)).await;
    let gathered = asker.fleet.ask(presence("room")).await.unwrap();
    assert_eq!(gathered.silent, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_long_answer_comes_in_parts_and_whole() {
    let bus = MemoryBus::default();
    let asker = worker(&bus, "a", one_member);
    let _other = worker(&bus, "b", many_members);
    let gathered = asker.fleet.ask(presence("room")).await.unwrap();
    assert_eq!(members(&gathered), 5001);
}

#[tokio::test]
async fn fifty_thousand_members_come_over_nats_whole_and_are_counted() {
    let nats = Layout::default().start().await.unwrap();
    let brokers = || {
        Brokers::Nats(NatsConfig {
            servers: vec![format!("nats://{}", nats[0].address())],
            ..NatsConfig::default()
        })
    };
    let asker = worker_on(brokers(), "a", one_member);
    let _other = worker_on(brokers(), "b", a_crowd);
    a_crowd(&presence("room"));
    let gathered = asker.fleet.ask(presence("room")).await.unwrap();
    assert_eq!(gathered.silent, Vec::<String>::new());
    assert_eq!(members(&gathered), CROWD_SIZE + 1);
    let stats = Question::PresenceStats(InChannel {
        channel: "room".to_owned(),
    });
    let gathered = asker.fleet.ask(stats).await.unwrap();
    let users: usize = gathered
        .answers
        .iter()
        .map(|(_, answer)| match answer {
            Answer::Counts(counts) => counts.by_name.len(),
            other => panic!("{other:?}"),
        })
        .sum();
    assert_eq!(users, CROWD_SIZE / 2);
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_knows_the_others_before_it_asks() {
    let bus = MemoryBus::default();
    let _others = ["a", "b"].map(|id| worker(&bus, id, one_member));
    tokio::time::sleep(Duration::from_secs(60)).await;
    let newcomer = worker(&bus, "c", one_member);
    let gathered = newcomer.fleet.ask(presence("room")).await.unwrap();
    assert_eq!(members(&gathered), 3);
}

#[tokio::test(start_paused = true)]
async fn without_a_broker_nobody_claims_to_know() {
    let asker = worker(&MemoryBus::default(), "a", one_member);
    asker.fleet.0.peers.known().await;
    asker.fleet.lost_touch();
    let asked = asker.fleet.ask(presence("room")).await;
    assert_eq!(asked, Err(AskError::Disconnected));
    asker.fleet.asked();
    assert!(asker.fleet.ask(presence("room")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn one_worker_can_be_asked_by_its_id() {
    let bus = MemoryBus::default();
    let workers = ["a", "b"].map(|id| worker(&bus, id, one_member));
    for to in ["a", "b"] {
        let gathered = workers[0]
            .fleet
            .ask_one(to, presence("room"))
            .await
            .unwrap();
        assert_eq!(gathered.answers[0].0, to);
        assert_eq!(members(&gathered), 1);
    }
    let gathered = workers[0]
        .fleet
        .ask_one("z", presence("room"))
        .await
        .unwrap();
    assert_eq!(gathered.silent, ["z"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_client_sent_reaches_the_worker_that_has_its_session() {
    let bus = MemoryBus::default();
    let workers = ["a", "b"].map(|id| worker(&bus, id, one_member));
    let mut posts = workers[1].sessions.open();
    let send = async |session: &str| {
        let question = Question::Emulate(Emulate {
            session: session.to_owned(),
            commands: "{}".into(),
        });
        let asked = workers[0].fleet.ask_one("b", question).await;
        asked.unwrap().answers
    };
    let answered = |delivery| vec![("b".to_owned(), Answer::emulated(delivery))];
    let id = posts.id().to_owned();
    assert_eq!(send(&id).await, answered(Delivery::Taken));
    assert_eq!(posts.next().await, "{}");
    drop(posts);
    assert_eq!(send(&id).await, answered(Delivery::Unknown));
}

#[tokio::test(start_paused = true)]
async fn questions_of_another_version_and_noise_are_answered_by_no() {
    let bus = MemoryBus::default();
    let asker = worker(&bus, "a", one_member);
    let other = worker(&bus, "b", one_member);
    asker.fleet.0.peers.known().await;
    other.fleet.receive(Bytes::from_static(b"\xff\xff noise"));
    other.fleet.receive(Bytes::new());
    let ask = asker.fleet.0.asks.open(["b".to_owned()]);
    let unknown = Envelope::request("a", ask.number(), Request { question: None });
    other.fleet.receive(unknown.into_payload());
    ask.settled().await;
    assert_eq!(ask.finish().unwrap().silent, ["b"]);
}

#[tokio::test(start_paused = true)]
async fn more_questions_than_can_wait_are_refused_and_not_kept() {
    let bus = MemoryBus::default();
    let asker = worker(&bus, "a", one_member);
    asker.fleet.0.peers.known().await;
    let all = asker.fleet.0.asking.acquire_many(ASKS_MAX as u32).await;
    let asked = asker.fleet.ask(presence("room")).await;
    assert_eq!(asked, Err(AskError::Busy));
    drop(all);
    assert!(asker.fleet.ask(presence("room")).await.is_ok());
}

fn blocked(user: &str, worker: &Worker) -> bool {
    let credentials = Credentials { user, token: None };
    worker.revocations.refuse(credentials) == Some(Refusal::Blocked)
}

async fn block(user: &str, worker: &Worker) -> Gathered {
    let revocation = worker.revocations.say(Subject::User(user.to_owned()), 0);
    let revocations = vec![revocation];
    let question = Question::Revoke(Revocations { revocations });
    worker.fleet.ask(question).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_revocation_is_in_force_on_every_worker_when_it_is_answered() {
    let bus = MemoryBus::default();
    let workers = ["a", "b", "c"].map(|id| worker(&bus, id, one_member));
    let gathered = block("7", &workers[1]).await;
    assert_eq!(gathered.silent, Vec::<String>::new());
    assert!(workers.iter().all(|worker| blocked("7", worker)));
    assert!(!workers.iter().any(|worker| blocked("8", worker)));
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_learns_the_revocations_of_the_others() {
    let bus = MemoryBus::default();
    let workers = ["a", "b"].map(|id| worker(&bus, id, one_member));
    block("7", &workers[0]).await;
    let newcomer = worker(&bus, "c", one_member);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(blocked("7", &newcomer));
}

#[tokio::test(start_paused = true)]
async fn a_revocation_that_a_worker_has_missed_reaches_it_later() {
    let bus = MemoryBus::default();
    let workers = ["a", "b"].map(|id| worker(&bus, id, one_member));
    workers[0].fleet.0.peers.known().await;
    let revocation = workers[0].revocations.say(Subject::User("7".to_owned()), 0);
    workers[0]
        .revocations
        .take_in(vec![revocation])
        .await
        .1
        .unwrap();
    assert!(!blocked("7", &workers[1]));
    tokio::time::sleep(Duration::from_secs(25)).await;
    assert!(blocked("7", &workers[1]));
}

#[tokio::test(start_paused = true)]
async fn a_stopped_worker_ends_its_part() {
    let bus = MemoryBus::default();
    let worker = worker(&bus, "a", one_member);
    worker.fleet.0.peers.known().await;
    worker.lifecycle.stop();
    worker.lifecycle.wait_for(Phase::Stopped).await;
    worker.control.await.unwrap();
}
