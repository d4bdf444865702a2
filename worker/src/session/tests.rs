//! What a session promises, event by event.

use std::collections::HashMap;
use std::sync::Arc;

use flotilla_shared::auth::{TokenOptions, Verifier, jwt};
use flotilla_shared::broker::{Epoch, Retention, StreamPosition};
use flotilla_shared::channel::Channel;
use flotilla_shared::config::Problems;
use flotilla_shared::protocol::types::{
    ConnectRequest, HistoryRequest, PingRequest, PublishRequest, RefreshRequest, RpcRequest,
    SendRequest, SubRefreshRequest, SubscribeRequest, UnsubscribeRequest,
};
use flotilla_shared::secret::Secret;
use serde_json::{Value, json};

use super::*;
use crate::closing::Goodbye;
use crate::config::Unacknowledged;
use crate::hub::{Joined, Mode, Recovery};
use crate::namespace::{NamespaceOptions, Namespaces, PublicationDataFormat, RecoveryMode};
use crate::policy::{ClientOptions, EnabledHooks, PersonalChannel};
use crate::rates::RateLimits;
use crate::revocation::{Revocations, Subject as Revoked};
use crate::user_capacity::UserCapacity;

mod channels;
mod hooks;
mod moves;
mod rates;
mod server_side;
mod transports;

const NOW_UNIX: u64 = 1_800_000_000;

fn namespaces() -> Namespaces {
    let open = NamespaceOptions {
        allow_subscribe_for_client: true,
        allow_publish_for_subscriber: true,
        ..NamespaceOptions::default()
    };
    let closed = NamespaceOptions::default();
    let binary = NamespaceOptions {
        allow_publish_for_client: true,
        publication_data_format: PublicationDataFormat::Binary,
        ..NamespaceOptions::default()
    };
    let retention = Retention {
        size: 10,
        ttl: Duration::from_secs(300),
        meta_ttl: Duration::from_secs(3600),
    };
    let kept = NamespaceOptions {
        allow_subscribe_for_client: true,
        allow_publish_for_client: true,
        presence: true,
        join_leave: true,
        history: Some(retention),
        allow_positioning: true,
        allow_recovery: true,
        allow_history_for_subscriber: true,
        allow_presence_for_subscriber: true,
        allow_delta_fossil: true,
        allow_tags_filter: true,
        allow_user_limited_channels: true,
        ..NamespaceOptions::default()
    };
    let forced = NamespaceOptions {
        force_recovery: true,
        force_push_join_leave: true,
        delta_publish: true,
        ..kept.clone()
    };
    let cache = NamespaceOptions {
        force_recovery: true,
        recovery_mode: RecoveryMode::Cache,
        auto_cache_recover: true,
        ..kept.clone()
    };
    let asked = NamespaceOptions {
        subscribe_proxy_enabled: true,
        publish_proxy_enabled: true,
        sub_refresh_proxy_enabled: true,
        join_leave: true,
        allow_user_limited_channels: true,
        ..NamespaceOptions::default()
    };
    let stored = NamespaceOptions {
        history: Some(retention),
        ..asked.clone()
    };
    let named = [
        ("asked", asked),
        ("stored", stored),
        ("closed", closed),
        ("binary", binary),
        ("kept", kept),
        ("forced", forced),
        ("cache", cache),
    ];
    let named = named.map(|(name, options)| (name.to_owned(), options));
    Namespaces::new(open, HashMap::from(named))
}

fn policy(change: impl FnOnce(&mut Policy)) -> Rc<Policy> {
    let mut policy = Policy {
        node: "worker-1".to_owned(),
        client: ClientOptions {
            allow_anonymous_connect_without_token: false,
            disallow_anonymous_connection_tokens: false,
            insecure: false,
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(8),
            stale_close_delay: Duration::from_secs(10),
            expired_close_delay: Duration::from_secs(25),
            expired_sub_close_delay: Duration::from_secs(25),
            channel_limit: 3,
            rate_limits: RateLimits::default(),
            history_max_publication_limit: 300,
            recovery_max_publication_limit: 300,
            personal_channel: None,
            expose_node: false,
            unacknowledged: Unacknowledged::default(),
        },
        channel_max_bytes: 32,
        namespaces: namespaces(),
        verifier: Verifier::new([&Secret::new("secret")], String::new(), String::new()).into(),
        revocations: Revocations::default(),
        user_capacity: UserCapacity::new(0),
        hooks: EnabledHooks::default(),
    };
    change(&mut policy);
    Rc::new(policy)
}

