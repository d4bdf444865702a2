//! What is cast, and to whom.

use super::*;
use crate::namespace::DeltaType;

fn subscribe(channel: &str) -> String {
    format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}"}}}}"#)
}

fn publish(channel: &str, data: usize) -> String {
    format!(r#"{{"id":3,"publish":{{"channel":"{channel}","data":{data}}}}}"#)
}

fn joins(heard: &[ForGateway]) -> Vec<Join> {
    let joins = heard.iter().filter_map(|heard| match heard {
        ForGateway::Join(join) => Some(*join),
        _ => None,
    });
    joins.collect()
}

fn casts(heard: &[ForGateway]) -> Vec<(u32, Option<u64>, Vec<String>)> {
    let casts = heard.iter().filter_map(|heard| match heard {
        ForGateway::Cast(cast) => Some((cast.topic, cast.offset, texts(&cast.frames))),
        _ => None,
    });
    casts.collect()
}

/// Says it from outside of the channel, and hears until that is acknowledged and this many casts have come.
async fn published(
    gateway: &mut Gateway,
    number: u64,
    channel: &str,
    expected: usize,
) -> Vec<ForGateway> {
    gateway
        .say(message(1000, number, &publish(channel, 7)))
        .await;
    let mut heard = Vec::new();
    while casts(&heard).len() < expected || !heard.iter().any(|heard| is_ack(heard, 1000, number)) {
        heard.push(gateway.hear().await);
    }
    heard
}

#[tokio::test]
async fn what_a_hundred_members_of_a_link_get_is_said_once() {
    at_work(
        |_| {},
        async |worker| {
            let (mut gateway, _) = Gateway::dial(&worker).await;
            gateway.connect(1000).await;
            let mut topics = std::collections::HashSet::new();
            for session in 1..=100 {
                gateway.connect(session).await;
                let heard = gateway.talk(session, 2, &subscribe("news")).await;
                let joins = joins(&heard);
                assert_eq!(joins.len(), 1);
                assert!(joins[0].session == session && joins[0].takes_casts);
                topics.insert(joins[0].topic);
            }
            assert_eq!(topics.len(), 1);
            let heard = published(&mut gateway, 2, "news", 1).await;
            let casts = casts(&heard);
            let [(topic, None, pushes)] = &casts[..] else {
                panic!("{casts:?}");
            };
            assert!(topics.contains(topic) && pushes.len() == 1);
            let begin = r#"{"push":{"channel":"news","pub":{"data":7,"#;
            assert!(pushes[0].starts_with(begin), "{pushes:?}");
            assert_eq!(sent(&heard, 1), [""; 0]);
            worker.shard.flush_metrics();
            let delivered = &worker.shard.metrics().process().messages.delivered;
            assert_eq!(delivered.get(), 100);
        },
    )
    .await;
}

#[tokio::test]
async fn each_link_and_each_encoding_has_its_own_topic() {
    at_work(
        |_| {},
        async |worker| {
            let (mut one, _) = Gateway::dial(&worker).await;
            let (mut other, _) = Gateway::dial(&worker).await;
            one.connect(1).await;
            other.connect(1).await;
            one.talk(1, 2, &subscribe("news")).await;
            other.talk(1, 2, &subscribe("news")).await;
            one.connect(1000).await;
            assert_eq!(casts(&published(&mut one, 2, "news", 1).await).len(), 1);
            let heard = other
                .hear_until(|heard| matches!(heard, ForGateway::Cast(_)))
                .await;
            assert_eq!(casts(&heard).len(), 1);
        },
    )
    .await;
}

#[tokio::test]
async fn whoever_has_left_is_in_the_topic_no_longer_and_a_topic_that_is_empty_is_over() {
    at_work(
        |_| {},
        async |worker| {
            let (mut gateway, _) = Gateway::dial(&worker).await;
            gateway.connect(1000).await;
            gateway.connect(1).await;
            let first = joins(&gateway.talk(1, 2, &subscribe("news")).await)[0].topic;
            let leave = r#"{"id":4,"unsubscribe":{"channel":"news"}}"#;
            let heard = gateway.talk(1, 3, leave).await;
            assert_eq!(kinds(&heard), ["leave", "send", "ack"]);
            let heard = published(&mut gateway, 2, "news", 0).await;
            assert_eq!(casts(&heard), []);
            let second = joins(&gateway.talk(1, 4, &subscribe("news")).await)[0].topic;
            assert!(second > first);
        },
    )
    .await;
}

#[tokio::test]
async fn casts_say_how_far_they_bring_the_client_where_there_is_a_history() {
    let kept = |raw: &mut RawConfig| {
        let options = &mut raw.channel.without_namespace;
        options.history_size = 100;
        options.history_ttl = Duration::from_secs(60);
        options.force_positioning = true;
        options.allowed_delta_types = vec![DeltaType::Fossil];
        options.delta_publish = true;
    };
    at_work(kept, async |worker| {
        let (mut gateway, _) = Gateway::dial(&worker).await;
        gateway.connect(1000).await;
        gateway.connect(1).await;
        let joined = joins(&gateway.talk(1, 2, &subscribe("news")).await)[0];
        assert_eq!(joined.offset, Some(0));
        let heard = published(&mut gateway, 2, "news", 1).await;
        assert_eq!(casts(&heard)[0].1, Some(1));
        // Somebody who takes deltas, and is told where each brings it.
        gateway.connect(2).await;
        let delta = r#"{"id":2,"subscribe":{"channel":"news","delta":"fossil"}}"#;
        let joined = joins(&gateway.talk(2, 2, delta).await)[0];
        assert_eq!((joined.offset, joined.takes_casts), (Some(1), false));
        for offset in 2..=4 {
            let number = offset + 1;
            let mut heard = published(&mut gateway, number, "news", 1).await;
            while sent(&heard, 2).is_empty() {
                heard.push(gateway.hear().await);
            }
            let placed = heard.iter().find_map(|heard| match heard {
                ForGateway::Send(Send {
                    session: 2, placed, ..
                }) => *placed,
                _ => None,
            });
            let placed = placed.unwrap();
            assert_eq!((placed.topic, placed.offset), (joined.topic, offset));
            // From the first publication on it is in the group of those who can read deltas, and is told nothing of that.
            assert!(joins(&heard).is_empty() && !kinds(&heard).contains(&"leave"));
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_is_connecting_gets_its_reply_what_was_held_back_and_then_its_seat() {
    at_work(
        |_| {},
        async |worker| {
            let (mut gateway, _) = Gateway::dial(&worker).await;
            gateway.connect(1000).await;
            gateway.connect(1).await;
            gateway.talk(1, 2, &subscribe("open")).await;
            for round in 0..20 {
                let session = 2 + round;
                let claims = ConnectionClaims {
                    user: "ada".to_owned(),
                    channels: vec!["open".to_owned(), format!("new{round}")],
                    ..ConnectionClaims::default()
                };
                // It is in one channel before the other one is open, and somebody publishes meanwhile.
                let publish = message(1000, 2 + round, &publish("open", 7));
                gateway
                    .say_all([
                        open(session, Some(claims)),
                        message(session, 1, CONNECT),
                        publish,
                    ])
                    .await;
                let (mut heard, mut is_done) = (Vec::new(), [false; 3]);
                while is_done != [true; 3] {
                    let next = gateway.hear().await;
                    is_done[0] |= is_ack(&next, session, 1);
                    is_done[1] |= is_ack(&next, 1000, 2 + round);
                    is_done[2] |= matches!(next, ForGateway::Cast(_));
                    heard.push(next);
                }
                let own = |heard: &&ForGateway| match heard {
                    ForGateway::Send(send) => send.session == session,
                    ForGateway::Join(join) => join.session == session,
                    _ => false,
                };
                let own: Vec<ForGateway> = heard.iter().filter(own).cloned().collect();
                let seats = kinds(&own).iter().position(|kind| *kind == "join").unwrap();
                assert_eq!(kinds(&own[seats..]), ["join", "join"]);
                let sent = sent(&own, session);
                assert!(sent[0].starts_with(r#"{"id":1,"connect":"#), "{sent:?}");
                assert!(sent.len() <= 2);
                // Once at most: what came by itself does not come by a cast.
                let at =
                    |is_so: &dyn Fn(&ForGateway) -> bool| heard.iter().position(is_so).unwrap();
                let cast = at(&|heard| matches!(heard, ForGateway::Cast(_)));
                let joined =
                    at(&|heard| matches!(heard, ForGateway::Join(join) if join.session == session));
                assert!(sent.len() == 1 || cast < joined);
            }
        },
    )
    .await;
}
