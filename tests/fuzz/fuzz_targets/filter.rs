//! Tags filters: a line with a filter, then a line with the tags it is tried on, both as JSON.
#![no_main]

use std::collections::BTreeMap;

use flotilla_shared::filter::TagsFilter;
use flotilla_shared::protocol::types::FilterNode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.splitn(2, |byte| *byte == b'\n');
    let filter = lines.next().map(serde_json::from_slice::<FilterNode>);
    let tags = lines
        .next()
        .map(serde_json::from_slice::<BTreeMap<String, String>>);
    let Some(Ok(node)) = filter else {
        return;
    };
    let Ok(filter) = TagsFilter::new(&node) else {
        return;
    };
    let tags = tags.and_then(Result::ok).unwrap_or_default();
    let matches = filter.matches(&tags);

    // It comes to the opposite when it is negated, which may be one node or one level too many.
    let negated = FilterNode {
        op: "not".to_owned(),
        nodes: vec![node],
        ..FilterNode::default()
    };
    if let Ok(negated) = TagsFilter::new(&negated) {
        assert_ne!(negated.matches(&tags), matches);
    }
});
