//! A session on a link, from its opening to its end.

use super::*;

const SUBSCRIBE: &str = r#"{"id":2,"subscribe":{"channel":"news"}}"#;

#[tokio::test]
async fn a_session_connects_subscribes_and_hears_what_it_publishes() {
    at_work(
        |_| {},
        async |worker| {
            let (mut gateway, _) = Gateway::dial(&worker).await;
            gateway.open(5).await;
            let heard = gateway.talk(5, 1, CONNECT).await;
            assert_eq!(kinds(&heard), ["send", "keep_alive", "ack"]);
            let heard = gateway.talk(5, 2, SUBSCRIBE).await;
            // The reply comes before the seat in the topic.
            assert_eq!(kinds(&heard), ["send", "topic", "join", "ack"]);
            assert_eq!(sent(&heard, 5), [r#"{"id":2,"subscribe":{}}"#]);
            gateway
                .say(message(
                    5,
                    3,
                    r#"{"id":3,"publish":{"channel":"news","data":1}}"#,
                ))
                .await;
            let mut heard = Vec::new();
            while heard.len() < 3 {
                heard.push(gateway.hear().await);
            }
            let cast = heard.iter().find_map(|heard| match heard {
                ForGateway::Cast(cast) => Some(texts(&cast.frames)),
                _ => None,
            });
            let begin = r#"{"push":{"channel":"news","pub":{"data":1,"#;
            assert!(cast.unwrap()[0].starts_with(begin));
            assert_eq!(sent(&heard, 5), [r#"{"id":3,"publish":{}}"#]);
            assert!(heard.iter().any(|heard| is_ack(heard, 5, 3)));
            let heard = gateway
                .talk(5, 4, r#"{"id":4,"unsubscribe":{"channel":"news"}}"#)
                .await;
            assert_eq!(kinds(&heard), ["leave", "send", "ack"]);
            let metrics = &worker.shard.metrics().process().connections;
            assert_eq!(
                (
                    metrics.opened.get(),
                    metrics.open.get(),
                    metrics.links.get()
                ),
                (1, 1, 1)
            );
        },
    )
    .await;
}

#[tokio::test]
async fn a_message_is_acknowledged_when_its_answer_is_there_whatever_was_said_after_it() {
    let present = |raw: &mut RawConfig| raw.channel.without_namespace.presence = true;
    at_work(present, async |worker| {
        let (mut gateway, _) = Gateway::dial(&worker).await;
        gateway.connect(1).await;
        gateway.talk(1, 2, SUBSCRIBE).await;
        // The other workers are asked, and there is no broker to ask them by.
        let ask = r#"{"id":3,"presence":{"channel":"news"}}"#;
        let leave = r#"{"id":4,"unsubscribe":{"channel":"news"}}"#;
        gateway
            .say_all([message(1, 3, ask), message(1, 4, leave)])
            .await;
        let heard = gateway.hear_until(|heard| is_ack(heard, 1, 3)).await;
        let acks: Vec<_> = heard
            .iter()
            .filter(|heard| matches!(heard, ForGateway::Ack(_)))
            .collect();
        assert!(is_ack(acks[0], 1, 4) && is_ack(acks[1], 1, 3));
        // Its answer came right before.
        let answer = &sent(&heard[heard.len() - 2..], 1)[0];
        assert!(answer.starts_with(r#"{"id":3,"#), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn the_gateway_is_told_how_to_keep_a_client_alive_and_the_worker_does_not_ping_it() {
    let often = |raw: &mut RawConfig| {
        raw.client.ping_interval = Duration::from_millis(100);
        raw.client.pong_timeout = Duration::from_millis(50);
    };
    at_work(often, async |worker| {
        let (mut gateway, _) = Gateway::dial(&worker).await;
        gateway.open(1).await;
        let heard = gateway.talk(1, 1, CONNECT).await;
        let ForGateway::KeepAlive(how) = &heard[heard.len() - 2] else {
            panic!("{heard:?}");
        };
        assert_eq!((how.interval_ms, how.timeout_ms, how.code), (100, 50, 3012));
        assert_eq!(
            (texts(&how.ping), &how.pong[..]),
            (vec!["{}".to_owned()], &b"{}"[..])
        );
        let session = worker.shard.all_connections()[0]
            .session()
            .borrow()
            .next_deadline();
        assert_eq!(session, None);
        // An answer that came with something else is no mistake.
        let heard = gateway
            .talk(1, 2, "{}\n{\"id\":2,\"subscribe\":{\"channel\":\"news\"}}")
            .await;
        assert_eq!(sent(&heard, 1).len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_client_that_goes_has_been_heard_to_the_end() {
    at_work(
        |_| {},
        async |worker| {
            let (mut gateway, _) = Gateway::dial(&worker).await;
            gateway.connect(1).await;
            gateway.talk(1, 2, SUBSCRIBE).await;
            gateway.connect(2).await;
            let publish = r#"{"id":3,"publish":{"channel":"news","data":1}}"#;
            let closed = Closed {
                session: 2,
                code: 1001,
                is_slow: false,
            };
            gateway
                .say_all([message(2, 2, publish), ForWorker::Closed(closed)])
                .await;
            gateway
                .hear_until(|heard| matches!(heard, ForGateway::Cast(_)))
                .await;
            worker.has_connections(1).await;
            // Whoever has gone is told nothing; the number is free again.
            gateway.open(2).await;
        },
    )
    .await;
}

#[tokio::test]
async fn a_session_that_ends_by_itself_is_closed_with_code_and_reason() {
    at_work(
        |_| {},
        async |worker| {
            let (mut gateway, _) = Gateway::dial(&worker).await;
            gateway.open(1).await;
            gateway.say(message(1, 1, "nonsense")).await;
            let ForGateway::Close(Close { code, reason, .. }) = gateway.hear().await else {
                panic!("not closed");
            };
            assert_eq!((code, &*reason), (3501, "bad request"));
            worker.has_connections(0).await;
        },
    )
    .await;
}

#[tokio::test]
async fn a_message_that_is_too_long_ends_its_session_only() {
    at_work(
        |_| {},
        async |worker| {
            let (mut gateway, _) = Gateway::dial(&worker).await;
            gateway.connect(1).await;
            gateway.open(2).await;
            let long = "x".repeat(worker.shard.limits().message_max_bytes + 1);
            gateway.say(message(2, 1, &long)).await;
            let ForGateway::Close(close) = gateway.hear().await else {
                panic!("not closed");
            };
            assert_eq!((close.session, close.code), (2, 1009));
            gateway.talk(1, 2, SUBSCRIBE).await;
        },
    )
    .await;
}

#[tokio::test]
async fn whoever_is_not_let_in_is_refused_as_by_http() {
    let small = |raw: &mut RawConfig| raw.connections_max = 1;
    at_work(small, async |worker| {
        let (mut gateway, _) = Gateway::dial(&worker).await;
        gateway.open(1).await;
        gateway.say(open(2, None)).await;
        let ForWorker::Open(mut forged) = open(3, None) else {
            return;
        };
        forged.headers[0].value.push('x');
        gateway.say(ForWorker::Open(forged)).await;
        for expected in [(2, 503, true), (3, 403, false)] {
            let ForGateway::Refused(refused) = gateway.hear().await else {
                panic!("not refused");
            };
            assert_eq!(
                (refused.session, refused.status, refused.elsewhere),
                expected
            );
        }
    })
    .await;
}

#[tokio::test]
async fn what_nobody_has_acknowledged_is_handled_where_a_session_begins_again() {
    at_work(
        |_| {},
        async |worker| {
            let (mut gateway, _) = Gateway::dial(&worker).await;
            let ForWorker::Open(mut again) = open(1, None) else {
                return;
            };
            let ForWorker::Message(first) = message(0, 1, CONNECT) else {
                return;
            };
            again.restore = Some(Restore {
                messages: vec![first],
                ..Restore::default()
            });
            gateway.say(ForWorker::Open(again)).await;
            let heard = gateway.hear_until(|heard| is_ack(heard, 1, 1)).await;
            assert_eq!(kinds(&heard), ["opened", "send", "keep_alive", "ack"]);
            gateway.talk(1, 2, SUBSCRIBE).await;
        },
    )
    .await;
}

#[tokio::test]
async fn a_session_is_handed_over_when_what_was_asked_is_answered() {
    let present = |raw: &mut RawConfig| raw.channel.without_namespace.presence = true;
    at_work(present, async |worker| {
        let (mut gateway, _) = Gateway::dial(&worker).await;
        gateway.connect(1).await;
        gateway.talk(1, 2, SUBSCRIBE).await;
        let ask = r#"{"id":3,"presence":{"channel":"news"}}"#;
        gateway.say(message(1, 3, ask)).await;
        worker
            .until(|shard| shard.metrics().process().connections.open.get() == 1)
            .await;
        // So that it has been begun.
        gateway
            .talk(1, 4, r#"{"id":4,"publish":{"channel":"other","data":1}}"#)
            .await;
        let detach = ForWorker::Detach(Detach { session: 1 });
        gateway.say_all([detach, message(1, 5, SUBSCRIBE)]).await;
        let heard = gateway
            .hear_until(|heard| matches!(heard, ForGateway::Detached(_)))
            .await;
        assert_eq!(kinds(&heard), ["send", "ack", "detached"]);
        assert!(is_ack(&heard[1], 1, 3));
        worker.has_connections(0).await;
        assert_eq!(worker.shard.population(), []);
    })
    .await;
}

#[tokio::test]
async fn the_sessions_of_a_link_that_breaks_stay_for_a_while_and_then_leave() {
    at_work(
        |_| {},
        async |worker| {
            let (mut gateway, _) = Gateway::dial(&worker).await;
            gateway.connect(1).await;
            gateway.talk(1, 2, SUBSCRIBE).await;
            let began = std::time::Instant::now();
            drop(gateway);
            worker
                .until(|shard| shard.metrics().process().connections.links.get() == 0)
                .await;
            assert_eq!(worker.shard.population().len(), 1);
            worker.has_connections(0).await;
            assert!(began.elapsed() >= ORPHAN_GRACE);
            assert_eq!(worker.shard.population(), []);
        },
    )
    .await;
}

#[tokio::test]
async fn a_worker_that_drains_has_its_sessions_taken_elsewhere_and_ends_when_all_are_gone() {
    at_work(
        |_| {},
        async |worker| {
            let (mut gateway, _) = Gateway::dial(&worker).await;
            for session in 1..=10 {
                gateway.connect(session).await;
            }
            let plan = DrainPlan {
                settle: Duration::ZERO,
                window: Duration::from_millis(200),
            };
            let shard = worker.shard.clone();
            let drained = spawn_local(async move { drain(&shard, plan).await });
            worker.shard.lifecycle().drain(Duration::from_secs(60));
            let mut detached = 0;
            while detached < 10 {
                assert!(!drained.is_finished());
                match gateway.hear().await {
                    ForGateway::Release(release) => {
                        let session = release.sessions[0];
                        gateway.say(ForWorker::Detach(Detach { session })).await;
                    }
                    ForGateway::Detached(_) => detached += 1,
                    other => panic!("{other:?}"),
                }
            }
            timeout(SOON, drained).await.unwrap().unwrap();
        },
    )
    .await;
}
