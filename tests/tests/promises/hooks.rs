//! What the user's back end is asked, and what becomes of its answers.

use std::time::Duration;

use anyhow::{Context, Result};
use flotilla_shared::protocol::Format::{Json, Protobuf};
use flotilla_shared::protocol::types::{Command, ConnectRequest, Error, RpcRequest};
use flotilla_tests::back_end::BackEnd;
use flotilla_tests::client::{Client, publish, subscribe};
use flotilla_tests::fleet::{Builder, Fleet, namespace};
use flotilla_tests::token::{self, seconds_from_now};
use nix::sys::signal::Signal::SIGTERM;
use serde_json::{Value, json};

use crate::server_api::{KEY, call};

/// Long enough for a test to hold an answer back.
const TIMEOUT: &str = "20s";

/// A fleet that asks about everything: about channels in the namespace `asked`.
fn fleet(url: &str) -> Builder {
    let mut builder = Fleet::builder();
    for hook in ["client.proxy.connect", "client.proxy.refresh", "rpc.proxy"] {
        builder = builder.worker(&format!("{hook}.enabled"), true);
    }
    for (hook, path) in [
        ("client.proxy.connect", "connect"),
        ("client.proxy.refresh", "refresh"),
        ("rpc.proxy", "rpc"),
        ("channel.proxy.subscribe", "subscribe"),
        ("channel.proxy.publish", "publish"),
        ("channel.proxy.sub_refresh", "sub_refresh"),
    ] {
        builder = builder
            .worker(&format!("{hook}.endpoint"), format!("{url}/{path}"))
            .worker(&format!("{hook}.timeout"), TIMEOUT);
    }
    let switches = [
        "subscribe_proxy_enabled",
        "publish_proxy_enabled",
        "sub_refresh_proxy_enabled",
    ];
    let namespaces = vec![namespace("asked", &switches)];
    builder.worker("channel.namespaces", toml::Value::Array(namespaces))
}

fn connect() -> Command {
    Command {
        id: 1,
        connect: Some(ConnectRequest::default()),
        ..Default::default()
    }
}

fn rpc(id: u32) -> Command {
    let request = RpcRequest {
        method: "sum".to_owned(),
        data: "[1,2]".into(),
    };
    Command {
        id,
        rpc: Some(request),
        ..Default::default()
    }
}

fn temporary() -> Error {
    Error {
        code: 100,
        message: "internal server error".to_owned(),
        temporary: true,
    }
}

/// What grants something until a moment from now.
fn for_a_moment() -> String {
    json!({"result": {"user": "ada", "expire_at": seconds_from_now(Duration::from_secs(3))}})
        .to_string()
}

async fn ada(fleet: &Fleet) -> Result<Client> {
    fleet.user("ada", Json).await
}

