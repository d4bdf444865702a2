//! What a worker promises to whoever comes by HTTP, on real sockets.

use std::net::SocketAddr;
use std::time::Duration;

use flotilla_shared::config::Problems;
use flotilla_shared::protocol::types::{
    Command, ConnectRequest, EmulationRequest, Reply, UnsubscribeRequest,
};
use flotilla_shared::protocol::{Format, append_command, replies};
use prost::Message as _;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;

use super::*;
use crate::config::{Config, RawConfig};
use crate::connection::tests::{shard, shard_with};
use crate::handshakes::Handshakes;

const SOON: Duration = Duration::from_secs(10);
const CONNECT: &str = r#"{"id":1,"connect":{}}"#;
const CONNECT_QUERY: &str = "cf_connect=%7B%22id%22%3A1%2C%22connect%22:%7b%7d%7D";
/// A command that any client may send, and that nobody else is asked about.
const COMMAND: &str = r#"{"id":2,"unsubscribe":{"channel":"news"}}"#;

/// The size of the future that an async function of three arguments returns.
fn future_bytes<A, B, C, F: Future>(_: fn(A, B, C) -> F) -> usize {
    size_of::<F>()
}

#[test]
fn the_task_of_an_idle_connection_stays_small() {
    // A thousand connections more or less of this size are a megabyte: whatever is rare is boxed.
    let bytes = future_bytes(serve);
    assert!(bytes <= 1024, "{bytes} bytes");
}

/// A client's socket, and ours.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = TcpStream::connect(address).await.unwrap();
    (client, listener.accept().await.unwrap().0)
}

#[tokio::test]
async fn a_client_that_says_too_much_can_finish_and_read_what_is_wrong() {
    let (mut client, socket) = pair().await;
    let shard = shard().await;
    let place = Handshakes::new(1).enter().await;
    let talk = async {
        // Much more than sockets hold.
        let head = format!("GET / HTTP/1.1\r\nX: {}\r\n", "x".repeat(8 << 20));
        client.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        drop(client);
    };
    tokio::join!(serve(socket, shard, place), talk);
}

#[tokio::test]
async fn a_silent_socket_is_closed_when_somebody_else_needs_its_place() {
    let (mut client, socket) = pair().await;
    let shard = shard().await;
    let handshakes = Handshakes::new(1);
    let test = async {
        let place = handshakes.enter().await;
        spawn_local(serve(socket, shard.clone(), place));
        let _other = handshakes.enter().await;
        // Long before the time for a head is over.
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    };
    let limit = shard.limits().head_timeout / 2;
    let tasks = LocalSet::new();
    let test = timeout(limit, test);
    tasks.run_until(test).await.unwrap();
}

/// A worker's only shard, behind its listener.
struct Door {
    shard: Rc<Shard>,
    address: SocketAddr,
}

impl Door {
    async fn open(change: impl FnOnce(&mut RawConfig)) -> Self {
        let mut raw = RawConfig {
            id: "here".to_owned(),
            ..RawConfig::default()
        };
        raw.client.insecure = true;
        change(&mut raw);
        let config = Config::resolve(&raw, &mut Problems::default()).unwrap();
        let shard = shard_with(&config).await;
        shard.lifecycle().serving();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let places = Handshakes::new(100);
        let behind = shard.clone();
        spawn_local(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let place = places.enter().await;
                spawn_local(serve(socket, behind.clone(), place));
            }
        });
        Self { shard, address }
    }

    async fn ask(&self, request: impl AsRef<[u8]>) -> Client {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        socket.write_all(request.as_ref()).await.unwrap();
        Client {
            socket,
            read: Vec::new(),
        }
    }

    /// The whole answer to a request after which the connection ends.
    async fn answer(&self, request: impl AsRef<[u8]>) -> String {
        let mut client = self.ask(request).await;
        client.end().await;
        client.text()
    }

    /// What answers a post of these commands.
    async fn post(&self, node: &str, session: &str, commands: &str) -> String {
        let request = EmulationRequest {
            node: node.to_owned(),
            session: session.to_owned(),
            data: commands.to_owned().into(),
        };
        let body = serde_json::to_string(&request).unwrap();
        self.answer(post("/emulation", "", body)).await
    }

    async fn has_connections(&self, count: usize) {
        let until = async {
            while self.shard.connections() != count {
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, until).await.unwrap();
    }
}

