//! Tags filters: which publications of a channel a subscriber wants.
//!
//! Owns what a filter may be, and what it says of a publication's tags. Knows neither the
//! subscriber nor the channel: whether a channel takes filters is decided elsewhere.
//!
//! A filter is checked when a client sends it. From then on it is applied to every publication of
//! its channel, and can neither fail nor cost more than its bounds allow.

mod comparison;
mod decimal;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::protocol::types::FilterNode;
use comparison::Comparison;

/// Nodes from the root of a filter to a leaf, both counted. It is far below what the decoders let
/// through, and bounds the stack of everything that walks a filter.
pub const FILTER_DEPTH_MAX: usize = 16;

/// Nodes of a filter. They bound what one publication costs for each filter of its channel.
pub const FILTER_NODES_MAX: usize = 128;

/// Bytes of a filter's keys and values, each counted with a few bytes more. They bound its
/// memory.
pub const FILTER_TEXT_MAX: usize = 8 * 1024;

/// About what a key or value takes beside its bytes.
const TEXT_OVERHEAD: usize = 16;

/// A checked tags filter.
///
/// Two are equal if they are built alike, so that subscribers who want the same can be grouped.
/// Negations count by what they come to, and sets of values by what is in them: `not(not(x))` equals
/// `x`, and `not(eq)` equals `neq`. The order of operands is kept, and counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TagsFilter(Node);

/// Why a filter is refused. None carries text of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// It is nested more than [`FILTER_DEPTH_MAX`] deep.
    #[error("the filter is more than {FILTER_DEPTH_MAX} nodes deep")]
    TooDeep,
    /// It has more than [`FILTER_NODES_MAX`] nodes.
    #[error("the filter has more than {FILTER_NODES_MAX} nodes")]
    TooManyNodes,
    /// Its keys and values are longer than [`FILTER_TEXT_MAX`].
    #[error("the keys and values of the filter take more than {FILTER_TEXT_MAX} bytes")]
    TooLong,
    /// `op` is neither empty nor `and`, `or`, `not`.
    #[error("a node has an unknown operation")]
    UnknownOperation,
    /// `and` and `or` need a node or more, `not` exactly one.
    #[error("an operation has the wrong number of nodes")]
    Operands,
    /// `cmp` of a leaf is empty or unknown.
    #[error("a leaf has no known comparison")]
    UnknownComparison,
    /// Only `ex` and `nex` may ask for a tag without a name.
    #[error("a comparison needs a key")]
    Key,
    /// `in` and `nin` take `vals`, `ex` and `nex` nothing, and all others `val`, which is not empty.
    #[error("a comparison has the wrong kind of value")]
    Value,
}

impl TagsFilter {
    /// Checks a filter as a client sent it, and takes a copy. What a node's kind has no use for (a
    /// key beside `and`, nodes beside a comparison) is not looked at.
    ///
    /// # Errors
    /// [`FilterError`]
    pub fn new(filter: &FilterNode) -> Result<Self, FilterError> {
        let mut left = Budget {
            nodes: FILTER_NODES_MAX,
            text: FILTER_TEXT_MAX,
        };
        Node::new(filter, FILTER_DEPTH_MAX, &mut left).map(Self)
    }

    /// How many nodes it takes to apply it, at most.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.0.count()
    }

    /// Whether a publication with these tags is wanted.
    ///
    /// A tag that is not there matches `neq`, `nin` and `nex` only. `lt`, `lte`, `gt` and `gte` compare
    /// decimals of any length exactly, and match nothing unless both sides are plain decimals (`-1.50`,
    /// but not `1e3` or `.5`).
    #[must_use]
    pub fn matches(&self, tags: &BTreeMap<String, String>) -> bool {
        self.0.matches(tags)
    }
}

/// What a filter that is being checked may still have.
struct Budget {
    nodes: usize,
    text: usize,
}

impl Budget {
    fn take_node(&mut self) -> Result<(), FilterError> {
        let left = self.nodes.checked_sub(1);
        self.nodes = left.ok_or(FilterError::TooManyNodes)?;
        Ok(())
    }

    fn take_text(&mut self, text: &str) -> Result<(), FilterError> {
        let left = self.text.checked_sub(text.len() + TEXT_OVERHEAD);
        self.text = left.ok_or(FilterError::TooLong)?;
        Ok(())
    }
}

/// A condition, or the opposite of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Node {
    negated: bool,
    condition: Condition,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Condition {
    /// Each holds.
    All(Box<[Node]>),
    /// One or more hold.
    Any(Box<[Node]>),
    /// The tag is there and compares so.
    Tag {
        key: Box<str>,
        comparison: Comparison,
    },
}

impl Node {
    fn new(filter: &FilterNode, depth_left: usize, left: &mut Budget) -> Result<Self, FilterError> {
        let depth_left = depth_left.checked_sub(1).ok_or(FilterError::TooDeep)?;
        left.take_node()?;
        if filter.op.is_empty() {
            return Self::leaf(filter, left);
        }
        let mut operand = |node| Self::new(node, depth_left, left);
        let mut operands = || {
            if filter.nodes.is_empty() {
                return Err(FilterError::Operands);
            }
            filter.nodes.iter().map(&mut operand).collect()
        };
        let condition = match filter.op.as_str() {
            "and" => Condition::All(operands()?),
            "or" => Condition::Any(operands()?),
            "not" => {
                let [node] = filter.nodes.as_slice() else {
                    return Err(FilterError::Operands);
                };
                let node = operand(node)?;
                return Ok(Self {
                    negated: !node.negated,
                    ..node
                });
            }
            _ => return Err(FilterError::UnknownOperation),
        };
        Ok(Self {
            negated: false,
            condition,
        })
    }

    fn leaf(filter: &FilterNode, left: &mut Budget) -> Result<Self, FilterError> {
        for text in [&filter.key, &filter.val].into_iter().chain(&filter.vals) {
            left.take_text(text)?;
        }
        let (negated, comparison) = Comparison::new(filter)?;
        if filter.key.is_empty() && comparison != Comparison::Exists {
            return Err(FilterError::Key);
        }
        let key = filter.key.as_str().into();
        Ok(Self {
            negated,
            condition: Condition::Tag { key, comparison },
        })
    }

    fn count(&self) -> usize {
        let operands = match &self.condition {
            Condition::All(nodes) | Condition::Any(nodes) => &**nodes,
            Condition::Tag { .. } => &[],
        };
        1 + operands.iter().map(Self::count).sum::<usize>()
    }

    fn matches(&self, tags: &BTreeMap<String, String>) -> bool {
        let holds = match &self.condition {
            Condition::All(nodes) => nodes.iter().all(|node| node.matches(tags)),
            Condition::Any(nodes) => nodes.iter().any(|node| node.matches(tags)),
            Condition::Tag { key, comparison } => tags
                .get(&**key)
                .is_some_and(|value| comparison.holds(value)),
        };
        holds != self.negated
    }
}
