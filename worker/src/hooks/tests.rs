//! Promises about calls: against a real HTTP server, what is sent, what is taken for an answer, and within which bounds.

mod secure;

use std::collections::{BTreeMap, HashSet};

use axum::body::Body;
use axum::response::{IntoResponse as _, Redirect};
use bytes::Bytes;
use flotilla_shared::outbound::client_tls;
use flotilla_shared::protocol::codes::ErrorCode;
use flotilla_tests::SOON;
use flotilla_tests::back_end::BackEnd;
use futures_util::future::join_all;
use futures_util::stream;
use http::header::{CONNECTION, CONTENT_TYPE, COOKIE, HeaderValue};
use http::{Method, StatusCode};
use prometheus::{Registry, TextEncoder};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use uuid::Uuid;

use super::*;
use crate::closing::Goodbye;
use crate::metrics::Metrics;

/// A time limit that a test waits for.
const SHORT: Duration = Duration::from_millis(100);

/// A shard's hooks, each at a path of its own name.
struct Asker {
    hooks: Hooks,
    caller: Caller,
    registry: Registry,
}

fn options(url: &str) -> HookOptions {
    let endpoint = |hook: Hook| Endpoint {
        uri: format!("{url}/{}", hook.label()).parse().unwrap(),
        timeout: SOON,
        forwarded: Vec::new(),
        fixed: HeaderMap::new(),
        is_binary: false,
        includes_meta: false,
    };
    HookOptions {
        endpoints: Hook::ALL.map(|hook| (hook, endpoint(hook))).into(),
        in_flight_max: 100,
        waiting_max: 100,
        refresh_unanswered_max: Duration::from_secs(300),
        tls: client_tls(false).unwrap(),
    }
}

impl Asker {
    fn new(options: &HookOptions) -> Self {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        let hooks = Hooks::new(Gates::new(options), metrics.hooks);
        let caller = Caller::new("websocket", "json", [].into_iter(), &options.endpoints);
        Self {
            hooks,
            caller,
            registry,
        }
    }

    async fn rpc(&self) -> Answer<RpcGrant> {
        let question = Question::Rpc {
            method: "sum".to_owned(),
            data: Bytes::from_static(b"[1,2]"),
        };
        self.hooks.ask(&self.caller, &call(question)).await
    }

    async fn connect(&self) -> Answer<ConnectGrant> {
        let question = Question::Connect {
            name: String::new(),
            version: String::new(),
            data: Bytes::new(),
            channels: Vec::new(),
        };
        self.hooks.ask(&self.caller, &call(question)).await
    }

    /// The value of a series that begins like this.
    fn metric(&self, series: &str) -> u64 {
        let text = TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap();
        let line = text.lines().find(|line| line.starts_with(series)).unwrap();
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    }

    fn counted(&self, result: &str) -> u64 {
        self.metric(&format!(
            r#"flotilla_worker_hook_calls_total{{hook="rpc",result="{result}"}}"#
        ))
    }
}

fn call(question: Question) -> Call {
    Call {
        client: Some(Uuid::nil()),
        user: "42".to_owned(),
        meta: Bytes::new(),
        question,
    }
}

fn granted() -> Answer<RpcGrant> {
    Answer::Granted(RpcGrant::default())
}

