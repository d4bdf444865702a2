//! A worker that takes links, and does what the clients' messages say.
//!
//! A text is sent back and acknowledged, unless it begins with one of these words: `hold` (neither), `state X` (the session's
//! state is X from now on), `join TOPIC OFFSET`, `leave TOPIC`, `close CODE`, `ask MILLISECONDS` (keep-alive), `flood BYTES`
//! (so many bytes at once).

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Bytes, BytesMut};
use flotilla_shared::auth::passport::PASSPORT_HEADER;
use flotilla_shared::http::parse_head;
use flotilla_shared::link::{
    self, ForGateway, ForWorker, Hello, Messages, Open, PATH, PROTOCOL, ToGateway, ToWorker,
};
use flotilla_shared::websocket::{Opcode, append_frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::common::{passport, soon};

/// Topics have numbers that tests need not know.
const TOPICS: [&str; 3] = ["news", "sport", "plain"];

/// What the worker wants of clients.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) message_max_bytes: u64,
    pub(crate) outbox_max_bytes: u64,
    pub(crate) write_timeout_ms: u64,
    /// Whether sessions are refused, so that another worker may take them.
    pub(crate) is_refusing: bool,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            message_max_bytes: 64 * 1024,
            outbox_max_bytes: 1024 * 1024,
            write_timeout_ms: 10_000,
            is_refusing: false,
        }
    }
}

#[derive(Default)]
struct Inner {
    wanted: Wanted,
    heard: Vec<ForWorker>,
    links: HashMap<u64, Link>,
    links_seen: u64,
    is_frozen: bool,
    is_cut_off: bool,
}

/// The worker's side of one link.
struct Link {
    out: mpsc::Sender<Out>,
    sessions: HashSet<u64>,
    topics: HashSet<u32>,
}

enum Out {
    Message(ForGateway),
    Bytes(&'static [u8]),
    Cut,
}

/// A running worker; stops when it is dropped.
pub(crate) struct LinkWorker {
    pub(crate) address: SocketAddr,
    inner: Arc<Mutex<Inner>>,
    task: JoinHandle<()>,
}

impl LinkWorker {
    pub(crate) async fn start() -> Self {
        Self::that(Wanted::default()).await
    }

    pub(crate) async fn that(wanted: Wanted) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let inner = Arc::new(Mutex::new(Inner {
            wanted,
            ..Inner::default()
        }));
        let task = tokio::spawn(accept(listener, inner.clone()));
        Self {
            address,
            inner,
            task,
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no panic")
    }

    pub(crate) fn wants(&self, wanted: Wanted) {
        self.inner().wanted = wanted;
    }

    /// How many links there have been.
    pub(crate) fn links_seen(&self) -> u64 {
        self.inner().links_seen
    }

    /// The session of the client that came last, once it is here.
    pub(crate) async fn opened(&self) -> Open {
        let open = |heard: &ForWorker| match heard {
            ForWorker::Open(open) => Some(open.clone()),
            _ => None,
        };
        self.heard(open).await
    }

    /// The last message for which `find` finds something, once there is one.
    pub(crate) async fn heard<T>(&self, find: impl Fn(&ForWorker) -> Option<T>) -> T {
        soon("a message at the worker", async {
            loop {
                let found = self.inner().heard.iter().rev().find_map(&find);
                match found {
                    Some(found) => return found,
                    None => tokio::task::yield_now().await,
                }
            }
        })
        .await
    }

    /// How many messages there are for which `is_wanted` is true.
    pub(crate) fn count(&self, is_wanted: impl Fn(&ForWorker) -> bool) -> usize {
        let inner = self.inner();
        inner.heard.iter().filter(|heard| is_wanted(heard)).count()
    }

    /// The texts that clients have sent, those of their past included.
    pub(crate) fn texts(&self) -> Vec<String> {
        let text = |message: &link::Message| String::from_utf8(message.payload.to_vec()).unwrap();
        let inner = self.inner();
        let texts = inner.heard.iter().flat_map(|heard| match heard {
            ForWorker::Message(message) => vec![text(message)],
            ForWorker::Open(open) => {
                let restored = open.restore.iter().flat_map(|restore| &restore.messages);
                restored.map(text).collect()
            }
            _ => Vec::new(),
        });
        texts.collect()
    }

    /// Sends a text to whoever is in a topic.
    pub(crate) async fn cast(&self, topic: &str, offset: Option<u64>, text: &str) {
        let topic = number(topic);
        let links: Vec<mpsc::Sender<Out>> = {
            let inner = self.inner();
            let links = inner
                .links
                .values()
                .filter(|link| link.topics.contains(&topic));
            links.map(|link| link.out.clone()).collect()
        };
        for out in links {
            let cast = link::Cast {
                topic,
                offset,
                frames: frame(text),
            };
            let _ = out.send(Out::Message(ForGateway::Cast(cast))).await;
        }
    }

    /// Says this on every link.
    pub(crate) async fn say(&self, message: ForGateway) {
        for out in self.outs() {
            let _ = out.send(Out::Message(message.clone())).await;
        }
    }

