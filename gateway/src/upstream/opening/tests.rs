//! What is sent to a worker, and what is made of its answer.

use std::sync::LazyLock;
use std::time::Duration;

use flotilla_shared::http::{RequestHead, parse_head, paths};
use flotilla_shared::websocket::{PATH, switching_protocols, upgrade};
use tokio::net::TcpListener;

use super::super::answer::ANSWER_HEAD_MAX_BYTES;
use super::*;

fn handshake(target: &str, lines: &str) -> Opening {
    let text = format!(
        "GET {target} HTTP/1.1\r\nHost: example.com\r\nConnection: upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
    );
    let (head, _) = parse_head(text.as_bytes()).unwrap().unwrap();
    Opening::websocket(&forward(&head, PATH), &upgrade(&head).unwrap())
}

fn forward<'a>(head: &'a RequestHead, path: &'a str) -> Forward<'a> {
    static HEADERS: LazyLock<[String; 2]> =
        LazyLock::new(|| ["X-Tenant".to_owned(), "content-type".to_owned()]);
    Forward {
        head,
        path,
        headers: &*HEADERS,
        token_parameter: Some("token"),
        passport: Some("signed"),
    }
}

fn sent(handshake: &Opening) -> RequestHead {
    let (head, length) = parse_head(&handshake.bytes).unwrap().unwrap();
    assert_eq!(length, handshake.bytes.len());
    head
}

#[test]
fn the_request_is_a_valid_handshake_of_our_own() {
    let handshake = handshake("/a?token=t&b=%20", "");
    let head = sent(&handshake);
    let ours = upgrade(&head).unwrap();
    assert_eq!(
        (head.path.as_str(), head.query.as_deref()),
        ("/connection/websocket", Some("b=%20"))
    );
    let Wanted::Upgrade { accept, .. } = &handshake.wanted else {
        panic!("{handshake:?}");
    };
    assert_eq!(*accept, accept_key(&ours.key));
    assert_ne!(ours.key, "dGhlIHNhbXBsZSBub25jZQ==");
    assert_ne!(ours.key, random_key());
    assert_eq!(head.header("x-flotilla-passport"), Some("signed"));
    assert_eq!(sent(&self::handshake("/a?token=t", "")).query, None);
}

#[test]
fn only_named_headers_go_to_the_worker() {
    let lines = "Origin: https://a\r\nUser-Agent: b\r\nx-tenant: one\r\nX-TENANT: two\r\n\
                 X-Flotilla-Passport: forged\r\nCookie: c\r\nAuthorization: Bearer d\r\n\
                 Sec-WebSocket-Extensions: permessage-deflate\r\n\
                 Sec-WebSocket-Protocol: bearer.e, chat\r\nSec-WebSocket-Protocol: other\r\n";
    let head = sent(&handshake("/", lines));
    assert_eq!(head.header("Origin"), Some("https://a"));
    assert_eq!(head.header("User-Agent"), Some("b"));
    assert_eq!(head.all("X-Tenant").collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(
        head.all("x-flotilla-passport").collect::<Vec<_>>(),
        ["signed"]
    );
    assert_eq!(head.header("Sec-WebSocket-Protocol"), Some("chat, other"));
    for name in ["Cookie", "Authorization", "Sec-WebSocket-Extensions"] {
        assert_eq!(head.header(name), None);
    }
}

#[test]
fn a_stream_is_asked_for_with_a_body_of_our_own_framing() {
    let text = "POST /x?token=t&a=b HTTP/1.1\r\nHost: example.com\r\nConnection: keep-alive, X-Tenant\r\n\
                Content-Type: application/json\r\nContent-Length: 007\r\nExpect: 100-continue\r\n\
                X-Tenant: one\r\nx-flotilla-passport: forged\r\nX-Flotilla-Other: forged\r\n\
                Cookie: c\r\nAuthorization: Bearer d\r\n\r\n";
    let (asked, _) = parse_head(text.as_bytes()).unwrap().unwrap();
    let opening = Opening::stream(&forward(&asked, paths::HTTP_STREAM), b"a body!");
    let (head, length) = parse_head(&opening.bytes).unwrap().unwrap();
    assert_eq!(&opening.bytes[length..], b"a body!");
    assert_eq!(
        (head.method.as_str(), head.path.as_str()),
        ("POST", paths::HTTP_STREAM)
    );
    assert_eq!(head.query.as_deref(), Some("a=b"));
    let lines: Vec<(&str, &str)> = head
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        lines,
        [
            ("Connection", "close"),
            ("Content-Length", "7"),
            ("Host", "example.com"),
            ("Content-Type", "application/json"),
            ("X-Tenant", "one"),
            ("x-flotilla-passport", "signed"),
        ]
    );
}

