//! A link as a connection: how it begins, and how it ends.

use super::*;

#[tokio::test]
async fn a_gateway_is_welcomed_with_what_it_has_to_know() {
    at_work(
        |_| {},
        async |worker| {
            let (_gateway, welcome) = Gateway::dial(&worker).await;
            assert_eq!((welcome.version, welcome.shard, welcome.shards), (1, 0, 1));
            assert_eq!((&*welcome.worker, welcome.life), ("here", 1));
            let limits = worker.shard.limits();
            assert_eq!(welcome.message_max_bytes, limits.message_max_bytes as u64);
            assert_eq!(welcome.outbox_max_bytes, limits.outbox_max_bytes as u64);
        },
    )
    .await;
}

#[tokio::test]
async fn a_gateway_of_another_age_is_told_so() {
    at_work(
        |_| {},
        async |worker| {
            let hello = Hello {
                version_min: 1000,
                version_max: 1001,
                ..Hello::default()
            };
            let (mut gateway, welcome) = Gateway::dial_as(&worker, hello).await;
            assert_eq!(welcome.version, 0);
            gateway.is_closed().await;
        },
    )
    .await;
}

#[tokio::test]
async fn only_gateways_have_links_and_only_while_the_worker_serves() {
    at_work(
        |_| {},
        async |worker| {
            let request = handshake();
            let anonymous = request.replace("X-Flotilla-Passport", "X-Other");
            let told = answer(&worker, &anonymous).await;
            assert!(told.starts_with("HTTP/1.1 403 "), "{told}");
            let websocket = request.replace("flotilla-link", "websocket");
            let told = answer(&worker, &websocket).await;
            assert!(told.starts_with("HTTP/1.1 400 "), "{told}");
            let (mut gateway, _) = Gateway::dial(&worker).await;
            worker.shard.lifecycle().drain(Duration::from_secs(60));
            let told = answer(&worker, &request).await;
            assert!(told.starts_with("HTTP/1.1 503 "), "{told}");
            // The link is there, but takes nobody in.
            gateway.say(open(1, None)).await;
            let ForGateway::Refused(refused) = gateway.hear().await else {
                panic!("not refused");
            };
            assert_eq!((refused.status, refused.elsewhere), (503, true));
            assert!(refused.answer.starts_with(b"HTTP/1.1 503 "));
        },
    )
    .await;
    at_work(
        |raw| raw.passport.secret_key = None,
        async |worker| {
            let told = answer(&worker, &handshake()).await;
            assert!(told.starts_with("HTTP/1.1 404 "), "{told}");
        },
    )
    .await;
}

#[tokio::test]
async fn a_link_that_says_nothing_for_two_seconds_is_dead_also_in_the_middle_of_a_message() {
    at_work(
        |_| {},
        async |worker| {
            let (mut silent, _) = Gateway::dial(&worker).await;
            let (mut half, _) = Gateway::dial(&worker).await;
            half.socket.write_all(&[100, 1, 2, 3]).await.unwrap();
            let (mut other, _) = Gateway::dial(&worker).await;
            other.open(1).await;
            let began = std::time::Instant::now();
            let ends = async { tokio::join!(silent.is_closed(), half.is_closed()) };
            let beats = async {
                loop {
                    other.beat().await;
                    let said = timeout(SILENCE_MAX / 4, other.next()).await;
                    assert!(said.is_err(), "{said:?}");
                }
            };
            tokio::select! {
                _ = ends => {}
                () = beats => {}
            }
            assert!(began.elapsed() >= SILENCE_MAX - Duration::from_millis(500));
        },
    )
    .await;
}

#[tokio::test]
async fn a_worker_that_has_nothing_to_say_says_that_it_is_there() {
    at_work(
        |_| {},
        async |worker| {
            let (mut gateway, _) = Gateway::dial(&worker).await;
            let heartbeat = timeout(SOON, gateway.socket.read_u8()).await;
            assert_eq!(heartbeat.unwrap().unwrap(), 0);
        },
    )
    .await;
}

#[tokio::test]
async fn nonsense_ends_a_link_and_nobody_elses() {
    at_work(
        |_| {},
        async |worker| {
            let (mut other, _) = Gateway::dial(&worker).await;
            other.connect(1).await;
            let hello = ForWorker::Hello(Hello::default());
            let mut again = BytesMut::new();
            append(&ToWorker::from(hello), &mut again);
            for nonsense in [&b"\xff\xff\xff\xff\xff\xff"[..], b"\x02\x0a\x7f", &again] {
                let (mut gateway, _) = Gateway::dial(&worker).await;
                gateway.open(1).await;
                gateway.socket.write_all(nonsense).await.unwrap();
                gateway.is_closed().await;
            }
            let (mut twice, _) = Gateway::dial(&worker).await;
            twice.open(1).await;
            twice.say(open(1, None)).await;
            twice.is_closed().await;
            let heard = other
                .talk(1, 2, r#"{"id":2,"subscribe":{"channel":"news"}}"#)
                .await;
            assert_eq!(sent(&heard, 1).len(), 1);
        },
    )
    .await;
}

#[tokio::test]
async fn a_gateway_that_takes_nothing_loses_its_link_however_much_it_says() {
    at_work(
        |_| {},
        async |worker| {
            let (mut gateway, _) = Gateway::dial(&worker).await;
            gateway.connect(1).await;
            let session = worker.shard.all_connections().remove(0);
            let megabyte = Bytes::from(vec![0; 1 << 20]);
            let beats = async {
                loop {
                    gateway.beat().await;
                    session.outbox().push(&megabyte);
                    tokio::task::yield_now().await;
                }
            };
            let links = &worker.shard.metrics().process().connections.links;
            tokio::select! {
                () = worker.until(|_| links.get() == 0) => {}
                () = beats => {}
            }
        },
    )
    .await;
}

#[tokio::test]
async fn a_gateway_that_exceeds_the_window_breaks_the_link() {
    at_work(
        |_| {},
        async |worker| {
            let (mut gateway, _) = Gateway::dial(&worker).await;
            gateway.open(1).await;
            let numbers = 1..=UNACKED_MAX as u64 + 1;
            gateway
                .say_all(numbers.map(|number| message(1, number, "{}")))
                .await;
            gateway.is_closed().await;
            let (mut gateway, _) = Gateway::dial(&worker).await;
            gateway.open(1).await;
            gateway.say(message(1, 2, CONNECT)).await;
            gateway.is_closed().await;
        },
    )
    .await;
}
