//! Which worker a client gets.

use std::time::Duration;

use flotilla_shared::broker::Topic;
use tokio::net::TcpListener;

use crate::common::{Edge, configuration, handshake, soon, token};
use crate::worker::{Behaviour, Worker};

#[tokio::test]
async fn a_user_comes_back_to_the_same_worker() {
    let workers = [
        Worker::start().await,
        Worker::start().await,
        Worker::start().await,
    ];
    let edge = Edge::start(&workers.each_ref()).await;
    let bearer = format!("Bearer {}", token("42", 60));
    for _ in 0..6 {
        let (mut client, _) = edge
            .connect_with("", &[("authorization", &bearer)])
            .await
            .unwrap();
        client.echo("hello").await;
        drop(client);
        edge.metric_becomes("flotilla_gateway_connections{", |sum| sum == 0.0)
            .await;
    }
    let mut counts = workers.each_ref().map(Worker::count);
    counts.sort_unstable();
    assert_eq!(counts, [0, 0, 6]);
    let series = "flotilla_gateway_routing_decisions_total{outcome=\"sticky\"}";
    edge.metric_becomes(series, |sum| sum == 6.0).await;
}

#[tokio::test]
async fn users_spread_over_the_workers() {
    let workers = [
        Worker::start().await,
        Worker::start().await,
        Worker::start().await,
    ];
    let edge = Edge::start(&workers.each_ref()).await;
    let mut clients = Vec::new();
    for user in 0..30 {
        let bearer = format!("Bearer {}", token(&user.to_string(), 60));
        clients.push(
            edge.connect_with("", &[("authorization", &bearer)])
                .await
                .unwrap(),
        );
    }
    for worker in &workers {
        // At most 1.25 times the even share, of the connections there are at each moment.
        assert!((4..=13).contains(&worker.count()), "{}", worker.count());
    }
}

#[tokio::test]
async fn another_worker_is_tried_when_one_refuses() {
    for behaviour in [
        Behaviour::Answer("HTTP/1.1 503 Service Unavailable\r\n\r\n"),
        Behaviour::Answer("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"),
        Behaviour::Answer("nonsense\r\n\r\n"),
        Behaviour::Answer(""),
        Behaviour::Silent,
    ] {
        let (bad, good) = (Worker::that(behaviour).await, Worker::start().await);
        let mut raw = configuration(&[&bad, &good]);
        raw.sticky = vec!["header:user-agent".to_owned()];
        raw.pool.handshake_timeout = Duration::from_millis(200);
        let edge = Edge::with(raw).await;
        // Whatever the key, the client gets through, also once the key's home is the bad one.
        let mut clients = 0;
        while edge
            .metric("flotilla_gateway_upstream_connect_errors_total")
            .await
            == 0.0
        {
            clients += 1;
            let agent = format!("agent-{clients}");
            let (mut client, _) = edge
                .connect_with("", &[("user-agent", &agent)])
                .await
                .unwrap();
            client.echo("hello").await;
        }
        assert_eq!(good.count(), clients);
    }
}

#[tokio::test]
async fn a_worker_that_cannot_be_reached_is_left_alone() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let good = Worker::start().await;
    let mut raw = configuration(&[&good]);
    raw.pool
        .workers
        .push(gone.local_addr().unwrap().to_string());
    raw.pool.ejection = Duration::from_secs(3600);
    raw.pool.health_check.interval = Duration::from_secs(3600);
    raw.sticky = vec!["header:user-agent".to_owned()];
    let edge = Edge::with(raw).await;
    drop(gone);
    let failures = "flotilla_gateway_upstream_connect_errors_total{reason=\"unreachable\"}";
    let mut after_failure = 0;
    for number in 0.. {
        let agent = format!("agent-{number}");
        let (mut client, _) = edge
            .connect_with("", &[("user-agent", &agent)])
            .await
            .unwrap();
        client.echo("hello").await;
        after_failure += usize::from(edge.metric(failures).await > 0.0);
        if after_failure == 20 {
            break;
        }
    }
    assert_eq!(edge.metric(failures).await, 1.0);
}

