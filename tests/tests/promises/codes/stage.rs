//! A fleet whose limits are narrow and whose patience is short.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flotilla_shared::protocol::Format;
use flotilla_shared::protocol::codes::DisconnectCode;
use flotilla_shared::protocol::types::{Command, ConnectRequest, Request};
use flotilla_tests::SOON;
use flotilla_tests::client::Client;
use flotilla_tests::eventually::eventually;
use flotilla_tests::fleet::{Builder, Fleet};
use flotilla_tests::token::{SECRET, seconds_from_now, sign};
use serde_json::{Value, json};
use toml::{Table, Value as Toml};

use crate::server_api::{KEY, call};

/// Most channels of a connection, and most connections of a user.
pub(super) const FEW: i64 = 2;

/// Errors that a connection may get at once.
pub(super) const ERRORS: i64 = 5;

/// In a minute, for what is not to end before the test.
pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// See the module's documentation.
pub(super) struct Stage {
    pub(super) fleet: Fleet,
}

impl Stage {
    /// One worker, as history is kept in its memory, behind a gateway.
    pub(super) async fn start() -> Result<Self> {
        Self::of(|fleet| fleet).await
    }

    /// The same, but for what `change` does to it.
    pub(super) async fn of(change: impl FnOnce(Builder) -> Builder) -> Result<Self> {
        let namespaces = [
            namespace("kept", &[("history_ttl", "5m"), ("history_meta_ttl", "1h")]),
            namespace(
                "short",
                &[("history_ttl", "1s"), ("history_meta_ttl", "1s")],
            ),
            namespace("binary", &[("publication_data_format", "binary")]),
        ];
        let fleet = Fleet::builder()
            .in_memory()
            .listed()
            .worker("http_api.listen", "127.0.0.1:0")
            .worker("http_api.key", KEY)
            .worker("client.channel_limit", FEW)
            .worker("client.user_connection_limit", FEW)
            .worker("client.disallow_anonymous_connection_tokens", true)
            .worker("client.stale_close_delay", "5s")
            .worker("client.expired_close_delay", "100ms")
            .worker("client.expired_sub_close_delay", "100ms")
            .worker("client.queue_max_size", 64 * 1024)
            .worker("client.rate_limits.presence.per_second", 1)
            .worker("client.rate_limits.errors.per_second", 1)
            .worker("client.rate_limits.errors.burst", ERRORS)
            .worker("channel.namespaces", namespaces.map(Toml::from).to_vec());
        let fleet = change(fleet).start().await?;
        Ok(Self { fleet })
    }

    /// Connections that the worker has closed with this code.
    pub(super) async fn closed(&self, code: DisconnectCode) -> Result<f64> {
        let label = format!("code=\"{}\"", code.code());
        let scrape = self.fleet.workers[0].scrape().await?;
        scrape.sum("flotilla_worker_connections_closed_total", &[&label])
    }

    /// A connection that has not said who it is.
    pub(super) async fn open(&self, format: Format) -> Result<Client> {
        self.fleet.dial().format(format).open().await
    }

    /// A connection of the user whose token says this besides.
    pub(super) async fn connect(
        &self,
        user: &str,
        claims: Value,
        format: Format,
    ) -> Result<Client> {
        let token = token(user, claims)?;
        self.fleet.dial().format(format).connect(&token).await
    }

    /// What the server API answers: the result, or the whole answer if it is an error.
    pub(super) async fn api(&self, method: &str, body: &Value) -> Result<Value> {
        let worker = self.fleet.workers.first().context("a worker")?;
        let address = worker.addresses().api.as_ref().context("its API")?;
        let (_, answer) = call(address, method, &[("X-API-Key", KEY)], body).await?;
        let mut answer: Value = serde_json::from_str(&answer)?;
        Ok(match answer["result"].take() {
            Value::Null => answer,
            result => result,
        })
    }

    /// Publishes in a channel whose numbering begins anew after what its subscribers know.
    pub(super) async fn restart_numbering(&self, channel: &str) -> Result<()> {
        let publish = json!({"channel": channel, "data": 1});
        let before = self.api("publish", &publish).await?;
        eventually("the numbering is forgotten", SOON, async || {
            let now = self.api("history", &json!({"channel": channel})).await?;
            ensure!(now["epoch"] != before["epoch"], "{now}");
            Ok(())
        })
        .await?;
        self.api("publish", &publish).await?;
        Ok(())
    }
}

/// A token of the user, with claims besides that it is valid for a minute.
pub(super) fn token(user: &str, claims: Value) -> Result<String> {
    let mut all = json!({"sub": user, "exp": seconds_from_now(MINUTE)});
    if let (Value::Object(all), Value::Object(claims)) = (&mut all, claims) {
        all.extend(claims);
    }
    sign(SECRET, &all)
}

/// The command to connect.
pub(super) fn connect(token: &str) -> Command {
    let token = token.to_owned();
    let request = ConnectRequest {
        token,
        ..ConnectRequest::default()
    };
    Command::new(1, Request::Connect(request))
}

fn namespace(name: &str, options: &[(&str, &str)]) -> Table {
    let mut table = Table::new();
    table.insert("name".to_owned(), name.into());
    table.insert("allow_subscribe_for_client".to_owned(), true.into());
    table.insert("allow_publish_for_client".to_owned(), true.into());
    for (key, value) in options {
        table.insert((*key).to_owned(), (*value).into());
    }
    if table.contains_key("history_ttl") {
        table.insert("history_size".to_owned(), 10.into());
        table.insert("force_recovery".to_owned(), true.into());
    }
    table
}
