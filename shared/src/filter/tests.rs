//! What filters match, which are refused, and what holds for all.

use std::collections::{BTreeMap, HashSet};

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::protocol::types::Request;
use crate::protocol::{Format, commands};

/// A leaf; which of `val` and `vals` is set depends on the comparison.
fn leaf(key: &str, cmp: &str, values: &[&str]) -> FilterNode {
    let mut leaf = FilterNode {
        key: key.into(),
        cmp: cmp.into(),
        ..FilterNode::default()
    };
    match (cmp, values) {
        ("in" | "nin", values) => leaf.vals = values.iter().map(|&value| value.into()).collect(),
        (_, [value]) => leaf.val = (*value).into(),
        _ => {}
    }
    leaf
}

fn op(op: &str, nodes: impl IntoIterator<Item = FilterNode>) -> FilterNode {
    FilterNode {
        op: op.into(),
        nodes: nodes.into_iter().collect(),
        ..FilterNode::default()
    }
}

fn tags(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |&(key, value): &(&str, &str)| (key.to_owned(), value.to_owned());
    pairs.iter().map(owned).collect()
}

fn filter(filter: &FilterNode) -> TagsFilter {
    TagsFilter::new(filter).unwrap_or_else(|error| panic!("{error}: {filter:?}"))
}

/// Compares a tag with `values`: which of its values match, and whether it matches when it is absent.
#[track_caller]
fn check(cmp: &str, values: &[&str], absent: bool, matching: &[&str], others: &[&str]) {
    let filter = filter(&leaf("key", cmp, values));
    for (tag_values, expected) in [(matching, true), (others, false)] {
        for value in tag_values {
            let matches = filter.matches(&tags(&[("key", value), ("other", "1")]));
            assert_eq!(matches, expected, "{cmp} {values:?}: {value:?}");
        }
    }
    let matches = filter.matches(&tags(&[("other", "1")]));
    assert_eq!(matches, absent, "{cmp} {values:?}: no such tag");
}

#[test]
fn each_comparison_of_text_has_its_meaning() {
    check("eq", &["a"], false, &["a"], &["A", "aa", ""]);
    check("neq", &["a"], true, &["A", "aa", ""], &["a"]);
    check("in", &["a", "b"], false, &["a", "b"], &["ab", ""]);
    check("in", &[""], false, &[""], &["a"]);
    check("nin", &["a", "b"], true, &["ab", ""], &["a", "b"]);
    check("ex", &[], false, &["a", ""], &[]);
    check("nex", &[], true, &[], &["a", ""]);
    check("sw", &["ab"], false, &["ab", "abc"], &["a", "cab", ""]);
    check("ew", &["ab"], false, &["ab", "cab"], &["b", "abc", ""]);
    check("ct", &["é"], false, &["é", "aéb"], &["è", "e", ""]);
}

#[test]
fn each_comparison_of_numbers_has_its_meaning() {
    let (less, equal) = (["1.49", "-2", "-10"], ["1.5", "1.50", "01.5", "+1.5"]);
    let (greater, none) = (["1.51", "10", "9"], ["x", "", "1.5 ", "1e1"]);
    let all = [&less[..], &equal, &greater];
    check(
        "lt",
        &["1.5"],
        false,
        &less,
        &[&equal[..], &greater, &none].concat(),
    );
    check(
        "lte",
        &["1.5"],
        false,
        &[&less[..], &equal].concat(),
        &[&greater[..], &none].concat(),
    );
    check(
        "gt",
        &["1.5"],
        false,
        &greater,
        &[&equal[..], &less, &none].concat(),
    );
    check(
        "gte",
        &["1.5"],
        false,
        &[&greater[..], &equal].concat(),
        &[&less[..], &none].concat(),
    );
    for cmp in ["lt", "lte", "gt", "gte"] {
        check(cmp, &["x"], false, &[], &all.concat());
    }
}

