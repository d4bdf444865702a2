//! Which endpoints are on, and whether they get in each other's way.

use flotilla_shared::config::Problems;

use super::RawConfig;
use crate::endpoint::{Endpoints, Transport};

/// The endpoints that are on.
pub(super) fn resolve(raw: &RawConfig) -> Endpoints {
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

/// Notes everything about them that makes no sense.
pub(super) fn check(raw: &RawConfig, problems: &mut Problems) {
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
        ..resolve(raw)
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
