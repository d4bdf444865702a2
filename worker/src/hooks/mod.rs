//! Hooks: the questions that a worker asks the user's back end over HTTP.
//!
//! Owns: the requests, the connections that carry them, how long and how many at a time, and what counts as an answer.
//! Knows nothing of sessions and clients' sockets: whoever asks gets an [`Answer`], also when the back end is down,
//! slow or talks nonsense.

mod answer;
mod ask;
mod call;
mod gate;
mod grant;
mod headers;

use std::collections::HashMap;
use std::time::Duration;

use http::Uri;
use http::header::{HeaderMap, HeaderName};
use rustls::ClientConfig;

pub(crate) use answer::Answer;
pub(crate) use ask::Hooks;
pub(crate) use call::{Call, Question};
pub(crate) use gate::Gates;
pub(crate) use grant::{ConnectGrant, PublishGrant, RefreshGrant, RpcGrant, SubscribeGrant};
pub(crate) use headers::{Caller, header_problem};

/// What a back end can be asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Hook {
    Connect,
    Refresh,
    Rpc,
    Subscribe,
    Publish,
    SubRefresh,
}

impl Hook {
    pub(crate) const ALL: [Self; 6] = [
        Self::Connect,
        Self::Refresh,
        Self::Rpc,
        Self::Subscribe,
        Self::Publish,
        Self::SubRefresh,
    ];

    /// A metric label.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Refresh => "refresh",
            Self::Rpc => "rpc",
            Self::Subscribe => "subscribe",
            Self::Publish => "publish",
            Self::SubRefresh => "sub_refresh",
        }
    }
}

/// Where and how one hook is asked.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) uri: Uri,
    /// For the whole call, also for its wait at the gate.
    pub(crate) timeout: Duration,
    /// The client's headers that are passed on.
    pub(crate) forwarded: Vec<HeaderName>,
    /// Headers of every call; none of them is forwarded, too.
    pub(crate) fixed: HeaderMap,
    /// Payloads are in base64.
    pub(crate) is_binary: bool,
    /// What the back end said of the connection for the server's eyes only is told again.
    pub(crate) includes_meta: bool,
}

/// Everything about hooks that is configured.
#[derive(Clone, Debug)]
pub(crate) struct HookOptions {
    /// The hooks that can be asked.
    pub(crate) endpoints: HashMap<Hook, Endpoint>,
    /// Most calls of one hook at a time.
    pub(crate) in_flight_max: usize,
    /// Most calls of one hook that wait for their turn.
    pub(crate) waiting_max: usize,
    /// How long what is to be refreshed outlives its expiry without an answer.
    pub(crate) refresh_unanswered_max: Duration,
    /// Whom the calls trust.
    pub(crate) tls: ClientConfig,
}

#[cfg(test)]
mod tests;