#[test]
fn each_operation_has_its_meaning() {
    let (a, b) = (leaf("a", "ex", &[]), leaf("b", "ex", &[]));
    let given = |text: &str| {
        let pairs: Vec<(&str, &str)> = text.split_terminator("").map(|key| (key, "")).collect();
        tags(&pairs)
    };
    let rows = [
        (
            "and",
            vec![a.clone(), b.clone()],
            [false, false, false, true],
        ),
        ("or", vec![a.clone(), b.clone()], [false, true, true, true]),
        ("and", vec![a.clone()], [false, true, false, true]),
        ("or", vec![a.clone()], [false, true, false, true]),
        ("not", vec![a], [true, false, true, false]),
    ];
    for (name, nodes, expected) in rows {
        let filter = filter(&op(name, nodes));
        let matches = ["", "a", "b", "ab"].map(|keys| filter.matches(&given(keys)));
        assert_eq!(matches, expected, "{name}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let known = leaf("a", "eq", &["1"]);
    let both = FilterNode {
        vals: vec!["1".into()],
        ..known.clone()
    };
    let set = leaf("a", "in", &["1"]);
    let set_and_one = FilterNode {
        val: "1".into(),
        ..set
    };
    let existing = FilterNode {
        vals: vec!["1".into()],
        ..leaf("a", "nex", &[])
    };
    let cases = [
        (FilterNode::default(), FilterError::UnknownComparison),
        (leaf("a", "", &["1"]), FilterError::UnknownComparison),
        (leaf("a", "EQ", &["1"]), FilterError::UnknownComparison),
        (op("xor", [known.clone()]), FilterError::UnknownOperation),
        (op("and", []), FilterError::Operands),
        (op("or", []), FilterError::Operands),
        (op("not", []), FilterError::Operands),
        (
            op("not", [known.clone(), known.clone()]),
            FilterError::Operands,
        ),
        (leaf("", "eq", &["1"]), FilterError::Key),
        (leaf("", "nin", &["1"]), FilterError::Key),
        (leaf("a", "eq", &[]), FilterError::Value),
        (leaf("a", "lt", &[]), FilterError::Value),
        (leaf("a", "in", &[]), FilterError::Value),
        (leaf("a", "nin", &[]), FilterError::Value),
        (leaf("a", "ex", &["1"]), FilterError::Value),
        (both, FilterError::Value),
        (set_and_one, FilterError::Value),
        (existing, FilterError::Value),
    ];
    for (wire, error) in cases {
        assert_eq!(TagsFilter::new(&wire), Err(error), "{wire:?}");
        let within = op("and", [known.clone(), op("not", [wire])]);
        assert_eq!(TagsFilter::new(&within), Err(error), "{within:?}");
    }
}

#[test]
fn a_filter_has_bounded_depth() {
    let nested = |depth: usize| {
        let leaf = leaf("a", "ex", &[]);
        (1..depth).fold(leaf, |inner, _| op("and", [inner]))
    };
    assert!(TagsFilter::new(&nested(FILTER_DEPTH_MAX)).is_ok());
    let too_deep = Err(FilterError::TooDeep);
    assert_eq!(TagsFilter::new(&nested(FILTER_DEPTH_MAX + 1)), too_deep);
}

#[test]
fn a_filter_has_a_bounded_number_of_nodes() {
    let wide = |nodes| op("or", vec![leaf("a", "ex", &[]); nodes - 1]);
    assert!(TagsFilter::new(&wide(FILTER_NODES_MAX)).is_ok());
    let too_many = Err(FilterError::TooManyNodes);
    assert_eq!(TagsFilter::new(&wide(FILTER_NODES_MAX + 1)), too_many);
    let half = op("and", vec![leaf("a", "ex", &[]); FILTER_NODES_MAX / 2]);
    assert_eq!(TagsFilter::new(&op("or", [half.clone(), half])), too_many);
}

#[test]
fn the_text_of_a_filter_is_bounded_however_it_is_cut() {
    let long = "x".repeat(FILTER_TEXT_MAX - 3 * TEXT_OVERHEAD - 1);
    // An empty value counts, too, since it takes memory.
    assert!(TagsFilter::new(&leaf("a", "in", &[&long])).is_ok());
    for too_long in [
        leaf("a", "in", &[&format!("{long}x")]),
        leaf("aa", "in", &[&long]),
        leaf("a", "eq", &[&"x".repeat(FILTER_TEXT_MAX)]),
        leaf("a", "in", &vec!["x"; FILTER_TEXT_MAX / TEXT_OVERHEAD]),
        op("and", [leaf("a", "in", &[&long]), leaf("a", "ex", &[])]),
    ] {
        assert_eq!(TagsFilter::new(&too_long), Err(FilterError::TooLong));
    }
}

#[test]
fn a_filter_says_how_many_nodes_it_takes_to_apply_it() {
    let one = || leaf("a", "ex", &[]);
    let filter = op(
        "not",
        [op("and", [one(), op("or", [one(), op("not", [one()])])])],
    );
    assert_eq!(TagsFilter::new(&one()).unwrap().nodes(), 1);
    assert_eq!(TagsFilter::new(&filter).unwrap().nodes(), 5);
}

/// The decoders have bounds of their own, far above ours. What passes them must not be too deep for
/// the stack here.
#[test]
fn the_deepest_filter_that_can_be_decoded_is_refused() {
    let mut deepest = None;
    for depth in 1..200 {
        let json = format!(
            r#"{{"id":1,"subscribe":{{"tf":{}{}{}}}}}"#,
            r#"{"op":"not","nodes":["#.repeat(depth),
            r#"{"key":"a","cmp":"ex"}"#,
            "]}".repeat(depth),
        );
        let command = commands(Format::Json, json.as_bytes()).next().unwrap();
        match command.map(|command| command.into_request()) {
            Ok(Some(Request::Subscribe(request))) => deepest = request.tf.map(|tf| (depth, tf)),
            Ok(other) => panic!("{other:?}"),
            Err(_) => break,
        }
    }
    let (depth, filter) = deepest.unwrap();
    assert!(FILTER_DEPTH_MAX < depth && depth < 199, "{depth}");
    assert_eq!(TagsFilter::new(&filter), Err(FilterError::TooDeep));
}

#[test]
fn filters_that_want_the_same_are_one() {
    let same = [
        [
            leaf("a", "in", &["1", "2"]),
            leaf("a", "in", &["2", "1", "2"]),
        ],
        [
            leaf("a", "neq", &["1"]),
            op("not", [leaf("a", "eq", &["1"])]),
        ],
        [leaf("a", "ex", &[]), op("not", [leaf("a", "nex", &[])])],
    ];
    for pair in same {
        let distinct: HashSet<TagsFilter> = pair.iter().map(filter).collect();
        assert_eq!(distinct.len(), 1, "{pair:?}");
    }
    let different = [
        leaf("a", "eq", &["1"]),
        leaf("b", "eq", &["1"]),
        leaf("a", "eq", &["2"]),
        leaf("a", "in", &["1"]),
        leaf("a", "gt", &["1"]),
        leaf("a", "lt", &["1"]),
        op("not", [leaf("a", "lt", &["1"])]),
        op("and", [leaf("a", "eq", &["1"])]),
        op("or", [leaf("a", "eq", &["1"])]),
    ];
    let distinct: HashSet<TagsFilter> = different.iter().map(filter).collect();
    assert_eq!(distinct.len(), different.len());
}

/// Few of each, so that they meet.
const KEYS: [&str; 3] = ["a", "b", ""];
const VALUES: [&str; 6] = ["1", "1.0", "-2", "é", "x1", ""];

fn any_leaf() -> impl Strategy<Value = FilterNode> {
    let comparisons = vec![
        "eq", "neq", "in", "nin", "ex", "nex", "sw", "ew", "ct", "lt", "lte", "gt", "gte", "no", "",
    ];
    let values = vec(select(VALUES.to_vec()), 0..3);
    (select(KEYS.to_vec()), select(comparisons), values)
        .prop_map(|(key, cmp, values)| leaf(key, cmp, &values))
}

/// Filters of which some are refused.
fn any_filter() -> impl Strategy<Value = FilterNode> {
    any_leaf().prop_recursive(4, 32, 4, |inner| {
        (select(vec!["and", "or", "not", "no"]), vec(inner, 0..4))
            .prop_map(|(name, nodes)| op(name, nodes))
    })
}

fn good_filter() -> impl Strategy<Value = FilterNode> {
    let leaf = any_leaf().prop_filter("a good one", |leaf| TagsFilter::new(leaf).is_ok());
    leaf.prop_recursive(3, 16, 3, |inner| {
        prop_oneof![
            (select(vec!["and", "or"]), vec(inner.clone(), 1..4))
                .prop_map(|(name, nodes)| op(name, nodes)),
            inner.prop_map(|inner| op("not", [inner])),
        ]
    })
}

fn any_tags() -> impl Strategy<Value = BTreeMap<String, String>> {
    let owned = |values: Vec<&'static str>| select(values).prop_map(str::to_owned);
    btree_map(owned(KEYS.to_vec()), owned(VALUES.to_vec()), 0..4)
}

proptest! {
    #[test]
    fn no_filter_and_no_tags_make_it_panic(wire in any_filter(), tags in any_tags()) {
        if let Ok(filter) = TagsFilter::new(&wire) {
            let twice = TagsFilter::new(&op("not", [op("not", [wire])])).unwrap();
            prop_assert_eq!(&twice, &filter);
            prop_assert_eq!(twice.matches(&tags), filter.matches(&tags));
        }
    }

    #[test]
    fn the_laws_of_logic_hold(x in good_filter(), y in good_filter(), tags in any_tags()) {
        let matches = |wire: &FilterNode| filter(wire).matches(&tags);
        let not = |wire: &FilterNode| op("not", [wire.clone()]);
        let both = op("and", [x.clone(), y.clone()]);
        let either = op("or", [x.clone(), y.clone()]);
        prop_assert_eq!(matches(&not(&x)), !matches(&x));
        prop_assert_eq!(matches(&both), matches(&x) && matches(&y));
        prop_assert_eq!(matches(&either), matches(&x) || matches(&y));
        prop_assert_eq!(matches(&not(&both)), matches(&op("or", [not(&x), not(&y)])));
        prop_assert_eq!(matches(&not(&either)), matches(&op("and", [not(&x), not(&y)])));
    }
}
