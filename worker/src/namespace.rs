//! Namespaces: which options a channel has.
//!
//! Owns: the options of every namespace and the rule that finds a channel's. Knows nothing of sessions.

use std::collections::HashMap;

use flotilla_shared::broker::Retention;
use flotilla_shared::channel::Channel;
use flotilla_shared::protocol::is_json;
use regex::Regex;
use serde::{Deserialize, Serialize};

/// What a namespace's publications may contain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PublicationDataFormat {
    /// Any JSON value. Clients of both encodings can read it.
    #[default]
    Json,
    /// A JSON object.
    JsonObject,
    /// Any bytes. A client of the JSON encoding that would have to receive what is no JSON is disconnected (3506).
    Binary,
}

impl PublicationDataFormat {
    /// Whether `data` may be published.
    pub(crate) fn accepts(self, data: &[u8]) -> bool {
        match self {
            Self::Json => is_json(data),
            Self::JsonObject => data.trim_ascii_start().starts_with(b"{") && is_json(data),
            Self::Binary => true,
        }
    }
}

/// What a client gets that was away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecoveryMode {
    /// All that it missed.
    #[default]
    Stream,
    /// The newest publication.
    Cache,
}

/// A way to send a publication as its difference from the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeltaType {
    /// The format of the Fossil version control system.
    Fossil,
}

/// The options of one namespace.
#[derive(Clone, Debug, Default)]
pub(crate) struct NamespaceOptions {
    /// Clients may subscribe without a subscription token.
    pub(crate) allow_subscribe_for_client: bool,
    /// Clients without a user id may do so too.
    pub(crate) allow_subscribe_for_anonymous: bool,
    /// Clients may publish.
    pub(crate) allow_publish_for_client: bool,
    /// Clients may publish while subscribed.
    pub(crate) allow_publish_for_subscriber: bool,
    /// Clients without a user id may publish where the two options above let a client do so.
    pub(crate) allow_publish_for_anonymous: bool,
    /// The back end decides who may subscribe without a token, instead of the options above.
    pub(crate) subscribe_proxy_enabled: bool,
    /// The back end decides who may publish, and what, instead of the options above.
    pub(crate) publish_proxy_enabled: bool,
    /// The back end decides whether a subscription that its client does not refresh may go on.
    pub(crate) sub_refresh_proxy_enabled: bool,
    /// What publications may contain.
    pub(crate) publication_data_format: PublicationDataFormat,
    /// What the channel's name has to match.
    pub(crate) channel_regex: Option<Regex>,
    /// It is known who is in a channel.
    pub(crate) presence: bool,
    /// Whoever asks is told who comes and goes.
    pub(crate) join_leave: bool,
    /// Everyone is told who comes and goes.
    pub(crate) force_push_join_leave: bool,
    /// What is kept of a channel; `None`: nothing, and its publications have no offsets.
    pub(crate) history: Option<Retention>,
    /// Clients may ask to be told of gaps.
    pub(crate) allow_positioning: bool,
    /// All are told of gaps.
    pub(crate) force_positioning: bool,
    /// Clients may ask for what they missed.
    pub(crate) allow_recovery: bool,
    /// All get what they missed.
    pub(crate) force_recovery: bool,
    /// What they get then.
    pub(crate) recovery_mode: RecoveryMode,
    /// In cache mode, the newest publication is sent to everyone who subscribes.
    pub(crate) auto_cache_recover: bool,
    /// The part of a name after `#` lists the users whose channel it is.
    pub(crate) allow_user_limited_channels: bool,
    /// Clients may read the history.
    pub(crate) allow_history_for_client: bool,
    /// Clients may read the history while subscribed.
    pub(crate) allow_history_for_subscriber: bool,
    /// Clients without a user id may do so where the two options above let a client do so.
    pub(crate) allow_history_for_anonymous: bool,
    /// Clients may ask who is in a channel.
    pub(crate) allow_presence_for_client: bool,
    /// Clients may ask who is in a channel while subscribed.
    pub(crate) allow_presence_for_subscriber: bool,
    /// Clients without a user id may do so where the two options above let a client do so.
    pub(crate) allow_presence_for_anonymous: bool,
    /// Publications are sent as differences even when their publisher does not ask for it.
    pub(crate) delta_publish: bool,
    /// Clients may ask for differences in the format of Fossil.
    pub(crate) allow_delta_fossil: bool,
    /// Clients may filter publications by their tags.
    pub(crate) allow_tags_filter: bool,
}

impl NamespaceOptions {
    /// Whether `channel` is a name that the namespace admits.
    pub(crate) fn fits(&self, channel: &Channel) -> bool {
        let regex = self.channel_regex.as_ref();
        regex.is_none_or(|regex| regex.is_match(channel.as_str()))
    }
}

/// Every namespace of the configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Namespaces {
    without_namespace: NamespaceOptions,
    by_name: HashMap<String, NamespaceOptions>,
}

impl Namespaces {
    /// `without_namespace` holds for channels whose name has no `:`.
    pub(crate) fn new(
        without_namespace: NamespaceOptions,
        by_name: HashMap<String, NamespaceOptions>,
    ) -> Self {
        Self {
            without_namespace,
            by_name,
        }
    }

    /// Every namespace; the empty name stands for channels without one.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str).chain([""])
    }

    /// The namespaces that have a history, and what they keep; the empty name stands for channels without a namespace.
    pub(crate) fn histories(&self) -> Vec<(String, Retention)> {
        let by_name = self
            .by_name
            .iter()
            .map(|(name, options)| (name.as_str(), options));
        let all = by_name.chain([("", &self.without_namespace)]);
        let histories = all.filter_map(|(name, options)| Some((name.to_owned(), options.history?)));
        histories.collect()
    }

    /// The options of `channel`; `None` when its namespace is not configured.
    pub(crate) fn options(&self, channel: &Channel) -> Option<&NamespaceOptions> {
        match channel.namespace() {
            "" => Some(&self.without_namespace),
            name => self.by_name.get(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> Channel {
        Channel::parse(name, 255).unwrap()
    }

    #[test]
    fn a_channel_gets_the_options_of_the_part_before_its_first_colon() {
        let open = NamespaceOptions {
            allow_publish_for_client: true,
            ..NamespaceOptions::default()
        };
        let namespaces = Namespaces::new(
            NamespaceOptions::default(),
            HashMap::from([("chat".to_owned(), open)]),
        );
        assert!(
            namespaces
                .options(&channel("chat:a:b"))
                .unwrap()
                .allow_publish_for_client
        );
        assert!(
            namespaces
                .options(&channel("$chat:a"))
                .unwrap()
                .allow_publish_for_client
        );
        assert!(
            !namespaces
                .options(&channel("chat"))
                .unwrap()
                .allow_publish_for_client
        );
        assert!(namespaces.options(&channel("other:a")).is_none());
    }

    #[test]
    fn the_data_format_is_held() {
        for (format, data, accepted) in [
            (PublicationDataFormat::Json, &b"[1]"[..], true),
            (PublicationDataFormat::Json, b"[1", false),
            (PublicationDataFormat::Json, b"", false),
            (PublicationDataFormat::JsonObject, b" {\"a\":1}", true),
            (PublicationDataFormat::JsonObject, b"[1]", false),
            (PublicationDataFormat::JsonObject, b"{", false),
            (PublicationDataFormat::Binary, b"\xff\x00", true),
        ] {
            assert_eq!(format.accepts(data), accepted, "{format:?} {data:?}");
        }
    }
}
