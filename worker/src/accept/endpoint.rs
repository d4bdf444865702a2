//! What there is at which path, by which methods.

use flotilla_shared::http::paths;
use flotilla_shared::{link, websocket};

/// What a path stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    WebSocket,
    Sse,
    HttpStream,
    UniWebSocket,
    UniSse,
    UniHttpStream,
    /// Commands of clients of [`Endpoint::Sse`] and [`Endpoint::HttpStream`].
    Emulation,
    /// Methods of the server API, where clients' listener answers it.
    Api,
    /// Links of gateways.
    Link,
}

impl Endpoint {
    /// What there is at this path.
    pub(super) fn at(path: &str) -> Option<Self> {
        match path {
            websocket::PATH => Some(Self::WebSocket),
            paths::SSE => Some(Self::Sse),
            paths::HTTP_STREAM => Some(Self::HttpStream),
            paths::UNI_WEBSOCKET => Some(Self::UniWebSocket),
            paths::UNI_SSE => Some(Self::UniSse),
            paths::UNI_HTTP_STREAM => Some(Self::UniHttpStream),
            paths::EMULATION => Some(Self::Emulation),
            link::PATH => Some(Self::Link),
            path if path.starts_with(paths::API_PREFIX) => Some(Self::Api),
            _ => None,
        }
    }

    /// The methods it takes, as in `Allow`.
    pub(super) fn methods(self) -> &'static str {
        match self {
            Self::WebSocket | Self::UniWebSocket | Self::Link => "GET",
            Self::Sse | Self::UniSse => "GET, POST, OPTIONS",
            Self::HttpStream | Self::UniHttpStream | Self::Emulation | Self::Api => "POST, OPTIONS",
        }
    }

    pub(super) fn allows(self, method: &str) -> bool {
        self.methods().split(", ").any(|one| one == method)
    }
}
