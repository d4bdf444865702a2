//! The gateway's configuration.
//!
//! Owns what can be configured ([`RawConfig`]), and what the rest of the gateway sees of it
//! ([`Config`]), in which nothing is left to be checked.

mod raw;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use flotilla_shared::auth::PassportKeys;
use flotilla_shared::auth::passport::INTERNAL_HEADER_PREFIX;
use flotilla_shared::broker::Brokers;
use flotilla_shared::config::Problems;
use flotilla_shared::http::origin_entry_problem;
use flotilla_shared::limits::connections_cap;
use flotilla_shared::telemetry::LogOptions;

pub use raw::{
    IdentityMode, OverloadResponse, RawClient, RawConfig, RawDrain, RawHealthCheck, RawHttpApi,
    RawIdentity, RawPool, RawSwitch, RawTls,
};

use crate::drain::DrainPlan;
use crate::endpoint::{Endpoints, Transport};
use crate::health::HealthCheck;
use crate::identify::Identity;
use crate::relay::Timeouts;
use crate::route::StickyKey;
use crate::tls;
use crate::upstream::UpstreamLimits;

/// Files that one client connection takes: its own socket and the worker's.
const FILES_PER_CONNECTION: u64 = 2;

/// Headers of a handshake that the gateway writes itself, or that are between two neighbours only
/// (RFC 9110 §7.6.1).
const NEVER_FORWARDED: [&str; 18] = [
    "host",
    "origin",
    "user-agent",
    "connection",
    "upgrade",
    "keep-alive",
    "expect",
    "te",
    "trailer",
    "transfer-encoding",
    "content-length",
    "proxy-authorization",
    "proxy-connection",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
    "sec-websocket-accept",
];

/// A configuration that makes sense.
#[derive(Debug)]
pub struct Config {
    /// Where clients connect without TLS.
    pub listen: SocketAddr,
    /// Where clients connect with TLS.
    pub tls: Option<TlsConfig>,
    /// Where metrics and health are.
    pub admin_listen: SocketAddr,
    /// Where the roster of workers is, if it is wanted.
    pub brokers: Option<Brokers>,
    /// When a drain ends at the latest.
    pub drain_timeout: Duration,
    /// What is logged, and how.
    pub log: LogOptions,
    pub(crate) edge: EdgeConfig,
    pub(crate) pool: PoolConfig,
    pub(crate) connections_max: u64,
    pub(crate) handshakes_max: usize,
    pub(crate) requests_max: usize,
    pub(crate) drain: DrainPlan,
}

/// A TLS listener.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// The certificate chain, in PEM.
    pub certificate_file: PathBuf,
    /// Its private key, in PEM.
    pub key_file: PathBuf,
}

/// What happens to a request.
#[derive(Debug)]
pub(crate) struct EdgeConfig {
    pub(crate) endpoints: Endpoints,
    /// Longest body of a client's request.
    pub(crate) body_max_bytes: usize,
    /// Longest body of a call of the server API.
    pub(crate) api_body_max_bytes: usize,
    pub(crate) allowed_origins: Vec<String>,
    pub(crate) identity: Identity,
    pub(crate) passport_keys: Option<PassportKeys>,
    pub(crate) sticky: Vec<StickyKey>,
    pub(crate) forward_headers: Vec<String>,
    pub(crate) head_timeout: Duration,
    pub(crate) keepalive_timeout: Duration,
    pub(crate) overload_response: OverloadResponse,
    pub(crate) tries: usize,
    pub(crate) upstream: UpstreamLimits,
    pub(crate) relay: Timeouts,
}

/// Which workers there are.
#[derive(Clone, Debug)]
pub(crate) struct PoolConfig {
    pub(crate) workers: Vec<String>,
    pub(crate) load_factor: f64,
    pub(crate) ejection: Duration,
    pub(crate) health_check: HealthCheck,
}

