//! What every session of a worker has to know and none may change.
//!
//! Owns: the options of clients, the namespaces and the token verifier, as one value per shard. Knows nothing of
//! where they were configured.

use std::sync::Arc;
use std::time::Duration;

use flotilla_shared::auth::Verifier;

use crate::config::{Config, Unacknowledged};
use crate::hooks::{Hook, HookOptions};
use crate::namespace::Namespaces;
use crate::rates::RateLimits;
use crate::revocation::Revocations;
use crate::user_capacity::UserCapacity;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Policy {
    /// This worker's id, told to clients when `expose_node` is set.
    pub(crate) node: String,
    /// What clients may do and how long they may take.
    pub(crate) client: ClientOptions,
    /// Longest channel name, in bytes.
    pub(crate) channel_max_bytes: usize,
    /// Options by namespace.
    pub(crate) namespaces: Namespaces,
    /// Verifies connection and subscription tokens.
    pub(crate) verifier: Arc<Verifier>,
    /// What no longer counts although it verifies.
    pub(crate) revocations: Revocations,
    /// How many connections a user may have.
    pub(crate) user_capacity: UserCapacity,
    /// What the back end is asked, besides what namespaces say.
    pub(crate) hooks: EnabledHooks,
}

impl Policy {
    /// The policy that `config` asks for.
    pub(crate) fn new(
        config: &Config,
        revocations: Revocations,
        user_capacity: UserCapacity,
    ) -> Self {
        Self {
            node: config.id.clone(),
            client: config.client.clone(),
            channel_max_bytes: config.channel_max_bytes,
            namespaces: config.namespaces.clone(),
            verifier: config.verifier.clone(),
            revocations,
            user_capacity,
            hooks: EnabledHooks::of(&config.hooks),
        }
    }
}

/// The hooks that are no namespace's.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct EnabledHooks {
    /// Says who a client is that neither a token nor a passport speaks for.
    pub(crate) connect: bool,
    /// Says whether a connection that its client does not refresh may go on.
    pub(crate) refresh: bool,
    /// Answers the `rpc` command.
    pub(crate) rpc: bool,
    /// How long what is to be refreshed outlives its expiry without an answer.
    pub(crate) refresh_unanswered_max: Duration,
}

impl EnabledHooks {
    fn of(options: &HookOptions) -> Self {
        let is_there = |hook| options.endpoints.contains_key(&hook);
        Self {
            connect: is_there(Hook::Connect),
            refresh: is_there(Hook::Refresh),
            rpc: is_there(Hook::Rpc),
            refresh_unanswered_max: options.refresh_unanswered_max,
        }
    }
}

/// Options named `client.*` in the configuration.
#[derive(Clone, Debug)]
pub(crate) struct ClientOptions {
    /// A client with neither token nor passport is taken as the anonymous user.
    pub(crate) allow_anonymous_connect_without_token: bool,
    /// Tokens whose `sub` is empty are refused.
    pub(crate) disallow_anonymous_connection_tokens: bool,
    /// Clients need no token and may do everything everywhere.
    pub(crate) insecure: bool,
    /// Time between two pings; zero: no pings.
    pub(crate) ping_interval: Duration,
    /// Time a client has to answer a ping.
    pub(crate) pong_timeout: Duration,
    /// Time a client has to send its connect command.
    pub(crate) stale_close_delay: Duration,
    /// Time an expired connection has to refresh.
    pub(crate) expired_close_delay: Duration,
    /// Time an expired subscription has to refresh.
    pub(crate) expired_sub_close_delay: Duration,
    /// Most channels of one client.
    pub(crate) channel_limit: usize,
    /// How often each connection may do what.
    pub(crate) rate_limits: RateLimits,
    /// Most publications that one history request gets.
    pub(crate) history_max_publication_limit: usize,
    /// Most missed publications that a client gets when it comes back.
    pub(crate) recovery_max_publication_limit: usize,
    /// The channel that every user has; `None`: users have none.
    pub(crate) personal_channel: Option<PersonalChannel>,
    /// The connect result names this worker also on WebSocket.
    pub(crate) expose_node: bool,
    /// What becomes of publications that a lost worker may have published.
    pub(crate) unacknowledged: Unacknowledged,
}

/// A channel for each user, to which the server subscribes all connections of the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PersonalChannel {
    /// The namespace that it is in; empty: none.
    pub(crate) namespace: String,
    /// A new connection makes the user's older ones end.
    pub(crate) single_connection: bool,
}
