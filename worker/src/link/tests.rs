//! What a worker promises to a gateway on a link, on real sockets.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use flotilla_shared::auth::{ConnectionClaims, Passport, PassportKeys};
use flotilla_shared::clock::unix_seconds;
use flotilla_shared::config::Problems;
use flotilla_shared::link::{
    Close, Closed, Detach, ForGateway, ForWorker, Header, Hello, Join, Message, Messages, Open,
    Restore, SILENCE_MAX, Send, ToGateway, ToWorker, UNACKED_MAX, Welcome, append,
};
use flotilla_shared::secret::Secret;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;

use super::ORPHAN_GRACE;
use crate::capacity::Capacity;
use crate::config::{Config, RawConfig};
use crate::connection::tests::shard_on;
use crate::drain::{DrainPlan, drain};
use crate::fleet::Shards;
use crate::handshakes::Handshakes;
use crate::shard::Shard;
use crate::{accept, operations};

mod broker;
mod condition;
mod moves;
mod sessions;
mod sockets;
mod topics;

use broker::Switch;

const SOON: Duration = Duration::from_secs(10);
const KEY: &str = "0123456789abcdef0123456789abcdef";
const CONNECT: &str = r#"{"id":1,"connect":{}}"#;

/// A worker's only shard, at work.
struct Worker {
    shard: Rc<Shard>,
    address: SocketAddr,
    broker: Switch,
}

impl Worker {
    async fn start(change: impl FnOnce(&mut RawConfig)) -> Self {
        let mut raw = RawConfig {
            id: "here".to_owned(),
            ..RawConfig::default()
        };
        raw.client.insecure = true;
        raw.passport.secret_key = Some(Secret::new(KEY));
        change(&mut raw);
        let config = Config::resolve(&raw, &mut Problems::default()).unwrap();
        let shards = Shards::new(1);
        let capacity = Capacity::new(config.connections_cap());
        let errands = shards.open(0);
        let broker = Switch::default();
        let on = |connection| broker.put_behind(connection);
        let (shard, events) = shard_on(&config, shards, capacity, on).await;
        shard.lifecycle().serving();
        spawn_local(operations::serve(shard.clone(), errands));
        spawn_local(shard.clone().pump(events));
        spawn_local(shard.clone().keep_time());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let places = Handshakes::new(100);
        let behind = shard.clone();
        spawn_local(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let place = places.enter().await;
                spawn_local(accept::serve(socket, behind.clone(), place));
            }
        });
        Self {
            shard,
            address,
            broker,
        }
    }

    /// Waits for something to become true.
    async fn until(&self, is_so: impl Fn(&Shard) -> bool) {
        let until = async {
            while !is_so(&self.shard) {
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, until).await.unwrap();
    }

    async fn has_connections(&self, count: usize) {
        self.until(|shard| shard.connections() == count).await;
    }
}

fn passport(identity: Option<ConnectionClaims>) -> String {
    let keys = PassportKeys::new(Secret::new(KEY), None).unwrap();
    let passport = Passport {
        identity,
        ..Passport::default()
    };
    keys.sign(&passport, unix_seconds()).unwrap()
}

fn handshake() -> String {
    let passport = passport(None);
    format!(
        "GET /link HTTP/1.1\r\nHost: worker\r\nConnection: Upgrade\r\nUpgrade: flotilla-link\r\n\
         X-Flotilla-Passport: {passport}\r\n\r\n"
    )
}