    /// Sends bytes on every link that are no message.
    pub(crate) async fn babble(&self) {
        for out in self.outs() {
            let _ = out.send(Out::Bytes(&[0xff; 16])).await;
        }
    }

    /// Asks for every session to be taken elsewhere.
    pub(crate) async fn release(&self) {
        let links: Vec<(mpsc::Sender<Out>, Vec<u64>)> = {
            let inner = self.inner();
            let links = inner.links.values();
            links
                .map(|link| (link.out.clone(), link.sessions.iter().copied().collect()))
                .collect()
        };
        for (out, sessions) in links {
            let release = ForGateway::Release(link::Release { sessions });
            let _ = out.send(Out::Message(release)).await;
        }
    }

    /// Says that it is cut off from its broker, or is no more.
    pub(crate) async fn is_cut_off(&self, is_cut_off: bool) {
        self.inner().is_cut_off = is_cut_off;
        self.say(condition(is_cut_off)).await;
    }

    /// Says nothing more, and hears nothing.
    pub(crate) fn freeze(&self) {
        self.inner().is_frozen = true;
    }

    /// Ends every link without a word.
    pub(crate) async fn cut(&self) {
        for out in self.outs() {
            let _ = out.send(Out::Cut).await;
        }
    }

    fn outs(&self) -> Vec<mpsc::Sender<Out>> {
        let inner = self.inner();
        inner.links.values().map(|link| link.out.clone()).collect()
    }
}

impl Drop for LinkWorker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn number(topic: &str) -> u32 {
    TOPICS
        .iter()
        .position(|name| *name == topic)
        .expect("a topic") as u32
}

fn condition(is_cut_off: bool) -> ForGateway {
    ForGateway::Condition(link::Condition { is_cut_off })
}

/// A text in a frame.
pub(crate) fn frame(text: &str) -> Bytes {
    let mut frame = BytesMut::new();
    append_frame(Opcode::Text, text.as_bytes(), &mut frame);
    frame.freeze()
}

async fn accept(listener: TcpListener, inner: Arc<Mutex<Inner>>) {
    let mut links = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).expect("an option");
        links.spawn(serve(stream, inner.clone()));
    }
}

async fn serve(mut stream: TcpStream, inner: Arc<Mutex<Inner>>) {
    let Some((mut messages, hello)) = begin(&mut stream).await else {
        return;
    };
    assert!((hello.version_min..=hello.version_max).contains(&1));
    let (out, outgoing) = mpsc::channel(1024);
    let (number, welcome, is_cut_off) = {
        let mut inner = inner.lock().expect("no panic");
        inner.links_seen += 1;
        let number = inner.links_seen;
        let link = Link {
            out: out.clone(),
            sessions: HashSet::new(),
            topics: HashSet::new(),
        };
        inner.links.insert(number, link);
        let welcome = link::Welcome {
            version: 1,
            worker: "worker".to_owned(),
            shards: 1,
            message_max_bytes: inner.wanted.message_max_bytes,
            outbox_max_bytes: inner.wanted.outbox_max_bytes,
            write_timeout_ms: inner.wanted.write_timeout_ms,
            ..link::Welcome::default()
        };
        (number, welcome, inner.is_cut_off)
    };
    let _ = out.send(Out::Message(ForGateway::Welcome(welcome))).await;
    if is_cut_off {
        let _ = out.send(Out::Message(condition(true))).await;
    }
    let (mut reading, writing) = stream.split();
    let heard = async {
        loop {
            while let Some(message) = messages.next::<ToWorker>().expect("a message") {
                if let Some(body) = message.body {
                    let answers = obey(&mut inner.lock().expect("no panic"), number, body);
                    for answer in answers {
                        let _ = out.send(Out::Message(answer)).await;
                    }
                }
            }
            if reading.read_buf(messages.buffer()).await.unwrap_or(0) == 0 {
                return;
            }
        }
    };
    tokio::select! {
        () = heard => {}
        () = write(writing, outgoing, &inner) => {}
    }
    inner.lock().expect("no panic").links.remove(&number);
}