#[tokio::test]
async fn a_workers_refusal_of_the_client_is_passed_on_as_it_is() {
    let answer = "HTTP/1.1 403 Forbidden\r\nX-Why: because\r\nContent-Length: 4\r\n\r\nno!\n";
    let worker = Worker::that(Behaviour::Answer(answer)).await;
    let other = Worker::that(Behaviour::Answer(answer)).await;
    let edge = Edge::start(&[&worker, &other]).await;
    assert_eq!(edge.exchange(handshake("")).await, answer);
    assert_eq!(worker.count() + other.count(), 1);
}

#[tokio::test]
async fn without_workers_the_gateway_is_not_ready_and_says_when_to_come_back() {
    let worker = Worker::start().await;
    let edge = Edge::start(&[&worker]).await;
    assert!(edge.admin("/readyz").await.starts_with("HTTP/1.1 200 "));
    let address = worker.address;
    drop(worker);
    edge.metric_becomes("flotilla_gateway_workers{state=\"unhealthy\"}", |sum| {
        sum == 1.0
    })
    .await;
    assert!(
        edge.admin("/readyz")
            .await
            .contains("no worker is available")
    );
    let answer = edge.exchange(handshake("")).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("\r\nRetry-After: "), "{answer}");
    let listener = TcpListener::bind(address).await.unwrap();
    let _worker = Worker::on(listener, Behaviour::Echo);
    edge.metric_becomes("flotilla_gateway_workers{state=\"active\"}", |sum| {
        sum == 1.0
    })
    .await;
    edge.connect().await.echo("back").await;
}

#[tokio::test]
async fn workers_come_and_go_by_the_roster() {
    use flotilla_shared::broker::{BrokerEvent, BrokerMetrics, Brokers, MemoryBus};
    use flotilla_shared::lifecycle::Phase;
    use flotilla_shared::roster::{Life, RosterMessage, WorkerEntry};

    let bus = Brokers::Memory(MemoryBus::default());
    let metrics = BrokerMetrics::register(&prometheus::Registry::new()).unwrap();
    let mut fleet = bus.connect("fleet", &metrics).await.unwrap();
    fleet.broker.subscribe(&Topic::Roster, 7).await.unwrap();
    let mut raw = configuration(&[]);
    raw.pool.roster = true;
    let edge = Edge::over(raw, Some(bus)).await;

    let mut batch = Vec::new();
    assert!(soon("a question", fleet.events.next_batch(&mut batch)).await);
    let BrokerEvent::Message { payload, .. } = &batch[0] else {
        panic!("{batch:?}")
    };
    assert_eq!(
        serde_json::from_slice::<RosterMessage>(payload).unwrap(),
        RosterMessage::Query
    );

    let worker = Worker::start().await;
    let entry = |phase| WorkerEntry {
        id: "worker-1".to_owned(),
        life: Life(1),
        address: worker.address.to_string(),
        phase,
        connections: 0,
        connections_limit: 10,
        version: String::new(),
        missed: 0,
    };
    let say = async |message: RosterMessage| {
        let payload = serde_json::to_vec(&message).unwrap();
        fleet
            .broker
            .publish(&Topic::Roster, payload.into())
            .await
            .unwrap();
    };
    say(RosterMessage::Announce(entry(Phase::Serving))).await;
    let state = |state: &str| {
        format!("flotilla_gateway_worker_state{{state=\"{state}\",worker=\"worker-1\"}}")
    };
    edge.metric_becomes(&state("active"), |sum| sum == 1.0)
        .await;
    let mut client = edge.connect().await;
    client.echo("hello").await;
    let connections = "flotilla_gateway_worker_connections{worker=\"worker-1\"}";
    edge.metric_becomes(connections, |sum| sum == 1.0).await;

    say(RosterMessage::Announce(entry(Phase::Draining))).await;
    edge.metric_becomes(&state("draining"), |sum| sum == 1.0)
        .await;
    assert_eq!(edge.connect_with("", &[]).await.err(), Some(503));
    client.echo("who is there may stay").await;

    say(RosterMessage::Leave {
        id: "worker-1".to_owned(),
        life: Life(1),
    })
    .await;
    edge.metric_becomes("flotilla_gateway_workers", |sum| sum == 0.0)
        .await;
    client.echo("until the worker itself goes").await;
    assert!(!edge.admin("/metrics").await.contains("worker-1"));
}
