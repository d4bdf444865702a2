//! What a session asks about channels.

use flotilla_shared::auth::{Overrides, Switch};

use super::*;

/// What only the back end says.
fn closed_answers<T>(id: u32) -> [(Answer<T>, String); 3] {
    [
        (Answer::Failed, internal(id)),
        (refused(), refusal(id)),
        (dismissed(), DISMISSED.to_owned()),
    ]
}

#[test]
fn the_back_end_decides_who_comes_into_a_channel() {
    let mut bench = Bench::hooked();
    assert_eq!(
        bench.subscribe(2, "asked:1"),
        [r#"ask as "42": Subscribe { channel: "asked:1", token: "", data: b"" }"#]
    );
    let twice = r#"{"id":3,"error":{"code":105,"message":"already subscribed"}}"#;
    assert_eq!(bench.subscribe(3, "asked:1"), [twice]);
    let grant = SubscribeGrant {
        grant: ChannelGrant {
            info: Bytes::from_static(b"1"),
            data: Bytes::from_static(b"2"),
            overrides: Overrides {
                join_leave: Some(Switch { value: false }),
                ..Overrides::default()
            },
        },
        expire_at: 0,
    };
    assert_eq!(
        bench.subscribe_is(Answer::Granted(grant)),
        ["subscribe asked:1"]
    );
    assert_eq!(
        bench.subscribed("asked:1"),
        [r#"{"id":2,"subscribe":{"data":2}}"#],
        "and no join: the answer says so"
    );
    assert_eq!(bench.session.subscriptions[0].info, "1");
}

#[test]
fn every_answer_to_a_subscribe_has_its_consequence() {
    let mut bench = Bench::hooked();
    bench.subscribe(2, "asked:1");
    let expired = Answer::Granted(SubscribeGrant {
        expire_at: NOW_UNIX,
        ..SubscribeGrant::default()
    });
    let expired_reply = r#"{"id":2,"error":{"code":110,"message":"expired"}}"#;
    assert_eq!(bench.subscribe_is(expired), [expired_reply]);
    for (answer, consequence) in closed_answers(4) {
        bench.subscribe(4, "asked:2");
        assert_eq!(bench.subscribe_is(answer), [consequence]);
        assert!(bench.session.subscriptions.is_empty());
    }
}

#[test]
fn what_is_asked_about_counts_as_one_of_the_clients_channels() {
    let mut bench = Bench::hooked();
    for (id, channel) in [(2, "asked:1"), (3, "asked:2"), (4, "asked:3")] {
        assert!(bench.subscribe(id, channel)[0].starts_with("ask"));
    }
    let too_many = r#"{"id":5,"error":{"code":106,"message":"limit exceeded"}}"#;
    assert_eq!(bench.subscribe(5, "asked:4"), [too_many]);
}

#[test]
fn tokens_and_names_decide_before_the_back_end_does() {
    let mut bench = Bench::hooked();
    let by_token = token(json!({"sub": "42", "channel": "asked:1"}));
    assert_eq!(
        bench.subscribe_with(2, "asked:1", &by_token),
        ["subscribe asked:1"]
    );
    let denied = r#"{"id":3,"error":{"code":103,"message":"permission denied"}}"#;
    for channel in ["$asked:1", "asked:a#7", "asked:#7"] {
        assert_eq!(bench.subscribe(3, channel), [denied], "{channel}");
    }
    assert_eq!(bench.subscribe(4, "asked:a#42"), ["subscribe asked:a#42"]);
    assert_eq!(bench.subscribe(5, "news"), ["subscribe news"]);
    assert!(bench.asked.is_empty());
}

#[test]
fn a_token_that_the_worker_cannot_verify_is_for_the_back_end() {
    let mut bench = Bench::asking();
    Rc::get_mut(&mut bench.session.policy).unwrap().verifier =
        Verifier::new([], String::new(), String::new()).into();
    bench.connect("");
    bench.connect_is(Answer::Granted(ConnectGrant::default()));
    assert_eq!(
        bench.subscribe_with(2, "asked:1", "theirs"),
        [r#"ask as "": Subscribe { channel: "asked:1", token: "theirs", data: b"" }"#]
    );
    let denied = r#"{"id":3,"error":{"code":103,"message":"permission denied"}}"#;
    assert_eq!(bench.subscribe_with(3, "news", "theirs"), [denied]);
}

#[test]
fn who_only_wishes_for_a_channel_is_not_asked_about() {
    let mut bench = Bench::asking();
    let request = ConnectRequest {
        token: token(json!({"sub": "42"})),
        subs: [("asked:1".to_owned(), SubscribeRequest::default())].into(),
        ..ConnectRequest::default()
    };
    let replies = bench.request(1, Request::Connect(request));
    assert!(
        replies[0].starts_with(r#"{"id":1,"connect""#),
        "{replies:?}"
    );
    assert!(bench.session.subscriptions.is_empty());
}

#[test]
fn who_unsubscribes_while_the_back_end_thinks_is_answered_in_order() {
    let done = r#"{"id":3,"unsubscribe":{}}"#;
    let mut bench = Bench::hooked();
    bench.subscribe(2, "asked:1");
    assert_eq!(bench.unsubscribe(3, "asked:1"), [""; 0]);
    assert_eq!(bench.subscribe_is(refused()), [refusal(2), done.to_owned()]);

    bench.subscribe(2, "asked:1");
    assert_eq!(bench.unsubscribe(3, "asked:1"), [""; 0]);
    let granted = Answer::Granted(SubscribeGrant::default());
    assert_eq!(bench.subscribe_is(granted), ["subscribe asked:1"]);
    let actions = bench.subscribed("asked:1");
    assert_eq!(actions[0], r#"{"id":2,"subscribe":{}}"#);
    assert_eq!(actions.last().unwrap(), done);
    assert!(bench.session.subscriptions.is_empty());

    bench.subscribe(2, "asked:1");
    bench.unsubscribe(3, "asked:1");
    assert_eq!(
        bench.subscribe_is(dismissed()),
        [DISMISSED],
        "nothing follows"
    );
}

/// In `asked:1`, for the next minute.
fn subscribed_for_a_minute() -> Bench {
    let mut bench = Bench::hooked();
    bench.subscribe(2, "asked:1");
    bench.subscribe_is(Answer::Granted(SubscribeGrant {
        expire_at: NOW_UNIX + 60,
        ..SubscribeGrant::default()
    }));
    assert_eq!(
        bench.subscribed("asked:1")[0],
        r#"{"id":2,"subscribe":{}}"#,
        "it is not for the client to refresh"
    );
    bench
}

const ASKED_TO_STAY: &str = r#"ask as "42": SubRefresh { channel: "asked:1" }"#;

const OVER: &str =
    r#"{"push":{"channel":"asked:1","unsubscribe":{"code":2501,"reason":"subscription expired"}}}"#;

#[test]
fn a_subscription_that_expires_goes_on_as_long_as_the_back_end_says() {
    let mut bench = subscribed_for_a_minute();
    assert_eq!(bench.pass(59), [""; 0]);
    assert_eq!(bench.pass(1), [ASKED_TO_STAY]);
    assert_eq!(bench.pass(1), [""; 0], "it is asked once");
    let answer = Answer::Granted(RefreshGrant {
        expire_at: NOW_UNIX + 90,
        info: Bytes::from_static(b"2"),
        ..RefreshGrant::default()
    });
    assert_eq!(bench.sub_refresh_is(answer), [""; 0]);
    assert_eq!(bench.session.subscriptions[0].info, "2");
    assert_eq!(bench.pass(28), [""; 0]);
    assert_eq!(bench.pass(1), [ASKED_TO_STAY]);
    let expired = Answer::Granted(RefreshGrant {
        expired: true,
        ..RefreshGrant::default()
    });
    let actions = bench.sub_refresh_is(expired);
    assert_eq!(actions.last().unwrap(), OVER, "{actions:?}");
    assert!(bench.session.subscriptions.is_empty());
}

#[test]
fn a_subscription_does_not_outlive_a_silent_back_end_for_ever() {
    let mut bench = subscribed_for_a_minute();
    assert_eq!(bench.pass(60), [ASKED_TO_STAY]);
    for pause in [10, 10, 5] {
        assert_eq!(bench.sub_refresh_is(Answer::Failed), [""; 0]);
        assert_eq!(bench.pass(pause), [ASKED_TO_STAY]);
    }
    let actions = bench.sub_refresh_is(Answer::Failed);
    assert_eq!(actions.last().unwrap(), OVER, "{actions:?}");
}

#[test]
fn an_answer_about_a_subscription_that_is_gone_does_not_end_the_next_one() {
    let mut bench = subscribed_for_a_minute();
    bench.pass(60);
    let about = bench.asked.pop().unwrap();
    bench.unsubscribe(3, "asked:1");
    bench.subscribe(4, "asked:1");
    bench.subscribe_is(Answer::Granted(SubscribeGrant {
        expire_at: NOW_UNIX + 120,
        ..SubscribeGrant::default()
    }));
    bench.subscribed("asked:1");
    bench.asked.push(about);
    let expired = Answer::Granted(RefreshGrant {
        expired: true,
        ..RefreshGrant::default()
    });
    assert_eq!(bench.sub_refresh_is(expired), [""; 0]);
    assert_eq!(bench.session.subscriptions.len(), 1);
}

#[test]
fn a_client_with_a_subscription_token_refreshes_itself() {
    let mut bench = Bench::hooked();
    let claims = |exp: u64| token(json!({"sub": "42", "channel": "asked:1", "exp": exp}));
    bench.subscribe_with(2, "asked:1", &claims(NOW_UNIX + 60));
    assert!(bench.subscribed("asked:1")[0].contains(r#""ttl":60"#));
    assert_eq!(bench.pass(60), [""; 0]);
    let request = SubRefreshRequest {
        channel: "asked:1".to_owned(),
        token: claims(NOW_UNIX + 120),
        ..SubRefreshRequest::default()
    };
    let replies = bench.request(3, Request::SubRefresh(request));
    assert!(replies[0].contains(r#""ttl":60"#), "{replies:?}");
    assert!(bench.asked.is_empty());
}

#[test]
fn the_back_end_decides_what_is_published() {
    let mut bench = Bench::hooked();
    assert_eq!(
        bench.publish("asked:1", b"1"),
        [r#"ask as "42": Publish { channel: "asked:1", data: b"1" }"#]
    );
    assert!(bench.asked[0].is_in_order());
    let as_it_is = bench.publish_is(Answer::Granted(PublishGrant::default()));
    let expected = r#"publish asked:1 {"pub":{"data":1,"#;
    assert!(as_it_is[0].starts_with(expected), "{as_it_is:?}");
    bench.publish("asked:1", b"1");
    let replaced = bench.publish_is(Answer::Granted(PublishGrant {
        data: Bytes::from_static(b"2"),
        tags: [("a".to_owned(), "b".to_owned())].into(),
        ..PublishGrant::default()
    }));
    let expected = r#"publish asked:1 {"pub":{"data":2,"#;
    assert!(
        replaced[0].starts_with(expected) && replaced[0].contains(r#""tags":{"a":"b"}"#),
        "{replaced:?}"
    );
}

#[test]
fn the_back_end_decides_how_something_is_kept() {
    let mut bench = Bench::hooked();
    bench.publish("stored:1", b"1");
    let kept = bench.publish_is(Answer::Granted(PublishGrant {
        delta: true,
        version: 3,
        ..PublishGrant::default()
    }));
    assert!(
        kept[0].contains(r#""delta":true"#)
            && kept[0].contains(r#""version":3"#)
            && kept[0].ends_with(" kept"),
        "{kept:?}"
    );
    bench.publish("stored:1", b"1");
    let skipped = bench.publish_is(Answer::Granted(PublishGrant {
        skip_history: true,
        delta: true,
        ..PublishGrant::default()
    }));
    assert!(
        !skipped[0].contains("delta") && !skipped[0].ends_with("kept"),
        "{skipped:?}"
    );

    let mut actions = Actions::new();
    bench.publish("stored:1", b"1");
    let about = bench.asked.pop();
    let Some(About::Publish { id, channel, data }) = about else {
        panic!("{about:?}");
    };
    let answer = Answer::Granted(PublishGrant {
        idempotency_key: "once".to_owned(),
        version: 4,
        version_epoch: "e".to_owned(),
        ..PublishGrant::default()
    });
    let answered = Answered::Publish {
        id,
        channel,
        data,
        answer,
    };
    let event = Event::Answered(Box::new(answered));
    bench.session.handle(event, bench.now, &mut actions);
    let Some(Action::Publish(publish)) = actions.pop() else {
        panic!("nothing is published");
    };
    let append = publish.append;
    assert_eq!(
        (
            append.idempotency_key.as_str(),
            append.version,
            append.version_epoch.as_str()
        ),
        ("once", 4, "e")
    );
}

#[test]
fn every_answer_to_a_publish_has_its_consequence() {
    let mut bench = Bench::hooked();
    let no_json = PublishGrant {
        data: Bytes::from_static(b"\xff"),
        ..PublishGrant::default()
    };
    let once = PublishGrant {
        idempotency_key: "once".to_owned(),
        ..PublishGrant::default()
    };
    let without_history = r#"{"id":9,"error":{"code":108,"message":"not available"}}"#;
    bench.publish("asked:1", b"1");
    assert_eq!(
        bench.publish_is(Answer::Granted(once)),
        ["unpublished asked:1 not_available", without_history]
    );
    let mistake = (Answer::Granted(no_json), internal(9));
    for (answer, consequence) in [mistake].into_iter().chain(closed_answers(9)) {
        bench.publish("asked:1", b"1");
        let counted = "unpublished asked:1 back_end".to_owned();
        assert_eq!(bench.publish_is(answer), [counted, consequence]);
    }
}

#[test]
fn what_may_not_be_published_anyway_is_not_asked_about() {
    let mut bench = Bench::hooked();
    let bad_request = r#"{"id":9,"error":{"code":107,"message":"bad request"}}"#;
    for data in [&b""[..], b"\xff"] {
        let counted = "unpublished asked:1 bad_request";
        assert_eq!(bench.publish("asked:1", data), [counted, bad_request]);
    }
    let denied = r#"{"id":9,"error":{"code":103,"message":"permission denied"}}"#;
    let counted = "unpublished news permission_denied";
    assert_eq!(bench.publish("news", b"1"), [counted, denied]);
    assert!(bench.asked.is_empty());
}

#[test]
fn a_client_that_nobody_reads_is_not_blamed_for_its_silence() {
    let mut bench = Bench::asking();
    bench.connect(&token(json!({"sub": "42"})));
    assert_eq!(bench.pass(25), ["ping"]);
    bench.session.hold_up();
    bench.publish("asked:1", b"1");
    assert_eq!(bench.pass(8), [""; 0], "its answer may be there, unread");
    let next = bench.session.next_deadline().unwrap();
    assert!(next > bench.now.at, "nothing is due");
    bench.publish_is(Answer::Granted(PublishGrant::default()));
    bench.session.go_on(bench.now.at);
    assert_eq!(bench.pass(7), [""; 0], "it has its whole time again");
    assert_eq!(bench.pass(1), ["close 3012 no pong"]);
}

#[test]
fn every_ping_may_be_answered_that_a_client_got_while_nobody_read_it() {
    let mut bench = Bench::asking();
    bench.connect(&token(json!({"sub": "42"})));
    bench.session.hold_up();
    assert_eq!(bench.pass(25), ["ping"]);
    assert_eq!(bench.pass(25), ["ping"]);
    bench.session.go_on(bench.now.at);
    for _ in 0..2 {
        assert_eq!(bench.event(Event::Pong(Pings::Messages)), [""; 0]);
    }
    assert_eq!(bench.pass(8), [""; 0]);
    assert_eq!(
        bench.event(Event::Pong(Pings::Messages)),
        ["close 3501 bad request"],
        "nobody asked for a third"
    );
}
