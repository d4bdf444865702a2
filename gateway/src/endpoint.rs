//! What there is at which path.

use flotilla_shared::http::paths;
use flotilla_shared::websocket;

/// How a client is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// Both ways over a WebSocket.
    WebSocket,
    /// Server-sent events, and short requests the other way.
    Sse,
    /// An answer that goes on, and short requests the other way.
    HttpStream,
    /// A WebSocket from the server only.
    UniWebSocket,
    /// Server-sent events only.
    UniSse,
    /// An answer that goes on, only.
    UniHttpStream,
}

impl Transport {
    pub(crate) const ALL: [Self; 6] = [
        Self::WebSocket,
        Self::Sse,
        Self::HttpStream,
        Self::UniWebSocket,
        Self::UniSse,
        Self::UniHttpStream,
    ];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Sse => "sse",
            Self::HttpStream => "http_stream",
            Self::UniWebSocket => "uni_websocket",
            Self::UniSse => "uni_sse",
            Self::UniHttpStream => "uni_http_stream",
        }
    }

    /// Where workers have it, and the gateway too; the first one's path at the gateway is
    /// configured.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::WebSocket => websocket::PATH,
            Self::Sse => paths::SSE,
            Self::HttpStream => paths::HTTP_STREAM,
            Self::UniWebSocket => paths::UNI_WEBSOCKET,
            Self::UniSse => paths::UNI_SSE,
            Self::UniHttpStream => paths::UNI_HTTP_STREAM,
        }
    }

    /// Whether it begins with an upgrade.
    pub(crate) fn is_websocket(self) -> bool {
        matches!(self, Self::WebSocket | Self::UniWebSocket)
    }
}

/// A request that is answered at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Errand {
    /// The commands of a client whose replies go another way.
    Emulation,
    /// A call of the server API, which clients have no business with: for development.
    Api,
}

impl Errand {
    pub(crate) const ALL: [Self; 2] = [Self::Emulation, Self::Api];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Emulation => "emulation",
            Self::Api => "api",
        }
    }
}

/// What a path stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Connection(Transport),
    Errand(Errand),
}

impl Endpoint {
    /// The methods it takes, as in `Allow`. `OPTIONS` is answered by the gateway itself.
    pub(crate) fn methods(self) -> &'static str {
        match self {
            Self::Connection(Transport::WebSocket | Transport::UniWebSocket) => "GET",
            Self::Connection(Transport::Sse | Transport::UniSse) => "GET, POST, OPTIONS",
            Self::Connection(Transport::HttpStream | Transport::UniHttpStream) => "POST, OPTIONS",
            Self::Errand(Errand::Emulation) => "POST, OPTIONS",
            Self::Errand(Errand::Api) => "POST, OPTIONS",
        }
    }

    pub(crate) fn allows(self, method: &str) -> bool {
        self.methods().split(", ").any(|one| one == method)
    }
}

/// The endpoints that are switched on.
#[derive(Clone, Debug)]
pub(crate) struct Endpoints {
    /// Where the WebSocket endpoint is.
    pub(crate) websocket_path: String,
    /// Transports that are on besides it.
    pub(crate) transports: Vec<Transport>,
    pub(crate) emulation: bool,
    pub(crate) api: bool,
}

impl Endpoints {
    /// What there is at this path.
    pub(crate) fn at(&self, path: &str) -> Option<Endpoint> {
        if path == self.websocket_path {
            return Some(Endpoint::Connection(Transport::WebSocket));
        }
        if path == paths::EMULATION {
            return self
                .emulation
                .then_some(Endpoint::Errand(Errand::Emulation));
        }
        if path.starts_with(paths::API_PREFIX) {
            return self.api.then_some(Endpoint::Errand(Errand::Api));
        }
        let mut on = self.transports.iter().copied();
        on.find(|transport| path == transport.path())
            .map(Endpoint::Connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(transports: &[Transport]) -> Endpoints {
        Endpoints {
            websocket_path: "/ws".to_owned(),
            transports: transports.to_vec(),
            emulation: true,
            api: false,
        }
    }

    #[test]
    fn only_what_is_on_is_there() {
        let endpoints = endpoints(&[Transport::Sse]);
        let at = |path| endpoints.at(path);
        assert_eq!(at("/ws"), Some(Endpoint::Connection(Transport::WebSocket)));
        let sse = Some(Endpoint::Connection(Transport::Sse));
        assert_eq!(at("/connection/sse"), sse);
        let emulation = Some(Endpoint::Errand(Errand::Emulation));
        assert_eq!(at("/emulation"), emulation);
        for nothing in [
            "/",
            "/ws/",
            "/connection/websocket",
            "/connection/http_stream",
            "/connection/sse/",
            "/Emulation",
            "/api/publish",
        ] {
            assert_eq!(at(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn the_api_is_everything_below_its_prefix() {
        let mut endpoints = endpoints(&[]);
        endpoints.api = true;
        let api = Some(Endpoint::Errand(Errand::Api));
        assert_eq!(endpoints.at("/api/publish"), api);
        assert_eq!(endpoints.at("/api"), None);
        assert_eq!(endpoints.at("/apis"), None);
    }

    #[test]
    fn methods_are_compared_as_a_whole() {
        let stream = Endpoint::Connection(Transport::HttpStream);
        assert!(stream.allows("POST") && stream.allows("OPTIONS"));
        for other in ["GET", "post", "POST, OPTIONS", "", "OPTION"] {
            assert!(!stream.allows(other), "{other}");
        }
    }
}
