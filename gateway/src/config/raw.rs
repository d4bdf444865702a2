//! The gateway's configuration as it is written: names, types and defaults, nothing more.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use flotilla_shared::auth::{PassportOptions, TokenOptions};
use flotilla_shared::broker::BrokerOptions;
use flotilla_shared::config::duration;
use flotilla_shared::telemetry::LogOptions;
use flotilla_shared::websocket;
use serde::{Deserialize, Serialize};

/// Everything that can be configured.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawConfig {
    /// Where clients connect without TLS. Port 0: a free one.
    pub listen: SocketAddr,
    /// Where clients connect with TLS.
    pub tls: RawTls,
    /// Where metrics and health are.
    pub admin_listen: SocketAddr,
    /// The path of the WebSocket endpoint.
    pub path: String,
    /// Pages that may connect besides those of the gateway's own host: origins such as
    /// `https://example.com` or `https://*.example.com`, or `*`.
    pub allowed_origins: Vec<String>,
    /// The fallback for networks without WebSocket: server-sent events. Needs `emulation`.
    pub sse: RawSwitch,
    /// The fallback for networks without WebSocket: an answer that goes on. Needs `emulation`.
    pub http_stream: RawSwitch,
    /// Where clients of the two post their commands.
    pub emulation: RawSwitch,
    /// A WebSocket from the server only.
    pub uni_websocket: RawSwitch,
    /// Server-sent events only.
    pub uni_sse: RawSwitch,
    /// An answer that goes on, only.
    pub uni_http_stream: RawSwitch,
    /// What clients may send.
    pub client: RawClient,
    /// The server API of the workers, for development.
    pub http_api: RawHttpApi,
    /// How clients are identified.
    pub identity: RawIdentity,
    /// What passports are signed with. Without a key, workers are told nothing about the client.
    pub passport: PassportOptions,
    /// Which workers there are.
    pub pool: RawPool,
    /// The links to workers, with `pool.transport = "link"`.
    pub link: RawLink,
    /// What brings a client back to the same worker, the first that is present: `user`,
    /// `cookie:NAME`, `header:NAME`, `query:NAME`, `address`. With none of them: any worker.
    pub sticky: Vec<String>,
    /// Headers of the client that workers get besides `Host`, `Origin`, `User-Agent` and
    /// `Sec-WebSocket-Protocol`.
    pub forward_headers: Vec<String>,
    /// Where the roster of workers is.
    pub broker: BrokerOptions,
    /// Most client connections. Fewer when the system allows fewer open files.
    pub connections_max: u64,
    /// Most clients that have not been answered yet.
    pub handshakes_max: usize,
    /// Most short requests (`emulation`, `http_api`) that workers are answering.
    pub requests_max: usize,
    /// Time a client has to send its request head, and again for the body.
    #[serde(with = "duration")]
    pub head_timeout: Duration,
    /// Time a worker has to answer a short request.
    #[serde(with = "duration")]
    pub request_timeout: Duration,
    /// How long a client's connection is kept open for its next short request. Longer than workers
    /// wait between pings, so that the answer to a ping does not need a connection of its own.
    #[serde(with = "duration")]
    pub keepalive_timeout: Duration,
    /// A connection one of whose sockets takes nothing for this long, although something waits, is
    /// ended.
    #[serde(with = "duration")]
    pub write_timeout: Duration,
    /// Time that both sides have after a Close frame.
    #[serde(with = "duration")]
    pub close_timeout: Duration,
    /// How a client is answered that nobody can take at the moment.
    pub overload_response: OverloadResponse,
    /// How the gateway leaves.
    pub drain: RawDrain,
    /// What is logged, and how.
    pub log: LogOptions,
}

impl Default for RawConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8000)),
            tls: RawTls::default(),
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 9100)),
            path: websocket::PATH.to_owned(),
            allowed_origins: Vec::new(),
            sse: RawSwitch { enabled: true },
            http_stream: RawSwitch { enabled: true },
            emulation: RawSwitch { enabled: true },
            uni_websocket: RawSwitch { enabled: false },
            uni_sse: RawSwitch { enabled: false },
            uni_http_stream: RawSwitch { enabled: false },
            client: RawClient::default(),
            http_api: RawHttpApi::default(),
            identity: RawIdentity::default(),
            passport: PassportOptions::default(),
            pool: RawPool::default(),
            link: RawLink::default(),
            sticky: vec!["user".to_owned(), "address".to_owned()],
            forward_headers: Vec::new(),
            broker: BrokerOptions::default(),
            connections_max: 100_000,
            handshakes_max: 8192,
            requests_max: 1024,
            head_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_secs(5),
            overload_response: OverloadResponse::default(),
            drain: RawDrain::default(),
            log: LogOptions::default(),
        }
    }
}

/// How a client is answered that nobody can take at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverloadResponse {
    /// 503 with `Retry-After`. Costs the least; a page cannot see it.
    #[default]
    Http,
    /// The upgrade, then a Close frame with code 1013, which a page can see.
    Websocket,
}

/// Whether an endpoint is there.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawSwitch {
    /// Whether it is. Workers have to have it too.
    pub enabled: bool,
}

