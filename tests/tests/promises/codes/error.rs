//! Errors, with which commands are answered.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flotilla_shared::protocol::Format::{self, Json, Protobuf};
use flotilla_shared::protocol::codes::ErrorCode;
use flotilla_shared::protocol::types::{
    Command, Error, PresenceRequest, Request, RpcRequest, SubscribeRequest,
};
use flotilla_tests::SOON;
use flotilla_tests::client::{Client, publish, subscribe};
use flotilla_tests::eventually::eventually;
use flotilla_tests::fleet::Fleet;
use flotilla_tests::token::seconds_from_now;
use futures_util::future::try_join_all;
use serde_json::json;

use super::stage::{MINUTE, Stage, connect, token};
use super::{Seen, check};

#[tokio::test]
async fn every_error_is_seen_by_a_client_or_never_said() -> Result<()> {
    let stage = Stage::start().await?;
    for format in [Json, Protobuf] {
        try_join_all(ErrorCode::ALL.iter().map(async |code| {
            let seen = error(&stage, *code, format).await;
            let expected = Error {
                code: code.code(),
                message: code.text().to_owned(),
                temporary: code.temporary(),
            };
            check(code, seen.with_context(|| code.to_string())?, &expected);
            anyhow::Ok(())
        }))
        .await?;
    }
    Ok(())
}

async fn error(stage: &Stage, code: ErrorCode, format: Format) -> Result<Seen<Error>> {
    let user = format!("{}-{format:?}", code.label());
    let mut client = stage.connect(&user, json!({}), format).await?;
    let past = seconds_from_now(MINUTE) - 3600;
    let command = match code {
        ErrorCode::Internal => return without_a_broker(format).await,
        ErrorCode::MethodNotFound => return of_the_api(stage).await,
        ErrorCode::UnknownChannel => subscribe("nowhere:1"),
        ErrorCode::PermissionDenied => subscribe("$private"),
        ErrorCode::AlreadySubscribed => {
            client.subscribe("a").await?;
            subscribe("a")
        }
        ErrorCode::LimitExceeded => {
            client.subscribe("a").await?;
            client.subscribe("b").await?;
            subscribe("c")
        }
        ErrorCode::BadRequest => subscribe(&"x".repeat(256)),
        ErrorCode::NotAvailable => Command::new(0, Request::Rpc(RpcRequest::default())),
        ErrorCode::TokenExpired => subscribe_with(SubscribeRequest {
            channel: "a".to_owned(),
            token: token(&user, json!({"channel": "a", "exp": past}))?,
            ..SubscribeRequest::default()
        }),
        ErrorCode::Expired => {
            client = late(stage, &user, format).await?;
            connect("")
        }
        ErrorCode::TooManyRequests => {
            client.refusal(presence()).await?;
            presence()
        }
        ErrorCode::UnrecoverablePosition => subscribe_with(SubscribeRequest {
            channel: "kept:a".to_owned(),
            recover: true,
            epoch: "_".to_owned(),
            flag: SubscribeRequest::REJECT_UNRECOVERED,
            ..SubscribeRequest::default()
        }),
        ErrorCode::Unauthorized => {
            let reason = "what anonymous users may not do is forbidden to them";
            return Ok(Seen::Never(reason));
        }
        ErrorCode::ConcurrentPagination => {
            let reason = "nothing is read page by page over the protocol";
            return Ok(Seen::Never(reason));
        }
    };
    Ok(Seen::Said(client.refusal(command).await?))
}

fn subscribe_with(request: SubscribeRequest) -> Command {
    Command::new(0, Request::Subscribe(request))
}

fn presence() -> Command {
    let channel = "a".to_owned();
    Command::new(0, Request::Presence(PresenceRequest { channel }))
}

/// A client that the gateway has let in by a token which has run out since.
async fn late(stage: &Stage, user: &str, format: Format) -> Result<Client> {
    let end = seconds_from_now(Duration::from_secs(2));
    let token = token(user, json!({"exp": end}))?;
    let dial = stage.fleet.dial().format(format);
    let dial = dial.header("authorization", &format!("Bearer {token}"));
    let client = dial.open().await?;
    eventually("the token has run out", SOON, async || {
        ensure!(seconds_from_now(Duration::ZERO) > end);
        Ok(())
    })
    .await?;
    Ok(client)
}

/// What a back end is told that calls a method which there is not.
async fn of_the_api(stage: &Stage) -> Result<Seen<Error>> {
    let answer = stage.api("nonsense", &json!({})).await?;
    let error = &answer["error"];
    let code = error["code"].as_u64().context("a code")?;
    let message = error["message"].as_str().context("a message")?;
    Ok(Seen::Said(Error {
        code: u32::try_from(code)?,
        message: message.to_owned(),
        temporary: false,
    }))
}

async fn without_a_broker(format: Format) -> Result<Seen<Error>> {
    let fleet = Fleet::builder().linked().start().await?;
    let mut client = fleet.user("ada", format).await?;
    fleet.links[0].cut();
    let worker = &fleet.workers[0];
    worker
        .metric_becomes("flotilla_broker_connected", &[], 0.0)
        .await?;
    Ok(Seen::Said(client.refusal(publish("room", "1")).await?))
}
