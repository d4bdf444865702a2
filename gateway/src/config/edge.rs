//! What happens to a request: made from the options that are about clients.

use std::time::Duration;

use flotilla_shared::auth::PassportKeys;
use flotilla_shared::auth::passport::INTERNAL_HEADER_PREFIX;
use flotilla_shared::config::Problems;
use flotilla_shared::http::origin_entry_problem;

use super::{IdentityMode, OverloadResponse, RawConfig, endpoints};
use crate::endpoint::Endpoints;
use crate::identify::Identity;
use crate::relay::Timeouts;
use crate::route::StickyKey;
use crate::upstream::UpstreamLimits;

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

/// Makes sense of what is written about clients; notes everything that makes none.
pub(super) fn resolve(raw: &RawConfig, problems: &mut Problems) -> EdgeConfig {
    check_entries(raw, problems);
    let identity = identity(raw, problems);
    let mut sticky = Vec::new();
    for (at, rule) in raw.sticky.iter().enumerate() {
        sticky.extend(problems.check(&format!("sticky.{at}"), rule.parse::<StickyKey>()));
    }
    EdgeConfig {
        endpoints: endpoints::resolve(raw),
        body_max_bytes: raw.client.message_size_limit,
        api_body_max_bytes: raw.http_api.body_size_limit,
        allowed_origins: raw.allowed_origins.clone(),
        identity,
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

fn check_entries(raw: &RawConfig, problems: &mut Problems) {
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
}

fn identity(raw: &RawConfig, problems: &mut Problems) -> Identity {
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
    let mut forwarded = raw.forward_headers.iter();
    let passes_cookies = forwarded.any(|name| name.eq_ignore_ascii_case("cookie"));
    if (raw.identity.cookie_name.is_some() || passes_cookies)
        && raw.allowed_origins.iter().any(|entry| entry == "*")
    {
        problems.add(
            "allowed_origins",
            "must name the origins when cookies identify clients, here or at hooks: browsers send \
             a user's cookies along for any page",
        );
    }
    Identity {
        verifier,
        is_required,
        authorization: raw.identity.authorization,
        subprotocol: raw.identity.subprotocol,
        cookie_name: raw.identity.cookie_name.clone(),
        query_parameter: raw.identity.query_parameter.clone(),
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