/// One end of a connection, and all that came out of it.
struct Client {
    socket: TcpStream,
    read: Vec<u8>,
}

impl Client {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.read).into_owned()
    }

    /// Reads until this has come.
    async fn hears(&mut self, wanted: &str) {
        while !self.text().contains(wanted) {
            let read = timeout(SOON, self.socket.read_buf(&mut self.read)).await;
            let is_end = matches!(read, Ok(Ok(0)) | Ok(Err(_)) | Err(_));
            assert!(!is_end, "no {wanted} in {}", self.text());
        }
    }

    async fn end(&mut self) {
        let end = self.socket.read_to_end(&mut self.read);
        timeout(SOON, end).await.unwrap().unwrap();
    }

    /// What its connect result says: the node and the session.
    async fn is_connected(&mut self) -> (String, String) {
        self.hears("}}").await;
        let text = self.text();
        let line = text
            .lines()
            .find(|line| line.contains("\"client\""))
            .unwrap();
        let line = line.strip_prefix("data: ").unwrap_or(line);
        let message: Value = serde_json::from_str(line).unwrap();
        let result = |name: &str| message["connect"][name].as_str().unwrap().to_owned();
        (result("node"), result("session"))
    }
}

fn post(path: &str, lines: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: worker\r\nContent-Length: {length}\r\n{lines}\r\n");
    [head.as_bytes(), body].concat()
}

fn get(path: &str, lines: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: worker\r\n{lines}\r\n")
}

async fn behind_a_door(change: impl FnOnce(&mut RawConfig), test: impl AsyncFnOnce(Door)) {
    let test = async { test(Box::pin(Door::open(change)).await).await };
    LocalSet::new().run_until(Box::pin(test)).await;
}

#[tokio::test]
async fn commands_that_are_posted_are_answered_on_the_stream() {
    behind_a_door(
        |_| {},
        async |door| {
            let sse = get(&format!("/connection/sse?{CONNECT_QUERY}"), "");
            let lines = post("/connection/http_stream", "", CONNECT);
            for (request, reply) in [
                (
                    sse.into_bytes(),
                    "\n\ndata: {\"id\":2,\"unsubscribe\":{}}\n\n",
                ),
                (lines, "\n{\"id\":2,\"unsubscribe\":{}}\n"),
            ] {
                let mut stream = door.ask(request).await;
                let (node, session) = stream.is_connected().await;
                let answer = door.post(&node, &session, COMMAND).await;
                assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
                stream.hears(reply).await;
                let head = stream.text();
                assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
                assert!(head.contains("\r\nX-Accel-Buffering: no\r\n"), "{head}");
            }
        },
    )
    .await;
}

#[tokio::test]
async fn events_begin_with_an_empty_line_and_connect_in_a_body_works_as_well() {
    behind_a_door(
        |_| {},
        async |door| {
            let mut stream = door.ask(post("/connection/sse", "", CONNECT)).await;
            stream.is_connected().await;
            let text = stream.text();
            assert!(
                text.contains("\r\nContent-Type: text/event-stream\r\n"),
                "{text}"
            );
            assert!(
                text.contains("\r\n\r\n\r\ndata: {\"id\":1,\"connect\":{"),
                "{text}"
            );
        },
    )
    .await;
}

#[tokio::test]
async fn optimistic_commands_come_with_the_first_request() {
    behind_a_door(
        |_| {},
        async |door| {
            let body = format!("{CONNECT}\n{COMMAND}");
            let mut stream = door.ask(post("/connection/http_stream", "", body)).await;
            stream.hears("{\"id\":2,\"unsubscribe\":{}}\n").await;
        },
    )
    .await;
}

