//! What a session promises to a client that is too fast, wrong too often, or one too many.

use std::num::NonZeroU32;

use flotilla_shared::protocol::types::{PresenceRequest, PresenceStatsRequest};

use super::*;
use crate::bucket::Rate;
use crate::rates::{Limit, Metered};

/// A connected client; what is named may happen twice at once, and once a second.
fn limited(metered: &[Metered]) -> Bench {
    let metered = metered.to_vec();
    let policy = policy(|policy| {
        policy.client.rate_limits = RateLimits::new(|limited| {
            metered.contains(&limited).then_some(Rate {
                per_second: NonZeroU32::MIN,
                burst: NonZeroU32::new(2).unwrap(),
            })
        });
    });
    let mut bench = Bench::with(policy, None);
    bench.connect(&token(json!({"sub": "42"})));
    bench
}

fn refused(id: u32, metered: Metered) -> [String; 2] {
    let error = r#""error":{"code":111,"message":"too many requests","temporary":true}"#;
    [
        format!("limited connection {}", metered.label()),
        format!(r#"{{"id":{id},{error}}}"#),
    ]
}

#[test]
fn a_kind_of_command_that_comes_too_often_is_refused_until_time_has_passed() {
    let kinds = [
        (
            Metered::Subscribe,
            Request::Subscribe(SubscribeRequest {
                channel: "a".into(),
                ..Default::default()
            }),
        ),
        (
            Metered::Publish,
            Request::Publish(PublishRequest {
                channel: "a".into(),
                ..Default::default()
            }),
        ),
        (
            Metered::Presence,
            Request::Presence(PresenceRequest {
                channel: "a".into(),
            }),
        ),
        (
            Metered::Presence,
            Request::PresenceStats(PresenceStatsRequest {
                channel: "a".into(),
            }),
        ),
        (
            Metered::History,
            Request::History(HistoryRequest {
                channel: "a".into(),
                ..Default::default()
            }),
        ),
        (Metered::Rpc, Request::Rpc(RpcRequest::default())),
    ];
    for (metered, request) in kinds {
        // Whatever a command is answered, it counts.
        let mut bench = limited(&[metered]);
        let is_refused = |said: Vec<String>| said.ends_with(&refused(9, metered));
        let ask = |bench: &mut Bench| is_refused(bench.request(9, request.clone()));
        assert!(!ask(&mut bench) && !ask(&mut bench), "{request:?}");
        assert!(ask(&mut bench), "{request:?}");
        // What is refused does not count.
        bench.pass(1);
        assert!(!ask(&mut bench), "{request:?}");
        assert!(ask(&mut bench), "{request:?}");
    }
}

#[test]
fn every_kind_has_a_rate_of_its_own() {
    let mut bench = limited(&[Metered::Subscribe, Metered::Publish]);
    for channel in ["a", "b"] {
        bench.subscribe(2, channel);
        bench.subscribed(channel);
    }
    assert_eq!(bench.subscribe(3, "c"), refused(3, Metered::Subscribe));
    for _ in 0..2 {
        assert!(bench.publish("a", b"1")[0].starts_with("publish a"));
    }
    let too_fast = bench.publish("a", b"1");
    assert_eq!(too_fast[0], "unpublished a rate_limited");
    assert_eq!(too_fast[1..], refused(9, Metered::Publish));
    // Who may not even subscribe can still leave.
    let request = UnsubscribeRequest {
        channel: "a".into(),
    };
    let left = bench.request(4, Request::Unsubscribe(request));
    assert_eq!(left, ["unsubscribe a", r#"{"id":4,"unsubscribe":{}}"#]);
}

#[test]
fn tokens_of_connections_and_subscriptions_are_refreshed_at_one_rate() {
    let mut bench = limited(&[Metered::Refresh]);
    bench.subscribe_with(
        2,
        "a",
        &token(json!({"sub": "42", "channel": "a", "exp": NOW_UNIX + 60})),
    );
    bench.subscribed("a");
    let token = token(json!({"sub": "42", "exp": NOW_UNIX + 60}));
    let refresh = Request::Refresh(RefreshRequest { token });
    for _ in 0..2 {
        assert!(bench.request(3, refresh.clone())[0].contains("\"refresh\""));
    }
    let request = SubRefreshRequest {
        channel: "a".into(),
        ..Default::default()
    };
    let said = bench.request(4, Request::SubRefresh(request));
    assert_eq!(said, refused(4, Metered::Refresh));
}

#[test]
fn who_does_not_mind_being_refused_is_sent_away_for_a_while() {
    let mut bench = limited(&[Metered::Publish, Metered::Errors]);
    bench.subscribe(2, "a");
    bench.subscribed("a");
    let mut said = Vec::new();
    for _ in 0..5 {
        assert_eq!(said.last(), None);
        said = bench.publish("a", b"1");
        said.retain(|action| action.starts_with("close"));
    }
    assert_eq!(said, ["close 3013 too many requests"]);
    assert!(bench.publish("a", b"1").is_empty());
}

#[test]
fn who_makes_one_mistake_after_another_is_sent_away_for_good() {
    let mut bench = limited(&[Metered::Errors]);
    for _ in 0..2 {
        assert_eq!(bench.subscribe(2, "nowhere:a").len(), 1);
    }
    // An error a second is what it may have.
    bench.pass(1);
    assert_eq!(bench.subscribe(2, "nowhere:a").len(), 1);
    let said = bench.subscribe(3, "nowhere:a");
    assert_eq!(
        said[0],
        r#"{"id":3,"error":{"code":102,"message":"unknown channel"}}"#
    );
    assert_eq!(
        said[1..],
        ["limited connection errors", "close 3509 too many errors"]
    );
}

#[test]
fn what_an_sdk_does_without_being_wrong_counts_as_no_error() {
    let mut bench = limited(&[Metered::Errors]);
    for _ in 0..10 {
        bench.subscribe(2, "a");
        assert_eq!(bench.subscribed("a").len(), 1);
        let request = UnsubscribeRequest {
            channel: "a".into(),
        };
        assert_eq!(bench.request(3, Request::Unsubscribe(request)).len(), 2);
    }
}

#[test]
fn messages_and_bytes_have_to_wait_for_what_takes_longer() {
    let mut bench = limited(&[Metered::Messages, Metered::Bytes]);
    let now = bench.now.at;
    let seconds = Duration::from_secs;
    assert_eq!(bench.session.received(2, now), None);
    assert_eq!(bench.session.received(0, now), None);
    let too_many = bench.session.received(0, now);
    assert_eq!(
        too_many,
        Some((now + seconds(1), Limit::Rate(Metered::Messages)))
    );
    let too_large = bench.session.received(5, now + seconds(1));
    assert_eq!(
        too_large,
        Some((now + seconds(5), Limit::Rate(Metered::Bytes)))
    );
    assert_eq!(bench.session.received(0, now + seconds(5)), None);
}

#[test]
fn a_user_with_too_many_connections_gets_no_more_before_one_has_gone() {
    let policy = policy(|policy| policy.user_capacity = UserCapacity::new(1));
    let connect = || {
        let mut bench = Bench::with(policy.clone(), None);
        let said = bench.connect(&token(json!({"sub": "42"})));
        (bench, said)
    };
    let (mut first, _) = connect();
    assert!(first.session.is_connected());
    let refused = ["limited user connections", "close 3504 connection limit"];
    assert_eq!(connect().1, refused);
    assert_eq!(connect().1, refused, "whoever is refused has no place");
    first.session.make_room();
    assert!(connect().0.session.is_connected());
}