#[allow(
    clippy::needless_pass_by_value,
    reason = "reads best with json!() in place"
)]
fn token(claims: Value) -> String {
    jwt::sign(&claims, &Secret::new("secret")).unwrap()
}

/// A session with a clock that only the test moves.
struct Bench {
    session: Session,
    now: Now,
    /// What the back end was asked about and has not answered.
    asked: Vec<About>,
}

impl Bench {
    fn with(policy: Rc<Policy>, edge: Option<ConnectionClaims>) -> Self {
        Self::over(Transport::default(), policy, edge)
    }

    fn pinged(policy: Rc<Policy>, edge: Option<ConnectionClaims>, pings: Pings) -> Self {
        let transport = Transport {
            pings,
            ..Transport::default()
        };
        Self::over(transport, policy, edge)
    }

    fn over(transport: Transport, policy: Rc<Policy>, edge: Option<ConnectionClaims>) -> Self {
        let now = Now {
            at: Instant::now(),
            unix_seconds: NOW_UNIX,
        };
        Self {
            session: Session::new(policy, Uuid::nil(), edge, transport, now),
            now,
            asked: Vec::new(),
        }
    }

    fn new() -> Self {
        Self::with(policy(|_| {}), None)
    }

    fn connected() -> Self {
        let mut bench = Self::new();
        bench.connect(&token(json!({"sub": "42"})));
        bench
    }

    fn event(&mut self, event: Event) -> Vec<String> {
        let mut actions = Actions::new();
        self.session.handle(event, self.now, &mut actions);
        let asked = &mut self.asked;
        let describe = |action| match action {
            Action::Ask(ask) => {
                asked.push(ask.about);
                format!("ask as {:?}: {:?}", ask.call.user, ask.call.question)
            }
            action => describe(action),
        };
        actions.into_iter().map(describe).collect()
    }

    fn request(&mut self, id: u32, request: Request) -> Vec<String> {
        self.event(Event::Request { id, request })
    }

    fn connect(&mut self, token: &str) -> Vec<String> {
        self.request(
            1,
            Request::Connect(ConnectRequest {
                token: token.to_owned(),
                ..Default::default()
            }),
        )
    }

    fn subscribe(&mut self, id: u32, channel: &str) -> Vec<String> {
        self.subscribe_with(id, channel, "")
    }

    fn subscribe_with(&mut self, id: u32, channel: &str, token: &str) -> Vec<String> {
        let request = SubscribeRequest {
            channel: channel.into(),
            token: token.into(),
            ..Default::default()
        };
        self.request(id, Request::Subscribe(request))
    }

    fn subscribed(&mut self, channel: &str) -> Vec<String> {
        self.event(Event::Subscribed {
            channel: Channel::parse(channel, 255).unwrap(),
            result: Ok(Joined {
                position: None,
                recovery: None,
            }),
        })
    }

    /// The hub's answer in a channel with history, whose end is at 7.
    fn subscribed_at_seven(&mut self, channel: &str, recovery: Option<Recovery>) -> Vec<String> {
        let epoch = Epoch(0xe);
        self.event(Event::Subscribed {
            channel: Channel::parse(channel, 255).unwrap(),
            result: Ok(Joined {
                position: Some(StreamPosition { offset: 7, epoch }),
                recovery,
            }),
        })
    }

    fn publish(&mut self, channel: &str, data: &'static [u8]) -> Vec<String> {
        let request = PublishRequest {
            channel: channel.into(),
            data: data.into(),
            ..Default::default()
        };
        self.request(9, Request::Publish(request))
    }

    fn pass(&mut self, seconds: u64) -> Vec<String> {
        self.now.at += Duration::from_secs(seconds);
        self.now.unix_seconds += seconds;
        self.event(Event::Timer)
    }
}

