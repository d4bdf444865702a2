//! How a worker announces that a client has come or gone.
//!
//! Owns: the form on the wire. It is the push that subscribers get, and, in fields that no push has, the life of the
//! worker that announces it and how its session is attached there. Versions that do not know the fields pass them over.

use bytes::Bytes;
use flotilla_shared::protocol::types::Push;
use flotilla_shared::roster::Life;
use prost::Message;

/// How a session has come to its worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attachment {
    /// How often it has been attached to a worker, this time included. The highest one is where it lives. 0: it can be
    /// attached to no other.
    pub(crate) generation: u32,
    /// It was there before, in this life; `None`: it has come anew, or says good-bye.
    pub(crate) from: Option<Life>,
}

/// Where an announcement comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// The life of the worker; [`Life::UNKNOWN`] of one of an older version.
    pub(crate) life: Life,
    /// How the session is attached there.
    pub(crate) attachment: Attachment,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Origin {
    #[prost(fixed64, tag = "1000")]
    life: u64,
    #[prost(uint32, tag = "1001")]
    generation: u32,
    #[prost(fixed64, optional, tag = "1002")]
    moved: Option<u64>,
}

/// What is published.
pub(crate) fn announcement(push: &Push, life: Life, attachment: Attachment) -> Bytes {
    let origin = Origin {
        life: life.0,
        generation: attachment.generation,
        moved: attachment.from.map(|life| life.0),
    };
    let mut payload = Vec::with_capacity(push.encoded_len() + origin.encoded_len());
    // A vector has room for whatever comes.
    let _ = push.encode(&mut payload);
    let _ = origin.encode(&mut payload);
    payload.into()
}

/// Who published it.
pub(crate) fn source_of(payload: Bytes) -> Source {
    let origin = Origin::decode(payload).unwrap_or_default();
    Source {
        life: Life(origin.life),
        attachment: Attachment {
            generation: origin.generation,
            from: origin.moved.map(Life),
        },
    }
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
        for (generation, from) in [(0, None), (1, None), (7, Some(Life(3)))] {
            let attachment = Attachment { generation, from };
            let life = Life(7);
            let payload = announcement(&push, life, attachment);
            assert_eq!(Push::decode(payload.clone()), Ok(push.clone()));
            assert_eq!(source_of(payload), Source { life, attachment });
        }
        let of_an_older_version = source_of(push.encode_to_vec().into());
        assert_eq!(of_an_older_version.life, Life::UNKNOWN);
    }
}