/// What answers a request.
async fn answer(worker: &Worker, request: &str) -> String {
    let mut socket = TcpStream::connect(worker.address).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(SOON, socket.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    answer
}

/// A gateway's end of a link.
struct Gateway {
    socket: TcpStream,
    messages: Messages,
}

impl Gateway {
    async fn dial(worker: &Worker) -> (Self, Welcome) {
        Self::dial_as(
            worker,
            Hello {
                version_min: 1,
                version_max: 1,
                gateway: "edge".to_owned(),
                shard: 7,
            },
        )
        .await
    }

    async fn dial_as(worker: &Worker, hello: Hello) -> (Self, Welcome) {
        let socket = TcpStream::connect(worker.address).await.unwrap();
        let mut gateway = Self {
            socket,
            messages: Messages::default(),
        };
        let socket = &mut gateway.socket;
        socket.write_all(handshake().as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(SOON, socket.read_u8()).await.unwrap().unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "));
        gateway.say(ForWorker::Hello(hello)).await;
        let ForGateway::Welcome(welcome) = gateway.hear().await else {
            panic!("no Welcome");
        };
        (gateway, welcome)
    }

    async fn say_all(&mut self, said: impl IntoIterator<Item = ForWorker>) {
        let mut bytes = BytesMut::new();
        for body in said {
            append(&ToWorker::from(body), &mut bytes);
        }
        self.socket.write_all(&bytes).await.unwrap();
    }

    async fn say(&mut self, body: ForWorker) {
        self.say_all([body]).await;
    }

    /// The next message that says something; `None`: the link has ended.
    async fn next(&mut self) -> Option<ForGateway> {
        loop {
            let message = self.messages.next::<ToGateway>().unwrap();
            match message.map(|message| message.body) {
                Some(Some(body)) => return Some(body),
                Some(None) => {}
                None => {
                    let read = self.socket.read_buf(self.messages.buffer()).await;
                    if read.unwrap_or(0) == 0 {
                        return None;
                    }
                }
            }
        }
    }

    /// The next message that says something. Meanwhile the worker hears that the gateway is there.
    async fn hear(&mut self) -> ForGateway {
        for _ in 0..20 {
            if let Ok(heard) = timeout(SILENCE_MAX / 4, self.next()).await {
                return heard.expect("the link has ended");
            }
            self.beat().await;
        }
        panic!("nothing is said");
    }

    async fn beat(&mut self) {
        let mut bytes = BytesMut::new();
        append(&ToWorker::default(), &mut bytes);
        // Whether the link has ended is seen elsewhere.
        let _ = self.socket.write_all(&bytes).await;
    }

    /// Everything up to the first message that is so, that one included.
    async fn hear_until(&mut self, is_so: impl Fn(&ForGateway) -> bool) -> Vec<ForGateway> {
        let mut heard = Vec::new();
        loop {
            heard.push(self.hear().await);
            if heard.last().is_some_and(&is_so) {
                return heard;
            }
        }
    }

    /// The worker closes the link.
    async fn is_closed(&mut self) {
        let end = async { while self.next().await.is_some() {} };
        timeout(SOON, end).await.unwrap();
    }

    async fn open(&mut self, session: u64) {
        self.say(open(session, None)).await;
        let heard = self.hear().await;
        assert!(
            matches!(&heard, ForGateway::Opened(opened) if opened.session == session),
            "{heard:?}"
        );
    }

    /// Opens and connects a session.
    async fn connect(&mut self, session: u64) {
        self.open(session).await;
        self.say(message(session, 1, CONNECT)).await;
        self.hear_until(|heard| is_ack(heard, session, 1)).await;
    }

    /// Has a session say something; everything up to its acknowledgement.
    async fn talk(&mut self, session: u64, number: u64, text: &str) -> Vec<ForGateway> {
        self.say(message(session, number, text)).await;
        self.hear_until(|heard| is_ack(heard, session, number))
            .await
    }
}

fn open(session: u64, identity: Option<ConnectionClaims>) -> ForWorker {
    ForWorker::Open(Open {
        session,
        generation: 1,
        path: "/connection/websocket".to_owned(),
        headers: vec![Header {
            name: "x-flotilla-passport".to_owned(),
            value: passport(identity),
        }],
        ..Open::default()
    })
}

fn message(session: u64, number: u64, text: &str) -> ForWorker {
    ForWorker::Message(Message {
        session,
        number,
        payload: Bytes::copy_from_slice(text.as_bytes()),
    })
}

fn is_ack(heard: &ForGateway, session: u64, number: u64) -> bool {
    matches!(heard, ForGateway::Ack(ack) if ack.session == session && ack.number == number)
}

/// What stands in frames of text.
fn texts(frames: &Bytes) -> Vec<String> {
    let mut rest = frames.clone();
    let mut texts = Vec::new();
    while rest.has_remaining() {
        rest.advance(1);
        let length = match rest.get_u8() {
            126 => usize::from(rest.get_u16()),
            length => usize::from(length),
        };
        texts.push(String::from_utf8(rest.split_to(length).to_vec()).unwrap());
    }
    texts
}

/// What a session was sent by itself.
fn sent(heard: &[ForGateway], session: u64) -> Vec<String> {
    let sends = heard.iter().filter_map(|heard| match heard {
        ForGateway::Send(send) if send.session == session => Some(texts(&send.frames)),
        _ => None,
    });
    sends.flatten().collect()
}

/// What each message is.
fn kinds(heard: &[ForGateway]) -> Vec<&'static str> {
    let kind = |heard: &ForGateway| match heard {
        ForGateway::Welcome(_) => "welcome",
        ForGateway::Opened(_) => "opened",
        ForGateway::Refused(_) => "refused",
        ForGateway::Send(_) => "send",
        ForGateway::Ack(_) => "ack",
        ForGateway::Topic(_) => "topic",
        ForGateway::Join(_) => "join",
        ForGateway::Leave(_) => "leave",
        ForGateway::Cast(_) => "cast",
        ForGateway::State(_) => "state",
        ForGateway::KeepAlive(_) => "keep_alive",
        ForGateway::Close(_) => "close",
        ForGateway::Release(_) => "release",
        ForGateway::Detached(_) => "detached",
        ForGateway::Condition(_) => "condition",
    };
    // States come and go with what is in them, which has tests of its own.
    let kinds = heard.iter().map(kind).filter(|kind| *kind != "state");
    kinds.collect()
}

async fn at_work(change: impl FnOnce(&mut RawConfig), test: impl AsyncFnOnce(Worker)) {
    let test = async { test(Box::pin(Worker::start(change)).await).await };
    LocalSet::new().run_until(Box::pin(test)).await;
}
