//! What the methods answer, and what of it reaches a channel, over the memory broker.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use flotilla_shared::broker::{
    BrokerConnection, BrokerEvent, BrokerEvents, BrokerMetrics, Brokers, MemoryBus,
};
use flotilla_shared::broker::{Retention, Topic};
use flotilla_shared::outbound::client_tls;
use flotilla_shared::protocol::types::{Publication, Push};
use flotilla_shared::roster::Life;
use prometheus::{Registry, TextEncoder};
use prost::Message as _;

use super::super::Body;
use super::*;
use crate::emulation::Sessions;
use crate::fleet::Shards;
use crate::hooks::{Gates, HookOptions};
use crate::metrics::Metrics;
use crate::namespace::{NamespaceOptions, PublicationDataFormat};

const ROOM: u64 = 1;

struct Bench {
    methods: Methods,
    registry: Registry,
    events: Box<dyn BrokerEvents>,
}

impl Bench {
    /// Methods, and somebody who listens to the channel `room`.
    async fn new() -> Self {
        let metrics = BrokerMetrics::register(&Registry::new()).unwrap();
        let brokers = Brokers::Memory(MemoryBus::default());
        let BrokerConnection { broker, events } = brokers.connect("test", &metrics).await.unwrap();
        let room = Topic::Channel(Channel::parse("room", 255).unwrap());
        broker.subscribe(&room, ROOM).await.unwrap();
        let binary = NamespaceOptions {
            publication_data_format: PublicationDataFormat::Binary,
            ..NamespaceOptions::default()
        };
        let kept = NamespaceOptions {
            history: Some(Retention {
                size: 3,
                ttl: Duration::from_secs(60),
                meta_ttl: Duration::from_secs(60),
            }),
            publication_data_format: PublicationDataFormat::Binary,
            ..NamespaceOptions::default()
        };
        let broker: ControlBroker = Arc::new(OnceLock::from(broker));
        let revocations = Revocations::default();
        let shards = Shards::new(0);
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        // There are none: what they answer is seen end to end.
        let hooks = HookOptions {
            endpoints: HashMap::new(),
            in_flight_max: 1,
            waiting_max: 0,
            refresh_unanswered_max: Duration::ZERO,
            tls: client_tls(false).unwrap(),
        };
        let fleet = Fleet::new(
            ("a".to_owned(), Life(1)),
            broker.clone(),
            shards,
            revocations.clone(),
            Sessions::default(),
            metrics.fleet,
        );
        fleet.asked();
        let methods = Methods {
            broker,
            namespaces: Namespaces::new(
                NamespaceOptions::default(),
                HashMap::from([("binary".to_owned(), binary), ("kept".to_owned(), kept)]),
            ),
            channel_max_bytes: 32,
            fleet,
            revocations,
            hooks: Hooks::new(Gates::new(&hooks), metrics.hooks),
            losses: metrics.losses,
        };
        Self {
            methods,
            registry,
            events,
        }
    }

    /// The answer as the caller sees it.
    async fn call(&self, method: &str, request: &str) -> String {
        let result = self.methods.call(method, request.as_bytes()).await;
        serde_json::to_string(&Body::from(result)).unwrap()
    }

    /// The publications that have arrived in `room`.
    async fn received(&mut self) -> Vec<Publication> {
        let mut batch = Vec::new();
        assert!(self.events.next_batch(&mut batch).await);
        let messages = batch.into_iter().map(|event| match event {
            BrokerEvent::Message {
                token: ROOM,
                payload,
            } => Push::decode(payload).unwrap().publication.unwrap(),
            other => panic!("{other:?}"),
        });
        messages.collect()
    }
}

