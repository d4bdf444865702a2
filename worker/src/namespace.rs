//! Namespaces: which options a channel has.
//!
//! Owns: the options of every namespace and the rule that finds a channel's. Knows nothing of sessions.

use std::collections::HashMap;

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
    /// What publications may contain.
    pub(crate) publication_data_format: PublicationDataFormat,
    /// What the channel's name has to match.
    pub(crate) channel_regex: Option<Regex>,
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
