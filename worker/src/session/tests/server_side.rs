//! Subscriptions that the server decides, and what else the application can want of a client.

use flotilla_shared::auth::ChannelGrant;
use flotilla_shared::protocol::types::{FilterNode, Publication};

use super::*;

fn connect(bench: &mut Bench, change: impl FnOnce(&mut ConnectRequest)) -> Vec<String> {
    let mut request = ConnectRequest {
        token: token(json!({"sub": "42"})),
        ..ConnectRequest::default()
    };
    change(&mut request);
    bench.request(1, Request::Connect(request))
}

fn connected_to(channel: &str) -> Bench {
    let mut bench = Bench::new();
    connect(&mut bench, |request| {
        request.token = token(json!({"sub": "42", "channels": [channel]}));
    });
    bench.subscribed_at_seven(channel, None);
    assert!(bench.session.is_connected());
    bench
}

fn put_into(bench: &mut Bench, channel: &str, since: Option<u64>) -> Vec<String> {
    bench.event(Event::Command(ServerCommand::Subscribe(Box::new(
        ServerSubscribe {
            channel: Channel::parse(channel, 255).unwrap(),
            grant: ChannelGrant {
                data: "5".into(),
                ..ChannelGrant::default()
            },
            expire_at: None,
            recover_since: since.map(|offset| (offset, "e".to_owned())),
        },
    ))))
}

