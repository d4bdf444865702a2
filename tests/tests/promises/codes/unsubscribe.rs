//! Ends of subscriptions whose connections stay.

use std::time::Duration;

use anyhow::{Context, Result};
use flotilla_shared::protocol::Format::{self, Json, Protobuf};
use flotilla_shared::protocol::codes::UnsubscribeCode;
use flotilla_shared::protocol::types::{Command, Request, SubscribeRequest, Unsubscribe};
use flotilla_tests::token::seconds_from_now;
use futures_util::future::try_join_all;
use serde_json::json;

use super::stage::{Stage, token};
use super::{Seen, check};

#[tokio::test]
async fn every_end_of_a_subscription_is_seen_by_a_client_or_never_comes() -> Result<()> {
    let stage = Stage::start().await?;
    for format in [Json, Protobuf] {
        try_join_all(UnsubscribeCode::ALL.iter().map(async |code| {
            let seen = unsubscribe(&stage, *code, format).await;
            let expected = Unsubscribe {
                code: code.code(),
                reason: code.text().to_owned(),
            };
            check(code, seen.with_context(|| code.to_string())?, &expected);
            anyhow::Ok(())
        }))
        .await?;
    }
    Ok(())
}

async fn unsubscribe(
    stage: &Stage,
    code: UnsubscribeCode,
    format: Format,
) -> Result<Seen<Unsubscribe>> {
    let user = format!("{}-{format:?}", code.label());
    let mut client = stage.connect(&user, json!({}), format).await?;
    let channel = match code {
        UnsubscribeCode::Server => {
            client.subscribe("a").await?;
            stage
                .api("unsubscribe", &json!({"user": user, "channel": "a"}))
                .await?;
            "a".to_owned()
        }
        UnsubscribeCode::InsufficientState => {
            let channel = format!("short:{format:?}");
            client.subscribe(&channel).await?;
            stage.restart_numbering(&channel).await?;
            channel
        }
        UnsubscribeCode::SubscriptionExpired => {
            let claims = json!({"channel": "a", "exp": seconds_from_now(Duration::from_secs(2))});
            let request = SubscribeRequest {
                channel: "a".to_owned(),
                token: token(&user, claims)?,
                ..SubscribeRequest::default()
            };
            let reply = client
                .call(Command::new(0, Request::Subscribe(request)))
                .await?;
            reply.subscribe.context("a subscription")?;
            "a".to_owned()
        }
        UnsubscribeCode::StateInvalidated => {
            return Ok(Seen::Never(
                "what is revoked ends the connection, not one subscription",
            ));
        }
    };
    let push = client
        .push(&channel, |push| push.unsubscribe.is_some())
        .await?;
    // The connection has stayed.
    client.subscribe("b").await?;
    Ok(Seen::Said(push.unsubscribe.context("it has one")?))
}
