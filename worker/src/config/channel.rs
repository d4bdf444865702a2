//! Namespaces, made from what was written under `channel`.
//!
//! Owns which options mean nothing without which others. What they do is the session's.

use std::collections::HashMap;
use std::time::Duration;

use flotilla_shared::broker::Retention;
use flotilla_shared::channel::is_namespace_name;
use flotilla_shared::config::Problems;
use regex::Regex;

use super::{RawConfig, RawNamespaceOptions};
use crate::namespace::{DeltaType, NamespaceOptions, Namespaces, RecoveryMode};

/// The protocol's own limit on the length of a channel's name.
const CHANNEL_MAX_BYTES: usize = 255;

/// Makes sense of `raw.channel`; notes everything that makes none.
pub(super) fn namespaces(raw: &RawConfig, problems: &mut Problems) -> Namespaces {
    let channel = &raw.channel;
    if !(1..=CHANNEL_MAX_BYTES).contains(&channel.max_length) {
        problems.add(
            "channel.max_length",
            format!("has to be between 1 and {CHANNEL_MAX_BYTES}"),
        );
    }
    if channel.history_meta_ttl.is_zero() {
        problems.add("channel.history_meta_ttl", "must not be zero");
    }
    let meta_ttl = channel.history_meta_ttl;
    let without = Written {
        key: "channel.without_namespace",
        options: &channel.without_namespace,
    }
    .resolve(meta_ttl, problems);
    let mut by_name = HashMap::new();
    for (at, namespace) in channel.namespaces.iter().enumerate() {
        let key = format!("channel.namespaces.{at}");
        if !is_namespace_name(&namespace.name) {
            let problem = "has to be two or more letters, digits, `-` and `_`";
            problems.add(&format!("{key}.name"), problem);
        }
        let options = Written {
            key: &key,
            options: &namespace.options(),
        }
        .resolve(meta_ttl, problems);
        if by_name.insert(namespace.name.clone(), options).is_some() {
            problems.add(&format!("{key}.name"), "another namespace has this name");
        }
    }
    Namespaces::new(without, by_name)
}

/// The options of one namespace and where they are written.
#[derive(Clone, Copy)]
struct Written<'a> {
    key: &'a str,
    options: &'a RawNamespaceOptions,
}