/// One line per action: replies as their JSON, so that tests read like the protocol.
fn describe(action: Action) -> String {
    match action {
        Action::Reply(reply) => serde_json::to_string(&*reply).unwrap(),
        Action::Ping(Pings::Messages) => "ping".to_owned(),
        Action::Ping(Pings::Transport) => "transport ping".to_owned(),
        Action::Subscribe(channel, subscribing) => {
            let recover = subscribing.recover.map_or_else(String::new, |recover| {
                let epoch = recover.epoch.map(|epoch| epoch.to_string());
                format!(
                    " {:?} since {} of {}",
                    recover.kind,
                    recover.offset,
                    epoch.unwrap_or_default()
                )
            });
            let joins = if subscribing.delivery.join_leave {
                " with joins"
            } else {
                ""
            };
            let mode = match subscribing.delivery.mode {
                Mode::Full => "",
                Mode::Delta => " as deltas",
                Mode::Filtered(_) => " by a filter",
            };
            format!("subscribe {channel}{joins}{mode}{recover}")
        }
        Action::Unsubscribe(channel) => format!("unsubscribe {channel}"),
        Action::Publish(publish) => {
            let push =
                serde_json::to_string(&publish.push).unwrap_or_else(|_| "(no JSON)".to_owned());
            let kept = publish.retention.map_or("", |_| " kept");
            let once = match publish.append.idempotency_key.as_str() {
                "" => String::new(),
                key => format!(" once by {key}"),
            };
            format!("publish {} {push}{kept}{once}", publish.channel)
        }
        Action::Announce(channel, push, attachment) => {
            let push = serde_json::to_string(&*push).unwrap();
            let from = attachment.from.map(|life| format!(" from {}", life.0));
            let from = from.unwrap_or_default();
            match attachment.generation {
                0 => format!("announce {channel} {push}"),
                generation => format!("announce {channel} {push}{from} for time {generation}"),
            }
        }
        Action::Arrived(origin) => format!("arrived from {} {}", origin.worker, origin.life.0),
        Action::LookUp(look_up) => match look_up.subject {
            Subject::History { query, epoch, .. } => format!(
                "history {} limit {} since {:?} of {epoch:?} reverse {}",
                look_up.channel, query.limit, query.since, query.reverse
            ),
            other => format!("{other:?} {}", look_up.channel),
        },
        Action::Ask(ask) => format!("ask {:?}", ask.call.question),
        Action::Dismiss(goodbye) => format!("dismiss {goodbye:?}"),
        Action::Unpublished(channel, why) => format!("unpublished {channel} {}", why.label()),
        Action::Limited(limit) => format!("limited {}", limit.labels().join(" ")),
        Action::Close(code) => format!("close {code}"),
    }
}

const NIL: &str = "00000000-0000-0000-0000-000000000000";

