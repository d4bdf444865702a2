//! What a client may do in a channel is decided by the channel's namespace and by its tokens.

use std::time::Duration;

use anyhow::Result;
use flotilla_shared::protocol::Format::{Json, Protobuf};
use flotilla_shared::protocol::types::{Command, RpcRequest, SendRequest, SubscribeRequest};
use flotilla_tests::client::{publish, subscribe};
use flotilla_tests::fleet::{Builder, Fleet, namespace};
use flotilla_tests::token::{SECRET, seconds_from_now, sign};
use serde_json::json;
use toml::Value;

fn fleet() -> Builder {
    let namespaces = vec![
        namespace("closed", &[]),
        namespace("news", &["allow_subscribe_for_client"]),
        namespace(
            "talk",
            &["allow_subscribe_for_client", "allow_publish_for_subscriber"],
        ),
    ];
    Fleet::builder().worker("channel.namespaces", Value::Array(namespaces))
}

fn subscribe_with(channel: &str, token: &str) -> Command {
    let (channel, token) = (channel.to_owned(), token.to_owned());
    let request = SubscribeRequest {
        channel,
        token,
        ..Default::default()
    };
    Command {
        subscribe: Some(request),
        ..Default::default()
    }
}

fn channel_token(user: &str, channel: &str, ahead: Duration) -> Result<String> {
    let exp = seconds_from_now(ahead);
    sign(
        SECRET,
        &json!({"sub": user, "channel": channel, "exp": exp}),
    )
}

#[tokio::test]
async fn what_is_not_allowed_is_refused_with_the_reason() -> Result<()> {
    let fleet = fleet().start().await?;
    let refused = [
        (subscribe("nowhere:1"), 102, "unknown channel"),
        (publish("nowhere:1", "1"), 102, "unknown channel"),
        (subscribe("closed:1"), 103, "permission denied"),
        (publish("closed:1", "1"), 103, "permission denied"),
        (publish("news:1", "1"), 103, "permission denied"),
        (publish("talk:1", "1"), 103, "permission denied"),
        (subscribe("$mine"), 103, "permission denied"),
    ];
    for format in [Json, Protobuf] {
        let mut client = fleet.user("ada", format).await?;
        for (command, code, message) in refused.clone() {
            let what = format!("{command:?}");
            let error = client.refusal(command).await?;
            assert_eq!(
                (error.code, error.message.as_str()),
                (code, message),
                "{what}"
            );
        }
        client.subscribe("news:1").await?;
        assert_eq!(client.refusal(subscribe("news:1")).await?.code, 105);
        assert_eq!(client.refusal(publish("news:1", "1")).await?.code, 103);
        client.subscribe("talk:1").await?;
        client.publish("talk:1", "1").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_token_for_a_channel_opens_that_channel() -> Result<()> {
    let fleet = fleet().start().await?;
    let minute = Duration::from_secs(60);
    for channel in ["$mine", "closed:1"] {
        let mut client = fleet.user("ada", Json).await?;
        let token = channel_token("ada", channel, minute)?;
        let reply = client.call(subscribe_with(channel, &token)).await?;
        let answer = reply
            .subscribe
            .unwrap_or_else(|| panic!("{channel}: {:?}", reply.error));
        assert!(
            answer.expires && (1..=60).contains(&answer.ttl),
            "{answer:?}"
        );
    }
    let mut client = fleet.user("ada", Json).await?;
    let expired = sign(
        SECRET,
        &json!({"sub": "ada", "channel": "$mine", "exp": 1_000_000_000}),
    )?;
    assert_eq!(
        client
            .refusal(subscribe_with("$mine", &expired))
            .await?
            .code,
        109
    );
    Ok(())
}

#[tokio::test]
async fn a_token_for_something_else_opens_nothing() -> Result<()> {
    let fleet = fleet().start().await?;
    let minute = Duration::from_secs(60);
    let wrong = [
        channel_token("ada", "$yours", minute)?,
        channel_token("eve", "$mine", minute)?,
    ];
    for token in wrong {
        let mut client = fleet.user("ada", Json).await?;
        let mut command = subscribe_with("$mine", &token);
        command.id = 5;
        client.send(&[command]).await?;
        assert_eq!(client.closed().await?.code, 3500);
    }
    let invalid = [
        sign("another secret", &json!({"sub": "ada", "channel": "$mine"}))?,
        sign(
            SECRET,
            &json!({"sub": "ada", "exp": seconds_from_now(minute)}),
        )?,
        "nonsense".to_owned(),
    ];
    let mut client = fleet.user("ada", Json).await?;
    for token in invalid {
        assert_eq!(
            client.refusal(subscribe_with("$mine", &token)).await?.code,
            103,
            "{token}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn what_the_fleet_does_not_offer_is_said_to_be_unavailable() -> Result<()> {
    let fleet = fleet().start().await?;
    for format in [Json, Protobuf] {
        let mut client = fleet.user("ada", format).await?;
        let rpc = RpcRequest {
            method: "any".to_owned(),
            data: "1".into(),
        };
        let error = client
            .refusal(Command {
                rpc: Some(rpc),
                ..Default::default()
            })
            .await?;
        assert_eq!((error.code, error.message.as_str()), (108, "not available"));
        // Nothing answers a message but the end of the connection.
        let send = Some(SendRequest { data: "1".into() });
        client
            .send(&[Command {
                send,
                ..Default::default()
            }])
            .await?;
        let close = client.closed().await?;
        assert_eq!((close.code, close.reason.as_str()), (3508, "not available"));
    }
    Ok(())
}