/// What comes of it if the worker answers this to a client that offers the subprotocol `chat`.
async fn answered(answer: impl Fn(&str) -> Vec<u8>) -> Result<Upstream, UpstreamError> {
    let handshake = handshake("/", "Sec-WebSocket-Protocol: chat\r\n");
    let key = upgrade(&sent(&handshake)).unwrap().key;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let bytes = answer(&key);
    let worker = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; handshake.bytes.len()];
        stream.read_exact(&mut request).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        crate::socket::see_off(&mut stream).await;
    };
    let limits = UpstreamLimits {
        connect_timeout: Duration::from_secs(5),
        handshake_timeout: Duration::from_secs(5),
        request_timeout: Duration::from_secs(5),
    };
    let agreed = async {
        match handshake.with(address, limits).await {
            // Nothing more is read; the worker sees the end.
            Ok(mut upstream) => {
                upstream.stream.shutdown().await.unwrap();
                Ok(upstream)
            }
            Err(error) => Err(error),
        }
    };
    tokio::join!(worker, agreed).1
}

#[tokio::test]
async fn what_comes_behind_the_answer_is_kept() {
    let upstream = answered(|key| {
        let mut answer = switching_protocols(key, Some("chat"));
        answer.extend_from_slice(b"\x81\x02hi\x81");
        answer
    });
    let upstream = upstream.await.unwrap();
    assert_eq!(upstream.early, b"\x81\x02hi\x81");
    assert_eq!(upstream.protocol.as_deref(), Some("chat"));
}

#[tokio::test]
async fn an_answer_that_does_not_fit_the_request_is_invalid() {
    let check =
        async |answer: &dyn Fn(&str) -> Vec<u8>, kind: FailureKind| match answered(answer).await {
            Err(UpstreamError::Failed(found)) => assert_eq!(found, kind),
            other => panic!("{kind:?}: {other:?}"),
        };
    let with = |line: &'static str| {
        move |key: &str| {
            let text = String::from_utf8(switching_protocols(key, None)).unwrap();
            text.replacen("\r\n", &format!("\r\n{line}\r\n"), 1)
                .into_bytes()
        }
    };
    use FailureKind::{Broken, Invalid, Rejected};
    check(
        &|_| switching_protocols("dGhlIHNhbXBsZSBub25jZQ==", None),
        Invalid,
    )
    .await;
    check(&|key| switching_protocols(key, Some("other")), Invalid).await;
    check(
        &with("Sec-WebSocket-Extensions: permessage-deflate"),
        Invalid,
    )
    .await;
    check(&|_| b"HTTP/1.1 101 \r\n\r\n".to_vec(), Invalid).await;
    check(&|_| b"SSH-2.0-OpenSSH\r\n\r\n".to_vec(), Invalid).await;
    check(&|_| b"a".repeat(ANSWER_HEAD_MAX_BYTES), Invalid).await;
    check(
        &|_| b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(),
        Rejected,
    )
    .await;
    check(&|_| b"HTTP/1.1 503 \r\n\r\n".to_vec(), Rejected).await;
    check(&|_| Vec::new(), Broken).await;
    check(&|_| b"HTTP/1.1 10".to_vec(), Broken).await;
}

#[tokio::test]
async fn a_refusal_of_the_client_is_read_to_its_end() {
    let check = async |answer: &'static str, passed: &str| match answered(|_| answer.into()).await {
        Err(UpstreamError::Refused(bytes)) => {
            assert_eq!(String::from_utf8(bytes).unwrap(), passed);
        }
        other => panic!("{other:?}"),
    };
    let whole = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 3\r\n\r\nno\n";
    check(whole, whole).await;
    let open = "HTTP/1.1 404 Not Found\r\n\r\nto the end";
    check(open, open).await;
    check(
        "HTTP/1.1 400 Bad\r\nContent-Length: 1\r\n\r\nxyz",
        "HTTP/1.1 400 Bad\r\nContent-Length: 1\r\n\r\nx",
    )
    .await;
}
