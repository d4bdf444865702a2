//! What a session has to know of the way in which its client is connected.

use super::Pings;

/// Not what carries its messages: a session never sees that.
#[derive(Debug, Default)]
pub(crate) struct Transport {
    /// How the client wants to be pinged.
    pub(crate) pings: Pings,
    /// By what requests find the session that do not come over its connection. The client is told, and nobody else.
    pub(crate) session: Option<Box<str>>,
    /// The client only listens: it cannot say anything behind its connect command.
    pub(crate) is_one_way: bool,
    /// A gateway pings the client, and ends it if it does not answer.
    pub(crate) is_kept_alive: bool,
}

impl Transport {
    /// Whether the client answers pings.
    pub(super) fn has_pongs(&self) -> bool {
        !self.is_one_way || self.pings == Pings::Transport
    }
}
