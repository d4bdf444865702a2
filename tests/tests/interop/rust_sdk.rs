//! The crate `tokio-centrifuge`. It knows of no token renewal; the rest of the story is the same.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use flotilla_tests::SOON;
use flotilla_tests::token;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_centrifuge::client::{Client, RequestError};
use tokio_centrifuge::config::{BackoffReconnect, Config, Protocol};
use tokio_centrifuge::subscription::Subscription;

use crate::stage::Stage;

const MESSAGES: usize = 50;

#[tokio::test]
async fn rust_json() -> Result<()> {
    play(Protocol::Json).await
}

#[tokio::test]
async fn rust_protobuf() -> Result<()> {
    play(Protocol::Protobuf).await
}

#[tokio::test]
async fn rust_with_a_forged_token_does_not_connect() -> Result<()> {
    let stage = Stage::new().await?;
    let forged = token::sign("another secret", &serde_json::json!({"sub": "mallory"}))?;
    let mallory = User::new(&stage.bob_url, &forged, Protocol::Json);
    assert_eq!(timeout(SOON, mallory.client.connect()).await?, Err(()));
    Ok(())
}

async fn play(protocol: Protocol) -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut alice = User::new(&stage.alice_url, &token::user("alice")?, protocol);
    let mut bob = User::new(&stage.bob_url, &token::user("bob")?, protocol);
    for user in [&mut alice, &mut bob] {
        drop(user.client.connect());
        user.event("connecting 0").await?;
        user.event("connected").await?;
        drop(user.room.subscribe());
        user.event("subscribed").await?;
    }

    for number in 0..MESSAGES {
        alice
            .publish(&format!("{{\"from\":\"alice\",\"n\":{number}}}"))
            .await?;
    }
    for user in [&mut alice, &mut bob] {
        for number in 0..MESSAGES {
            user.event(&format!("{{\"from\":\"alice\",\"n\":{number}}}"))
                .await?;
        }
    }

    timeout(SOON, alice.room.unsubscribe()).await?;
    alice.event("unsubscribed 0").await?;
    // The answer to a later command says that the worker has taken in the earlier one.
    alice.client.publish("elsewhere", b"1".to_vec()).await?;
    bob.publish("\"while alice was away\"").await?;
    bob.event("\"while alice was away\"").await?;
    // Until then what was published before could still be on its way to the worker.
    stage.worker_of_alice_has_left().await?;
    drop(alice.room.subscribe());
    alice.event("subscribed").await?;
    bob.publish("\"welcome back\"").await?;
    for user in [&mut alice, &mut bob] {
        user.event("\"welcome back\"").await?;
    }

    match alice.client.publish("news:1", b"1".to_vec()).await {
        Err(RequestError::ErrorResponse(error)) => assert_eq!(error.code, 103),
        other => bail!("not refused: {other:?}"),
    }

    stage.kill_worker_of_alice().await?;
    // The crate does not tell the server's code.
    alice.event("connecting 0").await?;
    alice.event("connected").await?;
    alice.event("subscribed").await?;
    bob.publish("\"still here\"").await?;
    for user in [&mut alice, &mut bob] {
        user.event("\"still here\"").await?;
    }
    Ok(())
}

/// A client, its subscription to the room, and what they were told, as text.
struct User {
    client: Client,
    room: Subscription,
    events: mpsc::Receiver<String>,
}

impl User {
    fn new(url: &str, token: &str, protocol: Protocol) -> Self {
        let (sender, events) = mpsc::channel(1_000);
        let backoff = BackoffReconnect {
            min_delay: Duration::from_millis(50),
            ..Default::default()
        };
        let config = Config {
            protocol,
            ..Config::new().with_token(token)
        };
        // The crate offers no subprotocol; Protobuf is asked for in the query.
        let format = if protocol == Protocol::Protobuf {
            "&format=protobuf"
        } else {
            ""
        };
        let url = format!("{url}{format}");
        let client = Client::new(&url, config.with_reconnect_strategy(backoff));
        // Full means that the test reads nothing any more: then there is nobody to tell.
        let tell = move |text: String| drop(sender.try_send(text));
        let told = tell.clone();
        client.on_connecting(move |event| told(format!("connecting {}", event.code)));
        let told = tell.clone();
        client.on_connected(move |_| told("connected".to_owned()));
        let told = tell.clone();
        client.on_disconnected(move |event| told(format!("disconnected {}", event.code)));
        let room = client.new_subscription("room");
        let told = tell.clone();
        room.on_subscribed(move |_| told("subscribed".to_owned()));
        let told = tell.clone();
        room.on_unsubscribed(move |event| told(format!("unsubscribed {}", event.code)));
        room.on_publication(move |event| tell(String::from_utf8_lossy(&event.data).into_owned()));
        Self {
            client,
            room,
            events,
        }
    }

    async fn publish(&self, payload: &str) -> Result<()> {
        let published = self.room.publish(payload.as_bytes().to_vec()).await;
        published.map_err(|error| anyhow!("publishing {payload}: {error}"))
    }

    /// Waits for this to be the next thing that the client is told.
    async fn event(&mut self, expected: &str) -> Result<()> {
        let event = timeout(SOON, self.events.recv()).await;
        let event = event.with_context(|| format!("{expected} did not come"))?;
        if event.as_deref() == Some(expected) {
            return Ok(());
        }
        bail!("{event:?} instead of {expected}")
    }
}
