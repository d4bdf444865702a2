//! Where each setting comes from.
//!
//! Owns the map from a setting's path to the place that set it last. It does not know the settings.

use std::collections::{BTreeMap, BTreeSet};

/// The origin of every setting that something other than the defaults has set, by dotted path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Origins(BTreeMap<String, String>);

impl Origins {
    /// Notes that `path` was set at `origin`.
    pub(super) fn insert(&mut self, path: String, origin: String) {
        self.0.insert(path, origin);
    }

    /// Where the setting at `path` comes from; `None` if it has its default. For a path inside of a
    /// value that was set as a whole, the origin of that value; for a table, the origins of all
    /// that is set in it.
    pub(super) fn of(&self, path: &str) -> Option<String> {
        let mut whole = path;
        loop {
            if let Some(origin) = self.0.get(whole) {
                return Some(origin.clone());
            }
            match whole.rsplit_once('.') {
                Some((parent, _)) => whole = parent,
                None => break,
            }
        }
        let inside = format!("{path}.");
        let origins: BTreeSet<&str> = self
            .0
            .range(inside.clone()..)
            .take_while(|(key, _)| key.starts_with(&inside))
            .map(|(_, origin)| origin.as_str())
            .collect();
        if origins.is_empty() {
            return None;
        }
        Some(origins.into_iter().collect::<Vec<_>>().join(", "))
    }
}
