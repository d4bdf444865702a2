//! The worker's configuration as it is written: names, types and defaults, nothing more.

mod channel;
mod client;
mod hooks;
mod rate_limits;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use flotilla_shared::auth::PassportOptions;
use flotilla_shared::broker::BrokerOptions;
use flotilla_shared::config::duration;
use flotilla_shared::secret::Secret;
use flotilla_shared::telemetry::LogOptions;
use serde::{Deserialize, Serialize};

pub use channel::{RawChannel, RawNamespace, RawNamespaceOptions};
pub use client::{RawClient, RawPersonalChannel, Unacknowledged};
pub use hooks::{
    RawChannelHook, RawChannelProxy, RawClientProxy, RawHook, RawHookHttp, RawHooks, RawRpc,
};
pub use rate_limits::{RawRate, RawRateLimits};

/// Everything that can be configured.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawConfig {
    /// The worker's name in the fleet, which has to be unique. Empty: a random one.
    pub id: String,
    /// Where clients and gateways connect. Port 0: a free one.
    pub listen: SocketAddr,
    /// Where metrics and health are.
    pub admin_listen: SocketAddr,
    /// `host:port` under which gateways reach `listen`. Empty: the listener's own address, or, when that is a wildcard,
    /// the address of this machine that reaches the broker.
    pub advertise: String,
    /// Threads that serve clients. 0: one for each core.
    pub shards: usize,
    /// Most client connections. Fewer when the system allows fewer open files.
    pub connections_max: u64,
    /// Pages that may connect without a gateway in front: origins such as `https://example.com` or
    /// `https://*.example.com`, or `*`.
    pub allowed_origins: Vec<String>,
    /// Start although one of the `insecure` options is set, `http_api.on_client_listener` or `websocket_echo`, and others
    /// can reach the address: whoever does then has all that these options give away.
    pub allow_insecure_on_public_address: bool,
    /// For tests of WebSockets themselves: every message is sent back to who sent it, and nobody becomes a client. Only on
    /// loopback; see `allow_insecure_on_public_address`.
    pub websocket_echo: bool,
    /// Clients have to come through a gateway.
    pub require_passport: bool,
    /// What joins the workers.
    pub broker: BrokerOptions,
    /// How a gateway's passports are verified.
    pub passport: PassportOptions,
    /// What clients may do.
    pub client: RawClient,
    /// What channels there are.
    pub channel: RawChannel,
    /// What clients may call.
    pub rpc: RawRpc,
    /// How many questions the back end is asked at a time, and for how long.
    pub hooks: RawHooks,
    /// How back ends publish.
    pub http_api: RawHttpApi,
    /// How the worker leaves.
    pub drain: RawDrain,
    /// How the worker is found.
    pub roster: RawRoster,
    /// Which users are blocked and which tokens revoked.
    pub revocations: RawRevocations,
    /// What is logged, and how.
    pub log: LogOptions,
}

impl Default for RawConfig {
    fn default() -> Self {
        Self {
            id: String::new(),
            listen: SocketAddr::from(([127, 0, 0, 1], 8001)),
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 9101)),
            advertise: String::new(),
            shards: 0,
            connections_max: 100_000,
            allowed_origins: Vec::new(),
            allow_insecure_on_public_address: false,
            websocket_echo: false,
            require_passport: false,
            broker: BrokerOptions::default(),
            passport: PassportOptions::default(),
            client: RawClient::default(),
            channel: RawChannel::default(),
            rpc: RawRpc::default(),
            hooks: RawHooks::default(),
            http_api: RawHttpApi::default(),
            drain: RawDrain::default(),
            roster: RawRoster::default(),
            revocations: RawRevocations::default(),
            log: LogOptions::default(),
        }
    }
}

/// Options named `http_api.*`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawHttpApi {
    /// Where back ends call `POST /api/METHOD`; it is not for clients. Not set: there is no such listener.
    pub listen: Option<SocketAddr>,
    /// For development: clients' own listener answers the API, too. Only on loopback; see
    /// `allow_insecure_on_public_address`.
    pub on_client_listener: bool,
    /// For development: the API asks for no key. Only on loopback; see `allow_insecure_on_public_address`.
    pub insecure: bool,
    /// The key that back ends present, in `X-API-Key` or as `Authorization: apikey KEY`.
    pub key: Option<Secret>,
    /// A file that holds it, instead.
    pub key_file: Option<PathBuf>,
    /// The key before it, which is still accepted while keys are changed.
    pub previous_key: Option<Secret>,
    /// A file that holds the key before it, instead.
    pub previous_key_file: Option<PathBuf>,
    /// Largest request, in bytes.
    pub body_size_limit: usize,
}

impl Default for RawHttpApi {
    fn default() -> Self {
        Self {
            listen: None,
            on_client_listener: false,
            insecure: false,
            key: None,
            key_file: None,
            previous_key: None,
            previous_key_file: None,
            body_size_limit: 1024 * 1024,
        }
    }
}

/// Options named `drain.*`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawDrain {
    /// Wait between the announcement of a drain and the first close.
    #[serde(with = "duration")]
    pub settle: Duration,
    /// Time over which the closes are spread. Twenty clients a second are closed in each shard at least, so that a worker
    /// with few of them is done sooner.
    #[serde(with = "duration")]
    pub window: Duration,
    /// When the worker exits at the latest, whoever is still connected.
    #[serde(with = "duration")]
    pub timeout: Duration,
}

impl Default for RawDrain {
    fn default() -> Self {
        Self {
            settle: Duration::from_secs(1),
            window: Duration::from_secs(15),
            timeout: Duration::from_secs(30),
        }
    }
}

/// Options named `roster.*`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawRoster {
    /// Time between two announcements.
    #[serde(with = "duration")]
    pub announce_interval: Duration,
}

impl Default for RawRoster {
    fn default() -> Self {
        Self {
            announce_interval: Duration::from_secs(1),
        }
    }
}

/// Options named `revocations.*`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawRevocations {
    /// A file in which the worker keeps them, in a folder that it may write to. Not set: a worker that starts learns them
    /// from the others, and they are forgotten when all have stopped.
    pub file: Option<PathBuf>,
}