#[tokio::test]
async fn a_protobuf_stream_is_protobuf_both_ways() {
    behind_a_door(
        |_| {},
        async |door| {
            let frame = |command| {
                let mut frame = bytes::BytesMut::new();
                append_command(Format::Protobuf, &command, &mut frame).unwrap();
                frame
            };
            let connect = frame(Command {
                id: 1,
                connect: Some(ConnectRequest::default()),
                ..Command::default()
            });
            let binary = "Content-Type: application/octet-stream; x=y\r\n";
            let mut stream = door
                .ask(post("/connection/http_stream", binary, connect))
                .await;
            let read = async |stream: &mut Client, count| {
                loop {
                    let text = stream.text();
                    let body = text.find("\r\n\r\n").map(|at| at + 4);
                    let replies: Option<Vec<Reply>> = body.and_then(|at| {
                        replies(Format::Protobuf, &stream.read[at..])
                            .collect::<Result<_, _>>()
                            .ok()
                    });
                    match replies {
                        Some(replies) if replies.len() == count => return replies,
                        _ => {
                            let more = stream.socket.read_buf(&mut stream.read);
                            assert!(timeout(SOON, more).await.unwrap().unwrap() > 0);
                        }
                    }
                }
            };
            let connected = read(&mut stream, 1).await.remove(0).connect.unwrap();
            let head = stream.text();
            assert!(
                head.contains("\r\nContent-Type: application/octet-stream\r\n"),
                "{head}"
            );
            let request = EmulationRequest {
                node: connected.node,
                session: connected.session,
                data: frame(Command {
                    id: 2,
                    unsubscribe: Some(UnsubscribeRequest {
                        channel: "news".to_owned(),
                    }),
                    ..Command::default()
                })
                .freeze(),
            };
            let answer = door
                .answer(post("/emulation", binary, request.encode_to_vec()))
                .await;
            assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
            let answered = read(&mut stream, 2).await.remove(1);
            assert_eq!(answered, Reply::unsubscribe(2));
        },
    )
    .await;
}

#[tokio::test]
async fn a_post_for_nobody_or_of_nothing_is_refused() {
    behind_a_door(
        |_| {},
        async |door| {
            let mut stream = door.ask(post("/connection/http_stream", "", CONNECT)).await;
            let (node, session) = stream.is_connected().await;
            let refused = async |answer: String, status: &str| {
                assert!(
                    answer.starts_with(&format!("HTTP/1.1 {status} ")),
                    "{answer}"
                );
            };
            refused(door.post(&node, "another", COMMAND).await, "404").await;
            // Nobody can be asked where that is.
            refused(door.post("elsewhere", &session, COMMAND).await, "503").await;
            refused(door.post(&node, &session, "").await, "400").await;
            refused(door.answer(post("/emulation", "", "{")).await, "400").await;
            refused(door.answer(post("/emulation", "", "")).await, "400").await;
            refused(door.answer(get("/emulation", "")).await, "405").await;
            let long = "x".repeat(64 * 1024 + 1);
            refused(door.answer(post("/emulation", "", long)).await, "413").await;
            // None of it came through.
            refused(door.post(&node, &session, COMMAND).await, "204").await;
            stream.hears("{\"id\":2,\"unsubscribe\":{}}\n").await;
        },
    )
    .await;
}

#[tokio::test]
async fn a_stream_says_why_it_ends_and_then_ends() {
    behind_a_door(
        |_| {},
        async |door| {
            let gone = "{\"push\":{\"disconnect\":{\"code\":3501,\"reason\":\"bad request\"}}}\n";
            // The first command has to be connect, and there has to be one.
            for body in [COMMAND, "{", "\n"] {
                let answer = door.answer(post("/connection/http_stream", "", body)).await;
                assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
                assert!(answer.ends_with(gone), "{answer}");
            }
            // So does a post that is malformed.
            let mut stream = door.ask(post("/connection/http_stream", "", CONNECT)).await;
            let (node, session) = stream.is_connected().await;
            let answer = door.post(&node, &session, "{").await;
            assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
            stream.end().await;
            assert!(stream.text().ends_with(gone), "{}", stream.text());
            let answer = door.post(&node, &session, COMMAND).await;
            assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
            drop(stream);
            door.has_connections(0).await;
        },
    )
    .await;
}