/// Options named `client.*`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawClient {
    /// Longest request body of the HTTP fallback, in bytes. Frames of WebSockets are the workers'
    /// business.
    pub message_size_limit: usize,
}

impl Default for RawClient {
    fn default() -> Self {
        Self {
            message_size_limit: 64 * 1024,
        }
    }
}

/// Options named `http_api.*`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawHttpApi {
    /// Pass requests below `/api/` on to a worker's client listener. The server API is not for
    /// clients: in production, back ends call the workers' own listener for it.
    pub forward: bool,
    /// Do so even where others than this host can connect.
    pub forward_insecure_public: bool,
    /// Longest request body, in bytes.
    pub body_size_limit: usize,
}

impl Default for RawHttpApi {
    fn default() -> Self {
        Self {
            forward: false,
            forward_insecure_public: false,
            body_size_limit: 1024 * 1024,
        }
    }
}

/// Options named `tls.*`. All of them or none.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawTls {
    /// Where clients connect. Port 0: a free one.
    pub listen: Option<SocketAddr>,
    /// The certificate and those between it and the root, in PEM.
    pub certificate_file: Option<PathBuf>,
    /// Its private key, in PEM.
    pub key_file: Option<PathBuf>,
}

/// Options named `identity.*`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawIdentity {
    /// Whether every client needs a token.
    pub mode: IdentityMode,
    /// How tokens are verified. Without a key, the gateway does not look for tokens.
    pub token: TokenOptions,
    /// Take a token from `Authorization: Bearer`.
    pub authorization: bool,
    /// Take a token from an entry `bearer.TOKEN` of `Sec-WebSocket-Protocol`.
    pub subprotocol: bool,
    /// Take a token from this cookie.
    pub cookie_name: Option<String>,
    /// Take a token from this query parameter. Addresses are logged in many places: use it for
    /// short-lived tokens only.
    pub query_parameter: Option<String>,
}

impl Default for RawIdentity {
    fn default() -> Self {
        Self {
            mode: IdentityMode::default(),
            token: TokenOptions::default(),
            authorization: true,
            subprotocol: true,
            cookie_name: None,
            query_parameter: None,
        }
    }
}

/// Whether every client needs a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentityMode {
    /// A client without a token is passed on, and the worker decides.
    #[default]
    Optional,
    /// A client without a token is refused.
    Required,
}

/// Options named `pool.*`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawPool {
    /// Workers by `host:port`.
    pub workers: Vec<String>,
    /// Whether to also take workers that announce themselves through the broker.
    pub roster: bool,
    /// How far above its even share of connections a worker may be before its clients go to
    /// another; 1 would spread evenly, at the price of stickiness.
    pub load_factor: f64,
    /// How WebSocket clients are taken to workers. `websocket`: each over a WebSocket of its own, which is
    /// relayed; its end is the client's end. `link`: all over a few links; clients stay when their worker
    /// leaves or is lost, and what many clients get comes once. That needs a key in `passport`, and
    /// workers that have it, too.
    pub transport: Transport,
    /// Most workers that are tried for one client.
    pub tries: usize,
    /// Time that a connection to a worker may take.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// Time that a worker has to answer the handshake.
    #[serde(with = "duration")]
    pub handshake_timeout: Duration,
    /// How long a worker that could not be reached is passed over.
    #[serde(with = "duration")]
    pub ejection: Duration,
    /// How workers are watched.
    pub health_check: RawHealthCheck,
}

impl Default for RawPool {
    fn default() -> Self {
        Self {
            workers: vec!["127.0.0.1:8001".to_owned()],
            roster: false,
            load_factor: 1.25,
            transport: Transport::default(),
            tries: 3,
            connect_timeout: Duration::from_secs(1),
            handshake_timeout: Duration::from_secs(5),
            ejection: Duration::from_secs(5),
            health_check: RawHealthCheck::default(),
        }
    }
}

/// How WebSocket clients are taken to workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// Each over a WebSocket of its own.
    #[default]
    Websocket,
    /// All over a few links.
    Link,
}

/// Options named `link.*`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawLink {
    /// Threads that serve the clients of links. 0: as many as there are processors.
    pub threads: usize,
}

/// Options named `pool.health_check.*`: the gateway connects to each worker now and then.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawHealthCheck {
    /// Time between two checks of a worker.
    #[serde(with = "duration")]
    pub interval: Duration,
    /// Time that a check may take.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// Checks that have to fail in a row before a worker is unhealthy.
    pub failures: usize,
    /// Checks that have to pass in a row before it is healthy again.
    pub successes: usize,
}

impl Default for RawHealthCheck {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            failures: 2,
            successes: 1,
        }
    }
}

/// Options named `drain.*`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawDrain {
    /// How long clients are still taken after the gateway has said that it is not ready: until
    /// whatever is in front of it has noticed. At most half of `drain.timeout`.
    #[serde(with = "duration")]
    pub lame_duck: Duration,
    /// How long the gateway may take to leave, everything included.
    #[serde(with = "duration")]
    pub timeout: Duration,
}

impl Default for RawDrain {
    fn default() -> Self {
        Self {
            lame_duck: Duration::from_secs(5),
            timeout: Duration::from_secs(30),
        }
    }
}
