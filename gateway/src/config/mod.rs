//! The gateway's configuration.
//!
//! Owns what can be configured ([`RawConfig`]), and what the rest of the gateway sees of it
//! ([`Config`]), in which nothing is left to be checked.

mod edge;
mod endpoints;
mod pool;
mod raw;
mod tls;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::thread::available_parallelism;
use std::time::Duration;

use flotilla_shared::broker::Brokers;
use flotilla_shared::config::Problems;
use flotilla_shared::limits::connections_cap;
use flotilla_shared::telemetry::LogOptions;

pub(crate) use edge::EdgeConfig;
pub(crate) use pool::PoolConfig;
pub use raw::{
    IdentityMode, OverloadResponse, RawClient, RawConfig, RawDrain, RawHealthCheck, RawHttpApi,
    RawIdentity, RawLink, RawPool, RawSwitch, RawTls, Transport,
};
pub use tls::TlsConfig;

use crate::drain::DrainPlan;

/// Files that one client connection takes: its own socket and the worker's.
const FILES_PER_CONNECTION: u64 = 2;

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
    /// Threads that serve the clients of links; `None`: there are no links.
    pub(crate) link_threads: Option<NonZeroUsize>,
    pub(crate) connections_max: u64,
    pub(crate) handshakes_max: usize,
    pub(crate) requests_max: usize,
    pub(crate) drain: DrainPlan,
}

impl Config {
    /// Makes sense of what was written; notes everything that makes none. `None` only if something
    /// was noted.
    pub fn resolve(raw: &RawConfig, problems: &mut Problems) -> Option<Self> {
        check_limits(raw, problems);
        let pool = pool::resolve(&raw.pool, problems);
        raw.log.check("log", problems);
        endpoints::check(raw, problems);
        let brokers = raw
            .pool
            .roster
            .then(|| raw.broker.brokers("broker", problems));
        let edge = edge::resolve(raw, problems);
        Some(Self {
            listen: raw.listen,
            tls: tls::resolve(&raw.tls, problems),
            admin_listen: raw.admin_listen,
            brokers,
            drain_timeout: raw.drain.timeout,
            log: raw.log.clone(),
            link_threads: link_threads(raw, &edge, problems),
            edge,
            pool,
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

fn link_threads(
    raw: &RawConfig,
    edge: &EdgeConfig,
    problems: &mut Problems,
) -> Option<NonZeroUsize> {
    if raw.pool.transport != Transport::Link {
        return None;
    }
    if edge.passport_keys.is_none() {
        problems.add(
            "pool.transport",
            "link needs a key in passport: it is what workers know a gateway by",
        );
    }
    let cores = || available_parallelism().unwrap_or(NonZeroUsize::MIN);
    Some(NonZeroUsize::new(raw.link.threads).unwrap_or_else(cores))
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

#[cfg(test)]
mod tests;
