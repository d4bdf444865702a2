//! Which of a client's headers a back end gets to see.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use flotilla_shared::auth::passport::INTERNAL_HEADER_PREFIX;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT,
    HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE, USER_AGENT,
};

use super::{Endpoint, Hook};

/// How a worker presents itself where the client's own name is not passed on.
const AGENT: &str = concat!("flotilla/", env!("CARGO_PKG_VERSION"));

/// What belongs to the call itself, or to the connection that carries it.
const OURS: [HeaderName; 11] = [
    ACCEPT,
    // The answer would come compressed.
    ACCEPT_ENCODING,
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    EXPECT,
    HOST,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// What is wrong with sending a header of this name, if anything.
pub(crate) fn header_problem(name: &HeaderName) -> Option<&'static str> {
    if name.as_str().starts_with(INTERNAL_HEADER_PREFIX) {
        Some("is between gateway and worker")
    } else if OURS.contains(name) {
        Some("is set by the call itself")
    } else {
        None
    }
}

/// The transport's side of whoever a call is about.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// How the client is connected: `websocket`; or `http_api`.
    pub(super) transport: &'static str,
    /// `json` or `protobuf`.
    pub(super) protocol: &'static str,
    /// Those headers that some hook is passed. Shared, since each call has a copy; none in most cases.
    headers: Option<Arc<HeaderMap>>,
}

impl Caller {
    /// Keeps what some hook is passed of a request's headers.
    pub(crate) fn new<'a>(
        transport: &'static str,
        protocol: &'static str,
        headers: impl Iterator<Item = (&'a str, &'a str)>,
        endpoints: &HashMap<Hook, Endpoint>,
    ) -> Self {
        let mut caller = Self {
            transport,
            protocol,
            headers: None,
        };
        caller.keep(headers, endpoints);
        caller
    }

    /// A back end that asks another by the server API.
    pub(crate) fn back_end() -> Self {
        Self {
            transport: "http_api",
            protocol: "json",
            headers: None,
        }
    }

    /// Takes headers from the connect command of a client that cannot set real ones. A real one stays: what the edge let
    /// through is not for the client to replace.
    pub(crate) fn emulate(
        &mut self,
        headers: &BTreeMap<String, String>,
        endpoints: &HashMap<Hook, Endpoint>,
    ) {
        let real = self.headers.clone().unwrap_or_default();
        let headers = headers.iter().filter(|(name, _)| !real.contains_key(*name));
        self.keep(
            headers.map(|(name, value)| (name.as_str(), value.as_str())),
            endpoints,
        );
    }

    fn keep<'a>(
        &mut self,
        headers: impl Iterator<Item = (&'a str, &'a str)>,
        endpoints: &HashMap<Hook, Endpoint>,
    ) {
        let is_passed = |name: &HeaderName| {
            let mut endpoints = endpoints.values();
            endpoints.any(|endpoint| endpoint.forwarded.contains(name))
        };
        if endpoints
            .values()
            .all(|endpoint| endpoint.forwarded.is_empty())
        {
            return;
        }
        for (name, value) in headers {
            if let Ok(name) = HeaderName::try_from(name)
                && is_passed(&name)
                && let Ok(mut value) = HeaderValue::try_from(value)
            {
                // Cookies and the like: not for `Debug` to show.
                value.set_sensitive(true);
                let headers = self.headers.get_or_insert_default();
                // Fails only at 32,768 headers, of which a message has no room for.
                let _ = Arc::make_mut(headers).try_append(name, value);
            }
        }
    }

    /// The headers of one call.
    pub(super) fn headers_for(&self, endpoint: &Endpoint) -> HeaderMap {
        let json = HeaderValue::from_static("application/json");
        let mut headers = endpoint.fixed.clone();
        headers.insert(ACCEPT, json.clone());
        headers.insert(CONTENT_TYPE, json);
        for (name, value) in self.headers.iter().flat_map(|ours| ours.iter()) {
            if endpoint.forwarded.contains(name) {
                headers.append(name, value.clone());
            }
        }
        if !headers.contains_key(USER_AGENT) {
            headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        }
        headers
    }
}
