//! The worker's configuration as it is written: names, types and defaults, nothing more.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use flotilla_shared::auth::{PassportOptions, TokenOptions};
use flotilla_shared::broker::BrokerOptions;
use flotilla_shared::config::duration;
use flotilla_shared::secret::Secret;
use flotilla_shared::telemetry::LogOptions;
use serde::{Deserialize, Serialize};

use crate::namespace::PublicationDataFormat;

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
    /// How back ends publish.
    pub http_api: RawHttpApi,
    /// How the worker leaves.
    pub drain: RawDrain,
    /// How the worker is found.
    pub roster: RawRoster,
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
            require_passport: false,
            broker: BrokerOptions::default(),
            passport: PassportOptions::default(),
            client: RawClient::default(),
            channel: RawChannel::default(),
            http_api: RawHttpApi::default(),
            drain: RawDrain::default(),
            roster: RawRoster::default(),
            log: LogOptions::default(),
        }
    }
}

/// Options named `client.*`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawClient {
    /// How connection and subscription tokens are verified.
    pub token: TokenOptions,
    /// A client with neither token nor passport is taken as the anonymous user.
    pub allow_anonymous_connect_without_token: bool,
    /// Tokens whose `sub` is empty are refused.
    pub disallow_anonymous_connection_tokens: bool,
    /// Time between two pings. Zero: no pings.
    #[serde(with = "duration")]
    pub ping_interval: Duration,
    /// Time a client has to answer a ping. Shorter than `ping_interval`.
    #[serde(with = "duration")]
    pub pong_timeout: Duration,
    /// Time a client has to send its request head.
    #[serde(with = "duration")]
    pub head_timeout: Duration,
    /// Time a client has to send its connect command.
    #[serde(with = "duration")]
    pub stale_close_delay: Duration,
    /// Time an expired connection has to refresh.
    #[serde(with = "duration")]
    pub expired_close_delay: Duration,
    /// Time an expired subscription has to refresh.
    #[serde(with = "duration")]
    pub expired_sub_close_delay: Duration,
    /// Most channels of one client.
    pub channel_limit: usize,
    /// Most bytes that wait for one client's socket; a client that falls further behind is disconnected as slow.
    pub queue_max_size: usize,
    /// Largest message from a client, in bytes.
    pub message_size_limit: usize,
    /// A client whose socket takes nothing for this long, although something waits, is disconnected.
    #[serde(with = "duration")]
    pub write_timeout: Duration,
    /// The connect result names the worker, for demonstrations and debugging.
    pub expose_node: bool,
}

impl Default for RawClient {
    fn default() -> Self {
        Self {
            token: TokenOptions::default(),
            allow_anonymous_connect_without_token: false,
            disallow_anonymous_connection_tokens: false,
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(8),
            head_timeout: Duration::from_secs(10),
            stale_close_delay: Duration::from_secs(10),
            expired_close_delay: Duration::from_secs(25),
            expired_sub_close_delay: Duration::from_secs(25),
            channel_limit: 128,
            queue_max_size: 1024 * 1024,
            message_size_limit: 64 * 1024,
            write_timeout: Duration::from_secs(10),
            expose_node: false,
        }
    }
}

/// Options named `channel.*`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawChannel {
    /// Longest channel name, in bytes; at most 255.
    pub max_length: usize,
    /// Options of channels without a namespace.
    pub without_namespace: RawNamespaceOptions,
    /// Namespaces, each with its name and its options.
    pub namespaces: Vec<RawNamespace>,
}

impl Default for RawChannel {
    fn default() -> Self {
        Self {
            max_length: 255,
            without_namespace: RawNamespaceOptions::default(),
            namespaces: Vec::new(),
        }
    }
}

/// Declares the options that a channel has with and without a namespace. A macro, because unknown keys are refused
/// and that excludes flattening one struct into the other.
macro_rules! namespace_options {
    ($( $(#[$doc:meta])* $option:ident: $kind:ty, )*) => {
        /// Options named `channel.without_namespace.*`.
        #[derive(Clone, Debug, Default, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct RawNamespaceOptions { $( $(#[$doc])* pub $option: $kind, )* }

        /// One entry of `channel.namespaces`.
        #[derive(Clone, Debug, Default, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct RawNamespace {
            /// The part of a channel's name before `:`; two or more letters, digits, `-` and `_`.
            pub name: String,
            $( $(#[$doc])* pub $option: $kind, )*
        }

        impl RawNamespace {
            pub(super) fn options(&self) -> RawNamespaceOptions {
                RawNamespaceOptions { $( $option: self.$option.clone(), )* }
            }
        }
    };
}

namespace_options! {
    /// Clients may subscribe without a subscription token.
    allow_subscribe_for_client: bool,
    /// Clients without a user id may do so too.
    allow_subscribe_for_anonymous: bool,
    /// Clients may publish.
    allow_publish_for_client: bool,
    /// Clients may publish while they are subscribed.
    allow_publish_for_subscriber: bool,
    /// Clients without a user id may publish where one of the two options above lets clients do so.
    allow_publish_for_anonymous: bool,
    /// What publications may contain: `json`, `json_object` or `binary`.
    publication_data_format: PublicationDataFormat,
    /// A regular expression that a channel's whole name has to match somewhere; anchor it with `^` and `$`.
    channel_regex: String,
}

/// Options named `http_api.*`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawHttpApi {
    /// Where back ends call `POST /api/METHOD`; it is not for clients. Not set: there is no API.
    pub listen: Option<SocketAddr>,
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