#[tokio::test]
async fn a_request_that_says_nothing_gets_no_stream() {
    behind_a_door(
        |_| {},
        async |door| {
            for request in [
                get("/connection/sse", "").into_bytes(),
                get("/connection/sse?cf_connect=", "").into_bytes(),
                post("/connection/http_stream", "", ""),
                post("/connection/uni_sse", "", "[]"),
                [&*post("/connection/http_stream", "", CONNECT), b"GET"].concat(),
            ] {
                let answer = door.answer(&request).await;
                let request = String::from_utf8_lossy(&request);
                assert!(answer.starts_with("HTTP/1.1 400 "), "{request}: {answer}");
            }
            let answer = door.answer(get("/connection/http_stream", "")).await;
            assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
            assert!(answer.contains("\r\nAllow: POST, OPTIONS\r\n"), "{answer}");
        },
    )
    .await;
}

#[tokio::test]
async fn an_address_changes_nothing_since_any_page_can_have_it_opened() {
    behind_a_door(
        |_| {},
        async |door| {
            let opened = |command: &str| {
                let mut query = form_urlencoded::Serializer::new(String::new());
                query.append_pair("cf_connect", &format!("{CONNECT}\n{command}"));
                get(&format!("/connection/sse?{}", query.finish()), "")
            };
            for command in [
                r#"{"id":2,"publish":{"channel":"news","data":1}}"#,
                r#"{"send":{"data":1}}"#,
                r#"{"id":2,"rpc":{"method":"buy","data":1}}"#,
            ] {
                let answer = door.answer(opened(command)).await;
                assert!(answer.starts_with("HTTP/1.1 400 "), "{command}: {answer}");
            }
            let subscribe = r#"{"id":2,"subscribe":{"channel":"news"}}"#;
            let mut stream = door.ask(opened(subscribe)).await;
            stream.is_connected().await;
        },
    )
    .await;
}

#[tokio::test]
async fn who_leaves_its_stream_is_gone_and_who_asks_again_on_it_breaks_the_rules() {
    behind_a_door(
        |_| {},
        async |door| {
            let mut stream = door.ask(post("/connection/http_stream", "", CONNECT)).await;
            let (node, session) = stream.is_connected().await;
            stream.socket.shutdown().await.unwrap();
            stream.end().await;
            assert!(!stream.text().contains("disconnect"), "{}", stream.text());
            door.has_connections(0).await;
            let answer = door.post(&node, &session, COMMAND).await;
            assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");

            let mut stream = door.ask(post("/connection/http_stream", "", CONNECT)).await;
            stream.is_connected().await;
            stream.socket.write_all(b"POST").await.unwrap();
            stream.end().await;
            assert!(
                stream.text().contains("\"disconnect\""),
                "{}",
                stream.text()
            );
        },
    )
    .await;
}

