//! Channels with more than live publications: history, recovery, presence, joins and leaves.

use flotilla_shared::protocol::types::{
    FilterNode, PresenceRequest, PresenceStatsRequest, Publication, StreamPosition as Since,
};

use super::*;

fn subscribe(bench: &mut Bench, change: impl FnOnce(&mut SubscribeRequest)) -> Vec<String> {
    let mut request = SubscribeRequest::default();
    change(&mut request);
    bench.request(2, Request::Subscribe(request))
}

fn publication(offset: u64) -> Publication {
    Publication {
        data: "1".into(),
        offset,
        ..Publication::default()
    }
}

fn info() -> String {
    format!(r#""info":{{"user":"42","client":"{NIL}"}}"#)
}

#[test]
fn positions_and_recovery_are_granted_where_asked_for_and_allowed_or_forced() {
    let ask = |channel: &str| {
        let mut bench = Bench::connected();
        subscribe(&mut bench, |request| {
            request.channel = channel.into();
            request.recoverable = true;
        });
        bench.subscribed_at_seven(channel, None).remove(0)
    };
    let granted =
        r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"e","offset":7,"positioned":true}}"#;
    assert_eq!(ask("kept:a"), granted);
    assert_eq!(ask("plain"), r#"{"id":2,"subscribe":{}}"#);

    let mut bench = Bench::connected();
    subscribe(&mut bench, |request| request.channel = "kept:a".into());
    assert_eq!(
        bench.subscribed_at_seven("kept:a", None)[0],
        r#"{"id":2,"subscribe":{}}"#
    );
    let mut bench = Bench::connected();
    subscribe(&mut bench, |request| request.channel = "forced:a".into());
    assert_eq!(bench.subscribed_at_seven("forced:a", None)[0], granted);
}

#[test]
fn what_was_missed_comes_with_the_reply_and_the_client_advances_by_it() {
    let mut bench = Bench::connected();
    let asked = subscribe(&mut bench, |request| {
        request.channel = "forced:a".into();
        request.recover = true;
        request.epoch = "e".into();
        request.offset = 6;
    });
    assert_eq!(asked, ["subscribe forced:a with joins Stream since 6 of e"]);
    let missed = Recovery::Recovered(vec![publication(7)]);
    assert_eq!(
        bench.subscribed_at_seven("forced:a", Some(missed))[0],
        concat!(
            r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"e","#,
            r#""publications":[{"data":1,"offset":7}],"recovered":true,"offset":6,"#,
            r#""positioned":true,"was_recovering":true}}"#
        )
    );
}

#[test]
fn who_cannot_recover_is_told_the_new_position_or_an_error_if_it_wants_that() {
    for (flag, expected) in [
        (
            0,
            vec![
                r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"e","offset":7,"positioned":true,"was_recovering":true}}"#.to_owned(),
                format!(r#"announce forced:a {{"join":{{{}}}}}"#, info()),
            ],
        ),
        (
            SubscribeRequest::REJECT_UNRECOVERED,
            vec![
                "unsubscribe forced:a".to_owned(),
                r#"{"id":2,"error":{"code":112,"message":"unrecoverable position"}}"#.to_owned(),
            ],
        ),
    ] {
        let mut bench = Bench::connected();
        subscribe(&mut bench, |request| {
            request.channel = "forced:a".into();
            request.recover = true;
            request.epoch = "_".into();
            request.flag = flag;
        });
        let told = bench.subscribed_at_seven("forced:a", Some(Recovery::Unrecoverable));
        assert_eq!(told, expected);
    }
}

