//! Clients that cannot have a WebSocket get everything that others get: over a stream, and by posts.

use anyhow::{Context, Result, ensure};
use flotilla_shared::protocol::Format::{Json, Protobuf};
use flotilla_shared::protocol::types::Command;
use flotilla_tests::SOON;
use flotilla_tests::client::{publish, subscribe};
use flotilla_tests::emulated::{Emulated, Kind};
use flotilla_tests::eventually::eventually;
use flotilla_tests::fleet::Fleet;
use flotilla_tests::raw::{Frame, Socket};
use flotilla_tests::service::Service;
use flotilla_tests::token;
use nix::sys::signal::Signal::SIGTERM;
use serde_json::{Value, json};

const KINDS: [Kind; 3] = [
    Kind::Sse,
    Kind::HttpStream(Json),
    Kind::HttpStream(Protobuf),
];

fn base(service: &Service) -> String {
    format!("http://{}", service.addresses().websocket)
}

async fn emulated(fleet: &Fleet, kind: Kind, user: &str) -> Result<Emulated> {
    Emulated::connect(&base(&fleet.gateways[0]), kind, &token::user(user)?).await
}

#[tokio::test]
async fn streams_and_websockets_hear_each_other() -> Result<()> {
    let fleet = Fleet::builder().workers(2).start().await?;
    let mut other = fleet.user("ada", Protobuf).await?;
    other.subscribe("room").await?;
    for kind in KINDS {
        let mut client = emulated(&fleet, kind, "bob").await?;
        let reply = client.call(subscribe("room")).await?;
        ensure!(reply.subscribe.is_some(), "{kind:?}: {reply:?}");
        let said = json!({ "from": format!("{kind:?}") }).to_string();
        let reply = client.call(publish("room", said.clone())).await?;
        ensure!(reply.publish.is_some(), "{kind:?}: {reply:?}");
        assert_eq!(client.publication("room").await?.data, said);
        assert_eq!(other.publication("room").await?.data, said);
        other.publish("room", "\"answer\"").await?;
        assert_eq!(client.publication("room").await?.data, "\"answer\"");
        other.publication("room").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_post_finds_its_session_on_whatever_worker_it_is() -> Result<()> {
    let fleet = Fleet::builder().workers(2).start().await?;
    let [here, there] = [&fleet.workers[0], &fleet.workers[1]];
    for kind in KINDS {
        let client = Emulated::connect(&base(here), kind, &token::user("bob")?).await?;
        assert_eq!(client.session().node, here.id());
        let mut client = client.posting_to(&base(there));
        // At first the workers may not know of each other yet.
        eventually("the worker is known", SOON, async || {
            let status = client.post(&[Command::default()]).await?;
            ensure!(status != 404, "{status}");
            Ok(())
        })
        .await?;
        let last = client.disconnected().await?;
        assert_eq!(last.code, 3501, "a pong that nobody asked for: {last:?}");

        let client = Emulated::connect(&base(here), kind, &token::user("bob")?).await?;
        let mut client = client.posting_to(&base(there));
        for channel in ["one", "two", "three"] {
            let reply = client.call(subscribe(channel)).await?;
            ensure!(reply.subscribe.is_some(), "{kind:?}: {reply:?}");
        }
        client.call(publish("two", "2")).await?;
        assert_eq!(client.publication("two").await?.data, "2");
    }
    Ok(())
}

#[tokio::test]
async fn a_post_to_a_worker_that_is_gone_is_answered_so_that_its_client_comes_back() -> Result<()> {
    let mut fleet = Fleet::builder().workers(2).start().await?;
    let gone = &fleet.workers[0];
    let kind = Kind::HttpStream(Json);
    let client = Emulated::connect(&base(gone), kind, &token::user("bob")?).await?;
    let client = client.posting_to(&base(&fleet.workers[1]));
    fleet.workers[0].process().kill().await?;
    let status = client.post(&[Command::default()]).await?;
    assert_eq!(status, 404);
    Ok(())
}

#[tokio::test]
async fn a_client_that_answers_pings_by_posts_stays_and_one_that_does_not_goes() -> Result<()> {
    let fleet = Fleet::builder()
        .worker("client.ping_interval", "600ms")
        .worker("client.pong_timeout", "300ms")
        .start()
        .await?;
    for kind in KINDS {
        let mut client = emulated(&fleet, kind, "bob").await?;
        for _ in 0..3 {
            client.ping().await?;
            client.post(&[Command::default()]).await?;
        }
        client.ping().await?;
        let last = client.disconnected().await?;
        assert_eq!(
            (last.code, last.reason.as_str()),
            (3012, "no pong"),
            "{kind:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_stream_that_nobody_reads_is_closed_as_slow() -> Result<()> {
    let fleet = Fleet::builder()
        .worker("client.queue_max_size", 256 * 1024)
        .start()
        .await?;
    let mut listener = fleet.user("ada", Json).await?;
    listener.subscribe("firehose").await?;
    let mut slow = emulated(&fleet, Kind::HttpStream(Json), "slow").await?;
    slow.call(subscribe("firehose")).await?;
    let filler = "x".repeat(48 * 1024);
    let mut sent = 0;
    let is_slow = async || -> Result<bool> {
        let scrape = fleet.workers[0].scrape().await?;
        Ok(scrape.sum("flotilla_worker_slow_consumers_total", &[])? > 0.0)
    };
    while !is_slow().await? {
        ensure!(sent < 2_000, "{sent} publications, and nobody is slow");
        let said = format!("\"{sent} {filler}\"");
        listener.publish("firehose", said).await?;
        listener.publication("firehose").await?;
        sent += 1;
    }
    let last = slow.disconnected().await?;
    assert_eq!((last.code, last.reason.as_str()), (3008, "slow"));
    // What it did get is the beginning, without a hole.
    let mut got = 0;
    while let Ok(publication) = slow.publication("firehose").await {
        assert!(publication.data.starts_with(format!("\"{got} ").as_bytes()));
        got += 1;
    }
    assert!(got < sent, "it got everything: {got}");
    Ok(())
}

#[tokio::test]
async fn a_worker_that_leaves_tells_its_streams() -> Result<()> {
    let mut fleet = Fleet::builder().start().await?;
    let mut clients = Vec::new();
    for kind in KINDS {
        clients.push(emulated(&fleet, kind, "bob").await?);
    }
    fleet.workers[0].process().signal(SIGTERM)?;
    for client in &mut clients {
        let last = client.disconnected().await?;
        assert_eq!((last.code, last.reason.as_str()), (3001, "shutdown"));
    }
    let status = fleet.workers[0].process().exit(SOON).await?;
    assert_eq!(status.code(), Some(0));
    Ok(())
}

#[tokio::test]
async fn a_token_that_is_no_token_ends_the_stream_for_good() -> Result<()> {
    let fleet = Fleet::builder().start().await?;
    let url = format!("{}/connection/http_stream", base(&fleet.gateways[0]));
    let connect = r#"{"id":1,"connect":{"token":"forged"}}"#;
    let answer = reqwest::Client::new()
        .post(url)
        .body(connect)
        .send()
        .await?;
    let said = answer.text().await?;
    let wanted = "{\"push\":{\"disconnect\":{\"code\":3500,\"reason\":\"invalid token\"}}}\n";
    assert_eq!(said, wanted);
    Ok(())
}

#[tokio::test]
async fn who_leaves_its_stream_leaves_nothing_behind() -> Result<()> {
    let fleet = Fleet::builder().start().await?;
    let client = emulated(&fleet, Kind::HttpStream(Json), "bob").await?;
    let connections = async || -> Result<f64> {
        let scrape = fleet.workers[0].scrape().await?;
        scrape.sum("flotilla_worker_connections", &[])
    };
    assert_eq!(connections().await?, 1.0);
    drop(client);
    eventually("no connection", SOON, async || {
        let connections = connections().await?;
        ensure!(connections == 0.0, "{connections}");
        Ok(())
    })
    .await
}

/// The lines of a stream from the server only, behind the head, as they come.
struct Lines(reqwest::Response, Vec<u8>);

impl Lines {
    async fn next(&mut self) -> Result<Value> {
        loop {
            if let Some(at) = self.1.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.1.drain(..=at).collect();
                let line = line.trim_ascii();
                let line = line.strip_prefix(b"data: ").unwrap_or(line);
                if !line.is_empty() {
                    return Ok(serde_json::from_slice(line)?);
                }
                continue;
            }
            let chunk = tokio::time::timeout(SOON, self.0.chunk()).await??;
            self.1.extend(chunk.context("the stream ended")?);
        }
    }
}

async fn listening_fleet() -> Result<Fleet> {
    let on = ["uni_sse", "uni_http_stream", "uni_websocket"];
    let mut fleet = Fleet::builder();
    for transport in on {
        fleet = fleet.gateway(&format!("{transport}.enabled"), true);
    }
    fleet.start().await
}

#[tokio::test]
async fn who_only_listens_needs_no_library() -> Result<()> {
    let fleet = listening_fleet().await?;
    let mut publisher = fleet.user("ada", Json).await?;
    let gateway = base(&fleet.gateways[0]);
    let claims = json!({"sub": "bob", "channels": ["news"]});
    let connect = json!({"token": token::sign(token::SECRET, &claims)?}).to_string();
    let http = reqwest::Client::new();
    let events = reqwest::Url::parse_with_params(
        &format!("{gateway}/connection/uni_sse"),
        [("cf_connect", &connect)],
    )?;
    let lines = format!("{gateway}/connection/uni_http_stream");
    for request in [http.get(events), http.post(lines).body(connect.clone())] {
        let mut stream = Lines(request.send().await?, Vec::new());
        let welcome = stream.next().await?;
        assert_eq!(welcome["connect"]["subs"], json!({"news": {}}), "{welcome}");
        publisher.publish("news", r#"{"a":1}"#).await?;
        let push = stream.next().await?;
        assert_eq!(push["channel"], "news");
        assert_eq!(push["pub"]["data"], json!({"a": 1}));
    }
    Ok(())
}

#[tokio::test]
async fn a_websocket_that_only_listens_is_told_in_pushes_and_closed_with_a_code() -> Result<()> {
    let mut fleet = listening_fleet().await?;
    let mut publisher = fleet.user("ada", Json).await?;
    let claims = json!({"sub": "bob", "channels": ["news"]});
    let connect = json!({"token": token::sign(token::SECRET, &claims)?}).to_string();
    let address = fleet.gateways[0].addresses().websocket.clone();
    let mut socket = Socket::connect(&address).await?;
    let head = flotilla_tests::raw::upgrade_head(&address, &[]);
    let head = head.replace("/connection/websocket", "/connection/uni_websocket");
    let answer = socket.request(&head).await?;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    socket.send(Frame::new(1, connect).to_bytes()).await?;
    let next = async |socket: &mut Socket| -> Result<Value> {
        let (opcode, payload) = socket.frame().await?.context("a frame")?;
        assert_eq!(opcode, 1);
        Ok(serde_json::from_slice(&payload)?)
    };
    let welcome = next(&mut socket).await?;
    assert_eq!(welcome["connect"]["subs"], json!({"news": {}}), "{welcome}");
    publisher.publish("news", "1").await?;
    assert_eq!(next(&mut socket).await?["pub"]["data"], 1);
    fleet.workers[0].process().signal(SIGTERM)?;
    let end = socket.end().await?;
    let shutdown = flotilla_tests::raw::End::Closed(3001, "shutdown".to_owned());
    assert_eq!(end, shutdown);
    Ok(())
}

#[tokio::test]
async fn for_development_one_address_serves_clients_and_the_server_api() -> Result<()> {
    let fleet = Fleet::builder()
        .worker("http_api.on_client_listener", true)
        .worker("http_api.key", "the key")
        .gateway("http_api.forward", true)
        .start()
        .await?;
    let mut client = fleet.user("ada", Json).await?;
    client.subscribe("news").await?;
    let http = reqwest::Client::new();
    let publish = |service: &Service, method: &str, key: &str| {
        http.post(format!("{}/api/{method}", base(service)))
            .header("X-API-Key", key)
            .body(r#"{"channel":"news","data":{"a":1}}"#)
            .send()
    };
    for service in [&fleet.gateways[0], &fleet.workers[0]] {
        let answer = publish(service, "publish", "the key").await?;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "application/json");
        assert_eq!(answer.text().await?, r#"{"result":{}}"#);
        assert_eq!(client.publication("news").await?.data, r#"{"a":1}"#);
        assert_eq!(publish(service, "publish", "another").await?.status(), 401);
        let answer = publish(service, "nothing", "the key").await?;
        assert!(answer.text().await?.contains(r#""error":"#));
    }
    Ok(())
}