#[tokio::test]
async fn pages_of_allowed_origins_may_read_and_others_may_not_ask() {
    let change =
        |raw: &mut RawConfig| raw.allowed_origins = vec!["https://good.example".to_owned()];
    behind_a_door(change, async |door| {
        let good = "Origin: https://good.example\r\n";
        let readable = "\r\nAccess-Control-Allow-Origin: https://good.example\r\n";
        let mut stream = door
            .ask(post("/connection/http_stream", good, CONNECT))
            .await;
        stream.is_connected().await;
        assert!(stream.text().contains(readable), "{}", stream.text());
        for (request, status) in [
            (post("/emulation", good, "{"), "400"),
            (post("/connection/http_stream", good, ""), "400"),
        ] {
            let answer = door.answer(request).await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{answer}"
            );
            assert!(answer.contains(readable), "{answer}");
        }
        let options = |path: &str, lines: &str| get(path, lines).replacen("GET", "OPTIONS", 1);
        let told = door.answer(options("/emulation", good)).await;
        assert!(told.starts_with("HTTP/1.1 204 "), "{told}");
        assert!(
            told.contains("\r\nAccess-Control-Max-Age: 300\r\n"),
            "{told}"
        );
        let evil = "Origin: https://evil.example\r\n";
        for request in [
            post("/connection/http_stream", evil, CONNECT),
            post("/emulation", evil, "{}"),
            options("/emulation", evil).into_bytes(),
        ] {
            let answer = door.answer(request).await;
            assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
            assert!(!answer.contains("Access-Control"), "{answer}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_worker_that_is_full_or_leaves_still_takes_posts() {
    behind_a_door(
        |_| {},
        async |door| {
            let connect = || post("/connection/http_stream", "", CONNECT);
            let mut streams = Vec::new();
            for _ in 0..door.shard.admission().capacity.limit() {
                streams.push(door.ask(connect()).await);
            }
            let mut sessions = Vec::new();
            for stream in &mut streams {
                sessions.push(stream.is_connected().await);
            }
            let (node, session) = &sessions[0];
            let answer = door.answer(connect()).await;
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            assert!(answer.contains("\r\nRetry-After: "), "{answer}");
            let answer = door.post(node, session, COMMAND).await;
            assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
            door.shard.lifecycle().drain(SOON);
            let answer = door.answer(connect()).await;
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            let answer = door.post(node, session, COMMAND).await;
            assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
        },
    )
    .await;
}

#[tokio::test]
async fn who_only_listens_is_told_in_pushes() {
    behind_a_door(
        |_| {},
        async |door| {
            let introduction = r#"{"name":"curl"}"#;
            let mut stream = door
                .ask(post("/connection/uni_http_stream", "", introduction))
                .await;
            stream.is_connected().await;
            let text = stream.text();
            let (_, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(body.starts_with("{\"connect\":{\"client\":"), "{body}");
            assert!(!body.contains("\"pong\""), "{body}");
            let query = "/connection/uni_sse?cf_connect=%7B%7D";
            let mut stream = door.ask(get(query, "")).await;
            stream.is_connected().await;
            let text = stream.text();
            assert!(
                text.contains("\r\n\r\n\r\ndata: {\"connect\":{\"client\":"),
                "{text}"
            );
        },
    )
    .await;
}

#[tokio::test]
async fn who_only_listens_cannot_be_spoken_for() {
    behind_a_door(
        |_| {},
        async |door| {
            let mut stream = door
                .ask(post("/connection/uni_http_stream", "", "{}"))
                .await;
            let (node, session) = stream.is_connected().await;
            let answer = door.post(&node, &session, COMMAND).await;
            assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
        },
    )
    .await;
}

#[tokio::test]
async fn a_websocket_that_only_listens_says_who_it_is_once() {
    behind_a_door(
        |_| {},
        async |door| {
            let upgrade = |query: &str| {
                get(
                    &format!("/connection/uni_websocket{query}"),
                    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
                )
            };
            // Masked by nothing, which is a mask, too.
            let said = |text: &str| {
                [
                    &[0x81, 0x80 | text.len() as u8, 0, 0, 0, 0],
                    text.as_bytes(),
                ]
                .concat()
            };
            let mut early = door.ask(upgrade("?cf_connect=%7B%7D")).await;
            early.hears("{\"connect\":{\"client\":").await;
            let mut late = door.ask(upgrade("")).await;
            late.socket.write_all(&said("{}")).await.unwrap();
            late.hears("{\"connect\":{\"client\":").await;
            for client in [&mut early, &mut late] {
                client.socket.write_all(&said("{}")).await.unwrap();
                client.hears("bad request").await;
            }
        },
    )
    .await;
}
