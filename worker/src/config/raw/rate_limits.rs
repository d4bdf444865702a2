//! Options named `client.rate_limits.*`, as they are written.

use serde::{Deserialize, Serialize};

/// Options named `client.rate_limits.*`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawRateLimits {
    /// Messages of any kind. A client that sends more is read more slowly: nothing is refused. The burst is never less
    /// than `channel_limit`.
    pub messages: RawRate,
    /// Bytes of messages. A client that sends more is read more slowly: nothing is refused. The burst is never less
    /// than `message_size_limit`.
    pub bytes: RawRate,
    /// Subscribe commands; what is too many is refused with the temporary error 111. The burst is never less than
    /// `channel_limit`, as after a connect an SDK subscribes to all its channels at once.
    pub subscribe: RawRate,
    /// Publish commands; what is too many is refused with the temporary error 111.
    pub publish: RawRate,
    /// Presence and presence statistics commands; what is too many is refused with the temporary error 111.
    pub presence: RawRate,
    /// History commands; what is too many is refused with the temporary error 111.
    pub history: RawRate,
    /// RPC commands; what is too many is refused with the temporary error 111.
    pub rpc: RawRate,
    /// Commands that refresh the connection or a subscription; what is too many is refused with the temporary error
    /// 111. The burst is never less than `channel_limit`, as the tokens of all subscriptions may run out at once.
    pub refresh: RawRate,
    /// Errors that commands are answered with, except those that are the server's own or the application's. A client that
    /// goes on nevertheless is disconnected: with 3013 if the last of them was that it is too fast, so that it comes back
    /// later, otherwise for good, with 3509. The burst is never less than `channel_limit`.
    pub errors: RawRate,
}

/// Options named `client.rate_limits.KIND.*`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawRate {
    /// How many a connection may have every second. 0: no limit.
    pub per_second: u32,
    /// How many of them at once after a pause. 0: as many as in a second, or as the kind needs.
    pub burst: u32,
}
