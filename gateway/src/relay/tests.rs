//! Sessions between two in-memory streams, with a clock that stands still until everybody waits.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{
    Initiator, Order, Outcome, Reason, Registry, Relay, Session, StreamSession, Timeouts, Traffic,
};

const TIMEOUTS: Timeouts = Timeouts {
    write: Duration::from_secs(30),
    close: Duration::from_secs(5),
};

struct Relayed {
    client: DuplexStream,
    worker: DuplexStream,
    registry: Arc<Registry>,
    task: JoinHandle<Outcome>,
    start: Instant,
}

fn traffic() -> Traffic {
    let counter = |name| prometheus::IntCounter::new(name, name).unwrap();
    Traffic {
        inbound: counter("inbound"),
        outbound: counter("outbound"),
    }
}

/// A session whose client's socket holds so many bytes each way.
fn relay(buffer: usize) -> Relayed {
    let ((client, near_client), (worker, near_worker)) = (duplex(buffer), duplex(1024));
    let registry = Arc::new(Registry::default());
    let session = Session::new(
        (near_client, &[]),
        (near_worker, &[]),
        TIMEOUTS,
        traffic(),
        registry.enter(),
    );
    Relayed::start(session, client, worker, registry)
}

impl Relayed {
    fn start(
        mut session: impl Relay,
        client: DuplexStream,
        worker: DuplexStream,
        registry: Arc<Registry>,
    ) -> Self {
        let task = tokio::spawn(async move { session.run().await });
        Self {
            client,
            worker,
            registry,
            task,
            start: Instant::now(),
        }
    }

    async fn outcome(self) -> (Initiator, Reason, u64) {
        let outcome = self.task.await.unwrap();
        (
            outcome.initiator,
            outcome.reason,
            self.start.elapsed().as_secs(),
        )
    }

    fn order(&self, order: Order) {
        self.registry
            .controls()
            .iter()
            .for_each(|control| control.give(order));
    }
}

