//! What a leaf of a filter asks of the value of one tag.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::FilterError;
use super::decimal::Decimal;
use crate::protocol::types::FilterNode;

/// A comparison with the value of a tag that is there. With one that is not, none holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Comparison {
    Exists,
    Equals(Box<str>),
    In(BTreeSet<Box<str>>),
    StartsWith(Box<str>),
    EndsWith(Box<str>),
    Contains(Box<str>),
    /// Both are decimals, and stand in this relation.
    Number(Relation, Box<str>),
}

/// How a number stands to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Relation {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    /// Reads the comparison of a leaf, and whether it is the opposite that is asked for.
    pub(super) fn new(leaf: &FilterNode) -> Result<(bool, Self), FilterError> {
        let (negated, kind) = match leaf.cmp.as_str() {
            "neq" => (true, "eq"),
            "nin" => (true, "in"),
            "nex" => (true, "ex"),
            kind => (false, kind),
        };
        let comparison: fn(Box<str>) -> Self = match kind {
            "ex" if leaf.val.is_empty() && leaf.vals.is_empty() => {
                return Ok((negated, Self::Exists));
            }
            "in" if leaf.val.is_empty() && !leaf.vals.is_empty() => {
                let values = leaf.vals.iter().map(|value| value.as_str().into());
                return Ok((negated, Self::In(values.collect())));
            }
            "ex" | "in" => return Err(FilterError::Value),
            "eq" => Self::Equals,
            "sw" => Self::StartsWith,
            "ew" => Self::EndsWith,
            "ct" => Self::Contains,
            "lt" => |bound| Self::Number(Relation::Less, bound),
            "lte" => |bound| Self::Number(Relation::LessOrEqual, bound),
            "gt" => |bound| Self::Number(Relation::Greater, bound),
            "gte" => |bound| Self::Number(Relation::GreaterOrEqual, bound),
            _ => return Err(FilterError::UnknownComparison),
        };
        if leaf.val.is_empty() || !leaf.vals.is_empty() {
            return Err(FilterError::Value);
        }
        Ok((negated, comparison(leaf.val.as_str().into())))
    }

    /// Whether it holds for the value of a tag.
    pub(super) fn holds(&self, value: &str) -> bool {
        match self {
            Self::Exists => true,
            Self::Equals(expected) => value == &**expected,
            Self::In(expected) => expected.contains(value),
            Self::StartsWith(start) => value.starts_with(&**start),
            Self::EndsWith(end) => value.ends_with(&**end),
            Self::Contains(part) => value.contains(&**part),
            Self::Number(relation, bound) => Decimal::parse(value)
                .zip(Decimal::parse(bound))
                .is_some_and(|(value, bound)| relation.holds(value.cmp(&bound))),
        }
    }
}

impl Relation {
    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        }
    }
}
