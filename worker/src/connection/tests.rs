//! What a connection promises about its end, on a real socket.

use std::pin::pin;
use std::time::Duration;

use flotilla_shared::auth::ChannelGrant;
use flotilla_shared::broker::{BrokerConnection, BrokerEvents, BrokerMetrics, Brokers, MemoryBus};
use flotilla_shared::channel::Channel;
use flotilla_shared::config::Problems;
use flotilla_shared::lifecycle::Lifecycle;
use flotilla_shared::protocol::Format;
use flotilla_shared::roster::Life;
use prometheus::Registry;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use uuid::Uuid;

use super::*;
use crate::capacity::Capacity;
use crate::config::{Config, RawConfig};
use crate::control::ControlBroker;
use crate::emulation::Sessions;
use crate::fleet::{Fleet, Shards};
use crate::hooks::Gates;
use crate::metrics::{Metrics, ShardMetrics};
use crate::outbox::Pushed;
use crate::policy::Policy;
use crate::reader::Reader;
use crate::revocation::Revocations;
use crate::session::{ServerCommand, ServerSubscribe, Transport};
use crate::shard::{Admission, Common};
use crate::user_capacity::UserCapacity;

fn config() -> Config {
    let mut raw = RawConfig::default();
    raw.client.queue_max_size = 1000;
    raw.client.allow_anonymous_connect_without_token = true;
    raw.client.ping_interval = Duration::from_millis(20);
    raw.client.pong_timeout = Duration::from_millis(10);
    Config::resolve(&raw, &mut Problems::default()).unwrap()
}

/// A shard on a broker of its own.
pub(crate) async fn shard() -> Rc<Shard> {
    shard_with(&config()).await
}

pub(crate) async fn shard_with(config: &Config) -> Rc<Shard> {
    let (shard, events) = shard_among(config, Shards::new(0), Capacity::new(10)).await;
    // Nobody reads them, but a broker whose events nobody could read is closed.
    std::mem::forget(events);
    shard
}

/// One of these shards, and what its broker delivers.
pub(crate) async fn shard_among(
    config: &Config,
    shards: Shards,
    capacity: Capacity,
) -> (Rc<Shard>, Box<dyn BrokerEvents>) {
    shard_on(config, shards, capacity, |connection| connection).await
}

/// The same, on what `change` makes of its broker.
pub(crate) async fn shard_on(
    config: &Config,
    shards: Shards,
    capacity: Capacity,
    change: impl FnOnce(BrokerConnection) -> BrokerConnection,
) -> (Rc<Shard>, Box<dyn BrokerEvents>) {
    let registry = Registry::new();
    let metrics = BrokerMetrics::register(&registry).unwrap();
    let brokers = Brokers::Memory(MemoryBus::default());
    let connection = brokers.connect("test", &metrics).await.unwrap();
    let BrokerConnection { broker, events } = change(connection);
    let admission = Admission {
        passport_keys: config.passport_keys.clone(),
        passport_required: config.passport_required,
        allowed_origins: config.allowed_origins.clone(),
        capacity,
        echoes: false,
    };
    let metrics = Metrics::register(&registry).unwrap();
    let sessions = Sessions::default();
    let shard = Rc::new(Shard::new(
        Rc::new(Policy::new(
            config,
            Revocations::default(),
            UserCapacity::new(0),
        )),
        config.limits.clone(),
        admission,
        Lifecycle::new(),
        broker,
        ShardMetrics::new(metrics.clone()),
        Common {
            fleet: Fleet::new(
                (config.id.clone(), Life(1)),
                ControlBroker::default(),
                shards,
                Revocations::default(),
                sessions.clone(),
                metrics.fleet,
            ),
            sessions,
            api: None,
            gates: Gates::new(&config.hooks),
        },
    ));
    (shard, events)
}

/// A connection of the shard, and its client's socket.
pub(crate) async fn connect(shard: &Rc<Shard>) -> (Rc<Connection>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (socket, _) = listener.accept().await.unwrap();
    socket.writable().await.unwrap();
    let outbox = Outbox::new(socket, shard.limits().outbox_max_bytes);
    let session = Session::new(
        shard.policy().clone(),
        Uuid::new_v4(),
        None,
        Transport::default(),
        shard.now(),
    );
    let make = |id| {
        Connection::new(
            id,
            Wire::WebSocket(Format::Json),
            shard.clone(),
            outbox,
            session,
            Caller::new(
                "websocket",
                "json",
                [].into_iter(),
                shard.hooks().endpoints(),
            ),
        )
    };
    (shard.attach(make).1, client)
}