#[test]
fn a_cache_gives_its_newest_publication_to_everyone() {
    let mut bench = Bench::connected();
    let asked = subscribe(&mut bench, |request| request.channel = "cache:a".into());
    assert_eq!(asked, ["subscribe cache:a Cache since 0 of "]);
    let newest = Recovery::Recovered(vec![publication(7)]);
    assert!(
        bench.subscribed_at_seven("cache:a", Some(newest))[0]
            .contains(r#""publications":[{"data":1,"offset":7}],"recovered":true,"offset":7"#)
    );
}

#[test]
fn a_gap_ends_the_subscription_of_whoever_counts_on_completeness() {
    let gap = || Event::Insufficient(Channel::parse("kept:a", 255).unwrap());
    let mut bench = Bench::connected();
    subscribe(&mut bench, |request| {
        request.channel = "kept:a".into();
        request.positioned = true;
    });
    bench.subscribed_at_seven("kept:a", None);
    let told = bench.event(gap());
    assert_eq!(told[0], "unsubscribe kept:a");
    assert!(
        told[1].starts_with(r#"announce kept:a {"leave""#),
        "{told:?}"
    );
    assert_eq!(
        told[2],
        r#"{"push":{"channel":"kept:a","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#
    );

    let mut bench = Bench::connected();
    subscribe(&mut bench, |request| request.channel = "kept:a".into());
    bench.subscribed_at_seven("kept:a", None);
    assert!(bench.event(gap()).is_empty());
}

#[test]
fn others_hear_of_a_subscriber_after_it_has_heard_itself_and_when_it_leaves() {
    let mut bench = Bench::connected();
    let asked = subscribe(&mut bench, |request| {
        request.channel = "kept:a".into();
        request.join_leave = true;
    });
    assert_eq!(asked, ["subscribe kept:a with joins"]);
    assert_eq!(
        bench.subscribed("kept:a"),
        [
            r#"{"id":2,"subscribe":{}}"#.to_owned(),
            format!(r#"announce kept:a {{"join":{{{}}}}}"#, info())
        ]
    );
    let farewell: Vec<_> = bench
        .session
        .farewell()
        .map(|(channel, leave)| (channel.to_string(), leave.is_some()))
        .collect();
    assert_eq!(farewell, [("kept:a".to_owned(), true)]);
    let unsubscribe = UnsubscribeRequest {
        channel: "kept:a".into(),
    };
    assert_eq!(
        bench.request(3, Request::Unsubscribe(unsubscribe)),
        [
            "unsubscribe kept:a".to_owned(),
            format!(r#"announce kept:a {{"leave":{{{}}}}}"#, info()),
            r#"{"id":3,"unsubscribe":{}}"#.to_owned()
        ]
    );
}

#[test]
fn who_is_subscribed_shows_in_the_presence_and_nobody_else() {
    let mut bench = Bench::connected();
    let channel = Channel::parse("kept:a", 255).unwrap();
    assert!(bench.session.presence_in(&channel).is_none());
    subscribe(&mut bench, |request| request.channel = "kept:a".into());
    assert!(bench.session.presence_in(&channel).is_none());
    bench.subscribed("kept:a");
    assert_eq!(bench.session.presence_in(&channel).unwrap().user, "42");
    bench.subscribe(3, "plain");
    bench.subscribed("plain");
    let plain = Channel::parse("plain", 255).unwrap();
    assert!(bench.session.presence_in(&plain).is_none());
}

#[test]
fn presence_and_history_are_looked_up_for_subscribers_where_there_are_any() {
    let presence = |channel: &str| {
        Request::Presence(PresenceRequest {
            channel: channel.into(),
        })
    };
    let stats = |channel: &str| {
        Request::PresenceStats(PresenceStatsRequest {
            channel: channel.into(),
        })
    };
    let history = |channel: &str, limit, since: Option<(u64, &str)>| {
        Request::History(HistoryRequest {
            channel: channel.into(),
            limit,
            since: since.map(|(offset, epoch)| Since {
                offset,
                epoch: epoch.into(),
            }),
            reverse: true,
        })
    };
    let mut bench = Bench::connected();
    for (request, code) in [
        (presence("plain"), 108),
        (stats("plain"), 108),
        (history("plain", 1, None), 108),
        (presence("kept:a"), 103),
        (stats("kept:a"), 103),
        (history("kept:a", 1, None), 103),
        (presence("nowhere:a"), 102),
        (history("nowhere:a", 1, None), 102),
    ] {
        let told = bench.request(2, request);
        assert!(told[0].contains(&format!(r#""code":{code}"#)), "{told:?}");
    }
    subscribe(&mut bench, |request| request.channel = "kept:a".into());
    bench.subscribed("kept:a");
    for (request, expected) in [
        (presence("kept:a"), "Presence kept:a"),
        (stats("kept:a"), "PresenceStats kept:a"),
        (
            history("kept:a", 5, Some((3, "e"))),
            r#"history kept:a limit 5 since Some(3) of "e" reverse true"#,
        ),
        (
            history("kept:a", -1, None),
            r#"history kept:a limit 300 since None of "" reverse true"#,
        ),
        (
            history("kept:a", 1000, None),
            r#"history kept:a limit 300 since None of "" reverse true"#,
        ),
    ] {
        assert_eq!(bench.request(3, request), [expected]);
        let found = Event::Found(Box::new(Reply::publish(3)));
        assert_eq!(bench.event(found), [r#"{"id":3,"publish":{}}"#]);
    }
}

#[test]
fn a_client_asks_only_so_many_questions_at_a_time() {
    let mut bench = Bench::connected();
    subscribe(&mut bench, |request| request.channel = "kept:a".into());
    bench.subscribed("kept:a");
    let ask = |bench: &mut Bench| {
        let request = PresenceRequest {
            channel: "kept:a".into(),
        };
        bench.request(3, Request::Presence(request))
    };
    let mut asked = 0;
    while ask(&mut bench)[0].starts_with("Presence") {
        asked += 1;
        assert!(asked <= 1000, "there is no limit");
    }
    let refused = ask(&mut bench);
    assert_eq!(refused[0], "limited connection in_flight");
    assert!(refused[1].contains(r#""code":111"#));
    bench.event(Event::Found(Box::new(Reply::publish(3))));
    assert_eq!(ask(&mut bench), ["Presence kept:a"]);
}

#[test]
fn deltas_are_granted_where_asked_for_and_allowed() {
    let ask = |channel: &str, delta: &str| {
        let mut bench = Bench::connected();
        let asked = subscribe(&mut bench, |request| {
            request.channel = channel.into();
            request.delta = delta.into();
        });
        let told = bench.subscribed_at_seven(channel, None).remove(0);
        (asked[0].clone(), told)
    };
    let (asked, told) = ask("kept:a", "fossil");
    assert_eq!(asked, "subscribe kept:a as deltas");
    assert_eq!(told, r#"{"id":2,"subscribe":{"delta":true}}"#);
    for (channel, delta) in [("kept:a", ""), ("plain", "fossil")] {
        let (asked, told) = ask(channel, delta);
        assert_eq!(asked, format!("subscribe {channel}"));
        assert_eq!(told, r#"{"id":2,"subscribe":{}}"#);
    }
}

fn filter(cmp: &str) -> Option<Box<FilterNode>> {
    Some(Box::new(FilterNode {
        key: "tag".into(),
        cmp: cmp.into(),
        val: "1".into(),
        ..FilterNode::default()
    }))
}

#[test]
fn a_filter_is_taken_as_it_is_or_refused() {
    let mut bench = Bench::connected();
    let asked = subscribe(&mut bench, |request| {
        request.channel = "kept:a".into();
        request.tf = filter("eq");
        request.delta = "fossil".into();
    });
    assert_eq!(asked, ["subscribe kept:a by a filter"]);
    // With a filter there are no deltas.
    let told = bench.subscribed_at_seven("kept:a", None);
    assert_eq!(told[0], r#"{"id":2,"subscribe":{}}"#);
    for (channel, cmp) in [("kept:b", "like"), ("plain", "eq")] {
        let told = subscribe(&mut bench, |request| {
            request.channel = channel.into();
            request.tf = filter(cmp);
        });
        assert_eq!(
            told,
            [r#"{"id":2,"error":{"code":107,"message":"bad request"}}"#]
        );
    }
}

#[test]
fn where_a_channel_has_too_many_filters_the_client_is_told() {
    let mut bench = Bench::connected();
    subscribe(&mut bench, |request| {
        request.channel = "kept:a".into();
        request.tf = filter("eq");
    });
    let told = bench.event(Event::Subscribed {
        channel: Channel::parse("kept:a", 255).unwrap(),
        result: Err(ErrorCode::LimitExceeded),
    });
    assert_eq!(
        told,
        [r#"{"id":2,"error":{"code":106,"message":"limit exceeded"}}"#]
    );
}

#[test]
fn publications_of_channels_with_history_are_kept_and_marked_for_deltas() {
    let mut bench = Bench::connected();
    assert!(bench.publish("kept:a", b"1")[0].ends_with(" kept"));
    let marked = bench.publish("forced:a", b"1");
    assert!(marked[0].contains(r#""delta":true"#), "{marked:?}");
}

#[test]
fn channels_that_name_their_users_are_for_those_only() {
    let mut bench = Bench::connected();
    for (channel, is_ours) in [
        ("kept:dialog#12,42", true),
        ("kept:dialog#12", false),
        ("#42", true),
        ("#41", false),
        ("a#41", true),
    ] {
        let told = bench.subscribe(5, channel);
        assert_eq!(told[0].starts_with("subscribe "), is_ours, "{told:?}");
    }
}

#[test]
fn an_insecure_worker_lets_everyone_do_everything_but_looks_at_tokens() {
    let policy = policy(|policy| policy.client.insecure = true);
    let mut bench = Bench::with(policy.clone(), None);
    assert!(bench.connect("")[0].contains("connect"));
    assert_eq!(bench.subscribe(2, "closed:a"), ["subscribe closed:a"]);
    assert!(bench.publish("closed:a", b"1")[0].starts_with("publish"));
    let mut bench = Bench::with(policy, None);
    assert_eq!(bench.connect("nonsense"), ["close 3500 invalid token"]);
}