impl Written<'_> {
    fn resolve(self, meta_ttl: Duration, problems: &mut Problems) -> NamespaceOptions {
        let raw = self.options;
        let history = self.history(meta_ttl, problems);
        self.check_needs(problems);
        NamespaceOptions {
            allow_subscribe_for_client: raw.allow_subscribe_for_client,
            allow_subscribe_for_anonymous: raw.allow_subscribe_for_anonymous,
            allow_publish_for_client: raw.allow_publish_for_client,
            allow_publish_for_subscriber: raw.allow_publish_for_subscriber,
            allow_publish_for_anonymous: raw.allow_publish_for_anonymous,
            subscribe_proxy_enabled: raw.subscribe_proxy_enabled,
            publish_proxy_enabled: raw.publish_proxy_enabled,
            sub_refresh_proxy_enabled: raw.sub_refresh_proxy_enabled,
            publication_data_format: raw.publication_data_format,
            channel_regex: self.channel_regex(problems),
            presence: raw.presence,
            join_leave: raw.join_leave,
            force_push_join_leave: raw.force_push_join_leave,
            history,
            allow_positioning: raw.allow_positioning,
            force_positioning: raw.force_positioning,
            allow_recovery: raw.allow_recovery,
            force_recovery: raw.force_recovery,
            recovery_mode: raw.force_recovery_mode,
            auto_cache_recover: raw.auto_cache_recover,
            allow_user_limited_channels: raw.allow_user_limited_channels,
            allow_history_for_client: raw.allow_history_for_client,
            allow_history_for_subscriber: raw.allow_history_for_subscriber,
            allow_history_for_anonymous: raw.allow_history_for_anonymous,
            allow_presence_for_client: raw.allow_presence_for_client,
            allow_presence_for_subscriber: raw.allow_presence_for_subscriber,
            allow_presence_for_anonymous: raw.allow_presence_for_anonymous,
            delta_publish: raw.delta_publish,
            allow_delta_fossil: raw.allowed_delta_types.contains(&DeltaType::Fossil),
            allow_tags_filter: raw.allow_tags_filter,
        }
    }

    fn add(self, option: &str, problem: &str, problems: &mut Problems) {
        problems.add(&format!("{}.{option}", self.key), problem);
    }

    fn channel_regex(self, problems: &mut Problems) -> Option<Regex> {
        let written = &self.options.channel_regex;
        let key = format!("{}.channel_regex", self.key);
        (!written.is_empty())
            .then(|| problems.check(&key, Regex::new(written)))
            .flatten()
    }

    fn history(self, of_all: Duration, problems: &mut Problems) -> Option<Retention> {
        let (size, ttl) = (self.options.history_size, self.options.history_ttl);
        match (size == 0, ttl.is_zero()) {
            (true, true) => return None,
            (true, false) => {
                self.add("history_size", "is needed with history_ttl", problems);
                return None;
            }
            (false, true) => {
                self.add("history_ttl", "is needed with history_size", problems);
                return None;
            }
            (false, false) => {}
        }
        let own = self.options.history_meta_ttl;
        let meta_ttl = if own.is_zero() { of_all } else { own };
        if meta_ttl < ttl {
            let (option, problem) = match own.is_zero() {
                true => ("history_ttl", "is longer than channel.history_meta_ttl"),
                false => ("history_meta_ttl", "must not be shorter than history_ttl"),
            };
            self.add(option, problem, problems);
        }
        Some(Retention {
            size,
            ttl,
            meta_ttl,
        })
    }

    /// Notes every option that can have no effect because another is missing.
    fn check_needs(self, problems: &mut Problems) {
        let raw = self.options;
        // Whoever sets one of the two means to have a history, and is told of the other already.
        let history = raw.history_size > 0 || !raw.history_ttl.is_zero();
        let recovery = raw.allow_recovery || raw.force_recovery;
        let cache = raw.force_recovery_mode == RecoveryMode::Cache;
        let deltas = !raw.allowed_delta_types.is_empty();
        let mut need = |need: &str, is_there: bool, options: &[(&str, bool)]| {
            for (option, _) in options.iter().filter(|(_, is_set)| *is_set && !is_there) {
                self.add(option, &format!("means nothing without {need}"), problems);
            }
        };
        let options = [
            ("history_meta_ttl", !raw.history_meta_ttl.is_zero()),
            ("allow_positioning", raw.allow_positioning),
            ("force_positioning", raw.force_positioning),
            ("allow_recovery", raw.allow_recovery),
            ("force_recovery", raw.force_recovery),
            ("auto_cache_recover", raw.auto_cache_recover),
            ("allow_history_for_client", raw.allow_history_for_client),
            (
                "allow_history_for_subscriber",
                raw.allow_history_for_subscriber,
            ),
            (
                "allow_history_for_anonymous",
                raw.allow_history_for_anonymous,
            ),
            ("allowed_delta_types", deltas),
            ("delta_publish", raw.delta_publish),
        ];
        need("history_size and history_ttl", history, &options);
        let options = [
            ("allow_presence_for_client", raw.allow_presence_for_client),
            (
                "allow_presence_for_subscriber",
                raw.allow_presence_for_subscriber,
            ),
            (
                "allow_presence_for_anonymous",
                raw.allow_presence_for_anonymous,
            ),
        ];
        need("presence", raw.presence, &options);
        let options = [("force_push_join_leave", raw.force_push_join_leave)];
        need("join_leave", raw.join_leave, &options);
        need(
            "allow_recovery or force_recovery",
            recovery,
            &[("force_recovery_mode", cache)],
        );
        let options = [("auto_cache_recover", raw.auto_cache_recover)];
        need("force_recovery_mode = \"cache\"", cache, &options);
        let options = [("delta_publish", raw.delta_publish)];
        need("allowed_delta_types", deltas, &options);
    }
}
