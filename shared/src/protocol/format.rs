//! The two encodings a client chooses from during the handshake, and what differs between them
//! besides the bytes of a message.

/// A wire format. Chosen once per connection; it never changes afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// One JSON object per line, in text frames. The default when a client asks for nothing.
    Json,
    /// Length-prefixed Protobuf messages, in binary frames.
    Protobuf,
}

impl Format {
    /// Every format, for tables indexed by format and metrics that start at zero.
    pub const ALL: [Self; 2] = [Self::Json, Self::Protobuf];

    /// The payload of a frame with one ping, which is an empty reply. A pong, which is an empty
    /// command, has the same bytes.
    pub const fn ping(self) -> &'static [u8] {
        match self {
            Self::Json => b"{}",
            Self::Protobuf => b"\0",
        }
    }

    /// Whether frames are WebSocket text frames (otherwise binary).
    pub const fn is_text(self) -> bool {
        matches!(self, Self::Json)
    }

    /// The name in `Sec-WebSocket-Protocol`.
    pub const fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => "centrifuge-json",
            Self::Protobuf => "centrifuge-protobuf",
        }
    }

    /// The type of a body in this format.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Protobuf => "application/octet-stream",
        }
    }

    /// The format that a name in `Sec-WebSocket-Protocol` stands for, if it is one of ours.
    pub fn from_subprotocol(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|format| format.subprotocol() == name)
    }

    /// A metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Protobuf => "protobuf",
        }
    }
}