#[test]
fn a_valid_token_connects_and_is_told_of_pings() {
    let mut bench = Bench::new();
    let expected = format!(
        r#"{{"id":1,"connect":{{"client":"{NIL}","version":"Flotilla {}","ping":25,"pong":true}}}}"#,
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(bench.connect(&token(json!({"sub": "42"}))), [expected]);
}

#[test]
fn an_expiring_token_tells_the_client_when_to_refresh() {
    let mut bench = Bench::new();
    let replies = bench.connect(&token(json!({"sub": "42", "exp": NOW_UNIX + 60})));
    assert!(
        replies[0].contains(r#""expires":true,"ttl":60"#),
        "{replies:?}"
    );
    assert!(
        bench
            .pass(84)
            .iter()
            .all(|action| !action.starts_with("close"))
    );
    assert_eq!(bench.pass(1), ["close 3005 connection expired"]);
}

#[test]
fn every_way_of_not_connecting_has_its_answer() {
    let expired = token(json!({"sub": "42", "exp": NOW_UNIX - 1}));
    let for_subscribing = token(json!({"sub": "42", "channel": "news"}));
    let wrong_key = jwt::sign(&json!({"sub": "42"}), &Secret::new("other")).unwrap();
    for (token, answer) in [
        (
            expired.as_str(),
            r#"{"id":1,"error":{"code":109,"message":"token expired"}}"#,
        ),
        (for_subscribing.as_str(), "close 3500 invalid token"),
        (wrong_key.as_str(), "close 3500 invalid token"),
        ("not a token", "close 3500 invalid token"),
        ("", "close 3501 bad request"),
    ] {
        assert_eq!(Bench::new().connect(token), [answer], "{token}");
    }
}

#[tokio::test]
async fn a_blocked_user_and_a_revoked_token_do_not_connect() {
    let policy = policy(|_| {});
    let revocations = &policy.revocations;
    for subject in [
        Revoked::User("41".to_owned()),
        Revoked::Token("t".to_owned()),
    ] {
        let said = vec![revocations.say(subject, 0)];
        revocations.take_in(said).await.1.unwrap();
    }
    for (claims, answer) in [
        (json!({"sub": "41"}), "close 3503 force disconnect"),
        (json!({"sub": "42", "jti": "t"}), "close 3500 invalid token"),
    ] {
        let mut bench = Bench::with(policy.clone(), None);
        assert_eq!(bench.connect(&token(claims)), [answer]);
    }
    let mut bench = Bench::with(policy, None);
    bench.connect(&token(json!({"sub": "42", "jti": "u"})));
    assert!(bench.session.is_connected());
}

#[test]
fn after_a_refused_connect_nothing_else_is_accepted() {
    let mut bench = Bench::new();
    bench.connect(&token(json!({"sub": "42", "exp": 1})));
    assert_eq!(bench.subscribe(2, "news"), ["close 3501 bad request"]);
    assert!(
        bench.subscribe(3, "news").is_empty(),
        "a closed session says nothing more"
    );
}

#[test]
fn anonymous_users_connect_only_where_that_is_allowed() {
    let allowing = policy(|policy| policy.client.allow_anonymous_connect_without_token = true);
    assert!(Bench::with(allowing, None).connect("")[0].contains("\"connect\""));
    let nameless = token(json!({}));
    assert!(Bench::new().connect(&nameless)[0].contains("\"connect\""));
    let strict = policy(|policy| policy.client.disallow_anonymous_connection_tokens = true);
    assert_eq!(
        Bench::with(strict, None).connect(&nameless),
        ["close 3507 permission denied"]
    );
}

#[test]
fn the_edge_s_word_connects_without_a_token_and_expires_without_asking_the_client() {
    let edge = ConnectionClaims {
        user: "42".into(),
        expire_at: Some(NOW_UNIX + 60),
        ..Default::default()
    };
    let mut bench = Bench::with(policy(|_| {}), Some(edge));
    let replies = bench.connect("");
    assert!(
        replies[0].contains("\"connect\"") && !replies[0].contains("expires"),
        "{replies:?}"
    );
    assert_eq!(bench.pass(60), ["close 3005 connection expired"]);
}

#[test]
fn a_token_for_another_user_than_the_edge_admitted_is_refused() {
    let edge = || ConnectionClaims {
        user: "42".into(),
        ..Default::default()
    };
    let mut bench = Bench::with(policy(|_| {}), Some(edge()));
    assert_eq!(
        bench.connect(&token(json!({"sub": "43"}))),
        ["close 3500 invalid token"]
    );
    let mut bench = Bench::with(policy(|_| {}), Some(edge()));
    assert!(bench.connect(&token(json!({"sub": "42"})))[0].contains("\"connect\""));
}

#[test]
fn the_first_command_is_connect_and_comes_once_and_in_time() {
    assert_eq!(
        Bench::new().subscribe(1, "news"),
        ["close 3501 bad request"]
    );
    assert_eq!(
        Bench::connected().connect(&token(json!({"sub": "42"}))),
        ["close 3501 bad request"]
    );
    let mut bench = Bench::new();
    assert!(bench.pass(9).is_empty());
    assert_eq!(bench.pass(1), ["close 3502 stale"]);
}

#[test]
fn every_command_but_send_needs_an_id() {
    assert_eq!(
        Bench::connected().subscribe(0, "news"),
        ["close 3501 bad request"]
    );
    let send = Request::Send(SendRequest {
        data: b"{}"[..].into(),
    });
    assert_eq!(
        Bench::connected().request(0, send),
        ["close 3508 not available"]
    );
}

#[test]
fn what_this_server_does_not_have_is_answered_as_such() {
    for request in [
        Request::Rpc(RpcRequest {
            method: "m".into(),
            ..Default::default()
        }),
        Request::History(HistoryRequest {
            channel: "news".into(),
            ..Default::default()
        }),
    ] {
        let answer = r#"{"id":5,"error":{"code":108,"message":"not available"}}"#;
        assert_eq!(Bench::connected().request(5, request), [answer]);
    }
    assert_eq!(
        Bench::connected().request(5, Request::Ping(PingRequest {})),
        ["close 3501 bad request"]
    );
    assert_eq!(
        Bench::connected().event(Event::Malformed),
        ["close 3501 bad request"]
    );
}

#[test]
fn the_subscribe_reply_waits_for_the_hub() {
    let mut bench = Bench::connected();
    assert_eq!(bench.subscribe(2, "news"), ["subscribe news"]);
    assert_eq!(bench.subscribed("news"), [r#"{"id":2,"subscribe":{}}"#]);
    assert!(
        bench.subscribed("news").is_empty(),
        "a second answer changes nothing"
    );
}

#[test]
fn a_channel_that_cannot_be_opened_is_a_temporary_error_and_may_be_tried_again() {
    let mut bench = Bench::connected();
    bench.subscribe(2, "news");
    let failed = Event::Subscribed {
        channel: Channel::parse("news", 255).unwrap(),
        result: Err(ErrorCode::Internal),
    };
    let answer =
        r#"{"id":2,"error":{"code":100,"message":"internal server error","temporary":true}}"#;
    assert_eq!(bench.event(failed), [answer]);
    assert_eq!(bench.subscribe(3, "news"), ["subscribe news"]);
}

#[test]
fn every_way_of_not_subscribing_has_its_answer() {
    let error = |code: u32, message: &str| {
        format!(r#"{{"id":7,"error":{{"code":{code},"message":"{message}"}}}}"#)
    };
    let mut bench = Bench::connected();
    bench.subscribe(2, "taken");
    assert_eq!(
        bench.subscribe(7, "taken"),
        [error(105, "already subscribed")]
    );
    assert_eq!(
        bench.subscribe(7, &"x".repeat(33)),
        [error(107, "bad request")]
    );
    assert_eq!(
        bench.subscribe(7, "unknown:a"),
        [error(102, "unknown channel")]
    );
    assert_eq!(
        bench.subscribe(7, "closed:a"),
        [error(103, "permission denied")]
    );
    assert_eq!(
        bench.subscribe(7, "$news"),
        [error(103, "permission denied")]
    );
    let map = SubscribeRequest {
        channel: "news".into(),
        kind: 1,
        ..Default::default()
    };
    assert_eq!(
        bench.request(7, Request::Subscribe(map)),
        [error(108, "not available")]
    );
    bench.subscribe(3, "b");
    bench.subscribe(4, "c");
    assert_eq!(bench.subscribe(7, "d"), [error(106, "limit exceeded")]);
    assert_eq!(
        Bench::connected().subscribe(7, ""),
        ["close 3501 bad request"]
    );
    let delta = SubscribeRequest {
        channel: "news".into(),
        delta: "xdelta".into(),
        ..Default::default()
    };
    assert_eq!(
        Bench::connected().request(7, Request::Subscribe(delta)),
        ["close 3501 bad request"]
    );
}

#[test]
fn a_subscription_token_opens_a_closed_channel_for_its_user_only() {
    let claims =
        json!({"sub": "42", "channel": "$closed:a", "info": {"r": 1}, "exp": NOW_UNIX + 30});
    let mut bench = Bench::connected();
    assert_eq!(
        bench.subscribe_with(2, "$closed:a", &token(claims.clone())),
        ["subscribe $closed:a"]
    );
    assert_eq!(
        bench.subscribed("$closed:a"),
        [r#"{"id":2,"subscribe":{"expires":true,"ttl":30}}"#]
    );

    let cases = [
        (
            json!({"sub": "43", "channel": "$closed:a"}),
            "close 3500 invalid token",
        ),
        (
            json!({"sub": "42", "channel": "$closed:b"}),
            "close 3500 invalid token",
        ),
        (
            json!({"sub": "42", "channel": "$closed:a", "client": "x"}),
            "close 3500 invalid token",
        ),
        (
            json!({"sub": "42", "channel": "$closed:a", "exp": NOW_UNIX}),
            r#"{"id":2,"error":{"code":109,"message":"token expired"}}"#,
        ),
        (
            json!({"sub": "42"}),
            r#"{"id":2,"error":{"code":103,"message":"permission denied"}}"#,
        ),
    ];
    for (claims, answer) in cases {
        let mut bench = Bench::connected();
        assert_eq!(
            bench.subscribe_with(2, "$closed:a", &token(claims.clone())),
            [answer],
            "{claims}"
        );
    }
}

#[test]
fn an_expired_subscription_ends_unless_it_is_refreshed() {
    let claims =
        |ttl: u64| token(json!({"sub": "42", "channel": "$closed:a", "exp": NOW_UNIX + ttl}));
    let mut bench = Bench::with(
        policy(|policy| policy.client.ping_interval = Duration::ZERO),
        None,
    );
    bench.connect(&token(json!({"sub": "42"})));
    bench.subscribe_with(2, "$closed:a", &claims(30));
    bench.subscribed("$closed:a");
    bench.pass(20);
    let refresh = SubRefreshRequest {
        channel: "$closed:a".into(),
        token: claims(60),
        ..Default::default()
    };
    let answer = r#"{"id":3,"sub_refresh":{"expires":true,"ttl":40}}"#;
    assert_eq!(bench.request(3, Request::SubRefresh(refresh)), [answer]);
    assert!(bench.pass(64).is_empty());
    let push = r#"{"push":{"channel":"$closed:a","unsubscribe":{"code":2501,"reason":"subscription expired"}}}"#;
    assert_eq!(bench.pass(1), ["unsubscribe $closed:a", push]);
}

#[test]
fn a_subscription_is_refreshed_only_with_what_belongs_to_it() {
    let good = || token(json!({"sub": "42", "channel": "$closed:a", "exp": NOW_UNIX + 60}));
    let refresh = |channel: &str, token: String| {
        Request::SubRefresh(SubRefreshRequest {
            channel: channel.into(),
            token,
            ..Default::default()
        })
    };
    let subscribed = || {
        let mut bench = Bench::connected();
        bench.subscribe_with(2, "$closed:a", &good());
        bench.subscribed("$closed:a");
        bench
    };
    let ok = r#"{"id":3,"sub_refresh":{"expires":true,"ttl":60}}"#;
    assert_eq!(
        subscribed().request(3, refresh("", good())),
        [ok],
        "the token names the channel"
    );
    let error = |code: u32, message: &str| {
        format!(r#"{{"id":3,"error":{{"code":{code},"message":"{message}"}}}}"#)
    };
    assert_eq!(
        Bench::connected().request(3, refresh("$closed:a", good())),
        [error(103, "permission denied")]
    );
    assert_eq!(
        subscribed().request(3, refresh("$closed:a", String::new())),
        [error(107, "bad request")]
    );
    let expired = token(json!({"sub": "42", "channel": "$closed:a", "exp": 1}));
    assert_eq!(
        subscribed().request(3, refresh("$closed:a", expired)),
        [error(109, "token expired")]
    );
    let other = token(json!({"sub": "43", "channel": "$closed:a"}));
    assert_eq!(
        subscribed().request(3, refresh("$closed:a", other)),
        ["close 3500 invalid token"]
    );
}

#[test]
fn unsubscribing_leaves_the_hub_and_is_fine_for_unknown_channels() {
    let unsubscribe = |channel: &str| {
        Request::Unsubscribe(UnsubscribeRequest {
            channel: channel.into(),
        })
    };
    let mut bench = Bench::connected();
    bench.subscribe(2, "news");
    bench.subscribed("news");
    let done = r#"{"id":3,"unsubscribe":{}}"#;
    assert_eq!(
        bench.request(3, unsubscribe("news")),
        ["unsubscribe news", done]
    );
    assert_eq!(bench.request(3, unsubscribe("news")), [done]);
    assert_eq!(
        bench.request(3, unsubscribe("")),
        ["close 3501 bad request"]
    );
}

#[test]
fn an_unsubscribe_waits_for_the_subscribe_that_is_under_way() {
    let mut bench = Bench::connected();
    bench.subscribe(2, "news");
    let unsubscribe = Request::Unsubscribe(UnsubscribeRequest {
        channel: "news".into(),
    });
    assert!(bench.request(3, unsubscribe).is_empty());
    assert!(bench.session.is_settling(), "and the next command for both");
    let expected = [
        r#"{"id":2,"subscribe":{}}"#,
        "unsubscribe news",
        r#"{"id":3,"unsubscribe":{}}"#,
    ];
    assert_eq!(bench.subscribed("news"), expected);
    assert!(!bench.session.is_settling());
}

#[test]
fn a_publication_carries_its_publisher_and_its_data_byte_for_byte() {
    let mut bench = Bench::new();
    bench.connect(&token(json!({"sub": "42", "info": {"name": "Ann"}})));
    bench.subscribe(2, "news");
    bench.subscribed("news");
    let info = format!(r#"{{"user":"42","client":"{NIL}","conn_info":{{"name":"Ann"}}}}"#);
    let expected =
        format!(r#"publish news {{"pub":{{"data":{{"a" : 1.0, "a":2}},"info":{info}}}}}"#);
    assert_eq!(bench.publish("news", br#"{"a" : 1.0, "a":2}"#), [expected]);
    let done = Event::Published {
        id: 9,
        result: Ok(()),
    };
    assert_eq!(bench.event(done), [r#"{"id":9,"publish":{}}"#]);
    let failed = Event::Published {
        id: 9,
        result: Err(ErrorCode::Internal),
    };
    let answer =
        r#"{"id":9,"error":{"code":100,"message":"internal server error","temporary":true}}"#;
    assert_eq!(bench.event(failed), [answer]);
}

#[test]
fn a_publisher_whose_token_says_what_is_no_json_publishes_binary_only() {
    let mut bench = Bench::new();
    bench.connect(&token(json!({"sub": "42", "b64info": "/wA="})));
    bench.subscribe(2, "news");
    bench.subscribed("news");
    let refused = r#"{"id":9,"error":{"code":107,"message":"bad request"}}"#;
    let counted = "unpublished news bad_request";
    assert_eq!(bench.publish("news", b"{}"), [counted, refused]);
    assert!(bench.publish("binary:a", b"{}")[0].starts_with("publish binary:a"));
}

#[test]
fn every_way_of_not_publishing_has_its_answer() {
    let error = |code: u32, message: &str| {
        format!(r#"{{"id":9,"error":{{"code":{code},"message":"{message}"}}}}"#)
    };
    let counted = |channel: &str, why: &str| format!("unpublished {channel} {why}");
    let mut bench = Bench::connected();
    assert_eq!(
        bench.publish("news", b"{}"),
        [
            counted("news", "permission_denied"),
            error(103, "permission denied")
        ],
        "not subscribed"
    );
    bench.subscribe(2, "news");
    assert_eq!(
        bench.publish("news", b"{}"),
        [
            counted("news", "permission_denied"),
            error(103, "permission denied")
        ],
        "not subscribed yet"
    );
    bench.subscribed("news");
    for data in [&b"{"[..], b""] {
        assert_eq!(
            bench.publish("news", data),
            [counted("news", "bad_request"), error(107, "bad request")]
        );
    }
    assert_eq!(
        bench.publish("unknown:a", b"{}"),
        [error(102, "unknown channel")],
        "there is nothing to count it by"
    );
    assert_eq!(
        bench.publish(&"x".repeat(33), b"{}"),
        [error(107, "bad request")]
    );
    assert!(bench.publish("binary:a", b"\xff")[0].starts_with("publish binary:a"));
    assert_eq!(
        Bench::connected().publish("", b"{}"),
        ["close 3501 bad request"]
    );
    let mut nameless = Bench::new();
    nameless.connect(&token(json!({})));
    assert_eq!(
        nameless.publish("binary:a", b"x"),
        [
            counted("binary:a", "permission_denied"),
            error(103, "permission denied")
        ]
    );
}

#[test]
fn pings_go_out_and_an_unanswered_one_ends_the_connection() {
    let mut bench = Bench::connected();
    let first = bench.session.next_deadline().unwrap() - bench.now.at;
    assert!(
        first >= Duration::from_millis(12_500) && first <= Duration::from_secs(25),
        "{first:?}"
    );
    assert_eq!(bench.pass(25), ["ping"]);
    assert!(bench.event(Event::Pong(Pings::Messages)).is_empty());
    assert_eq!(bench.pass(25), ["ping"]);
    assert_eq!(bench.pass(8), ["close 3012 no pong"]);
}

#[test]
fn a_pong_that_nobody_asked_for_breaks_the_protocol() {
    assert_eq!(
        Bench::connected().event(Event::Pong(Pings::Messages)),
        ["close 3501 bad request"]
    );
}

#[test]
fn whoever_asks_for_pings_of_the_transport_hears_of_no_others() {
    let mut bench = Bench::pinged(policy(|_| {}), None, Pings::Transport);
    let replies = bench.connect(&token(json!({"sub": "42"})));
    assert!(
        !replies[0].contains("\"ping\"") && !replies[0].contains("\"pong\""),
        "{replies:?}"
    );
    let pong = || Event::Pong(Pings::Transport);
    assert!(
        bench.event(pong()).is_empty(),
        "one that nobody asked for is allowed"
    );
    assert_eq!(bench.pass(25), ["transport ping"]);
    assert!(bench.event(pong()).is_empty());
    assert_eq!(bench.pass(25), ["transport ping"]);
    assert_eq!(bench.pass(8), ["close 3012 no pong"]);
    let mut bench = Bench::pinged(policy(|_| {}), None, Pings::Transport);
    bench.connect(&token(json!({"sub": "42"})));
    assert_eq!(
        bench.event(Event::Pong(Pings::Messages)),
        ["close 3501 bad request"]
    );
    // And the other way round: a pong of the transport answers no ping of the protocol.
    let mut bench = Bench::connected();
    assert_eq!(bench.pass(25), ["ping"]);
    assert!(bench.event(pong()).is_empty());
    assert_eq!(bench.pass(8), ["close 3012 no pong"]);
}

#[test]
fn a_refresh_extends_the_connection_for_the_same_user_only() {
    let refresh = |token: String| Request::Refresh(RefreshRequest { token });
    let expiring = |sub: &str, ttl: u64| token(json!({"sub": sub, "exp": NOW_UNIX + ttl}));
    let mut bench = Bench::with(
        policy(|policy| policy.client.ping_interval = Duration::ZERO),
        None,
    );
    bench.connect(&expiring("42", 60));
    let replies = bench.request(2, refresh(expiring("42", 600)));
    assert!(
        replies[0].contains(r#""expires":true,"ttl":600"#),
        "{replies:?}"
    );
    assert!(bench.pass(624).is_empty());
    assert_eq!(bench.pass(1), ["close 3005 connection expired"]);

    for (token, answer) in [
        (expiring("43", 60), "close 3500 invalid token"),
        (
            token(json!({"sub": "42", "exp": 1})),
            "close 3005 connection expired",
        ),
        ("nonsense".to_owned(), "close 3500 invalid token"),
        (String::new(), "close 3501 bad request"),
    ] {
        assert_eq!(Bench::connected().request(2, refresh(token)), [answer]);
    }
}

#[test]
fn a_token_whose_key_is_still_being_fetched_is_to_be_tried_again() {
    let options = TokenOptions {
        hmac_secret_key: Some(Secret::new("secret")),
        jwks_public_endpoint: "http://127.0.0.1:1/jwks".to_owned(),
        ..TokenOptions::default()
    };
    let policy = policy(|policy| {
        policy.verifier = Arc::new(options.verifier("token", &mut Problems::default()));
    });
    // {"alg":"RS256","kid":"new"}
    let unknown = "eyJhbGciOiJSUzI1NiIsImtpZCI6Im5ldyJ9.e30.c2ln";
    let later = |id: u32| {
        [format!(
            r#"{{"id":{id},"error":{{"code":100,"message":"internal server error","temporary":true}}}}"#
        )]
    };
    assert_eq!(Bench::with(policy.clone(), None).connect(unknown), later(1));

    let mut bench = Bench::with(policy, None);
    bench.connect(&token(json!({"sub": "42"})));
    assert_eq!(bench.subscribe_with(2, "$closed:a", unknown), later(2));
    let refresh = RefreshRequest {
        token: unknown.to_owned(),
    };
    assert_eq!(bench.request(3, Request::Refresh(refresh)), later(3));
    let sub_refresh = SubRefreshRequest {
        channel: "$closed:a".to_owned(),
        token: unknown.to_owned(),
        ..Default::default()
    };
    assert_eq!(bench.request(4, Request::SubRefresh(sub_refresh)), later(4));
}

#[test]
fn the_client_learns_its_worker_only_where_that_is_wanted() {
    let telling = policy(|policy| policy.client.expose_node = true);
    let replies = Bench::with(telling, None).connect(&token(json!({"sub": "42"})));
    assert!(replies[0].contains(r#""node":"worker-1""#), "{replies:?}");
}
