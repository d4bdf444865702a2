//! The tags filters of one channel.
//!
//! Owns: that filters which want the same are one, so that each is applied once to each publication, whoever has it; and
//! how much of them a channel may have.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use flotilla_shared::filter::TagsFilter;

use super::Mode;

/// Nodes that all filters of a channel may have together, each filter counted once. They bound what a publication costs
/// a shard, to some tenths of a millisecond.
pub(super) const NODES_MAX: usize = 4096;

/// A filter, and what it says of the publication that is being delivered.
#[derive(Debug)]
pub(crate) struct Filter {
    filter: TagsFilter,
    is_passed: Cell<bool>,
}

impl Filter {
    /// Whether a publication with these tags is wanted.
    pub(super) fn matches(&self, tags: &BTreeMap<String, String>) -> bool {
        self.filter.matches(tags)
    }

    /// Whether the publication that was shown to [`Filters::apply`] is wanted.
    pub(super) fn is_passed(&self) -> bool {
        self.is_passed.get()
    }
}

impl From<TagsFilter> for Filter {
    fn from(filter: TagsFilter) -> Self {
        Self {
            filter,
            is_passed: Cell::new(false),
        }
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.filter == other.filter
    }
}

impl Eq for Filter {}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Filters(Vec<Rc<Filter>>);

/// A channel has so many filters that another one would make its publications too expensive.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMany;

impl Filters {
    /// Puts the channel's own filter in the place of one that wants the same, or makes this one the channel's.
    pub(super) fn unify(&mut self, wanted: &mut Rc<Filter>) -> Result<(), TooMany> {
        if let Some(own) = self.0.iter().find(|own| *own == wanted) {
            own.clone_into(wanted);
            return Ok(());
        }
        self.0.retain(is_in_use);
        let filters = self.0.iter().chain([&*wanted]);
        let nodes: usize = filters.map(|filter| filter.filter.nodes()).sum();
        if nodes > NODES_MAX {
            return Err(TooMany);
        }
        self.0.push(wanted.clone());
        Ok(())
    }

    /// Has each say what it thinks of a publication with these tags.
    pub(super) fn apply(&mut self, tags: &BTreeMap<String, String>) {
        self.0.retain(is_in_use);
        for filter in &self.0 {
            filter.is_passed.set(filter.matches(tags));
        }
    }
}

/// Whether a member has it, or one that waits to be a member.
fn is_in_use(filter: &Rc<Filter>) -> bool {
    Rc::strong_count(filter) > 1
}

impl Mode {
    /// Only what passes the filter, whole.
    pub(crate) fn filtered(filter: TagsFilter) -> Self {
        Self::Filtered(Rc::new(filter.into()))
    }
}
