//! Where each setting comes from.
//!
//! Owns the map from a setting's path to the place that set it last. It does not know the settings.

use std::collections::{BTreeMap, BTreeSet};

/// The origin of every setting that something other than the defaults has set, by dotted path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Origins(BTreeMap<String, String>);

impl Origins {
    /// Notes that `path` was set at `origin`, with whatever it contains.
    pub(super) fn set(&mut self, path: &str, origin: String) {
        let inside = format!("{path}.");
        self.0.retain(|known, _| !known.starts_with(&inside));
        self.0.insert(path.to_owned(), origin);
    }

    /// Notes that a part of a value that was set as a whole is found at `origin`.
    pub(super) fn set_part(&mut self, path: String, origin: String) {
        self.0.insert(path, origin);
    }

    /// Where exactly this path was set.
    pub(super) fn exactly(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
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
        let of_parts = self
            .0
            .range(inside.clone()..)
            .take_while(|(key, _)| key.starts_with(&inside));
        let origins: BTreeSet<&str> = of_parts.map(|(_, origin)| origin.as_str()).collect();
        match origins.is_empty() {
            true => None,
            false => Some(origins.into_iter().collect::<Vec<_>>().join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origin_of_a_part_is_that_of_the_whole_unless_it_has_its_own() {
        let mut origins = Origins::default();
        origins.set("list", "a".to_owned());
        origins.set_part("list.0.name".to_owned(), "b".to_owned());
        assert_eq!(origins.of("list.0.name").as_deref(), Some("b"));
        assert_eq!(origins.of("list.0.other").as_deref(), Some("a"));
        assert_eq!(origins.exactly("list.0.other"), None);
        assert_eq!(origins.of("listen"), None);

        origins.set("list", "c".to_owned());
        assert_eq!(origins.of("list.0.name").as_deref(), Some("c"));
    }

    #[test]
    fn the_origin_of_a_table_is_where_its_keys_come_from() {
        let mut origins = Origins::default();
        origins.set("table.x", "a".to_owned());
        origins.set("table.y.z", "b".to_owned());
        origins.set("table.v", "a".to_owned());
        origins.set("tables.x", "c".to_owned());
        assert_eq!(origins.of("table").as_deref(), Some("a, b"));
    }
}
