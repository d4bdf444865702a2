//! In what form a member takes publications.
//!
//! Owns: what a publication's payload looks like to whom. Who has which publication to make a delta against is known
//! elsewhere.

use std::rc::Rc;

use bytes::Bytes;
use flotilla_shared::delta::fossil_delta;
use flotilla_shared::protocol::types::Publication;
use flotilla_shared::protocol::{Format, is_json};

use super::filters::Filter;

/// What a member takes of a channel's publications.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// All of them, whole.
    #[default]
    Full,
    /// All of them; those marked for it may come as a delta against the one before.
    Delta,
    /// Those that pass a filter, whole.
    Filtered(Rc<Filter>),
}

impl Mode {
    /// Makes of recovered publications, which still have their marks, what the member takes. Returns the payload that
    /// it will have in the end, if deltas can be made against it.
    pub(super) fn apply(
        &self,
        publications: &mut Vec<Publication>,
        format: Format,
    ) -> Option<Bytes> {
        if let Self::Filtered(filter) = self {
            publications.retain(|publication| filter.matches(&publication.tags));
        }
        if *self == Self::Delta {
            return chain(publications, format);
        }
        for publication in publications {
            publication.delta = false;
        }
        None
    }
}

/// The first one whole, each of the others as a delta against the one before it where that may be and is shorter.
/// Returns the last payload.
fn chain(publications: &mut [Publication], format: Format) -> Option<Bytes> {
    let mut before: Option<Bytes> = None;
    for publication in publications {
        let payload = std::mem::take(&mut publication.data);
        let delta = before
            .filter(|_| publication.delta)
            .and_then(|before| delta(&before, &payload));
        publication.delta = delta.is_some();
        publication.data = in_chain(&payload, delta.as_ref(), format);
        before = Some(payload);
    }
    before
}

/// The delta that makes `payload` out of `base`, if it is the shorter one of the two.
pub(super) fn delta(base: &[u8], payload: &[u8]) -> Option<Bytes> {
    let delta = fossil_delta(base, payload);
    (delta.len() < payload.len()).then(|| delta.into())
}

/// The data of a publication for members that take deltas. In JSON that is a string, always, since a delta is not JSON.
pub(super) fn in_chain(payload: &Bytes, delta: Option<&Bytes>, format: Format) -> Bytes {
    let data = delta.unwrap_or(payload);
    if !format.is_text() {
        return data.clone();
    }
    // What is no JSON stays as it is: it cannot be encoded, here as little as for members that take everything whole.
    let text = str::from_utf8(data).ok().filter(|_| is_json(payload));
    text.and_then(|text| serde_json::to_vec(text).ok())
        .map_or_else(|| payload.clone(), Bytes::from)
}
