//! The built-in development configurations, one file each in `profiles/`.
//!
//! A profile holds settings of the worker and the gateway under the same keys as their own
//! configuration files, and what to show of it. It knows no addresses: those are the launcher's
//! (`settings`), and so are secrets, unless the profile is for clients that expect certain ones.

use anyhow::{Context, Result};
use flotilla_shared::secret::Secret;
use serde::Deserialize;
use toml::Table;

/// Name and text of each profile. A new one is a file and a line here.
const PROFILES: [(&str, &str); 4] = [
    ("chat", include_str!("../profiles/chat.toml")),
    ("insecure", include_str!("../profiles/insecure.toml")),
    ("open", include_str!("../profiles/open.toml")),
    ("tokens", include_str!("../profiles/tokens.toml")),
];

/// The profile that is used when none is named.
pub(crate) const DEFAULT: &str = "chat";

/// The names of all profiles, for `--help` and for its errors.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    PROFILES.iter().map(|(name, _)| *name)
}

/// One built-in development configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    /// What it allows, in a few words.
    pub(crate) about: String,
    /// The channel that the examples and the demo page use.
    pub(crate) channel: String,
    /// What clients' tokens are signed with, if it has to be known beforehand.
    pub(crate) token_secret: Option<Secret>,
    /// What a back end presents to publish, if it has to be known beforehand.
    pub(crate) api_key: Option<Secret>,
    /// Settings of every worker.
    #[serde(default)]
    pub(crate) worker: Table,
    /// Settings of the gateway.
    #[serde(default)]
    pub(crate) gateway: Table,
}

impl Profile {
    /// The profile called `name`.
    ///
    /// # Errors
    /// When there is no such profile.
    pub(crate) fn named(name: &str) -> Result<Self> {
        let (_, text) = PROFILES
            .iter()
            .find(|(known, _)| *known == name)
            .with_context(|| format!("there is no profile {name:?}"))?;
        toml::from_str(text).with_context(|| format!("profile {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_reads() {
        for name in names() {
            let profile = Profile::named(name).expect(name);
            assert!(
                !profile.about.is_empty() && !profile.channel.is_empty(),
                "{name}"
            );
        }
    }

    #[test]
    fn the_default_profile_exists() {
        assert!(names().any(|name| name == DEFAULT));
    }

    #[test]
    fn an_unknown_profile_is_refused_by_name() {
        let error = Profile::named("nonsense").expect_err("is refused");
        assert!(error.to_string().contains("nonsense"));
    }
}
