//! The compose fleet, run here as plain processes, and clients of it.

use anyhow::Result;
use flotilla_shared::protocol::Format;
use flotilla_tests::SOON;
use flotilla_tests::client::Client;
use flotilla_tests::fleet::Fleet;
use flotilla_tests::nats::Layout;
use flotilla_tests::token;
use serde_json::json;

use crate::compose::configuration;
use crate::tools::read;

/// Workers in the fleet, as in the compose file.
pub(crate) const WORKERS: usize = 3;

/// What clients publish.
pub(crate) const HELLO: &str = r#""hello""#;

const CLIENTS: usize = 4;

/// The fleet with the configuration of `deploy/compose`, except for addresses.
pub(crate) async fn compose_fleet() -> Result<Fleet> {
    let nats = Layout {
        stores: true,
        ..Layout::default()
    };
    let mut builder = Fleet::builder().workers(WORKERS).nats(nats);
    let elsewhere = ["listen", "admin_listen", "broker"];
    for (key, value) in configuration("worker")? {
        if !elsewhere.contains(&key.as_str()) {
            builder = builder.worker(&key, value);
        }
    }
    builder = builder.worker("http_api.listen", "127.0.0.1:0");
    for (key, value) in configuration("gateway")? {
        if !elsewhere.contains(&key.as_str()) {
            builder = builder.gateway(&key, value);
        }
    }
    builder.start().await
}

/// Connects clients that all see what one of them publishes, and one that is refused.
pub(crate) async fn chat(fleet: &Fleet) -> Result<Vec<Client>> {
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let mut client = connect(fleet, &format!("user-{number}")).await?;
        client.subscribe("chat:deploy").await?;
        clients.push(client);
    }
    clients[0].publish("chat:deploy", HELLO).await?;
    for client in &mut clients {
        assert_eq!(client.texts("chat:deploy", 1).await?, [HELLO]);
    }
    refused(fleet).await?;
    Ok(clients)
}

/// Connects a user with a token by the secret that the compose fleet has by default.
pub(crate) async fn connect(fleet: &Fleet, user: &str) -> Result<Client> {
    let secret = read("deploy/compose/secrets-development/token_secret_key")?;
    let claims = json!({"sub": user, "exp": token::seconds_from_now(SOON * 10)});
    let token = token::sign(secret.trim(), &claims)?;
    let dial = fleet
        .dial()
        .header("authorization", &format!("Bearer {token}"));
    dial.format(Format::Json).connect("").await
}

/// Has the gateway refuse a client.
pub(crate) async fn refused(fleet: &Fleet) -> Result<()> {
    let (status, _) = fleet
        .dial()
        .header("authorization", "Bearer forged")
        .refused()
        .await?;
    assert_eq!(status, 401);
    Ok(())
}
