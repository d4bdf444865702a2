//! How a publication lies in a channel's stream, and how it is read back.

use flotilla_shared::broker::StoredPublication;
use flotilla_shared::protocol::types::{Publication, Push};
use prost::Message as _;

/// Reads a publication of a stream, whole and with its offset; `None` for what no Flotilla has written.
pub(crate) fn read(stored: StoredPublication) -> Option<Publication> {
    let publication = read_marked(stored)?;
    Some(Publication {
        delta: false,
        ..publication
    })
}

/// As [`read`]; the publication's `delta` says whether its publisher lets it be sent as a delta.
pub(crate) fn read_marked(stored: StoredPublication) -> Option<Publication> {
    let publication = Push::decode(stored.payload).ok()?.publication?;
    Some(Publication {
        offset: stored.offset,
        ..publication
    })
}
