//! A session that goes on where it is attached again.

use std::collections::BTreeMap;

use flotilla_shared::channel::Channel;
use flotilla_shared::link::Position;

use super::*;
use crate::fleet::{Moved, MovedSession, Question};

pub(super) const SUBSCRIBE: &str = r#"{"id":2,"subscribe":{"channel":"news"}}"#;
const PUBLISH: &str = r#"{"id":3,"publish":{"channel":"news","data":7}}"#;

pub(super) fn kept(raw: &mut RawConfig) {
    let options = &mut raw.channel.without_namespace;
    options.history_size = 100;
    options.history_ttl = Duration::from_secs(60);
    options.force_positioning = true;
}

/// The last state among these.
pub(super) fn state(heard: &[ForGateway]) -> Bytes {
    let states = heard.iter().filter_map(|heard| match heard {
        ForGateway::State(state) => Some(state.state.clone()),
        _ => None,
    });
    states.last().unwrap()
}

pub(super) fn again(
    session: u64,
    generation: u32,
    state: Bytes,
    offset: u64,
    unacked: &[&str],
) -> ForWorker {
    let ForWorker::Open(open) = open(session, None) else {
        panic!("no Open");
    };
    let messages = unacked.iter().zip(3..).map(|(text, number)| Message {
        session: 0,
        number,
        payload: Bytes::copy_from_slice(text.as_bytes()),
    });
    ForWorker::Open(Open {
        generation,
        restore: Some(Restore {
            state,
            positions: vec![Position {
                topic: Bytes::from_static(b"news"),
                offset,
            }],
            messages: messages.collect(),
        }),
        ..open
    })
}

pub(super) fn is_join(heard: &ForGateway, session: u64) -> bool {
    matches!(heard, ForGateway::Join(join) if join.session == session)
}

#[tokio::test]
async fn what_changed_a_state_is_told_and_acknowledged_behind_it() {
    at_work(
        |_| {},
        async |worker| {
            let (mut gateway, _) = Gateway::dial(&worker).await;
            gateway.open(1).await;
            let said = [
                CONNECT,
                SUBSCRIBE,
                r#"{"id":4,"unsubscribe":{"channel":"news"}}"#,
            ];
            for (text, number) in said.into_iter().zip(1..) {
                let heard = gateway.talk(1, number, text).await;
                let at = |is_so: fn(&ForGateway) -> bool| heard.iter().position(is_so);
                let state = at(|heard| matches!(heard, ForGateway::State(_)));
                let sent = at(|heard| matches!(heard, ForGateway::Send(_)));
                assert!(state.is_some() && state < sent, "{:?}", kinds(&heard));
            }
            let heard = gateway.talk(1, 4, PUBLISH).await;
            assert!(
                !heard
                    .iter()
                    .any(|heard| matches!(heard, ForGateway::State(_)))
            );
        },
    )
    .await;
}