impl Config {
    /// Makes sense of what was written; notes everything that makes none. `None` only if something
    /// was noted.
    pub fn resolve(raw: &RawConfig, problems: &mut Problems) -> Option<Self> {
        check_limits(raw, problems);
        check_pool(&raw.pool, problems);
        raw.log.check("log", problems);
        check_endpoints(raw, problems);
        for (at, entry) in raw.allowed_origins.iter().enumerate() {
            if let Some(problem) = origin_entry_problem(entry) {
                problems.add(&format!("allowed_origins.{at}"), problem);
            }
        }
        for (at, name) in raw.forward_headers.iter().enumerate() {
            if let Some(problem) = forwarded_header_problem(name) {
                problems.add(&format!("forward_headers.{at}"), problem);
            }
        }
        let brokers = raw
            .pool
            .roster
            .then(|| raw.broker.brokers("broker", problems));
        let edge = resolve_edge(raw, problems);
        Some(Self {
            listen: raw.listen,
            tls: resolve_tls(&raw.tls, problems),
            admin_listen: raw.admin_listen,
            brokers,
            drain_timeout: raw.drain.timeout,
            log: raw.log.clone(),
            edge,
            pool: PoolConfig {
                workers: raw.pool.workers.clone(),
                load_factor: raw.pool.load_factor,
                ejection: raw.pool.ejection,
                health_check: HealthCheck {
                    interval: raw.pool.health_check.interval,
                    timeout: raw.pool.health_check.timeout,
                    failures: raw.pool.health_check.failures,
                    successes: raw.pool.health_check.successes,
                },
            },
            connections_max: raw.connections_max,
            handshakes_max: raw.handshakes_max,
            requests_max: raw.requests_max,
            drain: DrainPlan {
                lame_duck: raw.drain.lame_duck.min(raw.drain.timeout / 2),
            },
        })
    }

    /// How many connections the gateway takes: as configured, or as many as the system allows.
    pub(crate) fn connections_cap(&self) -> u64 {
        connections_cap(self.connections_max, FILES_PER_CONNECTION)
    }
}

fn resolve_edge(raw: &RawConfig, problems: &mut Problems) -> EdgeConfig {
    let verifier = raw.identity.token.verifier("identity.token", problems);
    let is_required = raw.identity.mode == IdentityMode::Required;
    if is_required && !verifier.is_configured() {
        problems.add(
            "identity.mode",
            "needs a key in identity.token to verify tokens with",
        );
    }
    let name_problem = |name: &Option<String>| name.as_ref().is_some_and(String::is_empty);
    if name_problem(&raw.identity.cookie_name) {
        problems.add("identity.cookie_name", "must not be empty");
    }
    if name_problem(&raw.identity.query_parameter) {
        problems.add("identity.query_parameter", "must not be empty");
    }
    if raw.identity.cookie_name.is_some() && raw.allowed_origins.iter().any(|entry| entry == "*") {
        problems.add(
            "allowed_origins",
            "must name the origins when cookies identify clients: browsers send a user's cookies \
             along for any page",
        );
    }
    let mut sticky = Vec::new();
    for (at, rule) in raw.sticky.iter().enumerate() {
        sticky.extend(problems.check(&format!("sticky.{at}"), rule.parse::<StickyKey>()));
    }
    EdgeConfig {
        endpoints: endpoints(raw),
        body_max_bytes: raw.client.message_size_limit,
        api_body_max_bytes: raw.http_api.body_size_limit,
        allowed_origins: raw.allowed_origins.clone(),
        identity: Identity {
            verifier,
            is_required,
            authorization: raw.identity.authorization,
            subprotocol: raw.identity.subprotocol,
            cookie_name: raw.identity.cookie_name.clone(),
            query_parameter: raw.identity.query_parameter.clone(),
        },
        passport_keys: raw.passport.keys("passport", problems),
        sticky,
        forward_headers: raw.forward_headers.clone(),
        head_timeout: raw.head_timeout,
        keepalive_timeout: raw.keepalive_timeout,
        overload_response: raw.overload_response,
        tries: raw.pool.tries,
        upstream: UpstreamLimits {
            connect_timeout: raw.pool.connect_timeout,
            handshake_timeout: raw.pool.handshake_timeout,
            request_timeout: raw.request_timeout,
        },
        relay: Timeouts {
            write: raw.write_timeout,
            close: raw.close_timeout,
        },
    }
}

fn endpoints(raw: &RawConfig) -> Endpoints {
    let transports = [
        (raw.sse, Transport::Sse),
        (raw.http_stream, Transport::HttpStream),
        (raw.uni_websocket, Transport::UniWebSocket),
        (raw.uni_sse, Transport::UniSse),
        (raw.uni_http_stream, Transport::UniHttpStream),
    ];
    let on = transports.iter().filter(|(switch, _)| switch.enabled);
    Endpoints {
        websocket_path: raw.path.clone(),
        transports: on.map(|(_, transport)| *transport).collect(),
        emulation: raw.emulation.enabled,
        api: raw.http_api.forward,
    }
}

