//! A worker process with one shard, and with the in-memory broker unless it is told otherwise.

use anyhow::Result;

use super::server::Server;

/// Everybody may do everything, with deltas in the namespace `docs`, and no ping disturbs the counting of bytes.
const SETTINGS: [&str; 11] = [
    "listen=127.0.0.1:0",
    "admin_listen=127.0.0.1:0",
    "shards=1",
    "broker.kind=memory",
    "client.allow_anonymous_connect_without_token=true",
    "client.ping_interval=0s",
    "channel.without_namespace.allow_subscribe_for_client=true",
    "channel.without_namespace.allow_subscribe_for_anonymous=true",
    "channel.without_namespace.allow_publish_for_client=true",
    "channel.without_namespace.allow_publish_for_anonymous=true",
    r#"channel.namespaces=[{ name = "docs", history_size = 10, history_ttl = "5m", delta_publish = true,
        allowed_delta_types = ["fossil"], allow_subscribe_for_client = true, allow_subscribe_for_anonymous = true,
        allow_publish_for_client = true, allow_publish_for_anonymous = true, allow_history_for_client = true,
        allow_history_for_anonymous = true, presence = true, allow_presence_for_client = true,
        allow_presence_for_anonymous = true }]"#,
];

/// Starts one, with settings of its own, and waits until it serves.
pub(crate) fn start(settings: &[&str]) -> Result<Server> {
    let settings = SETTINGS.iter().chain(settings).copied();
    Server::start(env!("CARGO_BIN_EXE_flotilla-worker"), settings)
}