#[tokio::test]
async fn a_question_is_posted_and_its_answer_read() {
    let back_end = BackEnd::start().await.unwrap();
    back_end.says(r#"{"result": {"data": {"sum": 3}}}"#);
    let asker = Asker::new(&options(&back_end.url()));
    let expected = RpcGrant {
        data: Bytes::from_static(br#"{"sum": 3}"#),
    };
    assert_eq!(asker.rpc().await, Answer::Granted(expected));
    let asked = &back_end.asked()[0];
    assert_eq!(
        (&asked.method, asked.path.as_str()),
        (&Method::POST, "/rpc")
    );
    assert_eq!(asked.headers[CONTENT_TYPE], "application/json");
    assert_eq!(asked.json()["data"], serde_json::json!([1, 2]));
    assert_eq!(asker.counted("ok"), 1);
    assert_eq!(
        asker.metric(r#"flotilla_worker_hook_duration_seconds_count{hook="rpc"}"#),
        1
    );
}

#[tokio::test]
async fn connections_are_used_again() {
    let back_end = BackEnd::start().await.unwrap();
    let asker = Asker::new(&options(&back_end.url()));
    for _ in 0..5 {
        assert_eq!(asker.rpc().await, granted());
        assert!(matches!(asker.connect().await, Answer::Granted(_)));
    }
    let peers: HashSet<_> = back_end.asked().iter().map(|asked| asked.peer).collect();
    assert_eq!(peers.len(), 1);
}

#[tokio::test]
async fn a_back_end_may_close_its_connections() {
    let back_end = BackEnd::start().await.unwrap();
    back_end.does(|| ([(CONNECTION, "close")], r#"{"result":{}}"#).into_response());
    let asker = Asker::new(&options(&back_end.url()));
    for _ in 0..3 {
        assert_eq!(asker.rpc().await, granted());
    }
    assert_eq!(back_end.asked().len(), 3);
}

#[tokio::test]
async fn an_answer_counts_whatever_type_it_claims_to_have() {
    let back_end = BackEnd::start().await.unwrap();
    back_end.does(|| ([(CONTENT_TYPE, "text/html")], r#"{"result":{}}"#).into_response());
    let asker = Asker::new(&options(&back_end.url()));
    assert_eq!(asker.rpc().await, granted());
}

#[tokio::test]
async fn a_refusal_is_passed_on_and_counted() {
    let back_end = BackEnd::start().await.unwrap();
    let asker = Asker::new(&options(&back_end.url()));
    back_end.says(r#"{"error": {"code": 404, "message": "no such method"}}"#);
    assert!(matches!(asker.rpc().await, Answer::Refused(error) if error.code == 404));
    back_end.says(r#"{"disconnect": {"code": 4501, "reason": "banned"}}"#);
    let goodbye = Goodbye::new(4501, "banned");
    assert_eq!(asker.rpc().await, Answer::Disconnect(goodbye));
    back_end.says("{}");
    assert_eq!(asker.connect().await, Answer::Nobody);
    assert_eq!(
        (asker.counted("error"), asker.counted("disconnect")),
        (1, 1)
    );
}

#[tokio::test]
async fn nonsense_is_no_answer() {
    let back_end = BackEnd::start().await.unwrap();
    let asker = Asker::new(&options(&back_end.url()));
    let nonsense = [
        "<html>",
        "",
        r#"{"result": {}, "error": {"code": 400}}"#,
        r#"{"error": {"code": 100}}"#,
        r#"{"disconnect": {"code": 3000}}"#,
    ];
    for body in nonsense {
        back_end.says(body);
        assert_eq!(asker.rpc().await, Answer::Failed, "{body}");
    }
    assert_eq!(asker.counted("nonsense"), nonsense.len() as u64);
}

#[tokio::test]
async fn any_status_but_200_is_no_answer() {
    let back_end = BackEnd::start().await.unwrap();
    let asker = Asker::new(&options(&back_end.url()));
    let statuses = [201, 204, 400, 403, 500, 503];
    for status in statuses {
        let status = StatusCode::from_u16(status).unwrap();
        back_end.does(move || (status, r#"{"result":{}}"#).into_response());
        assert_eq!(asker.rpc().await, Answer::Failed, "{status}");
    }
    assert_eq!(asker.counted("status"), statuses.len() as u64);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let back_end = BackEnd::start().await.unwrap();
    let asker = Asker::new(&options(&back_end.url()));
    back_end.does(|| Redirect::temporary("/elsewhere").into_response());
    assert_eq!(asker.rpc().await, Answer::Failed);
    assert_eq!(back_end.asked().len(), 1);
    assert_eq!(asker.counted("status"), 1);
}

#[tokio::test]
async fn a_long_answer_is_read_up_to_its_limit_and_one_without_end_is_cut() {
    let back_end = BackEnd::start().await.unwrap();
    let asker = Asker::new(&options(&back_end.url()));
    let padded = |length: usize| {
        let answer = r#"{"result":{}}"#;
        format!("{answer}{}", " ".repeat(length - answer.len()))
    };
    back_end.does(move || padded(ask::ANSWER_MAX_BYTES).into_response());
    assert_eq!(asker.rpc().await, granted());
    back_end.does(move || padded(ask::ANSWER_MAX_BYTES + 1).into_response());
    assert_eq!(asker.rpc().await, Answer::Failed);
    back_end.does(|| {
        let chunk = || Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 1024]));
        Body::from_stream(stream::repeat_with(chunk)).into_response()
    });
    assert_eq!(asker.rpc().await, Answer::Failed);
    assert_eq!(asker.counted("nonsense"), 2);
}

#[tokio::test]
async fn a_back_end_that_is_down_is_told_from_one_that_breaks_off() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asker = Asker::new(&options(&format!("http://{address}")));
    let break_off = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        // The whole request, so that the end is no reset.
        let mut request = Vec::new();
        while !request.ends_with(b"}") {
            assert_ne!(socket.read_buf(&mut request).await.unwrap(), 0);
        }
        let half = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"result\"";
        socket.write_all(half).await.unwrap();
    };
    let (answer, ()) = tokio::join!(asker.rpc(), break_off);
    assert_eq!(answer, Answer::Failed);
    drop(listener);
    assert_eq!(asker.rpc().await, Answer::Failed);
    assert_eq!(asker.counted("unreachable"), 2);
}

#[tokio::test]
async fn a_back_end_has_so_much_time_for_the_whole_answer() {
    let back_end = BackEnd::start().await.unwrap();
    let mut options = options(&back_end.url());
    options.endpoints.get_mut(&Hook::Rpc).unwrap().timeout = SHORT;
    let asker = Asker::new(&options);
    back_end.hold("/rpc");
    assert_eq!(asker.rpc().await, Answer::Failed);
    back_end.release();
    // The head is there, and the body begins, but does not end.
    back_end.does(|| {
        let begin = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"{"))]);
        let body = futures_util::StreamExt::chain(begin, stream::pending());
        Body::from_stream(body).into_response()
    });
    assert_eq!(asker.rpc().await, Answer::Failed);
    assert_eq!(asker.counted("timeout"), 2);
    // A connection whose answer was given up is not used again.
    back_end.says(r#"{"result":{}}"#);
    assert!(matches!(asker.connect().await, Answer::Granted(_)));
    let peers: HashSet<_> = back_end.asked().iter().map(|asked| asked.peer).collect();
    assert_eq!(peers.len(), 3);
}

#[tokio::test]
async fn only_so_many_calls_run_and_only_so_many_wait() {
    let back_end = BackEnd::start().await.unwrap();
    let mut options = options(&back_end.url());
    (options.in_flight_max, options.waiting_max) = (2, 1);
    let asker = Asker::new(&options);
    back_end.hold("/rpc");
    let mut three = std::pin::pin!(join_all((0..3).map(|_| asker.rpc())));
    tokio::select! {
        biased;
        answers = &mut three => panic!("{answers:?}"),
        asked = back_end.was_asked(2) => asked.unwrap(),
    }
    assert_eq!(asker.metric("flotilla_worker_hook_calls_in_flight"), 3);
    assert_eq!(asker.rpc().await, Answer::Failed);
    assert_eq!(asker.counted("overload"), 1);
    // The other hooks have room of their own.
    assert!(matches!(asker.connect().await, Answer::Granted(_)));
    let calls = back_end.asked().into_iter();
    assert_eq!(calls.filter(|asked| asked.path == "/rpc").count(), 2);
    back_end.release();
    assert_eq!(three.await, [granted(), granted(), granted()]);
    assert_eq!(asker.metric("flotilla_worker_hook_calls_in_flight"), 0);
}

#[tokio::test]
async fn shards_share_their_bounds() {
    let back_end = BackEnd::start().await.unwrap();
    let mut options = options(&back_end.url());
    (options.in_flight_max, options.waiting_max) = (1, 0);
    let (mut one, mut other) = (Asker::new(&options), Asker::new(&options));
    let gates = Gates::new(&options);
    for asker in [&mut one, &mut other] {
        let metrics = Metrics::register(&Registry::new()).unwrap();
        asker.hooks = Hooks::new(gates.clone(), metrics.hooks);
    }
    back_end.hold("/rpc");
    let mut first = std::pin::pin!(one.rpc());
    tokio::select! {
        biased;
        answer = &mut first => panic!("{answer:?}"),
        asked = back_end.was_asked(1) => asked.unwrap(),
    }
    assert_eq!(other.rpc().await, Answer::Failed);
    back_end.release();
    assert_eq!(first.await, granted());
    assert_eq!(other.rpc().await, granted());
}

#[tokio::test]
async fn the_wait_for_a_turn_counts_towards_the_time_limit() {
    let back_end = BackEnd::start().await.unwrap();
    let mut options = options(&back_end.url());
    options.in_flight_max = 1;
    options.endpoints.get_mut(&Hook::Rpc).unwrap().timeout = SHORT;
    let asker = Asker::new(&options);
    back_end.hold("/rpc");
    let answers = tokio::join!(asker.rpc(), asker.rpc());
    assert_eq!(answers, (Answer::Failed, Answer::Failed));
    assert_eq!(asker.counted("timeout"), 2);
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_any_more_gives_its_turn_back() {
    let back_end = BackEnd::start().await.unwrap();
    let mut options = options(&back_end.url());
    (options.in_flight_max, options.waiting_max) = (1, 0);
    let asker = Asker::new(&options);
    back_end.hold("/rpc");
    tokio::select! {
        biased;
        answer = asker.rpc() => panic!("{answer:?}"),
        asked = back_end.was_asked(1) => asked.unwrap(),
    }
    back_end.release();
    assert_eq!(asker.rpc().await, granted());
    assert_eq!((asker.counted("abandoned"), asker.counted("ok")), (1, 1));
}

#[tokio::test]
async fn what_a_hook_cannot_be_told_is_the_clients_mistake() {
    let back_end = BackEnd::start().await.unwrap();
    let asker = Asker::new(&options(&back_end.url()));
    let question = Question::Rpc {
        method: String::new(),
        data: Bytes::from_static(b"\xff"),
    };
    let answer: Answer<RpcGrant> = asker.hooks.ask(&asker.caller, &call(question)).await;
    assert_eq!(answer, Answer::Refused(ErrorCode::BadRequest.into()));
    assert!(back_end.asked().is_empty());
}

#[tokio::test]
async fn a_back_end_sees_the_headers_that_it_was_meant_to_see() {
    let back_end = BackEnd::start().await.unwrap();
    let mut options = options(&back_end.url());
    let rpc = options.endpoints.get_mut(&Hook::Rpc).unwrap();
    rpc.forwarded = vec![COOKIE, HeaderName::from_static("x-lang")];
    let key = HeaderValue::from_static("secret");
    rpc.fixed.insert("x-key", key);
    let mut asker = Asker::new(&options);
    let real = [
        ("Cookie", "a=1"),
        ("cookie", "b=2"),
        ("Authorization", "Bearer t"),
        ("Host", "example.com"),
        ("X-Key", "of the client"),
    ];
    asker.caller = Caller::new("websocket", "json", real.into_iter(), &options.endpoints);
    let emulated = BTreeMap::from(
        [
            ("X-Lang", "de"),
            ("Cookie", "forged"),
            ("Authorization", "forged"),
            ("X-Key", "forged"),
            ("not a name", "1"),
            ("x-lang", "fr\n"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    asker.caller.emulate(&emulated, &options.endpoints);
    assert_eq!(asker.rpc().await, granted());
    assert!(matches!(asker.connect().await, Answer::Granted(_)));

    let asked = back_end.asked();
    let seen = |at: usize, name| asked[at].header(name);
    assert_eq!(seen(0, "cookie"), ["a=1", "b=2"]);
    assert_eq!(seen(0, "x-lang"), ["de"]);
    assert_eq!(seen(0, "x-key"), ["secret"]);
    assert_eq!(seen(0, "authorization"), [""; 0]);
    assert_eq!(seen(0, "content-type"), ["application/json"]);
    assert_ne!(seen(0, "host"), ["example.com"]);
    assert!(seen(0, "user-agent")[0].starts_with("flotilla/"));
    // Each hook has a list of its own.
    for name in ["cookie", "x-lang", "x-key", "authorization"] {
        assert_eq!(seen(1, name), [""; 0], "{name}");
    }
    assert!(!format!("{:?}", asker.caller).contains("a=1"));
}

#[tokio::test]
async fn operators_are_not_told_of_every_single_failure() {
    let options = options("http://localhost");
    let gates = Gates::new(&options);
    let rpc = gates.of(Hook::Rpc).unwrap();
    assert!(rpc.may_warn());
    assert!(!rpc.may_warn());
    assert!(gates.of(Hook::Connect).unwrap().may_warn());
}