#[tokio::test]
async fn a_session_that_was_handed_over_goes_on_and_has_missed_nothing() {
    at_work(kept, async |worker| {
        let (mut gateway, _) = Gateway::dial(&worker).await;
        gateway.connect(1000).await;
        gateway.open(1).await;
        let mut heard = gateway.talk(1, 1, CONNECT).await;
        let client = sent(&heard, 1)[0].clone();
        heard.extend(gateway.talk(1, 2, SUBSCRIBE).await);
        let state = state(&heard);
        gateway.say(ForWorker::Detach(Detach { session: 1 })).await;
        gateway
            .hear_until(|heard| matches!(heard, ForGateway::Detached(_)))
            .await;
        gateway.talk(1000, 2, PUBLISH).await;

        gateway.say(again(2, 2, state, 0, &[])).await;
        let mut heard = gateway.hear_until(|heard| is_join(heard, 2)).await;
        // Where it was it is in the topic still, silently.
        heard.retain(|heard| !matches!(heard, ForGateway::Cast(_)));
        assert!(kinds(&heard).starts_with(&["opened"]));
        let missed = sent(&heard, 2);
        assert!(
            missed.len() == 1 && missed[0].contains("\"data\":7"),
            "{missed:?}"
        );
        let session = worker.shard.all_connections().pop().unwrap();
        let own = session.session().borrow().client().to_string();
        assert!(client.contains(&own), "{client}");
        drop(session);
        // It is where it was in every way.
        let heard = gateway
            .talk(2, 3, r#"{"id":5,"unsubscribe":{"channel":"news"}}"#)
            .await;
        assert_eq!(sent(&heard, 2), [r#"{"id":5,"unsubscribe":{}}"#]);
    })
    .await;
}

#[tokio::test]
async fn what_was_published_and_not_acknowledged_is_published_once() {
    at_work(kept, async |worker| {
        let (mut gateway, _) = Gateway::dial(&worker).await;
        gateway.open(1).await;
        let mut heard = gateway.talk(1, 1, CONNECT).await;
        heard.extend(gateway.talk(1, 2, SUBSCRIBE).await);
        let state = state(&heard);
        gateway.talk(1, 3, PUBLISH).await;
        // To the gateway's mind nobody has acknowledged that.
        drop(gateway);
        let (mut gateway, _) = Gateway::dial(&worker).await;
        gateway.say(again(1, 2, state, 0, &[PUBLISH])).await;
        let heard = gateway.hear_until(|heard| is_ack(heard, 1, 3)).await;
        let sent = sent(&heard, 1);
        let replies = sent.iter().filter(|text| text.contains(r#""publish":{}"#));
        let pushes = sent.iter().filter(|text| text.contains(r#""data":7"#));
        assert_eq!((replies.count(), pushes.count()), (1, 1), "{sent:?}");
        let heard = gateway
            .talk(1, 4, r#"{"id":6,"publish":{"channel":"news","data":8}}"#)
            .await;
        let mut casts = heard;
        while !casts
            .iter()
            .any(|heard| matches!(heard, ForGateway::Cast(_)))
        {
            casts.push(gateway.hear().await);
        }
        let offset = casts.iter().find_map(|heard| match heard {
            ForGateway::Cast(cast) => cast.offset,
            _ => None,
        });
        assert_eq!(offset, Some(2));
    })
    .await;
}

#[tokio::test]
async fn a_session_that_is_elsewhere_leaves_the_broken_link_before_others_would() {
    at_work(kept, async |worker| {
        let (mut gateway, _) = Gateway::dial(&worker).await;
        gateway.open(1).await;
        let mut heard = gateway.talk(1, 1, CONNECT).await;
        heard.extend(gateway.talk(1, 2, SUBSCRIBE).await);
        drop(gateway);
        let began = std::time::Instant::now();
        let (mut gateway, _) = Gateway::dial(&worker).await;
        gateway.say(again(1, 2, state(&heard), 0, &[])).await;
        gateway.hear_until(|heard| is_join(heard, 1)).await;
        // Which the worker that has it now says, as soon as it has all of it.
        let own = worker.shard.all_connections().pop().unwrap();
        let session = MovedSession {
            client: own.session().borrow().client().to_string(),
            user: String::new(),
            generation: 2,
        };
        let moved = Question::Moved(Moved {
            sessions: vec![session],
        });
        let told = worker.shard.fleet().ask_one("here", moved).await;
        assert_eq!(told.unwrap().silent, [""; 0]);
        worker.has_connections(1).await;
        assert!(began.elapsed() < ORPHAN_GRACE);
        let own = worker.shard.all_connections().remove(0);
        assert_eq!(own.session().borrow().generation(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_state_that_no_worker_has_written_is_refused_everywhere() {
    at_work(
        |_| {},
        async |worker| {
            let (mut gateway, _) = Gateway::dial(&worker).await;
            let forged = Bytes::from(vec![7; 100]);
            gateway.say(again(1, 2, forged, 0, &[])).await;
            let ForGateway::Refused(refused) = gateway.hear().await else {
                panic!("not refused");
            };
            assert_eq!((refused.status, refused.elsewhere), (400, false));
        },
    )
    .await;
}

#[tokio::test]
async fn who_was_handed_over_and_is_attached_nowhere_has_left() {
    let announced = |raw: &mut RawConfig| {
        raw.channel.without_namespace.presence = true;
        raw.channel.without_namespace.join_leave = true;
    };
    at_work(announced, async |worker| {
        let (mut gateway, _) = Gateway::dial(&worker).await;
        gateway.connect(1).await;
        gateway.talk(1, 2, SUBSCRIBE).await;
        let news = Channel::parse("news", 255).unwrap();
        gateway.say(ForWorker::Detach(Detach { session: 1 })).await;
        gateway
            .hear_until(|heard| matches!(heard, ForGateway::Detached(_)))
            .await;
        let own = worker.shard.all_connections().remove(0);
        assert_eq!(worker.shard.announced_in(&news).len(), 1);
        drop(own);
        worker.has_connections(0).await;
        assert_eq!(worker.shard.announced_in(&news), []);
    })
    .await;
}

#[tokio::test]
async fn who_is_elsewhere_is_listed_for_a_moment_and_present_no_more() {
    let announced = |raw: &mut RawConfig| {
        raw.channel.without_namespace.presence = true;
        raw.channel.without_namespace.join_leave = true;
    };
    at_work(announced, async |worker| {
        let (mut gateway, _) = Gateway::dial(&worker).await;
        gateway.connect(1).await;
        gateway.talk(1, 2, SUBSCRIBE).await;
        let news = Channel::parse("news", 255).unwrap();
        assert_eq!(worker.shard.presence(&news).len(), 1);
        gateway.say(ForWorker::Detach(Detach { session: 1 })).await;
        gateway
            .hear_until(|heard| matches!(heard, ForGateway::Detached(_)))
            .await;
        // In a list nobody stands twice; in a count, one would.
        assert_eq!(worker.shard.presence(&news).len(), 1);
        assert_eq!(worker.shard.users_in(&news), BTreeMap::new());
        let own = worker.shard.all_connections().remove(0);
        own.moved(2);
        assert_eq!(worker.shard.presence(&news), []);
        let listed = worker.shard.announced_in(&news);
        assert!(matches!(listed[..], [(_, 1, true)]), "{listed:?}");
        drop(own);
        worker.has_connections(0).await;
    })
    .await;
}
