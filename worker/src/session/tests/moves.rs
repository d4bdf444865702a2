//! What is promised to a client whose session goes on at another worker.

use flotilla_shared::protocol::types::{FilterNode, Publication};
use prost::Message as _;

use super::*;
use crate::hooks::{Answer, RefreshGrant};
use crate::session::snapshot::Unreadable;

/// What a worker has written of the session, read by another one.
fn written(bench: &Bench) -> Snapshot {
    let writer = Writer {
        worker: "worker-0".to_owned(),
        life: 5,
        connected_at_ms: 1234,
    };
    let snapshot = bench.session.snapshot(&writer, bench.now).unwrap();
    Snapshot::read(snapshot.encode_to_vec().into()).unwrap()
}

/// The session at another worker, some seconds later, and what is done there at once.
fn restored_by(
    policy: Rc<Policy>,
    bench: &Bench,
    positions: &[(&str, u64)],
    seconds: u64,
) -> Result<(Bench, Vec<String>), DisconnectCode> {
    let positions: Vec<(Bytes, u64)> = positions
        .iter()
        .map(|(name, offset)| (Bytes::copy_from_slice(name.as_bytes()), *offset))
        .collect();
    let restored = Restored {
        snapshot: written(bench),
        positions: &positions,
        generation: 2,
        edge: None,
    };
    // Another process, whose clock says something else.
    let now = Now {
        at: bench.now.at + Duration::from_secs(1_000_000),
        unix_seconds: bench.now.unix_seconds + seconds,
    };
    let mut actions = Actions::new();
    let transport = Transport::default();
    let session = Session::restore(policy, restored, transport, now, &mut actions)?;
    let bench = Bench {
        session,
        now,
        asked: Vec::new(),
    };
    Ok((bench, actions.into_iter().map(describe).collect()))
}

fn restored(bench: &Bench, positions: &[(&str, u64)]) -> (Bench, Vec<String>) {
    restored_by(policy(|_| {}), bench, positions, 1).unwrap()
}

fn subscribe(bench: &mut Bench, channel: &str, change: impl FnOnce(&mut SubscribeRequest)) {
    let mut request = SubscribeRequest {
        channel: channel.into(),
        ..Default::default()
    };
    change(&mut request);
    let told = bench.request(2, Request::Subscribe(request));
    assert!(told[0].starts_with("subscribe"), "{told:?}");
}

/// A client in a channel in which it is told of gaps.
fn positioned() -> Bench {
    let mut bench = Bench::connected();
    subscribe(&mut bench, "kept:a", |request| request.positioned = true);
    bench.subscribed_at_seven("kept:a", None);
    bench
}

fn publications(offsets: &[u64]) -> Recovery {
    let publications = offsets.iter().map(|offset| Publication {
        data: "1".into(),
        offset: *offset,
        ..Publication::default()
    });
    Recovery::Recovered(publications.collect())
}

#[test]
fn a_snapshot_is_due_whenever_something_in_it_has_changed() {
    let mut bench = Bench::new();
    assert!(!bench.session.take_changed());
    let writer = Writer::default();
    assert_eq!(bench.session.snapshot(&writer, bench.now), None);
    bench.connect(&token(json!({"sub": "42", "exp": NOW_UNIX + 60})));
    assert!(bench.session.take_changed());
    assert!(!bench.session.take_changed());
    bench.subscribe(2, "news");
    assert!(!bench.session.take_changed(), "it is not in yet");
    bench.subscribed("news");
    assert!(bench.session.take_changed());
    bench.publish("news", b"1");
    bench.pass(1);
    assert!(!bench.session.take_changed());
    let refresh = RefreshRequest {
        token: token(json!({"sub": "42", "exp": NOW_UNIX + 120})),
    };
    bench.request(3, Request::Refresh(refresh));
    assert!(bench.session.take_changed());
    let refresh = ServerRefresh {
        info: Some("{}".into()),
        ..ServerRefresh::default()
    };
    bench.event(Event::Command(ServerCommand::Refresh(refresh)));
    assert!(bench.session.take_changed());
    let unsubscribe = ServerCommand::Unsubscribe(Channel::parse("news", 255).unwrap());
    bench.event(Event::Command(unsubscribe));
    assert!(bench.session.take_changed());
}

