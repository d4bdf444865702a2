//! Options named `channel.*`, as they are written.

use std::time::Duration;

use flotilla_shared::config::duration;
use serde::{Deserialize, Serialize};

use super::hooks::RawChannelProxy;
use crate::namespace::{DeltaType, PublicationDataFormat, RecoveryMode};

/// Options named `channel.*`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawChannel {
    /// Longest channel name, in bytes; at most 255.
    pub max_length: usize,
    /// What the back end is asked about channels.
    pub proxy: RawChannelProxy,
    /// How long the numbering of a channel's publications outlives the last of them, in namespaces that do not say
    /// otherwise. A client that was away for longer cannot know whether it missed something; nor can a worker, which sees
    /// where quiet channels end twice a minute: with NATS and less than three minutes here, the first publication
    /// after a long silence makes subscribers subscribe again (2500).
    #[serde(with = "duration")]
    pub history_meta_ttl: Duration,
    /// Options of channels without a namespace.
    pub without_namespace: RawNamespaceOptions,
    /// Namespaces, each with its name and its options.
    pub namespaces: Vec<RawNamespace>,
}

impl Default for RawChannel {
    fn default() -> Self {
        Self {
            max_length: 255,
            proxy: RawChannelProxy::default(),
            history_meta_ttl: Duration::from_secs(720 * 60 * 60),
            without_namespace: RawNamespaceOptions::default(),
            namespaces: Vec::new(),
        }
    }
}

/// Declares the options that a channel has with and without a namespace. A macro, because unknown keys are refused
/// and that excludes flattening one struct into the other.
macro_rules! namespace_options {
    ($( $(#[$doc:meta])* $option:ident: $kind:ty, )*) => {
        /// Options named `channel.without_namespace.*`.
        #[derive(Clone, Debug, Default, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct RawNamespaceOptions { $( $(#[$doc])* pub $option: $kind, )* }

        /// One entry of `channel.namespaces`.
        #[derive(Clone, Debug, Default, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct RawNamespace {
            /// The part of a channel's name before `:`; two or more letters, digits, `-` and `_`.
            pub name: String,
            $( $(#[$doc])* pub $option: $kind, )*
        }

        impl RawNamespace {
            pub(in crate::config) fn options(&self) -> RawNamespaceOptions {
                RawNamespaceOptions { $( $option: self.$option.clone(), )* }
            }
        }
    };
}

namespace_options! {
    /// Clients may subscribe without a subscription token.
    allow_subscribe_for_client: bool,
    /// Clients without a user id may do so too.
    allow_subscribe_for_anonymous: bool,
    /// Clients may publish.
    allow_publish_for_client: bool,
    /// Clients may publish while they are subscribed.
    allow_publish_for_subscriber: bool,
    /// Clients without a user id may publish where one of the two options above lets clients do so.
    allow_publish_for_anonymous: bool,
    /// What publications may contain: `json`, `json_object` or `binary`.
    publication_data_format: PublicationDataFormat,
    /// A regular expression that a channel's whole name has to match somewhere; anchor it with `^` and `$`.
    channel_regex: String,
    /// `channel.proxy.subscribe` decides about clients without a subscription token, instead of the options above.
    subscribe_proxy_enabled: bool,
    /// `channel.proxy.publish` decides who may publish, instead of the options above, and may change what is published.
    publish_proxy_enabled: bool,
    /// `channel.proxy.sub_refresh` decides whether subscriptions that expire may go on, unless clients refresh them with
    /// their tokens.
    sub_refresh_proxy_enabled: bool,
    /// Clients may ask who is in a channel, if one of `allow_presence_for_*` lets them.
    presence: bool,
    /// Clients may be told who comes and goes, if they ask for it.
    join_leave: bool,
    /// They are told without asking. Needs `join_leave`.
    force_push_join_leave: bool,
    /// Most publications that are kept of each channel. With `history_ttl` it gives channels a history; 0: none.
    history_size: u32,
    /// How long a publication is kept.
    #[serde(with = "duration")]
    history_ttl: Duration,
    /// How long the numbering of a channel's publications outlives the last of them; at least `history_ttl`. Zero: as
    /// `channel.history_meta_ttl` says.
    #[serde(with = "duration")]
    history_meta_ttl: Duration,
    /// Clients may ask to be told when they missed publications. Needs history.
    allow_positioning: bool,
    /// They are told without asking. Needs history.
    force_positioning: bool,
    /// Clients may ask for what they missed while they were away. Needs history.
    allow_recovery: bool,
    /// They get it without asking. Needs history.
    force_recovery: bool,
    /// What a client gets that was away: `stream`, all that it missed, or `cache`, the newest publication. Needs
    /// `allow_recovery` or `force_recovery`.
    force_recovery_mode: RecoveryMode,
    /// The newest publication is sent to everyone who subscribes. Needs `force_recovery_mode = "cache"`.
    auto_cache_recover: bool,
    /// A channel whose name ends in `#USER` or `#USER,USER` is for these users only, who need no subscription token.
    allow_user_limited_channels: bool,
    /// Clients may read the history. Needs history.
    allow_history_for_client: bool,
    /// Clients may read the history while they are subscribed. Needs history.
    allow_history_for_subscriber: bool,
    /// Clients without a user id may do so where one of the two options above lets clients do so.
    allow_history_for_anonymous: bool,
    /// Clients may ask who is in the channel. Needs `presence`.
    allow_presence_for_client: bool,
    /// Clients may ask who is in the channel while they are subscribed. Needs `presence`.
    allow_presence_for_subscriber: bool,
    /// Clients without a user id may do so where one of the two options above lets clients do so.
    allow_presence_for_anonymous: bool,
    /// Every publication is sent as its difference from the one before, to clients that asked for it. Needs history and
    /// `allowed_delta_types`.
    delta_publish: bool,
    /// The kinds of difference that clients may ask for; there is one: `fossil`. Needs history.
    allowed_delta_types: Vec<DeltaType>,
    /// Clients may ask for the publications only whose tags pass a filter of theirs.
    allow_tags_filter: bool,
}
