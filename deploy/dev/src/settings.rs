//! The configuration of each process of the fleet: a profile, plus what only the launcher knows.
//!
//! The same settings serve both ways of running: in one process they become a service's
//! configuration directly, and a child process reads them from a file.

use flotilla_shared::{secret::Secret, websocket};
use toml::{Table, Value};

use crate::{
    demo,
    ports::{WorkerPorts, loopback},
    profile::Profile,
};

/// How long a process may drain. Short: a developer waits for it.
const DRAIN_TIMEOUT: &str = "3s";

/// What all processes of one fleet have in common.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The chosen built-in configuration.
    pub(crate) profile: Profile,
    /// What clients' tokens are signed with.
    pub(crate) token_secret: Secret,
    /// What the gateway signs passports with.
    pub(crate) passport_secret: Secret,
    /// What a back end presents to publish.
    pub(crate) api_key: Secret,
    /// The gateway's port.
    pub(crate) port: u16,
    /// The demo page's port.
    pub(crate) demo_port: u16,
    /// How much the processes log.
    pub(crate) log: tracing::Level,
}

impl Settings {
    /// Where clients connect.
    pub(crate) fn url(&self) -> String {
        format!("ws://{}{}", loopback(self.port), websocket::PATH)
    }

    /// The worker called `name` at these ports, over the NATS server at `nats` or else over memory.
    pub(crate) fn worker(&self, name: &str, nats: Option<&str>, ports: WorkerPorts) -> Table {
        let mut table = self.profile.worker.clone();
        put(&mut table, "id", name);
        put(&mut table, "listen", loopback(ports.clients).to_string());
        // Enough to see that clients on several shards of a worker are served.
        put(&mut table, "shards", 2);
        put(&mut table, "client.expose_node", true);
        put(
            &mut table,
            "client.token.hmac_secret_key",
            self.token_secret.expose(),
        );
        let (admin, api) = (loopback(ports.admin), loopback(ports.api));
        put(&mut table, "admin_listen", admin.to_string());
        put(&mut table, "http_api.listen", api.to_string());
        put(&mut table, "http_api.key", self.api_key.expose());
        put(&mut table, "drain.settle", "0s");
        put(&mut table, "drain.window", "500ms");
        self.put_common(&mut table, nats);
        table
    }

    /// The gateway, which finds the workers over the NATS server at `nats` or else over memory.
    pub(crate) fn gateway(&self, nats: Option<&str>) -> Table {
        let mut table = self.profile.gateway.clone();
        put(&mut table, "listen", loopback(self.port).to_string());
        put(&mut table, "path", websocket::PATH);
        for transport in ["uni_sse", "uni_http_stream", "uni_websocket"] {
            put(&mut table, &format!("{transport}.enabled"), true);
        }
        let mut origins: Vec<Value> = demo::origins(self.demo_port).map(Value::from).into();
        if let Some(more) = table.get("allowed_origins").and_then(Value::as_array) {
            origins.extend(more.iter().cloned());
        }
        put(&mut table, "allowed_origins", origins);
        put(
            &mut table,
            "identity.token.hmac_secret_key",
            self.token_secret.expose(),
        );
        // Everybody comes from the same address here, and several tabs should see several workers.
        put(&mut table, "sticky", vec!["user"]);
        put(&mut table, "pool.workers", Vec::<String>::new());
        put(&mut table, "pool.roster", true);
        // So that a worker can be killed without its clients noticing.
        put(&mut table, "pool.transport", "link");
        put(&mut table, "drain.lame_duck", "0s");
        put(&mut table, "admin_listen", loopback(0).to_string());
        self.put_common(&mut table, nats);
        table
    }

    fn put_common(&self, table: &mut Table, nats: Option<&str>) {
        // A machine for development seldom allows the open files that the default wants.
        put(table, "connections_max", 5_000);
        put(table, "passport.secret_key", self.passport_secret.expose());
        put(table, "drain.timeout", DRAIN_TIMEOUT);
        // The launcher reads the children's logs: it needs the line that tells where they listen.
        put(
            table,
            "log.level",
            self.log
                .max(tracing::Level::INFO)
                .to_string()
                .to_lowercase(),
        );
        put(table, "log.format", "json");
        match nats {
            Some(url) => {
                put(table, "broker.kind", "nats");
                put(table, "broker.nats.servers", vec![url]);
            }
            None => put(table, "broker.kind", "memory"),
        }
    }
}

/// Sets the value at a dotted `key`, in tables that are made where there are none.
fn put(table: &mut Table, key: &str, value: impl Into<Value>) {
    let Some((head, rest)) = key.split_once('.') else {
        table.insert(key.to_owned(), value.into());
        return;
    };
    let inner = table.entry(head).or_insert_with(|| Table::new().into());
    if !inner.is_table() {
        *inner = Table::new().into();
    }
    if let Some(inner) = inner.as_table_mut() {
        put(inner, rest, value);
    }
}