#[test]
fn the_connect_reply_waits_for_every_channel_that_comes_with_it() {
    let mut bench = Bench::new();
    let asked = connect(&mut bench, |request| {
        request.token = token(json!({
            "sub": "42",
            "channels": ["news"],
            "subs": {"closed:a": {"data": {"x": 1}}},
        }));
    });
    assert_eq!(asked, ["subscribe closed:a", "subscribe news"]);
    assert!(bench.session.is_connecting());
    assert!(bench.subscribed("news").is_empty());
    let told = bench.subscribed("closed:a");
    assert!(
        told[0].contains(r#""subs":{"closed:a":{"data":{"x":1}},"news":{}}"#),
        "{told:?}"
    );
    assert!(bench.session.is_connected());
}

#[test]
fn a_channel_that_cannot_be_opened_makes_the_client_try_again() {
    let mut bench = Bench::new();
    connect(&mut bench, |request| {
        request.token = token(json!({"sub": "42", "channels": ["a", "b"]}));
    });
    bench.subscribed("a");
    let told = bench.event(Event::Subscribed {
        channel: Channel::parse("b", 255).unwrap(),
        result: Err(ErrorCode::Internal),
    });
    assert_eq!(told[0], "unsubscribe a");
    assert!(told[1].contains(r#""code":100,"#) && told[1].contains(r#""temporary":true"#));
}

#[test]
fn too_many_or_unknown_channels_of_a_token_are_refused_as_a_whole() {
    for (channels, expected) in [
        (json!(["a", "b", "c", "d"]), "close 3505 channel limit"),
        (
            json!(["nowhere:a"]),
            r#"{"id":1,"error":{"code":102,"message":"unknown channel"}}"#,
        ),
    ] {
        let mut bench = Bench::new();
        let told = connect(&mut bench, |request| {
            request.token = token(json!({"sub": "42", "channels": channels}));
        });
        assert_eq!(told, [expected]);
    }
}

#[test]
fn a_client_may_wish_for_what_it_could_subscribe_to_by_itself() {
    let wish = |names: &[&str]| {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut bench = Bench::new();
        connect(&mut bench, |request| {
            request.subs = names
                .into_iter()
                .map(|name| (name, SubscribeRequest::default()))
                .collect();
        })
    };
    assert_eq!(wish(&["news", "closed:a", "$secret"]), ["subscribe news"]);
    assert_eq!(wish(&["nowhere:a"]), ["close 3501 bad request"]);
}

#[test]
fn every_user_has_a_personal_channel_where_that_is_on() {
    let with = |namespace: &str, user: &str| {
        let policy = policy(|policy| {
            policy.client.personal_channel = Some(PersonalChannel {
                namespace: namespace.to_owned(),
                single_connection: false,
            });
        });
        let mut bench = Bench::with(policy, None);
        connect(&mut bench, |request| {
            request.token = token(json!({"sub": user}));
        })
    };
    assert_eq!(with("", "42"), ["subscribe #42"]);
    assert_eq!(with("closed", "42"), ["subscribe closed:#42"]);
    assert!(with("", "")[0].contains(r#""connect""#));
}

#[test]
fn server_side_subscriptions_recover_from_what_the_client_remembers() {
    let mut bench = Bench::new();
    let asked = connect(&mut bench, |request| {
        request.token = token(json!({"sub": "42", "channels": ["forced:a"]}));
        request.subs = [(
            "forced:a".to_owned(),
            SubscribeRequest {
                recover: true,
                epoch: "e".into(),
                offset: 6,
                ..SubscribeRequest::default()
            },
        )]
        .into();
    });
    assert_eq!(asked, ["subscribe forced:a with joins Stream since 6 of e"]);
    let missed = Recovery::Recovered(vec![Publication {
        data: "1".into(),
        offset: 7,
        ..Publication::default()
    }]);
    let told = bench.subscribed_at_seven("forced:a", Some(missed));
    assert!(
        told[0].contains(r#""publications":[{"data":1,"offset":7}],"recovered":true,"offset":6"#),
        "{told:?}"
    );
    assert!(
        told[1].starts_with(r#"announce forced:a {"join""#),
        "{told:?}"
    );
}

#[test]
fn a_gap_or_an_end_in_a_server_side_subscription_makes_the_client_connect_again() {
    let mut bench = connected_to("forced:a");
    let gap = Event::Insufficient(Channel::parse("forced:a", 255).unwrap());
    assert_eq!(bench.event(gap), ["close 3010 insufficient state"]);

    let mut bench = Bench::connected();
    let command = ServerCommand::Subscribe(Box::new(ServerSubscribe {
        channel: Channel::parse("news", 255).unwrap(),
        grant: ChannelGrant::default(),
        expire_at: Some(NOW_UNIX + 60),
        recover_since: None,
    }));
    bench.event(Event::Command(command));
    bench.subscribed("news");
    let told: Vec<_> = (0..90)
        .flat_map(|_| {
            bench.event(Event::Pong(Pings::Transport));
            bench.session.pong_until = None;
            bench.pass(1)
        })
        .filter(|told| told != "ping")
        .collect();
    assert_eq!(told, ["close 3006 subscription expired"]);
}

#[test]
fn the_application_puts_a_client_into_a_channel_and_takes_it_out() {
    let mut bench = Bench::connected();
    assert_eq!(
        put_into(&mut bench, "closed:a", None),
        ["subscribe closed:a"]
    );
    assert_eq!(
        bench.subscribed("closed:a"),
        [r#"{"push":{"channel":"closed:a","subscribe":{"data":5}}}"#]
    );
    assert!(put_into(&mut bench, "closed:a", None).is_empty());
    let channel = Channel::parse("closed:a", 255).unwrap();
    let out = ServerCommand::Unsubscribe(channel);
    assert_eq!(
        bench.event(Event::Command(out.clone())),
        [
            "unsubscribe closed:a",
            r#"{"push":{"channel":"closed:a","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}"#
        ]
    );
    assert!(bench.event(Event::Command(out.clone())).is_empty());
    // It may come while the channel is being opened.
    put_into(&mut bench, "closed:a", None);
    assert!(bench.event(Event::Command(out)).is_empty());
    assert_eq!(bench.subscribed("closed:a").len(), 3);
    assert!(bench.session.farewell().next().is_none());
}

#[test]
fn who_is_put_into_a_channel_gets_what_was_missed_as_publications() {
    let mut bench = Bench::connected();
    let asked = put_into(&mut bench, "forced:a", Some(6));
    assert_eq!(asked, ["subscribe forced:a with joins Stream since 6 of e"]);
    let missed = Recovery::Recovered(vec![Publication {
        data: "1".into(),
        offset: 7,
        ..Publication::default()
    }]);
    let told = bench.subscribed_at_seven("forced:a", Some(missed));
    assert!(told[0].contains(r#""subscribe":{"recoverable":true,"epoch":"e","offset":6"#));
    assert_eq!(
        told[1],
        r#"{"push":{"channel":"forced:a","pub":{"data":1,"offset":7}}}"#
    );
}

#[test]
fn the_application_disconnects_in_its_own_words() {
    let mut bench = Bench::connected();
    let goodbye = Goodbye::new(4500, "banned");
    let told = bench.event(Event::Command(ServerCommand::Disconnect(goodbye)));
    assert!(
        told[0].contains("4500") && told[0].contains("banned"),
        "{told:?}"
    );
    assert!(bench.subscribe(2, "news").is_empty());
}

#[test]
fn the_application_moves_the_end_of_a_connection() {
    let refresh = |expired, expire_at| {
        Event::Command(ServerCommand::Refresh(ServerRefresh {
            expired,
            expire_at,
            info: None,
        }))
    };
    let mut bench = Bench::connected();
    assert_eq!(
        bench.event(refresh(false, Some(NOW_UNIX + 60))),
        [r#"{"push":{"refresh":{"expires":true,"ttl":60}}}"#]
    );
    assert_eq!(
        bench.event(refresh(false, None)),
        [r#"{"push":{"refresh":{}}}"#]
    );
    let mut other = Bench::connected();
    let over = ["close 3005 connection expired"];
    assert_eq!(bench.event(refresh(true, None)), over);
    assert_eq!(other.event(refresh(false, Some(NOW_UNIX))), over);
}

#[test]
fn a_client_may_ask_for_deltas_of_what_it_begins_with() {
    let mut bench = Bench::new();
    let asked = connect(&mut bench, |request| {
        request.token = token(json!({"sub": "42", "channels": ["kept:a", "kept:b", "news"]}));
        let fossil = SubscribeRequest {
            delta: "fossil".into(),
            ..SubscribeRequest::default()
        };
        request.subs = ["kept:a", "news"]
            .map(|name| (name.to_owned(), fossil.clone()))
            .into();
    });
    assert_eq!(
        asked,
        [
            "subscribe kept:a as deltas",
            "subscribe kept:b",
            "subscribe news"
        ]
    );
    bench.subscribed("kept:a");
    bench.subscribed("kept:b");
    let told = bench.subscribed("news");
    assert!(
        told[0].contains(r#""subs":{"kept:a":{"delta":true},"kept:b":{},"news":{}}"#),
        "{told:?}"
    );
}

#[test]
fn a_filter_that_cannot_be_applied_to_what_a_client_begins_with_is_refused() {
    let begin = |channel: &str, cmp: &str| {
        let filtered = SubscribeRequest {
            tf: Some(Box::new(FilterNode {
                key: "tag".into(),
                cmp: cmp.into(),
                val: "1".into(),
                ..FilterNode::default()
            })),
            ..SubscribeRequest::default()
        };
        let mut bench = Bench::new();
        connect(&mut bench, |request| {
            request.token = token(json!({"sub": "42", "channels": [channel]}));
            request.subs = [(channel.to_owned(), filtered)].into();
        })
    };
    assert_eq!(begin("kept:a", "eq"), ["subscribe kept:a by a filter"]);
    for (channel, cmp) in [("kept:a", "like"), ("news", "eq")] {
        assert_eq!(
            begin(channel, cmp),
            [r#"{"id":1,"error":{"code":107,"message":"bad request"}}"#]
        );
    }
}