#[test]
fn a_session_is_the_same_at_another_worker() {
    let mut bench = Bench::new();
    bench.connect(&token(json!({
        "sub": "42", "info": {"n": 1}, "meta": {"m": 2}, "jti": "id", "iat": NOW_UNIX, "exp": NOW_UNIX + 60,
    })));
    subscribe(&mut bench, "kept:a", |request| {
        request.positioned = true;
        request.tf = Some(Box::new(FilterNode {
            key: "k".into(),
            cmp: "ex".into(),
            ..FilterNode::default()
        }));
    });
    bench.subscribed_at_seven("kept:a", None);
    let sub =
        token(json!({"sub": "42", "channel": "closed:a", "info": {"c": 3}, "exp": NOW_UNIX + 90}));
    bench.subscribe_with(3, "closed:a", &sub);
    bench.subscribed("closed:a");
    let (mut other, _) = restored(&bench, &[("kept:a", 7)]);
    other.subscribed_at_seven("kept:a", Some(publications(&[])));
    other.subscribed("closed:a");
    let (before, after) = (written(&bench), written(&other));
    let expected = Snapshot {
        generation: 2,
        ..before
    };
    assert_eq!(after, expected);
}

#[test]
fn what_was_missed_comes_in_its_order_and_nobody_hears_of_the_move() {
    let bench = positioned();
    let (mut other, asked) = restored(&bench, &[("kept:a", 4), ("kept:a", 5), ("other", 9)]);
    assert_eq!(asked, ["subscribe kept:a Stream since 5 of e"]);
    assert!(other.session.is_settling());
    let told = other.subscribed_at_seven("kept:a", Some(publications(&[6, 7])));
    let push = |offset| {
        format!(r#"{{"push":{{"channel":"kept:a","pub":{{"data":1,"offset":{offset}}}}}}}"#)
    };
    assert_eq!(told[..2], [push(6), push(7)]);
    assert!(
        told[2].starts_with(r#"announce kept:a {"join""#),
        "{told:?}"
    );
    assert!(told[2].ends_with("from 5 for time 2"), "{told:?}");
    assert_eq!(told[3..], ["arrived from worker-0 5"]);
    assert!(!other.session.is_settling());
}

#[test]
fn who_is_in_no_channel_has_arrived_at_once() {
    let (other, done) = restored(&Bench::connected(), &[]);
    assert_eq!(done, ["arrived from worker-0 5"]);
    assert!(other.session.is_connected() && !other.session.is_settling());
}

#[test]
fn what_cannot_be_made_good_is_told_like_any_gap() {
    let told_of_a_gap = r#"{"push":{"channel":"kept:a","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#;
    let channel = || Channel::parse("kept:a", 255).unwrap();
    let failed = Event::Subscribed {
        channel: channel(),
        result: Err(ErrorCode::LimitExceeded),
    };
    let lost = Event::Subscribed {
        channel: channel(),
        result: Ok(Joined {
            position: None,
            recovery: Some(Recovery::Unrecoverable),
        }),
    };
    for answer in [failed, lost] {
        let (mut other, _) = restored(&positioned(), &[("kept:a", 5)]);
        let told = other.event(answer);
        assert_eq!(told[0], "unsubscribe kept:a");
        assert!(
            told[1].starts_with(r#"announce kept:a {"leave""#),
            "{told:?}"
        );
        assert_eq!(told[2..], [told_of_a_gap, "arrived from worker-0 5"]);
    }
    let (_, asked) = restored(&positioned(), &[]);
    assert_eq!(
        asked,
        ["subscribe kept:a Stream since 0 of 0"],
        "no stream has it"
    );
    let gone = policy(|policy| {
        policy.namespaces = Namespaces::new(NamespaceOptions::default(), HashMap::new())
    });
    let (other, told) = restored_by(gone, &positioned(), &[("kept:a", 5)], 1).unwrap();
    assert_eq!(told[2..], [told_of_a_gap, "arrived from worker-0 5"]);
    assert_eq!(other.session.farewell().count(), 0);
}

/// The broker cannot open the channel at the moment.
fn put_off(bench: &mut Bench) -> Vec<String> {
    bench.event(Event::Subscribed {
        channel: Channel::parse("kept:a", 255).unwrap(),
        result: Err(ErrorCode::Internal),
    })
}

#[test]
fn a_channel_that_cannot_be_opened_now_is_opened_a_little_later() {
    let unpinged = policy(|policy| policy.client.ping_interval = Duration::ZERO);
    let (mut other, asked) = restored_by(unpinged, &positioned(), &[("kept:a", 5)], 1).unwrap();
    for _ in 0..3 {
        assert!(put_off(&mut other).is_empty());
        assert!(other.session.is_settling());
        assert!(other.event(Event::Timer).is_empty(), "it is too soon");
        let next = other.session.next_deadline().unwrap();
        assert_eq!(next - other.now.at, Duration::from_millis(250));
        other.now.at = next;
        assert_eq!(other.event(Event::Timer), asked);
        assert!(other.event(Event::Timer).is_empty(), "it has been asked");
        assert_eq!(other.session.next_deadline(), None);
    }
    let told = other.subscribed_at_seven("kept:a", Some(publications(&[6, 7])));
    assert_eq!(told.last().unwrap(), "arrived from worker-0 5");
    assert!(!other.session.is_settling());
    assert!(other.pass(60).is_empty());
}

#[test]
fn a_channel_that_cannot_be_opened_for_long_is_told_like_any_gap() {
    let (mut other, _) = restored(&positioned(), &[("kept:a", 5)]);
    let begun = other.now.at;
    let told = loop {
        let told = put_off(&mut other);
        if !told.is_empty() {
            break told;
        }
        other.now.at += Duration::from_millis(250);
        other.event(Event::Timer);
    };
    assert_eq!(other.now.at - begun, Duration::from_millis(59_750));
    assert_eq!(told[0], "unsubscribe kept:a");
    assert!(told[2].contains(r#""code":2500"#), "{told:?}");
}

#[test]
fn a_channel_that_is_wanted_no_more_is_not_opened_again() {
    let (mut other, _) = restored(&positioned(), &[("kept:a", 5)]);
    let channel = Channel::parse("kept:a", 255).unwrap();
    other.event(Event::Command(ServerCommand::Unsubscribe(channel)));
    assert_eq!(put_off(&mut other)[0], "unsubscribe kept:a");
}

#[test]
fn a_server_side_subscription_that_cannot_be_made_good_ends_the_connection() {
    let mut bench = Bench::new();
    bench.connect(&token(json!({"sub": "42", "channels": ["forced:a"]})));
    bench.subscribed_at_seven("forced:a", None);
    let (mut other, _) = restored(&bench, &[("forced:a", 5)]);
    let told = other.subscribed_at_seven("forced:a", Some(Recovery::Unrecoverable));
    assert_eq!(told, ["close 3010 insufficient state"]);
}

#[test]
fn a_session_that_is_lost_once_more_before_it_is_back_has_its_channels_still() {
    let (other, _) = restored(&positioned(), &[("kept:a", 5)]);
    let (mut third, asked) = restored(&other, &[("kept:a", 5)]);
    assert_eq!(asked, ["subscribe kept:a Stream since 5 of e"]);
    third.subscribed_at_seven("kept:a", Some(publications(&[6, 7])));
    assert!(!third.session.is_settling());
    // And whoever goes then is missed in them.
    assert!(other.session.farewell().all(|(_, leave)| leave.is_some()));
}

#[tokio::test]
async fn who_is_not_welcome_any_more_is_not_let_in_elsewhere_either() {
    let mut bench = Bench::new();
    bench.connect(&token(json!({"sub": "42", "exp": NOW_UNIX + 60})));
    let refused = |policy, seconds| restored_by(policy, &bench, &[], seconds).err();
    assert_eq!(refused(policy(|_| {}), 84), None, "it has its grace");
    let expired = refused(policy(|_| {}), 86);
    assert_eq!(expired, Some(DisconnectCode::ConnectionExpired));
    let blocking = policy(|_| {});
    let revocation = blocking.revocations.say(Revoked::User("42".to_owned()), 0);
    let taken = blocking.revocations.take_in(vec![revocation]).await;
    taken.1.unwrap();
    assert!(refused(blocking, 1).is_some());
}

#[test]
fn a_move_takes_no_time_from_anybody_and_gives_none() {
    let unpinged = || policy(|policy| policy.client.ping_interval = Duration::ZERO);
    let mut bench = Bench::with(unpinged(), None);
    bench.connect(&token(json!({"sub": "42", "exp": NOW_UNIX + 60})));
    let left = |bench: &Bench| {
        let deadline = bench.session.next_deadline();
        deadline.map(|at| at - bench.now.at)
    };
    assert_eq!(left(&bench), Some(Duration::from_secs(85)));
    let (other, _) = restored_by(unpinged(), &bench, &[], 30).unwrap();
    assert_eq!(left(&other), Some(Duration::from_secs(55)));
}

#[test]
fn a_user_s_limit_does_not_keep_its_sessions_from_moving() {
    let limited = policy(|policy| policy.user_capacity = UserCapacity::new(1));
    let mut bench = Bench::with(limited.clone(), None);
    bench.connect(&token(json!({"sub": "42"})));
    let (_other, done) = restored_by(limited, &bench, &[], 1).unwrap();
    assert_eq!(done, ["arrived from worker-0 5"]);
}

#[test]
fn a_back_end_that_was_being_asked_is_asked_again() {
    let asking = || {
        policy(|policy| {
            policy.hooks.refresh = true;
            policy.hooks.refresh_unanswered_max = Duration::from_secs(600);
        })
    };
    let claims = ConnectionClaims {
        user: "42".to_owned(),
        expire_at: Some(NOW_UNIX + 60),
        ..ConnectionClaims::default()
    };
    let mut bench = Bench::with(asking(), Some(claims));
    bench.connect("");
    assert_eq!(bench.pass(60)[0], r#"ask as "42": Refresh"#);
    let (mut other, _) = restored_by(asking(), &bench, &[], 1).unwrap();
    assert_eq!(other.event(Event::Timer), [r#"ask as "42": Refresh"#]);
    let Some(About::Refresh(renewal)) = other.asked.pop() else {
        panic!("nothing was asked");
    };
    let grant = Answer::Granted(RefreshGrant::default());
    let answered = Answered::Refresh(renewal, grant);
    assert!(other.event(Event::Answered(Box::new(answered))).is_empty());
    assert!(other.session.is_connected());
}

#[test]
fn a_form_that_is_not_known_is_not_read() {
    let bench = Bench::connected();
    let mut newer = written(&bench).encode_to_vec();
    // A field that this version does not know, and a version that it does not know.
    newer.extend([0xf8, 0x3f, 1]);
    assert!(Snapshot::read(newer.clone().into()).is_ok());
    newer.extend([0x08, 2]);
    assert_eq!(Snapshot::read(newer.into()), Err(Unreadable));
    for noise in [&b""[..], b"\xff", b"\x08\x01"] {
        assert_eq!(Snapshot::read(noise.into()), Err(Unreadable));
    }
}

/// The key of the one publication that is to be appended.
fn published(told: &[String]) -> &str {
    assert_eq!(told.len(), 1, "{told:?}");
    &told[0]
}

#[test]
fn publications_of_a_session_on_a_link_can_be_known_again() {
    let mut bench = Bench::connected();
    let plain = bench.publish("kept:a", b"1");
    assert!(!published(&plain).contains("once"), "{plain:?}");
    bench.session.begin_message(7, false);
    let first = bench.publish("kept:a", b"1");
    assert!(
        published(&first).ends_with(&format!("once by {NIL}/7/1")),
        "{first:?}"
    );
    let second = bench.publish("kept:a", b"1");
    assert!(
        published(&second).ends_with(&format!("once by {NIL}/7/2")),
        "{second:?}"
    );
    let (mut other, _) = restored(&bench, &[]);
    other.session.begin_message(7, true);
    assert_eq!(other.publish("kept:a", b"1"), first);
}

#[test]
fn what_cannot_be_known_again_is_published_twice_or_dropped() {
    for (unacknowledged, is_published) in [
        (Unacknowledged::Repeat, true),
        (Unacknowledged::Drop, false),
    ] {
        let policy = policy(|policy| policy.client.unacknowledged = unacknowledged);
        let mut bench = Bench::with(policy, None);
        bench.connect(&token(json!({"sub": "42"})));
        bench.session.begin_message(1, false);
        assert!(bench.publish("binary:a", b"1")[0].starts_with("publish"));
        bench.session.begin_message(1, true);
        let told = bench.publish("binary:a", b"1");
        assert_eq!(told[0].starts_with("publish"), is_published, "{told:?}");
        if !is_published {
            assert_eq!(told, [r#"{"id":9,"publish":{}}"#]);
        }
        assert!(bench.publish("kept:a", b"1")[0].starts_with("publish"));
    }
}

#[test]
fn a_command_that_comes_again_is_answered_as_if_it_came_for_the_first_time() {
    let (mut other, _) = restored(&positioned(), &[("kept:a", 7)]);
    other.subscribed_at_seven("kept:a", Some(publications(&[])));
    other.session.begin_message(2, true);
    let again = SubscribeRequest {
        channel: "kept:a".into(),
        positioned: true,
        ..Default::default()
    };
    let told = other.request(2, Request::Subscribe(again.clone()));
    assert_eq!(told, ["unsubscribe kept:a", "subscribe kept:a"]);
    let told = other.subscribed_at_seven("kept:a", None);
    assert!(
        told[0].starts_with(r#"{"id":2,"subscribe":{"epoch":"e""#),
        "{told:?}"
    );
    other.session.begin_message(3, false);
    let told = other.request(3, Request::Subscribe(again));
    assert!(told[0].contains(r#""code":105"#), "{told:?}");
}

#[test]
fn a_connect_command_that_comes_again_is_answered_again() {
    let (mut other, _) = restored(&positioned(), &[("kept:a", 7)]);
    other.subscribed_at_seven("kept:a", Some(publications(&[])));
    other.session.begin_message(1, true);
    let told = other.connect(&token(json!({"sub": "42"})));
    assert_eq!(told[0], "unsubscribe kept:a");
    assert!(told[1].starts_with(r#"{"id":1,"connect":{"#), "{told:?}");
    other.session.begin_message(2, false);
    assert_eq!(
        other.connect(&token(json!({"sub": "42"}))),
        ["close 3501 bad request"]
    );
}
