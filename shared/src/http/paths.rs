//! Where clients find what is not the WebSocket endpoint, by the names that client libraries
//! expect. That endpoint's own path is [`crate::websocket::PATH`].

/// A stream of server-sent events, both ways together with [`EMULATION`].
pub const SSE: &str = "/connection/sse";

/// A stream of replies, both ways together with [`EMULATION`].
pub const HTTP_STREAM: &str = "/connection/http_stream";

/// Where clients of [`SSE`] and [`HTTP_STREAM`] post their commands.
pub const EMULATION: &str = "/emulation";

/// A stream of server-sent events, from the server only.
pub const UNI_SSE: &str = "/connection/uni_sse";

/// A stream of pushes, from the server only.
pub const UNI_HTTP_STREAM: &str = "/connection/uni_http_stream";

/// A WebSocket of pushes, from the server only.
pub const UNI_WEBSOCKET: &str = "/connection/uni_websocket";

/// What the paths of the server API begin with.
pub const API_PREFIX: &str = "/api/";