fn check_endpoints(raw: &RawConfig, problems: &mut Problems) {
    if !raw.path.starts_with('/') || !raw.path.bytes().all(|byte| byte.is_ascii_graphic()) {
        problems.add(
            "path",
            "has to begin with a slash, and be as it appears in a request",
        );
    }
    if raw.path.contains(['?', '#']) {
        problems.add("path", "has neither query nor fragment");
    }
    let besides = Endpoints {
        websocket_path: String::new(),
        ..endpoints(raw)
    };
    if besides.at(&raw.path).is_some() {
        problems.add("path", "is that of another endpoint which is on");
    }
    let emulated = [("sse", raw.sse), ("http_stream", raw.http_stream)];
    for (key, switch) in emulated {
        if switch.enabled && !raw.emulation.enabled {
            problems.add(
                &format!("{key}.enabled"),
                "needs emulation.enabled: its clients could not send anything",
            );
        }
    }
    let listeners = [Some(raw.listen), raw.tls.listen];
    let is_public = listeners.iter().flatten().any(|at| !at.ip().is_loopback());
    if raw.http_api.forward && is_public && !raw.http_api.forward_insecure_public {
        problems.add(
            "http_api.forward",
            "is for development, where only this host can connect: whoever has a key of the server \
             API can do everything. http_api.forward_insecure_public = true insists",
        );
    }
}

fn resolve_tls(raw: &RawTls, problems: &mut Problems) -> Option<TlsConfig> {
    match (raw.listen, &raw.certificate_file, &raw.key_file) {
        (None, None, None) => None,
        (Some(listen), Some(certificate_file), Some(key_file)) => {
            let config = TlsConfig {
                listen,
                certificate_file: certificate_file.clone(),
                key_file: key_file.clone(),
            };
            problems.check("tls", tls::settings(&config))?;
            Some(config)
        }
        _ => {
            problems.add("tls", "listen, certificate_file and key_file go together");
            None
        }
    }
}

fn check_limits(raw: &RawConfig, problems: &mut Problems) {
    let counts = [
        ("connections_max", raw.connections_max == 0),
        ("handshakes_max", raw.handshakes_max == 0),
        ("requests_max", raw.requests_max == 0),
        (
            "client.message_size_limit",
            raw.client.message_size_limit == 0,
        ),
        (
            "http_api.body_size_limit",
            raw.http_api.body_size_limit == 0,
        ),
    ];
    for (key, is_zero) in counts {
        if is_zero {
            problems.add(key, "must not be zero");
        }
    }
    let durations = [
        ("head_timeout", raw.head_timeout),
        ("request_timeout", raw.request_timeout),
        ("keepalive_timeout", raw.keepalive_timeout),
        ("write_timeout", raw.write_timeout),
        ("close_timeout", raw.close_timeout),
        ("pool.connect_timeout", raw.pool.connect_timeout),
        ("pool.handshake_timeout", raw.pool.handshake_timeout),
        ("pool.health_check.interval", raw.pool.health_check.interval),
        ("pool.health_check.timeout", raw.pool.health_check.timeout),
    ];
    for (key, duration) in durations {
        if duration.is_zero() {
            problems.add(key, "must not be zero");
        }
    }
}

fn check_pool(raw: &RawPool, problems: &mut Problems) {
    for (at, worker) in raw.workers.iter().enumerate() {
        let port = worker.rsplit_once(':').and_then(|(host, port)| {
            port.parse::<u16>()
                .ok()
                .filter(|port| *port > 0 && !host.is_empty())
        });
        if port.is_none() {
            problems.add(&format!("pool.workers.{at}"), "has to be host:port");
        }
    }
    if raw.workers.is_empty() && !raw.roster {
        problems.add(
            "pool.workers",
            "is empty, and pool.roster is off: there are no workers",
        );
    }
    if !(1.0..=100.0).contains(&raw.load_factor) {
        problems.add("pool.load_factor", "has to be between 1 and 100");
    }
    let counts = [
        ("pool.tries", raw.tries),
        ("pool.health_check.failures", raw.health_check.failures),
        ("pool.health_check.successes", raw.health_check.successes),
    ];
    for (key, count) in counts {
        if count == 0 {
            problems.add(key, "must not be zero");
        }
    }
}