/// Connects the client, if it is not, and puts it into a channel.
pub(crate) async fn enter(connection: &Rc<Connection>, name: &str) {
    if !connection.session().borrow().is_connected() {
        let connect = Message::Text(r#"{"id":1,"connect":{}}"#.into());
        assert_eq!(connection.message(Some(Ok(connect))).await, None);
    }
    let subscribe = ServerSubscribe {
        channel: Channel::parse(name, 255).unwrap(),
        grant: ChannelGrant::default(),
        expire_at: None,
        recover_since: None,
    };
    connection.notify(Event::Command(ServerCommand::Subscribe(Box::new(
        subscribe,
    ))));
    // The broker is asked aside.
    while connection.session().borrow().channels().count() == 0 {
        tokio::task::yield_now().await;
    }
}

async fn read(connection: &Rc<Connection>) -> Ending {
    let source = Source::WebSocket(Vec::new());
    let mut intake = Intake::new(connection.clone(), source, 1000).await;
    connection.listen(&mut intake).await
}

#[tokio::test]
async fn a_client_that_falls_behind_is_slow_whatever_it_says_meanwhile() {
    let (connection, _client) = connect(&shard().await).await;
    while connection.outbox().push(&Bytes::from(vec![0; 64 * 1024])) != Pushed::Refused {}
    // The message was there before the task found the time to look at its outbox.
    let message = Message::Text(r#"{"id":1,"connect":{}}"#.into());
    assert_eq!(connection.message(Some(Ok(message))).await, None);
    assert_eq!(read(&connection).await, Ending::Slow);
}

#[tokio::test]
async fn a_client_that_has_said_goodbye_gets_no_ping_any_more() {
    let (connection, mut client) = connect(&shard().await).await;
    let connect = Message::Text(r#"{"id":1,"connect":{}}"#.into());
    assert_eq!(connection.message(Some(Ok(connect))).await, None);
    assert!(connection.session().borrow().is_connected());
    connection.end(Ending::ByClient(None));
    // Until a ping is due.
    let due = connection.session().borrow().next_deadline().unwrap();
    tokio::time::sleep_until(due.into()).await;
    connection.fired(connection.armed_tick.get());
    connection.outbox().push(&Bytes::from_static(b"the end"));

    let mut said = Vec::new();
    while !said.ends_with(b"the end") {
        assert!(client.read_buf(&mut said).await.unwrap() > 0);
    }
    let mut ping = BytesMut::new();
    append_frame(Opcode::Text, b"{}", &mut ping);
    assert!(!said.windows(ping.len()).any(|part| part == ping));
}

#[tokio::test]
async fn a_connection_that_ends_enters_no_channel_any_more() {
    LocalSet::new().run_until(Box::pin(ends_outside())).await;
}

async fn ends_outside() {
    let (connection, _client) = connect(&shard().await).await;
    let connect = Message::Text(r#"{"id":1,"connect":{}}"#.into());
    assert_eq!(connection.message(Some(Ok(connect))).await, None);
    let subscribe = |name| {
        let subscribe = ServerSubscribe {
            channel: Channel::parse(name, 255).unwrap(),
            grant: ChannelGrant::default(),
            expire_at: None,
            recover_since: None,
        };
        connection.notify(Event::Command(ServerCommand::Subscribe(Box::new(
            subscribe,
        ))));
        connection.session().borrow().farewell().count()
    };
    assert_eq!(subscribe("before"), 1);
    connection.end(Ending::ByClient(None));
    assert_eq!(subscribe("behind"), 1);
}

#[tokio::test]
async fn a_session_is_let_go_of_only_where_it_was_attached_before() {
    let shard = shard().await;
    let (on_a_link, _client) = connect(&shard).await;
    on_a_link.session().borrow_mut().attached(2);
    on_a_link.moved(2);
    assert_eq!(on_a_link.ending(), None);
    on_a_link.moved(3);
    assert_eq!(on_a_link.ending(), Some(&Ending::Moved));
    let (by_itself, _client) = connect(&shard).await;
    by_itself.moved(3);
    assert_eq!(by_itself.ending(), None);
}

#[tokio::test]
async fn a_client_that_vanishes_has_not_violated_the_protocol() {
    let (connection, client) = connect(&shard().await).await;
    drop(client);
    assert_eq!(read(&connection).await, Ending::Gone);
}

#[tokio::test]
async fn a_client_that_falls_behind_is_slow_also_when_it_pings() {
    let (connection, mut client) = connect(&shard().await).await;
    let mut reader = Reader::new(connection.clone(), Vec::new(), 1000).await;
    while connection.outbox().push(&Bytes::from(vec![0; 64 * 1024])) != Pushed::Refused {}
    // A masked ping: the library's answer finds no room.
    client.write_all(&[0x89, 0x80, 1, 2, 3, 4]).await.unwrap();
    let ending = loop {
        if let Some(ending) = connection.message(reader.next().await).await {
            break ending;
        }
    };
    assert_eq!(ending, Ending::Slow);
}

#[tokio::test]
async fn a_client_gets_no_more_answers_than_it_takes() {
    let shard = shard().await;
    let (connection, mut client) = connect(&shard).await;
    let connect = Message::Text(r#"{"id":1,"connect":{}}"#.into());
    assert_eq!(connection.message(Some(Ok(connect))).await, None);
    // More than the system keeps for a socket that nobody reads.
    let socket = SockRef::from(connection.outbox().socket().unwrap());
    socket.set_send_buffer_size(4096).unwrap();
    let count = 20_000;
    let commands = vec![r#"{"id":2,"rpc":{}}"#; count].join("\n");
    let mut answer = BytesMut::new();
    let text = br#"{"id":2,"error":{"code":108,"message":"not available"}}"#;
    append_frame(Opcode::Text, text, &mut answer);

    let mut handled = pin!(connection.message(Some(Ok(Message::Text(commands.into())))));
    let (mut received, mut is_handled) = (Vec::new(), false);
    while received.len() < count * answer.len() {
        tokio::select! {
            ending = &mut handled, if !is_handled => {
                assert_eq!(ending, None);
                is_handled = true;
            }
            read = client.read_buf(&mut received) => assert!(read.unwrap() > 0),
        }
        assert!(connection.outbox().queued_bytes() <= shard.limits().outbox_max_bytes);
    }
    assert!(received.ends_with(&answer));
}
