//! How a worker announces that a client has come or gone.
//!
//! Owns: the form on the wire. It is the push that subscribers get, and, in a field that no push has, the life of the
//! worker that announces it. Versions that do not know the field pass it over.

use bytes::Bytes;
use flotilla_shared::protocol::types::Push;
use flotilla_shared::roster::Life;
use prost::Message;

#[derive(Clone, Copy, PartialEq, Message)]
struct Origin {
    #[prost(fixed64, tag = "1000")]
    life: u64,
}

/// What is published.
pub(crate) fn announcement(push: &Push, life: Life) -> Bytes {
    let origin = Origin { life: life.0 };
    let mut payload = Vec::with_capacity(push.encoded_len() + origin.encoded_len());
    // A vector has room for whatever comes.
    let _ = push.encode(&mut payload);
    let _ = origin.encode(&mut payload);
    payload.into()
}

/// The life of the worker that published it; [`Life::UNKNOWN`] of one of an older version.
pub(crate) fn life_of(payload: Bytes) -> Life {
    Life(Origin::decode(payload).unwrap_or_default().life)
}

#[cfg(test)]
mod tests {
    use flotilla_shared::protocol::types::{ClientInfo, Join};

    use super::*;

    #[test]
    fn an_announcement_is_a_push_that_says_where_it_comes_from() {
        let info = ClientInfo {
            client: "a".to_owned(),
            ..ClientInfo::default()
        };
        let push = Push {
            join: Some(Join { info: Some(info) }),
            ..Push::default()
        };
        let payload = announcement(&push, Life(7));
        assert_eq!(Push::decode(payload.clone()), Ok(push.clone()));
        assert_eq!(life_of(payload), Life(7));
        assert_eq!(life_of(push.encode_to_vec().into()), Life::UNKNOWN);
    }
}
