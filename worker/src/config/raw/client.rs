//! Options named `client.*`, as they are written.

use std::time::Duration;

use flotilla_shared::auth::TokenOptions;
use flotilla_shared::config::duration;
use serde::{Deserialize, Serialize};

use super::RawRateLimits;
use super::hooks::RawClientProxy;

/// Options named `client.*`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawClient {
    /// How connection and subscription tokens are verified.
    pub token: TokenOptions,
    /// What the back end is asked about connections.
    pub proxy: RawClientProxy,
    /// A client with neither token nor passport is taken as the anonymous user.
    pub allow_anonymous_connect_without_token: bool,
    /// Tokens whose `sub` is empty are refused.
    pub disallow_anonymous_connection_tokens: bool,
    /// For development: clients connect without a token and do everything everywhere, whatever namespaces allow. Tokens
    /// that are sent are still verified. Only on loopback; see `allow_insecure_on_public_address`.
    pub insecure: bool,
    /// For development: what a token says is believed, whoever signed it. Only on loopback; see
    /// `allow_insecure_on_public_address`.
    pub insecure_skip_token_signature_verify: bool,
    /// Time between two pings. Zero: no pings.
    #[serde(with = "duration")]
    pub ping_interval: Duration,
    /// Time a client has to answer a ping. Shorter than `ping_interval`.
    #[serde(with = "duration")]
    pub pong_timeout: Duration,
    /// Time a client has to send its request head.
    #[serde(with = "duration")]
    pub head_timeout: Duration,
    /// Time a client has to send its connect command.
    #[serde(with = "duration")]
    pub stale_close_delay: Duration,
    /// Time an expired connection has to refresh.
    #[serde(with = "duration")]
    pub expired_close_delay: Duration,
    /// Time an expired subscription has to refresh.
    #[serde(with = "duration")]
    pub expired_sub_close_delay: Duration,
    /// Most channels of one client. One more is refused with the error 106; a connection whose token brings more is
    /// closed with 3505.
    pub channel_limit: usize,
    /// Most bytes that wait for one client's socket; a client that falls further behind is disconnected as slow.
    pub queue_max_size: usize,
    /// Largest message from a client, in bytes. A larger one closes the connection with 1009.
    pub message_size_limit: usize,
    /// A client whose socket takes nothing for this long, although something waits, is disconnected.
    #[serde(with = "duration")]
    pub write_timeout: Duration,
    /// Most connections of one user to this worker; one more is closed with 3504. Anonymous users are not counted. 0: no
    /// limit.
    pub user_connection_limit: usize,
    /// How often each connection may do what: each kind of command, and messages of all kinds, has a bucket of tokens
    /// that fills at its rate up to its burst. `flotilla_worker_rate_limited_total` counts how often one was empty.
    pub rate_limits: RawRateLimits,
    /// Most publications that one history request of a client gets.
    pub history_max_publication_limit: usize,
    /// Most missed publications that a client gets when it comes back; one that missed more has to load its state anew.
    pub recovery_max_publication_limit: usize,
    /// A channel of each user's own, to which the server subscribes all connections of the user.
    pub subscribe_to_user_personal_channel: RawPersonalChannel,
    /// The connect result names the worker, for demonstrations and debugging.
    pub expose_node: bool,
    /// What becomes of a publication in a channel without history when the worker that had it was lost before it said
    /// whether it was published, and the client's connection went on at another one: `repeat` publishes it, maybe for the
    /// second time; `drop` does not, so that it may be lost. In channels with history it is published exactly once.
    pub unacknowledged_publications: Unacknowledged,
}

impl Default for RawClient {
    fn default() -> Self {
        Self {
            token: TokenOptions::default(),
            proxy: RawClientProxy::default(),
            allow_anonymous_connect_without_token: false,
            disallow_anonymous_connection_tokens: false,
            insecure: false,
            insecure_skip_token_signature_verify: false,
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(8),
            head_timeout: Duration::from_secs(10),
            stale_close_delay: Duration::from_secs(10),
            expired_close_delay: Duration::from_secs(25),
            expired_sub_close_delay: Duration::from_secs(25),
            channel_limit: 128,
            queue_max_size: 1024 * 1024,
            message_size_limit: 64 * 1024,
            write_timeout: Duration::from_secs(10),
            user_connection_limit: 0,
            rate_limits: RawRateLimits::default(),
            history_max_publication_limit: 300,
            recovery_max_publication_limit: 300,
            subscribe_to_user_personal_channel: RawPersonalChannel::default(),
            expose_node: false,
            unacknowledged_publications: Unacknowledged::default(),
        }
    }
}

/// What becomes of a client's publication in a channel without history, if the worker that had it was lost before it said
/// whether it was published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unacknowledged {
    /// It is published, maybe for the second time.
    #[default]
    Repeat,
    /// It counts as published, and maybe never was.
    Drop,
}

/// Options named `client.subscribe_to_user_personal_channel.*`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawPersonalChannel {
    /// Whether users have one. It is named `#USER`, or `NAMESPACE:#USER`; anonymous users have none.
    pub enabled: bool,
    /// The namespace that it is in. Empty: none.
    pub personal_channel_namespace: String,
    /// A user keeps one connection: whoever connects anew makes the user's older connections end, with 3504, on whatever
    /// worker they are.
    pub single_connection: bool,
}
