//! Subscriptions that the server decides.

use flotilla_shared::protocol::types::Publication;

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
fn a_gap_in_a_server_side_subscription_makes_the_client_connect_again() {
    let mut bench = connected_to("forced:a");
    let gap = Event::Insufficient(Channel::parse("forced:a", 255).unwrap());
    assert_eq!(bench.event(gap), ["close 3010 insufficient state"]);
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