#[tokio::test]
async fn who_comes_without_a_token_is_whom_the_back_end_says() -> Result<()> {
    let back_end = BackEnd::start().await?;
    back_end.says_at(
        "/connect",
        r#"{"result": {"user": "7", "info": {"name": "Seven"}, "data": {"hello": 1}, "channels": ["room"]}}"#,
    );
    let allowed = ["Cookie", "X-Lang"].map(toml::Value::from).to_vec();
    let fleet = fleet(&back_end.url())
        .worker("client.proxy.connect.http_headers", allowed)
        .gateway(
            "forward_headers",
            vec!["cookie".to_owned(), "x-private".to_owned()],
        )
        .start()
        .await?;
    for (format, protocol) in [(Json, "json"), (Protobuf, "protobuf")] {
        let dial = fleet.dial().format(format).header("Cookie", "session=1");
        let mut client = dial.header("X-Private", "1").open().await?;
        let request = ConnectRequest {
            name: "app".to_owned(),
            data: r#"{"key":1}"#.into(),
            headers: [
                ("x-lang".to_owned(), "de".to_owned()),
                ("cookie".to_owned(), "forged".to_owned()),
            ]
            .into(),
            ..Default::default()
        };
        let command = Command {
            connect: Some(request),
            ..Default::default()
        };
        let session = client.call(command).await?.connect.context("a result")?;
        assert_eq!(session.data, r#"{"hello": 1}"#);
        assert!(session.subs.contains_key("room"), "{session:?}");
        let asked = back_end.asked().pop().context("a question")?;
        let expected = json!({"client": session.client, "transport": "websocket", "protocol": protocol,
            "encoding": "json", "name": "app", "data": {"key": 1}});
        assert_eq!(asked.json(), expected);
        assert_eq!(asked.header("cookie"), ["session=1"]);
        assert_eq!(asked.header("x-lang"), ["de"]);
        assert_eq!(asked.header("x-private"), [""; 0]);

        client.publish("room", "1").await?;
        let info = client.publication("room").await?.info.context("who")?;
        assert_eq!(info.user, "7");
        assert_eq!(info.conn_info, r#"{"name": "Seven"}"#);
    }
    Ok(())
}

#[tokio::test]
async fn who_has_a_token_is_not_asked_about() -> Result<()> {
    let back_end = BackEnd::start().await?;
    let fleet = fleet(&back_end.url()).start().await?;
    ada(&fleet).await?;
    let bearer = format!("Bearer {}", token::user("ada")?);
    let dial = fleet.dial().header("authorization", &bearer);
    dial.connect("").await?;
    assert!(back_end.asked().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_back_end_that_wants_nobody_says_how_they_are_sent_away() -> Result<()> {
    let back_end = BackEnd::start().await?;
    let fleet = fleet(&back_end.url()).start().await?;
    let own = Error {
        code: 1001,
        message: "not today".to_owned(),
        temporary: false,
    };
    for (answer, error) in [
        (r#"{"error": {"code": 1001, "message": "not today"}}"#, own),
        ("<html>", temporary()),
        (
            r#"{"error": {"code": 100, "message": "ours"}}"#,
            temporary(),
        ),
    ] {
        back_end.says(answer);
        let mut client = fleet.dial().open().await?;
        assert_eq!(client.refusal(connect()).await?, error, "{answer}");
    }
    for (answer, code, reason) in [
        (
            r#"{"disconnect": {"code": 4501, "reason": "banned"}}"#,
            4501,
            "banned",
        ),
        ("{}", 3501, "bad request"),
    ] {
        back_end.says(answer);
        let mut client = fleet.dial().open().await?;
        client.send(&[connect()]).await?;
        let close = client.closed().await?;
        assert_eq!(
            (close.code, close.reason.as_str()),
            (code, reason),
            "{answer}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_back_end_that_is_down_costs_an_error_that_can_be_tried_again() -> Result<()> {
    let back_end = BackEnd::start().await?;
    let url = back_end.url();
    drop(back_end);
    let fleet = fleet(&url).start().await?;
    let mut nobody = fleet.dial().open().await?;
    assert_eq!(nobody.refusal(connect()).await?, temporary());
    let mut ada = ada(&fleet).await?;
    for command in [rpc(0), subscribe("asked:1"), publish("asked:1", "1")] {
        let what = format!("{command:?}");
        assert_eq!(ada.refusal(command).await?, temporary(), "{what}");
    }
    // What the back end has no part in goes on.
    ada.subscribe("room").await?;
    ada.publish("room", "1").await?;
    Ok(())
}

#[tokio::test]
async fn a_back_end_that_is_slow_is_given_up() -> Result<()> {
    let back_end = BackEnd::start().await?;
    let fleet = fleet(&back_end.url())
        .worker("rpc.proxy.timeout", "100ms")
        .start()
        .await?;
    let mut ada = ada(&fleet).await?;
    back_end.hold("/rpc");
    assert_eq!(ada.refusal(rpc(0)).await?, temporary());
    let timeout = ["hook=\"rpc\"", "result=\"timeout\""];
    let calls = "flotilla_worker_hook_calls_total";
    fleet.workers[0].metric_becomes(calls, &timeout, 1.0).await
}

#[tokio::test]
async fn a_slow_call_keeps_nothing_else_waiting_and_calls_are_bounded() -> Result<()> {
    let back_end = BackEnd::start().await?;
    back_end.says_at("/rpc", r#"{"result": {"data": 3}}"#);
    let fleet = fleet(&back_end.url()).start().await?;
    let mut ada = ada(&fleet).await?;
    back_end.hold("/rpc");
    let calls: Vec<Command> = (100..133).map(rpc).collect();
    ada.send(&calls).await?;
    let too_many = ada.reply(132).await?.error.context("an error")?;
    assert_eq!((too_many.code, too_many.temporary), (111, true));
    ada.subscribe("room").await?;
    ada.publish("room", "1").await?;
    back_end.release();
    for id in 100..132 {
        let result = ada.reply(id).await?.rpc.context("a result")?;
        assert_eq!(result.data, "3");
    }
    let asked = back_end.was_asked_at("/rpc", 32).await?.json();
    assert_eq!(
        (&asked["user"], &asked["method"]),
        (&json!("ada"), &json!("sum"))
    );
    assert_eq!(asked["data"], json!([1, 2]));
    Ok(())
}

#[tokio::test]
async fn the_back_end_decides_who_hears_what() -> Result<()> {
    let back_end = BackEnd::start().await?;
    back_end.says_at(
        "/subscribe",
        r#"{"result": {"data": "welcome", "info": {"seat": 1}}}"#,
    );
    back_end.says_at("/publish", r#"{"result": {"data": {"checked": true}}}"#);
    let fleet = fleet(&back_end.url()).start().await?;
    let mut ada = ada(&fleet).await?;
    assert_eq!(ada.subscribe("asked:1").await?.data, r#""welcome""#);
    ada.publish("asked:1", r#"{"raw":1}"#).await?;
    let publication = ada.publication("asked:1").await?;
    let data: Value = serde_json::from_slice(&publication.data)?;
    assert_eq!(data, json!({"checked": true}));
    let info = publication.info.context("who")?;
    let seat: Value = serde_json::from_slice(&info.chan_info)?;
    assert_eq!(seat, json!({"seat": 1}));

    let no = r#"{"error": {"code": 1003, "message": "no"}}"#;
    back_end.says_at("/subscribe", no);
    back_end.says_at("/publish", no);
    assert_eq!(ada.refusal(subscribe("asked:2")).await?.code, 1003);
    assert_eq!(ada.refusal(publish("asked:1", "1")).await?.code, 1003);
    let asked = back_end.was_asked_at("/subscribe", 2).await?.json();
    assert_eq!(asked["channel"], "asked:2");

    let go = r#"{"disconnect": {"code": 4000, "reason": "go"}}"#;
    back_end.says_at("/publish", go);
    ada.send(&[Command {
        id: 99,
        ..publish("asked:1", "1")
    }])
    .await?;
    assert_eq!(ada.closed().await?.code, 4000);
    Ok(())
}

#[tokio::test]
async fn a_publisher_keeps_its_order_while_the_back_end_thinks() -> Result<()> {
    let back_end = BackEnd::start().await?;
    let fleet = fleet(&back_end.url())
        .worker("client.ping_interval", "600ms")
        .worker("client.pong_timeout", "300ms")
        .start()
        .await?;
    let mut ada = ada(&fleet).await?;
    ada.subscribe("asked:1").await?;
    back_end.hold("/publish");
    let numbered = |id| Command {
        id,
        ..publish("asked:1", id.to_string())
    };
    let commands = [numbered(50), numbered(51), rpc(52)];
    ada.send(&commands).await?;
    back_end.was_asked_at("/publish", 1).await?;
    // Twice as long as a client has for its pong, which nobody reads now.
    for _ in 0..2 {
        ada.ping().await?;
    }
    back_end.release();
    ada.reply(50).await?.publish.context("published")?;
    ada.reply(51).await?.publish.context("published")?;
    ada.reply(52).await?.rpc.context("called")?;
    assert_eq!(ada.texts("asked:1", 2).await?, ["50", "51"]);
    for _ in 0..2 {
        ada.ping().await?;
    }
    Ok(())
}

#[tokio::test]
async fn who_is_gone_has_no_questions() -> Result<()> {
    let back_end = BackEnd::start().await?;
    let mut fleet = fleet(&back_end.url())
        .worker("drain.settle", "0s")
        .worker("drain.window", "100ms")
        .start()
        .await?;
    back_end.hold("/rpc");
    let mut leaving = ada(&fleet).await?;
    leaving.send(&[rpc(50)]).await?;
    back_end.was_asked_at("/rpc", 1).await?;
    leaving.close().await?;
    let calls = "flotilla_worker_hook_calls_total";
    let abandoned = ["result=\"abandoned\""];
    let worker = &fleet.workers[0];
    worker.metric_becomes(calls, &abandoned, 1.0).await?;

    // A drain does not wait for the back end either.
    back_end.hold("/publish");
    let mut waiting = ada(&fleet).await?;
    waiting
        .send(&[Command {
            id: 51,
            ..publish("asked:1", "1")
        }])
        .await?;
    back_end.was_asked_at("/publish", 1).await?;
    fleet.workers[0].process().signal(SIGTERM)?;
    assert_eq!(waiting.closed().await?.code, 3001);
    Ok(())
}

#[tokio::test]
async fn a_connection_goes_on_for_as_long_as_the_back_end_says() -> Result<()> {
    let back_end = BackEnd::start().await?;
    let fleet = fleet(&back_end.url())
        .worker("hooks.refresh_unanswered_max", "0s")
        .start()
        .await?;
    back_end.says_at("/connect", for_a_moment());
    let mut stays = fleet.dial().connect("").await?;
    assert!(
        !stays.session().expires,
        "it is not for the client to refresh"
    );
    assert_eq!(
        back_end.was_asked_at("/refresh", 1).await?.json()["user"],
        "ada"
    );
    stays.subscribe("room").await?;
    for (times, answer) in [(2, r#"{"result": {"expired": true}}"#), (3, "<html>")] {
        back_end.says_at("/refresh", answer);
        back_end.says_at("/connect", for_a_moment());
        let mut goes = fleet.dial().connect("").await?;
        let close = goes.closed().await?;
        assert_eq!(
            (close.code, close.reason.as_str()),
            (3005, "connection expired")
        );
        back_end.was_asked_at("/refresh", times).await?;
    }
    stays.publish("room", "1").await
}

#[tokio::test]
async fn a_subscription_goes_on_for_as_long_as_the_back_end_says() -> Result<()> {
    let back_end = BackEnd::start().await?;
    back_end.says_at("/sub_refresh", r#"{"result": {"expired": true}}"#);
    let fleet = fleet(&back_end.url()).start().await?;
    let mut ada = ada(&fleet).await?;
    back_end.says_at("/subscribe", for_a_moment());
    ada.subscribe("asked:1").await?;
    let push = ada
        .push("asked:1", |push| push.unsubscribe.is_some())
        .await?;
    assert_eq!(push.unsubscribe.context("why")?.code, 2501);
    back_end.says_at("/sub_refresh", r#"{"result": {"info": 2}}"#);
    back_end.says_at("/subscribe", for_a_moment());
    ada.subscribe("asked:2").await?;
    let asked = back_end.was_asked_at("/sub_refresh", 2).await?.json();
    assert_eq!(asked["channel"], "asked:2");
    ada.publish("asked:2", "1").await?;
    ada.publication("asked:2").await?;
    Ok(())
}

#[tokio::test]
async fn what_the_back_end_answers_to_clients_it_answers_to_the_server_api() -> Result<()> {
    let back_end = BackEnd::start().await?;
    back_end.does_at("/rpc", |asked| match asked.json()["method"].as_str() {
        Some("sum") => r#"{"result": {"data": {"sum": 3}}}"#.to_owned(),
        Some("go") => r#"{"disconnect": {"code": 4500, "reason": "go"}}"#.to_owned(),
        _ => r#"{"error": {"code": 1000, "message": "no such method"}}"#.to_owned(),
    });
    let fleet = fleet(&back_end.url())
        .worker("http_api.listen", "127.0.0.1:0")
        .worker("http_api.key", KEY)
        .start()
        .await?;
    let api = fleet.workers[0].addresses().api.clone().context("an API")?;
    let call = async |request| -> Result<Value> {
        let (_, answer) = call(&api, "rpc", &[("X-API-Key", KEY)], &request).await?;
        Ok(serde_json::from_str(&answer)?)
    };
    let answer = call(json!({"method": "sum", "params": [1, 2]})).await?;
    assert_eq!(answer, json!({"result": {"data": {"sum": 3}}}));
    let asked = back_end.was_asked_at("/rpc", 1).await?.json();
    let expected = json!({
        "transport": "http_api", "protocol": "json", "encoding": "json", "method": "sum", "data": [1, 2],
    });
    assert_eq!(asked, expected);
    let answer = call(json!({"method": "divide"})).await?;
    assert_eq!(
        answer,
        json!({"error": {"code": 1000, "message": "no such method"}})
    );
    // There is nobody to disconnect.
    let answer = call(json!({"method": "go"})).await?;
    assert_eq!(answer["error"]["code"], 100);
    Ok(())
}