async fn read(stream: &mut DuplexStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_stays() {
    let mut relayed = relay(64);
    tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
    relayed.client.write_all(b"\x81\x80\0\0\0\0").await.unwrap();
    assert_eq!(read(&mut relayed.worker, 6).await, b"\x81\x80\0\0\0\0");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_slow() {
    let mut relayed = relay(64);
    relayed
        .worker
        .write_all(&[&[0x82, 126, 1, 0][..], &[7; 256]].concat())
        .await
        .unwrap();
    let outcome = relayed.outcome().await;
    assert_eq!(outcome, (Initiator::Gateway, Reason::SlowConsumer, 30));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_a_little_now_and_then_is_not_slow() {
    let mut relayed = relay(64);
    let frame = [&[0x82, 126, 1, 0][..], &[7; 256]].concat();
    relayed.worker.write_all(&frame).await.unwrap();
    for chunk in frame.chunks(20) {
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(read(&mut relayed.client, chunk.len()).await, chunk);
    }
    assert!(!relayed.task.is_finished());
}

#[tokio::test(start_paused = true)]
async fn the_client_of_a_worker_that_takes_nothing_is_sent_to_another() {
    let mut relayed = relay(4096);
    let frame = [&[0x82, 0xfe, 8, 0, 0, 0, 0, 0][..], &[7; 2048]].concat();
    relayed.client.write_all(&frame).await.unwrap();
    assert_eq!(read(&mut relayed.client, 4).await, b"\x88\x0d\x03\xf4");
    let client = std::mem::replace(&mut relayed.client, duplex(1).0);
    drop(client);
    let outcome = relayed.outcome().await;
    assert_eq!(outcome, (Initiator::Gateway, Reason::Timeout, 30));
}

#[tokio::test(start_paused = true)]
async fn after_a_close_the_sides_have_a_limited_time() {
    let mut relayed = relay(64);
    relayed.worker.write_all(b"\x88\x02\x03\xe8").await.unwrap();
    assert_eq!(read(&mut relayed.client, 4).await, b"\x88\x02\x03\xe8");
    // Neither side ends its connection.
    let outcome = relayed.outcome().await;
    assert_eq!(outcome, (Initiator::Worker, Reason::Normal, 5));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_ended_its_side_is_not_kept_for_ever() {
    let mut relayed = relay(64);
    relayed.client.shutdown().await.unwrap();
    assert_eq!(relayed.worker.read(&mut [0]).await.unwrap(), 0);
    let outcome = relayed.outcome().await;
    assert_eq!(outcome, (Initiator::Client, Reason::Abnormal, 30));
}

#[tokio::test(start_paused = true)]
async fn the_worker_hears_of_the_gateways_leaving_too() {
    let mut relayed = relay(64);
    relayed.order(Order::GoAway);
    let close = read(&mut relayed.worker, 8).await;
    let [0x88, 0x82, m0, m1, _, _, high, low] = close[..] else {
        panic!("{close:?}")
    };
    assert_eq!([high ^ m0, low ^ m1], 1001_u16.to_be_bytes());
    assert_eq!(
        read(&mut relayed.client, 4).await[2..],
        1001_u16.to_be_bytes()
    );
    let outcome = relayed.outcome().await;
    assert_eq!(outcome, (Initiator::Gateway, Reason::Drain, 5));
}

#[tokio::test(start_paused = true)]
async fn frames_that_are_under_way_are_finished_before_the_goodbye() {
    let mut relayed = relay(1024);
    relayed.worker.write_all(b"\x81\x05he").await.unwrap();
    relayed
        .client
        .write_all(b"\x81\x85\0\0\0\0wo")
        .await
        .unwrap();
    assert_eq!(read(&mut relayed.client, 4).await, b"\x81\x05he");
    assert_eq!(read(&mut relayed.worker, 8).await, b"\x81\x85\0\0\0\0wo");
    relayed.order(Order::GoAway);
    relayed
        .worker
        .write_all(b"llo\x81\x09and more")
        .await
        .unwrap();
    relayed.client.write_all(b"rld\x81").await.unwrap();
    assert_eq!(read(&mut relayed.client, 3).await, b"llo");
    let next = read(&mut relayed.client, 4).await;
    assert_eq!((next[0], &next[2..]), (0x88, &b"\x03\xe9"[..]));
    assert_eq!(read(&mut relayed.worker, 3).await, b"rld");
    assert_eq!(read(&mut relayed.worker, 2).await, b"\x88\x82");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_closing_is_not_told_again() {
    let mut relayed = relay(64);
    relayed.worker.write_all(b"\x88\x02\x03\xe8").await.unwrap();
    assert_eq!(read(&mut relayed.client, 4).await, b"\x88\x02\x03\xe8");
    relayed.order(Order::GoAway);
    drop(std::mem::replace(&mut relayed.worker, duplex(1).0));
    relayed.client.shutdown().await.unwrap();
    let mut rest = Vec::new();
    relayed.client.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty(), "{rest:?}");
    let outcome = relayed.outcome().await;
    assert_eq!(outcome, (Initiator::Worker, Reason::Normal, 0));
}

#[tokio::test(start_paused = true)]
async fn an_order_to_drop_ends_a_connection_that_says_goodbye_in_vain() {
    let relayed = relay(64);
    relayed.order(Order::GoAway);
    tokio::time::sleep(Duration::from_secs(1)).await;
    relayed.order(Order::Drop);
    let outcome = relayed.outcome().await;
    assert_eq!(outcome, (Initiator::Gateway, Reason::Drain, 1));
}

/// The answer of a worker that is being relayed to a client.
fn stream(early: &[u8]) -> Relayed {
    let ((client, near_client), (worker, near_worker)) = (duplex(1024), duplex(1024));
    let registry = Arc::new(Registry::default());
    let session = StreamSession::new(
        near_client,
        (near_worker, early.to_vec()),
        TIMEOUTS,
        traffic(),
        registry.enter(),
    );
    Relayed::start(session, client, worker, registry)
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_goes_on_ends_where_the_worker_ends_it() {
    let mut relayed = stream(b"head");
    relayed.worker.write_all(b" and body").await.unwrap();
    relayed.worker.shutdown().await.unwrap();
    let mut answer = Vec::new();
    relayed.client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"head and body");
    relayed.client.shutdown().await.unwrap();
    let ended = (Initiator::Worker, Reason::Normal, 0);
    assert_eq!(relayed.outcome().await, ended);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_waited_for_however_long() {
    let mut relayed = stream(b"");
    tokio::time::sleep(Duration::from_secs(86_400)).await;
    relayed.worker.write_all(b"late").await.unwrap();
    let mut answer = [0; 4];
    relayed.client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"late");
    drop(relayed.client);
    relayed.task.await.unwrap();
}

/// It would be a second request that nobody has checked.
#[tokio::test(start_paused = true)]
async fn what_a_client_sends_during_its_answer_never_reaches_the_worker() {
    let mut relayed = stream(b"");
    let smuggled = b"POST /api/publish HTTP/1.1\r\nx-flotilla-passport: forged\r\n\r\n";
    relayed.client.write_all(smuggled).await.unwrap();
    relayed.client.shutdown().await.unwrap();
    let mut reached = Vec::new();
    relayed.worker.read_to_end(&mut reached).await.unwrap();
    assert_eq!(reached, b"");
    let ended = (Initiator::Client, Reason::ProtocolError, 0);
    assert_eq!(relayed.outcome().await, ended);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_said_all_still_hears_the_rest() {
    let mut relayed = stream(b"");
    relayed.client.shutdown().await.unwrap();
    assert_eq!(relayed.worker.read(&mut [0]).await.unwrap(), 0);
    relayed.worker.write_all(b"rest").await.unwrap();
    relayed.worker.shutdown().await.unwrap();
    let mut answer = Vec::new();
    relayed.client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"rest");
    let ended = (Initiator::Client, Reason::Normal, 0);
    assert_eq!(relayed.outcome().await, ended);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_of_its_answer_is_ended() {
    let mut relayed = stream(b"");
    relayed.worker.write_all(&[7; 1024]).await.unwrap();
    relayed.worker.write_all(&[7; 1024]).await.unwrap();
    let outcome = relayed.task.await.unwrap();
    assert_eq!(
        (outcome.initiator, outcome.reason),
        (Initiator::Gateway, Reason::SlowConsumer)
    );
    assert_eq!(relayed.start.elapsed(), TIMEOUTS.write);
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_an_answer_behind_what_was_relayed() {
    let mut relayed = stream(b"");
    relayed.worker.write_all(b"event").await.unwrap();
    let mut answer = [0; 5];
    relayed.client.read_exact(&mut answer).await.unwrap();
    relayed.registry.controls()[0].give(Order::GoAway);
    assert_eq!(relayed.client.read(&mut [0]).await.unwrap(), 0);
    relayed.client.shutdown().await.unwrap();
    let ended = (Initiator::Gateway, Reason::Drain, 0);
    assert_eq!(relayed.outcome().await, ended);
}