async fn write(
    mut writing: tokio::net::tcp::WriteHalf<'_>,
    mut outgoing: mpsc::Receiver<Out>,
    inner: &Mutex<Inner>,
) {
    loop {
        if inner.lock().expect("no panic").is_frozen {
            std::future::pending::<()>().await;
        }
        let mut bytes = BytesMut::new();
        match tokio::time::timeout(link::HEARTBEAT_INTERVAL, outgoing.recv()).await {
            Ok(Some(Out::Message(message))) => {
                assert!(link::append(&ToGateway::from(message), &mut bytes));
            }
            Ok(Some(Out::Bytes(nonsense))) => bytes.extend_from_slice(nonsense),
            Ok(Some(Out::Cut) | None) => return,
            Err(_) => assert!(link::append(&ToGateway::default(), &mut bytes)),
        }
        if writing.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// The upgrade, and who it is. `None`: a health check.
async fn begin(stream: &mut TcpStream) -> Option<(Messages, Hello)> {
    let mut buffer = Vec::new();
    let (head, length) = loop {
        if stream.read_buf(&mut buffer).await.ok()? == 0 {
            return None;
        }
        if let Some(parsed) = parse_head(&buffer).expect("a head") {
            break parsed;
        }
    };
    assert_eq!((head.method.as_str(), head.path.as_str()), ("GET", PATH));
    assert_eq!(head.header("Upgrade"), Some(PROTOCOL));
    let shown = passport(head.header(PASSPORT_HEADER).expect("a passport"));
    assert_eq!(shown.identity, None);
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {PROTOCOL}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await.ok()?;
    let mut messages = Messages::default();
    messages.buffer().extend_from_slice(&buffer[length..]);
    loop {
        if let Some(message) = messages.next::<ToWorker>().expect("a message") {
            match message.body {
                Some(ForWorker::Hello(hello)) => return Some((messages, hello)),
                other => panic!("not a hello: {other:?}"),
            }
        }
        if stream.read_buf(messages.buffer()).await.ok()? == 0 {
            return None;
        }
    }
}

/// What the worker answers.
fn obey(inner: &mut Inner, link: u64, body: ForWorker) -> Vec<ForGateway> {
    inner.heard.push(body.clone());
    let is_refusing = inner.wanted.is_refusing;
    let Some(link) = inner.links.get_mut(&link) else {
        return Vec::new();
    };
    match body {
        ForWorker::Open(open) if is_refusing => {
            let refused = link::Refused {
                session: open.session,
                status: 503,
                elsewhere: true,
                answer: Bytes::new(),
            };
            vec![ForGateway::Refused(refused)]
        }
        ForWorker::Open(open) => {
            link.sessions.insert(open.session);
            let opened = link::Opened {
                session: open.session,
                protocol: open.protocols.first().cloned(),
                is_text: false,
            };
            let restored = open
                .restore
                .into_iter()
                .flat_map(|restore| restore.messages);
            let answers = restored.flat_map(|message| {
                let message = link::Message {
                    session: open.session,
                    ..message
                };
                answer(link, &message)
            });
            let answers: Vec<ForGateway> = answers.collect();
            [vec![ForGateway::Opened(opened)], answers].concat()
        }
        ForWorker::Message(message) => answer(link, &message),
        ForWorker::Detach(detach) => {
            link.sessions.remove(&detach.session);
            let session = detach.session;
            vec![ForGateway::Detached(link::Detached { session })]
        }
        ForWorker::Closed(closed) => {
            link.sessions.remove(&closed.session);
            Vec::new()
        }
        ForWorker::Hello(_) => panic!("a second hello"),
    }
}

fn answer(link: &mut Link, message: &link::Message) -> Vec<ForGateway> {
    let (session, number) = (message.session, message.number);
    let text = std::str::from_utf8(&message.payload).expect("text");
    let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
    if verb == "hold" {
        return Vec::new();
    }
    if verb == "close" {
        let (code, reason) = (rest.parse().expect("a code"), "told to".to_owned());
        let close = link::Close {
            session,
            code,
            reason,
        };
        return vec![ForGateway::Close(close)];
    }
    let mut said = done(link, session, verb, rest);
    said.push(send(session, text));
    said.push(ForGateway::Ack(link::Ack { session, number }));
    said
}

fn send(session: u64, text: &str) -> ForGateway {
    ForGateway::Send(link::Send {
        session,
        frames: frame(text),
        ..link::Send::default()
    })
}

/// What a message makes the worker say before its answer.
fn done(link: &mut Link, session: u64, verb: &str, rest: &str) -> Vec<ForGateway> {
    match verb {
        "state" => {
            let state = Bytes::copy_from_slice(rest.as_bytes());
            vec![ForGateway::State(link::State { session, state })]
        }
        "join" => {
            let (name, offset) = rest.split_once(' ').unwrap_or((rest, ""));
            let join = link::Join {
                session,
                topic: number(name),
                offset: offset.parse().ok(),
                takes_casts: true,
            };
            let topic = link::Topic {
                topic: join.topic,
                name: Bytes::copy_from_slice(name.as_bytes()),
            };
            let is_new = link.topics.insert(join.topic);
            let topic = is_new.then_some(ForGateway::Topic(topic));
            topic.into_iter().chain([ForGateway::Join(join)]).collect()
        }
        "leave" => {
            let topic = number(rest);
            vec![ForGateway::Leave(link::Leave { session, topic })]
        }
        "ask" => {
            let interval: u64 = rest.parse().expect("a time");
            vec![ForGateway::KeepAlive(link::KeepAlive {
                session,
                interval_ms: interval,
                timeout_ms: interval,
                ping: frame("?"),
                pong: Bytes::from_static(b"!"),
                code: 3012,
                reason: "no pong".to_owned(),
            })]
        }
        "flood" => vec![send(session, &"x".repeat(rest.parse().expect("a length")))],
        _ => Vec::new(),
    }
}