#[tokio::test]
async fn what_is_published_arrives_byte_for_byte_and_without_a_publisher() {
    let mut bench = Bench::new().await;
    let request =
        r#"{"channel":"room","data":{"b" : 1.0, "a":2},"tags":{"k":"v"},"skip_history":true}"#;
    assert_eq!(bench.call("publish", request).await, r#"{"result":{}}"#);
    let publication = bench.received().await.remove(0);
    assert_eq!(publication.data, r#"{"b" : 1.0, "a":2}"#);
    assert_eq!(
        publication.tags,
        BTreeMap::from([("k".to_owned(), "v".to_owned())])
    );
    assert_eq!(publication.info, None);
}

#[tokio::test]
async fn a_broadcast_answers_for_each_channel() {
    let mut bench = Bench::new().await;
    let request = r#"{"channels":["room","unknown:x","elsewhere"],"data":1}"#;
    let expected = r#"{"result":{"responses":[{"result":{}},{"error":{"code":102,"message":"unknown channel"}},{"result":{}}]}}"#;
    assert_eq!(bench.call("broadcast", request).await, expected);
    assert_eq!(bench.received().await.remove(0).data, "1");
}

#[tokio::test]
async fn a_batch_answers_for_each_command_in_order() {
    let mut bench = Bench::new().await;
    for parallel in [true, false] {
        let request = format!(
            r#"{{"parallel":{parallel},"commands":[{{"publish":{{"channel":"room","data":1}}}},{{"batch":{{}}}},{{"publish":{{"channel":"room","data":2}}}}]}}"#
        );
        let expected = r#"{"replies":[{"publish":{}},{"error":{"code":104,"message":"method not found"}},{"publish":{}}]}"#;
        assert_eq!(bench.call("batch", &request).await, expected);
        assert_eq!(bench.received().await.len(), 2);
    }
}

#[tokio::test]
async fn binary_data_comes_as_base64() {
    let bench = Bench::new().await;
    let call = |channel: &str| format!(r#"{{"channel":"{channel}","b64data":"/wA="}}"#);
    assert_eq!(
        bench.call("publish", &call("binary:x")).await,
        r#"{"result":{}}"#
    );
    let refused = bench.call("publish", &call("room")).await;
    assert!(refused.contains("data: not of the format"), "{refused}");
}

#[tokio::test]
async fn what_is_refused_is_counted_by_its_namespace() {
    let bench = Bench::new().await;
    for request in [
        r#"{"channel":"room","b64data":"/wA="}"#,
        r#"{"channel":"binary:x","data":1,"version":1}"#,
        r#"{"channel":"unknown:x","data":1}"#,
        r#"{"channel":"room","data":1}"#,
    ] {
        bench.call("publish", request).await;
    }
    let text = TextEncoder::new()
        .encode_to_string(&bench.registry.gather())
        .unwrap();
    let name = "flotilla_worker_publications_refused_total";
    let counted: Vec<_> = text.lines().filter(|line| line.starts_with(name)).collect();
    let of = |labels| format!("{name}{{{labels}}} 1");
    assert_eq!(
        counted,
        [
            of(r#"namespace="",reason="bad_request""#),
            of(r#"namespace="binary",reason="not_available""#),
        ]
    );
}

/// The answer, read.
async fn read(bench: &Bench, method: &str, request: &str) -> serde_json::Value {
    serde_json::from_str(&bench.call(method, request).await).unwrap()
}

#[tokio::test]
async fn where_there_is_history_a_publication_has_a_place_that_can_be_read_from() {
    let bench = Bench::new().await;
    for offset in 1..=4 {
        let request =
            format!(r#"{{"channel":"kept:a","data":{{"n": {offset}}},"tags":{{"k":"v"}}}}"#);
        let answer = read(&bench, "publish", &request).await;
        assert_eq!(answer["result"]["offset"], offset, "{answer}");
        assert!(answer["result"]["epoch"].is_string(), "{answer}");
    }
    let end = read(&bench, "history", r#"{"channel":"kept:a"}"#).await;
    assert_eq!(end["result"]["publications"], serde_json::json!([]));
    assert_eq!(end["result"]["offset"], 4);
    let epoch = end["result"]["epoch"].as_str().unwrap();
    let offsets = |answer: &serde_json::Value| -> Vec<u64> {
        let publications = answer["result"]["publications"].as_array().unwrap();
        let offsets = publications
            .iter()
            .map(|one| one["offset"].as_u64().unwrap());
        offsets.collect()
    };
    let all = read(&bench, "history", r#"{"channel":"kept:a","limit":-1}"#).await;
    assert_eq!(offsets(&all), [2, 3, 4], "the size is 3");
    assert_eq!(
        all["result"]["publications"][0]["data"],
        serde_json::json!({"n": 2})
    );
    assert_eq!(all["result"]["publications"][0]["tags"]["k"], "v");
    let request =
        format!(r#"{{"channel":"kept:a","limit":1,"since":{{"offset":2,"epoch":"{epoch}"}}}}"#);
    assert_eq!(offsets(&read(&bench, "history", &request).await), [3]);
    let reverse = r#"{"channel":"kept:a","limit":2,"reverse":true}"#;
    assert_eq!(offsets(&read(&bench, "history", reverse).await), [4, 3]);
    let other = r#"{"channel":"kept:a","limit":1,"since":{"offset":2,"epoch":"other"}}"#;
    assert_eq!(read(&bench, "history", other).await["error"]["code"], 112);

    let removed = bench
        .call("history_remove", r#"{"channel":"kept:a"}"#)
        .await;
    assert_eq!(removed, r#"{"result":{}}"#);
    let all = read(&bench, "history", r#"{"channel":"kept:a","limit":-1}"#).await;
    assert!(offsets(&all).is_empty());
    assert_eq!(
        all["result"]["offset"], 5,
        "the numbering goes on, behind the removal"
    );
}

#[tokio::test]
async fn the_same_idempotency_key_and_an_old_version_publish_nothing() {
    let bench = Bench::new().await;
    for request in [
        r#"{"channel":"kept:a","data":1,"idempotency_key":"k","version":5}"#,
        r#"{"channel":"kept:a","data":1,"idempotency_key":"k"}"#,
        r#"{"channel":"kept:a","data":1,"version":4}"#,
    ] {
        let answer = read(&bench, "publish", request).await;
        assert_eq!(answer["result"]["offset"], 1, "{request}: {answer}");
    }
    let next = r#"{"channel":"kept:a","data":1,"version":6}"#;
    assert_eq!(read(&bench, "publish", next).await["result"]["offset"], 2);
    let skipped = r#"{"channel":"kept:a","data":1,"skip_history":true}"#;
    assert_eq!(bench.call("publish", skipped).await, r#"{"result":{}}"#);
}

#[tokio::test]
async fn history_that_is_not_json_comes_as_base64() {
    let bench = Bench::new().await;
    let request = r#"{"channel":"kept:a","b64data":"/wA="}"#;
    read(&bench, "publish", request).await;
    let all = read(&bench, "history", r#"{"channel":"kept:a","limit":9}"#).await;
    assert_eq!(
        all["result"]["publications"],
        serde_json::json!([{"b64data": "/wA=", "offset": 1}])
    );
}

#[tokio::test]
async fn every_mistake_is_named() {
    let bench = Bench::new().await;
    let long = format!(r#"{{"channel":"{}","data":1}}"#, "x".repeat(33));
    for (method, request, told) in [
        ("publish", r#"{"data":1}"#, "channel: missing"),
        ("publish", r#"{"channel":"room"}"#, "data: missing"),
        (
            "publish",
            r#"{"channel":"room","data":1,"b64data":"AA=="}"#,
            "data: together with b64data",
        ),
        (
            "publish",
            r#"{"channel":"room","b64data":"?"}"#,
            "b64data: not base64",
        ),
        (
            "publish",
            r#"{"channel":7}"#,
            "invalid type: integer `7`, expected a string at line 1",
        ),
        ("publish", "{", "EOF while parsing"),
        ("publish", &long, "channel: too long"),
        ("broadcast", r#"{"data":1}"#, "channels: between 1 and 1000"),
        (
            "broadcast",
            r#"{"channels":[""],"data":1}"#,
            "channel: empty",
        ),
        ("batch", "{}", "missing field `commands`"),
        ("batch", r#"{"commands":[{}]}"#, "a command has one method"),
    ] {
        let answer = bench.call(method, request).await;
        assert!(
            answer.contains(r#""code":107"#) && answer.contains(told),
            "{request}: {answer}"
        );
    }
    assert!(
        bench
            .call("publish", r#"{"channel":"other:x","data":1}"#)
            .await
            .contains(r#""code":102"#)
    );
    for method in ["history", "history_remove"] {
        let without = bench.call(method, r#"{"channel":"room"}"#).await;
        assert!(without.contains(r#""code":108"#), "{method}: {without}");
    }
    assert!(bench.call("nonsense", "{}").await.contains(r#""code":104"#));
    let once = r#"{"channel":"room","data":1,"idempotency_key":"k"}"#;
    assert!(
        bench.call("publish", once).await.contains(r#""code":108"#),
        "not promised without history"
    );
}

#[tokio::test]
async fn without_a_broker_the_caller_may_try_again() {
    let mut bench = Bench::new().await;
    bench.methods.broker = ControlBroker::default();
    let answer = bench
        .call("publish", r#"{"channel":"room","data":1}"#)
        .await;
    assert_eq!(
        answer,
        r#"{"error":{"code":100,"message":"internal server error"}}"#
    );
}

#[tokio::test]
async fn what_is_asked_of_all_workers_is_checked_first() {
    let bench = Bench::new().await;
    for (method, request, code) in [
        ("presence", r#"{"channel":"room"}"#, 108),
        ("presence", r#"{"channel":"other:x"}"#, 102),
        ("unsubscribe", r#"{"channel":"room"}"#, 107),
        (
            "disconnect",
            r#"{"user":"1","disconnect":{"code":1000}}"#,
            107,
        ),
        ("connections", r#"{"expression":"a == b"}"#, 108),
        ("block_user", r#"{"user":""}"#, 107),
        ("subscribe", r#"{"user":"","channel":"room"}"#, 107),
        (
            "subscribe",
            r#"{"user":"1","channel":"room","b64info":"?"}"#,
            107,
        ),
        ("refresh", "{}", 107),
        ("rpc", "{}", 108),
    ] {
        let answer = read(&bench, method, request).await;
        assert_eq!(
            answer["error"]["code"], code,
            "{method} {request}: {answer}"
        );
    }
}

#[tokio::test]
async fn revocations_beyond_the_limit_are_refused() {
    let bench = Bench::new().await;
    let id = "x".repeat(2000);
    let answer = read(&bench, "block_user", &format!(r#"{{"user":"{id}"}}"#)).await;
    assert_eq!(answer["error"]["code"], 106, "{answer}");
    let done = bench.call("block_user", r#"{"user":"1"}"#).await;
    assert_eq!(done, r#"{"result":{}}"#);
}