fn forwarded_header_problem(name: &str) -> Option<&'static str> {
    let lower = name.to_ascii_lowercase();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name.is_empty() || !name.bytes().all(allowed) {
        return Some("is not the name of a header");
    }
    if lower.starts_with(INTERNAL_HEADER_PREFIX) {
        return Some("is an internal header: clients must not be able to set it");
    }
    NEVER_FORWARDED
        .contains(&lower.as_str())
        .then_some("belongs to the handshake, which the gateway does itself")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(change: impl FnOnce(&mut RawConfig)) -> String {
        let mut raw = RawConfig::default();
        change(&mut raw);
        let mut problems = Problems::default();
        let config = Config::resolve(&raw, &mut problems);
        match problems.finish(config) {
            Ok(_) => String::new(),
            Err(errors) => errors.to_string(),
        }
    }

    #[test]
    fn the_defaults_make_sense() {
        assert_eq!(problems(|_| {}), "");
    }

    #[test]
    fn everything_that_makes_no_sense_is_told_at_once() {
        let told = problems(|raw| {
            raw.path = "websocket?".to_owned();
            raw.allowed_origins = vec!["*".to_owned(), "example.com".to_owned()];
            raw.identity.mode = IdentityMode::Required;
            raw.pool.workers = vec!["worker".to_owned()];
            raw.pool.load_factor = 0.5;
            raw.sticky = vec!["user".to_owned(), "ip".to_owned()];
            raw.forward_headers = vec!["X-Flotilla-Passport".to_owned(), "Host".to_owned()];
            raw.tls.listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
            raw.head_timeout = Duration::ZERO;
        });
        let keys: Vec<&str> = told
            .lines()
            .filter_map(|line| line.split(':').next())
            .collect();
        let expected = [
            "head_timeout",
            "pool.workers.0",
            "pool.load_factor",
            "path",
            "path",
            "allowed_origins.1",
            "forward_headers.0",
            "forward_headers.1",
            "identity.mode",
            "sticky.1",
            "tls",
        ];
        assert_eq!(keys, expected, "{told}");
    }

    #[test]
    fn the_server_api_is_not_put_before_the_public_by_accident() {
        let forward = |change: &dyn Fn(&mut RawConfig)| {
            problems(|raw| {
                raw.http_api.forward = true;
                change(raw);
            })
        };
        let public = SocketAddr::from(([0, 0, 0, 0], 8000));
        assert_eq!(forward(&|_| {}), "");
        let refused = "http_api.forward: is for development";
        assert!(forward(&|raw| raw.listen = public).starts_with(refused));
        assert!(forward(&|raw| raw.tls.listen = Some(public)).contains(refused));
        let insisted = forward(&|raw| {
            raw.listen = public;
            raw.http_api.forward_insecure_public = true;
        });
        assert_eq!(insisted, "");
    }

    #[test]
    fn endpoints_do_not_get_in_each_others_way() {
        let told = problems(|raw| raw.path = "/emulation".to_owned());
        assert_eq!(told.trim(), "path: is that of another endpoint which is on");
        let told = problems(|raw| {
            raw.path = "/connection/sse".to_owned();
            raw.sse.enabled = false;
        });
        assert_eq!(told, "");
        let told = problems(|raw| raw.emulation.enabled = false);
        assert!(told.starts_with("sse.enabled: needs emulation"), "{told}");
        assert!(told.contains("\nhttp_stream.enabled: needs"), "{told}");
    }

    #[test]
    fn cookies_do_not_identify_the_users_of_foreign_pages() {
        let cookies = |origin: &str| {
            problems(|raw| {
                raw.identity.cookie_name = Some("token".to_owned());
                raw.allowed_origins = vec![origin.to_owned()];
            })
        };
        assert!(cookies("*").starts_with("allowed_origins: must name the origins"));
        assert_eq!(cookies("https://example.com"), "");
    }

    #[test]
    fn a_pool_needs_workers_from_somewhere() {
        assert!(problems(|raw| raw.pool.workers.clear()).starts_with("pool.workers: "));
        let told = problems(|raw| {
            raw.pool.workers.clear();
            raw.pool.roster = true;
        });
        assert_eq!(told, "");
    }

    #[test]
    fn a_certificate_that_cannot_be_read_is_a_mistake_in_the_configuration() {
        let told = problems(|raw| {
            raw.tls.listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
            raw.tls.certificate_file = Some("/nowhere/certificate.pem".into());
            raw.tls.key_file = Some("/nowhere/key.pem".into());
        });
        assert!(told.starts_with("tls: "), "{told}");
        assert!(told.contains("/nowhere/certificate.pem"), "{told}");
    }
}
