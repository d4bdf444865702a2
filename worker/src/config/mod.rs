//! The worker's configuration.
//!
//! Owns: what can be configured ([`RawConfig`]), and what the rest of the worker sees of it ([`Config`]), in which
//! nothing is left to be checked.

mod api;
mod channel;
mod client;
mod hooks;
mod insecure;
mod rate_limits;
mod raw;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flotilla_shared::auth::{PassportKeys, Verifier};
use flotilla_shared::broker::Brokers;
use flotilla_shared::config::Problems;
use flotilla_shared::http::origin_entry_problem;
use flotilla_shared::telemetry::LogOptions;
use uuid::Uuid;

use insecure::InsecureOption;
pub use raw::{
    RawChannel, RawChannelHook, RawChannelProxy, RawClient, RawClientProxy, RawConfig, RawDrain,
    RawHook, RawHookHttp, RawHooks, RawHttpApi, RawNamespace, RawNamespaceOptions,
    RawPersonalChannel, RawRate, RawRateLimits, RawRevocations, RawRoster, RawRpc, Unacknowledged,
};

use crate::api::ApiOptions;
use crate::drain::DrainPlan;
use crate::hooks::{Hook, HookOptions};
use crate::namespace::Namespaces;
use crate::policy::ClientOptions;
use crate::shard::Limits;

/// Files that one client connection takes.
const FILES_PER_CONNECTION: u64 = 1;

/// A configuration that makes sense.
#[derive(Clone, Debug)]
pub struct Config {
    /// The worker's name in the fleet.
    pub id: String,
    /// Where clients and gateways connect.
    pub listen: SocketAddr,
    /// Where metrics and health are.
    pub admin_listen: SocketAddr,
    /// What joins the workers.
    pub brokers: Brokers,
    /// When a drain ends at the latest.
    pub drain_timeout: Duration,
    /// What is logged, and how.
    pub log: LogOptions,
    advertise: String,
    pub(crate) shards: usize,
    pub(crate) connections_max: u64,
    pub(crate) user_connections_max: usize,
    pub(crate) allowed_origins: Vec<String>,
    pub(crate) passport_keys: Option<Arc<PassportKeys>>,
    pub(crate) passport_required: bool,
    pub(crate) websocket_echo: bool,
    pub(crate) limits: Limits,
    pub(crate) client: ClientOptions,
    pub(crate) channel_max_bytes: usize,
    pub(crate) namespaces: Namespaces,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) hooks: HookOptions,
    pub(crate) api: Option<ApiOptions>,
    pub(crate) drain: DrainPlan,
    pub(crate) announce_interval: Duration,
    pub(crate) insecure: Vec<InsecureOption>,
    pub(crate) revocations_file: Option<PathBuf>,
}

impl Config {
    /// Makes sense of what was written; notes everything that makes none. `None` only if something was noted.
    pub fn resolve(raw: &RawConfig, problems: &mut Problems) -> Option<Self> {
        check_drain(raw, problems);
        raw.log.check("log", problems);
        for (at, entry) in raw.allowed_origins.iter().enumerate() {
            if let Some(problem) = origin_entry_problem(entry) {
                problems.add(&format!("allowed_origins.{at}"), problem);
            }
        }
        if !raw.advertise.is_empty() && !is_host_and_port(&raw.advertise) {
            problems.add("advertise", "has to be `host:port`");
        }
        if raw.connections_max == 0 {
            problems.add("connections_max", "must not be zero");
        }
        let passport_keys = raw.passport.keys("passport", problems).map(Arc::new);
        if raw.require_passport && passport_keys.is_none() {
            problems.add("require_passport", "needs passport.secret_key");
        }
        let hooks = hooks::options(raw, problems);
        let namespaces = channel::namespaces(raw, problems);
        let mut brokers = raw.broker.brokers("broker", problems);
        brokers.keep_history(namespaces.histories());
        let api = api::options(&raw.http_api, problems);
        Some(Self {
            id: if raw.id.is_empty() {
                format!("worker-{}", short_id())
            } else {
                raw.id.clone()
            },
            listen: raw.listen,
            admin_listen: raw.admin_listen,
            brokers,
            drain_timeout: raw.drain.timeout,
            log: raw.log.clone(),
            advertise: raw.advertise.clone(),
            shards: if raw.shards == 0 { cores() } else { raw.shards },
            connections_max: raw.connections_max,
            user_connections_max: raw.client.user_connection_limit,
            allowed_origins: raw.allowed_origins.clone(),
            passport_keys,
            passport_required: raw.require_passport,
            websocket_echo: raw.websocket_echo,
            limits: Limits {
                message_max_bytes: raw.client.message_size_limit,
                outbox_max_bytes: raw.client.queue_max_size,
                write_timeout: raw.client.write_timeout,
                head_timeout: raw.client.head_timeout,
            },
            client: client::options(raw, problems),
            channel_max_bytes: raw.channel.max_length,
            namespaces,
            verifier: Arc::new(client::verifier(&raw.client, problems)),
            hooks: hooks?,
            api,
            drain: DrainPlan {
                settle: raw.drain.settle,
                window: raw.drain.window,
            },
            announce_interval: raw.roster.announce_interval,
            insecure: insecure::check(raw, problems),
            revocations_file: raw.revocations.file.clone(),
        })
    }

    /// Where gateways reach the worker that listens at `listening` and talks to them through `brokers`.
    pub(crate) fn advertised(&self, listening: SocketAddr, brokers: &Brokers) -> String {
        if !self.advertise.is_empty() {
            return self.advertise.clone();
        }
        let ip = match listening.ip() {
            ip if ip.is_unspecified() => brokers.local_address().unwrap_or(ip),
            ip => ip,
        };
        SocketAddr::new(ip, listening.port()).to_string()
    }

    /// Whether there is any way to be somebody here.
    pub(crate) fn lets_anyone_in(&self) -> bool {
        self.verifier.is_configured()
            || self.passport_keys.is_some()
            || self.hooks.endpoints.contains_key(&Hook::Connect)
            || self.client.insecure
            || self.client.allow_anonymous_connect_without_token
    }

    /// The most connections that the configuration and the system allow.
    pub(crate) fn connections_cap(&self) -> usize {
        let cap =
            flotilla_shared::limits::connections_cap(self.connections_max, FILES_PER_CONNECTION);
        usize::try_from(cap).unwrap_or(usize::MAX)
    }
}

fn is_host_and_port(text: &str) -> bool {
    text.rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

fn short_id() -> String {
    let mut id = Uuid::new_v4().simple().to_string();
    id.truncate(8);
    id
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn check_drain(raw: &RawConfig, problems: &mut Problems) {
    let drain = &raw.drain;
    if drain.settle + drain.window > drain.timeout {
        problems.add(
            "drain.timeout",
            "has to leave time for drain.settle and drain.window",
        );
    }
    if raw.roster.announce_interval.is_zero() {
        problems.add("roster.announce_interval", "must not be zero");
    }
}
