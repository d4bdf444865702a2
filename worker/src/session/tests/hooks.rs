//! What a session asks the back end, and what it makes of the answers.

mod channels;

use std::num::NonZeroU32;

use flotilla_shared::auth::ChannelGrant;
use flotilla_shared::protocol::types::Error;

use super::*;
use crate::bucket::Rate;
use crate::hooks::{Answer, ConnectGrant, PublishGrant, RefreshGrant, RpcGrant, SubscribeGrant};
use crate::rates::Metered;
use crate::revocation::Revocation;

const UNANSWERED_MAX: u64 = 25;

/// Every hook; namespaces `asked` and `stored` have those of channels.
fn hooked() -> Rc<Policy> {
    policy(|policy| {
        policy.hooks = EnabledHooks {
            connect: true,
            refresh: true,
            rpc: true,
            refresh_unanswered_max: Duration::from_secs(UNANSWERED_MAX),
        };
    })
}

fn refused<T>() -> Answer<T> {
    Answer::Refused(Error {
        code: 1000,
        message: "not you".to_owned(),
        temporary: false,
    })
}

fn dismissed<T>() -> Answer<T> {
    Answer::Disconnect(Goodbye::new(4500, "go"))
}

const DISMISSED: &str = r#"dismiss Goodbye { code: 4500, reason: "go" }"#;

