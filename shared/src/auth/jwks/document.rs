//! What a JSON Web Key Set says (RFC 7517 §5).
//!
//! Owns which of its keys are taken.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::auth::key::Key;

/// Most keys in a set.
const KEYS_MAX: usize = 64;

/// Why a set is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum DocumentError {
    #[error("not a JSON Web Key Set")]
    Malformed,
    #[error("more than {KEYS_MAX} keys")]
    TooMany,
    #[error("no key that tokens can be verified with")]
    Empty,
}

/// The keys of a set. Those that tokens cannot be verified with are left out, as RFC 7517 §5 wants: a
/// set may also serve others. A set in which none is left is refused, because a server that has
/// lost its keys is a likelier reason than one that wants nobody to come in.
pub(super) fn keys(document: &[u8]) -> Result<Vec<Key>, DocumentError> {
    #[derive(Deserialize)]
    struct Document<'a> {
        #[serde(borrow)]
        keys: Vec<&'a RawValue>,
    }

    let document: Document<'_> =
        serde_json::from_slice(document).map_err(|_| DocumentError::Malformed)?;
    if document.keys.len() > KEYS_MAX {
        return Err(DocumentError::TooMany);
    }
    let mut keys = Vec::with_capacity(document.keys.len());
    for (at, json) in document.keys.iter().enumerate() {
        match Key::from_jwk(json.get()) {
            Ok(key) => keys.push(key),
            Err(error) => tracing::debug!(at, "left out of the key set: it {error}"),
        }
    }
    if keys.is_empty() {
        return Err(DocumentError::Empty);
    }
    Ok(keys)
}