fn refusal(id: u32) -> String {
    format!(r#"{{"id":{id},"error":{{"code":1000,"message":"not you"}}}}"#)
}

/// The error that may be tried again.
fn internal(id: u32) -> String {
    format!(
        r#"{{"id":{id},"error":{{"code":100,"message":"internal server error","temporary":true}}}}"#
    )
}

impl Bench {
    /// A session that the back end is asked about.
    fn asking() -> Self {
        Self::with(hooked(), None)
    }

    /// User 42 by a token, with every hook and no pings.
    fn hooked() -> Self {
        let mut bench = Self::asking();
        bench.connect(&token(json!({"sub": "42"})));
        bench.session.next_ping = None;
        bench
    }

    /// Answers the question that was asked last.
    fn told<T>(&mut self, answered: impl FnOnce(About) -> Option<T>) -> T {
        let about = self.asked.pop().expect("something was asked");
        answered(about).expect("it was asked that")
    }

    fn connect_is(&mut self, answer: Answer<ConnectGrant>) -> Vec<String> {
        let answered = self.told(|about| match about {
            About::Connect(id, request) => Some(Answered::Connect(id, request, answer)),
            _ => None,
        });
        self.event(Event::Answered(Box::new(answered)))
    }

    fn refresh_is(&mut self, answer: Answer<RefreshGrant>) -> Vec<String> {
        let answered = self.told(|about| match about {
            About::Refresh(renewal) => Some(Answered::Refresh(renewal, answer)),
            _ => None,
        });
        self.event(Event::Answered(Box::new(answered)))
    }

    fn subscribe_is(&mut self, answer: Answer<SubscribeGrant>) -> Vec<String> {
        let answered = self.told(|about| match about {
            About::Subscribe(channel) => Some(Answered::Subscribe(channel, answer)),
            _ => None,
        });
        self.event(Event::Answered(Box::new(answered)))
    }

    fn publish_is(&mut self, answer: Answer<PublishGrant>) -> Vec<String> {
        let answered = self.told(|about| match about {
            About::Publish { id, channel, data } => Some(Answered::Publish {
                id,
                channel,
                data,
                answer,
            }),
            _ => None,
        });
        self.event(Event::Answered(Box::new(answered)))
    }

    fn sub_refresh_is(&mut self, answer: Answer<RefreshGrant>) -> Vec<String> {
        let answered = self.told(|about| match about {
            About::SubRefresh(channel, renewal) => {
                Some(Answered::SubRefresh(channel, renewal, answer))
            }
            _ => None,
        });
        self.event(Event::Answered(Box::new(answered)))
    }

    fn unsubscribe(&mut self, id: u32, channel: &str) -> Vec<String> {
        let channel = channel.to_owned();
        self.request(id, Request::Unsubscribe(UnsubscribeRequest { channel }))
    }

    fn rpc_is(&mut self, answer: Answer<RpcGrant>) -> Vec<String> {
        let answered = self.told(|about| match about {
            About::Rpc(id) => Some(Answered::Rpc(id, answer)),
            _ => None,
        });
        self.event(Event::Answered(Box::new(answered)))
    }

    fn rpc(&mut self, id: u32) -> Vec<String> {
        let request = RpcRequest {
            method: "sum".to_owned(),
            data: Bytes::from_static(b"[1]"),
        };
        self.request(id, Request::Rpc(request))
    }

    /// Connected as whom the hook says, until a minute from now, without pings.
    fn for_a_minute() -> Self {
        let mut bench = Self::asking();
        bench.connect("");
        let replies = bench.connect_is(Answer::Granted(ConnectGrant {
            user: "7".to_owned(),
            expire_at: NOW_UNIX + 60,
            ..ConnectGrant::default()
        }));
        assert!(
            !replies[0].contains("ttl"),
            "it is not for the client to refresh: {replies:?}"
        );
        bench.session.next_ping = None;
        bench
    }
}

#[test]
fn who_comes_with_nothing_is_whom_the_back_end_says() {
    let mut bench = Bench::asking();
    let request = ConnectRequest {
        data: Bytes::from_static(b"{}"),
        name: "js".to_owned(),
        subs: [("news".to_owned(), SubscribeRequest::default())].into(),
        ..ConnectRequest::default()
    };
    let question = r#"Connect { name: "js", version: "", data: b"{}", channels: ["news"] }"#;
    assert_eq!(
        bench.request(1, Request::Connect(request)),
        [format!(r#"ask as "": {question}"#)]
    );
    assert!(bench.session.is_connecting());
    let subs = [
        ("closed:1", ChannelGrant::default()),
        ("kept:1", ChannelGrant::default()),
    ];
    let actions = bench.connect_is(Answer::Granted(ConnectGrant {
        user: "7".to_owned(),
        info: Bytes::from_static(br#"{"a":1}"#),
        data: Bytes::from_static(b"[2]"),
        subs: subs.map(|(name, grant)| (name.to_owned(), grant)).into(),
        ..ConnectGrant::default()
    }));
    // Those of the answer, and the one that the client wished for.
    assert_eq!(
        actions,
        ["subscribe closed:1", "subscribe kept:1", "subscribe news"]
    );
    bench.subscribed("closed:1");
    bench.subscribed("kept:1");
    let replies = bench.subscribed("news");
    assert!(replies[0].starts_with(r#"{"id":1,"connect":{"client":"#));
    assert!(replies[0].contains(r#""data":[2]"#), "{replies:?}");
    assert!(!replies[0].contains("expires"), "{replies:?}");
    let published = bench.publish("kept:1", b"1");
    assert!(
        published[0].contains(r#""user":"7""#) && published[0].contains(r#""conn_info":{"a":1}"#),
        "{published:?}"
    );
}

#[test]
fn every_answer_to_a_connect_has_its_consequence() {
    let expired = Answer::Granted(ConnectGrant {
        expire_at: NOW_UNIX,
        ..ConnectGrant::default()
    });
    let unknown_channel = Answer::Granted(ConnectGrant {
        channels: vec!["nowhere:1".to_owned()],
        ..ConnectGrant::default()
    });
    let too_many = Answer::Granted(ConnectGrant {
        channels: (1..=4).map(|at| at.to_string()).collect(),
        ..ConnectGrant::default()
    });
    let error =
        |code, message| format!(r#"{{"id":1,"error":{{"code":{code},"message":"{message}"}}}}"#);
    for (answer, consequence) in [
        (Answer::Failed, internal(1)),
        (refused(), refusal(1)),
        (dismissed(), DISMISSED.to_owned()),
        (Answer::Nobody, "close 3501 bad request".to_owned()),
        (expired, error(110, "expired")),
        (unknown_channel, error(102, "unknown channel")),
        (too_many, "close 3505 channel limit".to_owned()),
    ] {
        let mut bench = Bench::asking();
        bench.connect("");
        assert_eq!(bench.connect_is(answer), [consequence]);
        assert!(!bench.session.is_connected() && !bench.session.is_connecting());
    }
}

#[test]
fn who_only_listens_is_told_of_the_back_ends_error_by_a_code() {
    for (temporary, consequence) in [
        (true, "close 3004 internal server error"),
        (false, "close 3507 permission denied"),
    ] {
        let transport = Transport {
            is_one_way: true,
            is_kept_alive: false,
            ..Transport::default()
        };
        let mut bench = Bench::over(transport, hooked(), None);
        bench.connect("");
        let error = Error {
            code: 1000,
            message: "not you".to_owned(),
            temporary,
        };
        assert_eq!(bench.connect_is(Answer::Refused(error)), [consequence]);
    }
}

#[test]
fn whom_the_back_end_does_not_know_is_anonymous_where_that_is_allowed() {
    let mut bench = Bench::asking();
    Rc::get_mut(&mut bench.session.policy)
        .unwrap()
        .client
        .allow_anonymous_connect_without_token = true;
    assert!(bench.connect("")[0].starts_with("ask"));
    assert!(bench.connect_is(Answer::Nobody)[0].starts_with(r#"{"id":1,"connect""#));
}

#[tokio::test]
async fn whom_the_back_end_vouches_for_may_be_blocked_but_has_no_old_token() {
    let policy = hooked();
    let revocations = &policy.revocations;
    let blocked = revocations.say(Revoked::User("41".to_owned()), 0);
    let old_tokens = Revocation {
        issued_before: NOW_UNIX,
        ..revocations.say(Revoked::TokensOf("7".to_owned()), 0)
    };
    let said = vec![blocked, old_tokens];
    revocations.take_in(said).await.1.unwrap();
    let connect_as = |user: &str| {
        let mut bench = Bench::with(policy.clone(), None);
        bench.connect("");
        let grant = ConnectGrant {
            user: user.to_owned(),
            ..ConnectGrant::default()
        };
        bench.connect_is(Answer::Granted(grant))
    };
    assert_eq!(connect_as("41"), ["close 3503 force disconnect"]);
    assert!(connect_as("7")[0].starts_with(r#"{"id":1,"connect""#));
}

#[test]
fn who_is_known_is_not_asked_about() {
    let mut by_token = Bench::asking();
    assert!(by_token.connect(&token(json!({"sub": "42"})))[0].contains("connect"));
    let claims = ConnectionClaims {
        user: "42".to_owned(),
        ..ConnectionClaims::default()
    };
    let mut by_passport = Bench::with(hooked(), Some(claims));
    assert!(by_passport.connect("")[0].starts_with(r#"{"id":1,"connect""#));
    assert!(by_token.asked.is_empty() && by_passport.asked.is_empty());
    assert_eq!(
        Bench::asking().connect("nonsense"),
        ["close 3500 invalid token"]
    );
}

#[test]
fn who_is_asked_about_has_nothing_to_say_and_is_not_called_stale() {
    let mut bench = Bench::asking();
    bench.connect("");
    assert_eq!(bench.session.next_deadline(), None);
    assert_eq!(bench.pass(60), [""; 0]);
    assert_eq!(bench.rpc(2), ["close 3501 bad request"]);
    let late = Answer::Granted(ConnectGrant::default());
    assert_eq!(bench.connect_is(late), [""; 0]);
}

#[test]
fn a_connection_that_expires_goes_on_as_long_as_the_back_end_says() {
    let mut bench = Bench::for_a_minute();
    assert_eq!(bench.pass(59), [""; 0]);
    assert_eq!(bench.pass(1), [r#"ask as "7": Refresh"#]);
    assert_eq!(bench.pass(1), [""; 0], "it is asked once");
    assert_eq!(
        bench.refresh_is(Answer::Granted(RefreshGrant {
            expire_at: NOW_UNIX + 90,
            info: Bytes::from_static(b"2"),
            ..RefreshGrant::default()
        })),
        [""; 0]
    );
    assert_eq!(bench.session.info, "2");
    assert_eq!(bench.pass(28), [""; 0]);
    assert_eq!(bench.pass(1), [r#"ask as "7": Refresh"#]);
    let without_end = Answer::Granted(RefreshGrant::default());
    assert_eq!(bench.refresh_is(without_end), [""; 0]);
    assert_eq!(bench.session.info, "2", "as before");
    assert_eq!(bench.session.expiry, Expiry::Never);
}

#[test]
fn a_back_end_ends_a_connection_by_saying_so_or_by_a_time_that_has_passed() {
    let expired = RefreshGrant {
        expired: true,
        ..RefreshGrant::default()
    };
    let past = RefreshGrant {
        expire_at: NOW_UNIX + 60,
        ..RefreshGrant::default()
    };
    for grant in [expired, past] {
        let mut bench = Bench::for_a_minute();
        bench.pass(60);
        assert_eq!(
            bench.refresh_is(Answer::Granted(grant)),
            ["close 3005 connection expired"]
        );
    }
}

#[test]
fn a_back_end_that_does_not_answer_is_asked_again_but_not_for_ever() {
    let mut bench = Bench::for_a_minute();
    assert_eq!(bench.pass(60).len(), 1);
    for pause in [10, 10, 5] {
        assert_eq!(bench.refresh_is(Answer::Failed), [""; 0]);
        assert_eq!(bench.pass(pause - 1), [""; 0]);
        assert_eq!(bench.pass(1), [r#"ask as "7": Refresh"#]);
    }
    assert_eq!(
        bench.refresh_is(Answer::Failed),
        ["close 3005 connection expired"]
    );
}

#[test]
fn who_is_vouched_for_by_the_edge_goes_on_by_the_same_hook() {
    let claims = ConnectionClaims {
        user: "42".to_owned(),
        expire_at: Some(NOW_UNIX + 60),
        ..ConnectionClaims::default()
    };
    let mut bench = Bench::with(hooked(), Some(claims));
    bench.connect("");
    bench.session.next_ping = None;
    assert_eq!(bench.pass(60), [r#"ask as "42": Refresh"#]);
}

#[test]
fn a_client_with_a_token_refreshes_itself_and_others_cannot() {
    let refresh = |bench: &mut Bench| {
        let request = RefreshRequest {
            token: token(json!({"sub": "42", "exp": NOW_UNIX + 120})),
        };
        bench.request(2, Request::Refresh(request))
    };
    let mut bench = Bench::asking();
    let replies = bench.connect(&token(json!({"sub": "42", "exp": NOW_UNIX + 60})));
    assert!(replies[0].contains(r#""ttl":60"#), "{replies:?}");
    bench.session.next_ping = None;
    assert!(refresh(&mut bench)[0].contains(r#""ttl":120"#));
    assert_eq!(bench.pass(144), [""; 0]);
    assert_eq!(bench.pass(1), ["close 3005 connection expired"]);

    let mut bench = Bench::for_a_minute();
    assert_eq!(refresh(&mut bench), ["close 3501 bad request"]);
}

#[test]
fn what_the_application_says_for_its_own_eyes_comes_back_with_each_question() {
    let meta_asked = |bench: &mut Bench| {
        let mut actions = Actions::new();
        let request = Request::Rpc(RpcRequest::default());
        let event = Event::Request { id: 9, request };
        bench.session.handle(event, bench.now, &mut actions);
        match actions.pop() {
            Some(Action::Ask(ask)) => ask.call.meta,
            other => panic!("{other:?}"),
        }
    };
    let mut by_token = Bench::asking();
    by_token.connect(&token(json!({"sub": "42", "meta": {"plan": 1}})));
    assert_eq!(meta_asked(&mut by_token), r#"{"plan":1}"#);

    let mut by_hook = Bench::asking();
    by_hook.connect("");
    let replies = by_hook.connect_is(Answer::Granted(ConnectGrant {
        expire_at: NOW_UNIX + 60,
        meta: Bytes::from_static(b"1"),
        ..ConnectGrant::default()
    }));
    assert!(!replies[0].contains("meta"), "{replies:?}");
    assert_eq!(meta_asked(&mut by_hook), "1");
    by_hook.session.next_ping = None;
    by_hook.pass(60);
    by_hook.refresh_is(Answer::Granted(RefreshGrant {
        meta: Bytes::from_static(b"2"),
        ..RefreshGrant::default()
    }));
    assert_eq!(meta_asked(&mut by_hook), "2");
}

#[test]
fn a_call_is_answered_by_the_back_end_in_any_order() {
    let mut bench = Bench::hooked();
    assert_eq!(
        bench.rpc(2),
        [r#"ask as "42": Rpc { method: "sum", data: b"[1]" }"#]
    );
    bench.rpc(3);
    let data = Bytes::from_static(b"3");
    let answer = Answer::Granted(RpcGrant { data });
    assert_eq!(bench.rpc_is(answer), [r#"{"id":3,"rpc":{"data":3}}"#]);
    let nothing = Answer::Granted(RpcGrant::default());
    assert_eq!(bench.rpc_is(nothing), [r#"{"id":2,"rpc":{}}"#]);
}

#[test]
fn every_answer_to_a_call_has_its_consequence() {
    let mut bench = Bench::hooked();
    for (answer, consequence) in [
        (Answer::Failed, internal(3)),
        (refused(), refusal(3)),
        (dismissed(), DISMISSED.to_owned()),
    ] {
        bench.rpc(3);
        assert_eq!(bench.rpc_is(answer), [consequence]);
    }
    assert_eq!(bench.rpc(4), [""; 0], "the connection is over");
}

#[test]
fn a_client_has_a_bounded_number_of_calls_in_flight() {
    let mut bench = Bench::hooked();
    for id in 2..34 {
        assert!(bench.rpc(id)[0].starts_with("ask"));
    }
    let too_many =
        r#"{"id":99,"error":{"code":111,"message":"too many requests","temporary":true}}"#;
    assert_eq!(bench.rpc(99), ["limited connection in_flight", too_many]);
    bench.rpc_is(Answer::Failed);
    assert!(bench.rpc(99)[0].starts_with("ask"));
}

#[test]
fn without_a_hook_calls_are_not_available() {
    let not_available = r#"{"id":2,"error":{"code":108,"message":"not available"}}"#;
    assert_eq!(Bench::connected().rpc(2), [not_available]);
}

#[test]
fn what_the_back_end_answers_is_none_of_the_clients_mistakes() {
    let mut bench = Bench::hooked();
    let client = &mut Rc::get_mut(&mut bench.session.policy).unwrap().client;
    client.rate_limits = RateLimits::new(|metered| {
        (metered == Metered::Errors).then_some(Rate {
            per_second: NonZeroU32::MIN,
            burst: NonZeroU32::MIN,
        })
    });
    for _ in 0..3 {
        bench.rpc(2);
        assert_eq!(bench.rpc_is(Answer::Failed), [internal(2)]);
        bench.rpc(3);
        assert_eq!(bench.rpc_is(refused()), [refusal(3)]);
    }
}
