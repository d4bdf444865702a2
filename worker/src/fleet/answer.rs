//! What workers answer each other.
//!
//! Owns: the answers' form on the wire (see `request` for its rules), how answers are put together, and how a long one
//! is cut into parts, each of which a broker takes.

use std::collections::BTreeMap;

use flotilla_shared::protocol::types::ClientInfo;
use prost::{Message, Oneof};

use super::request::{Question, Revocations};
use crate::emulation::Delivery;

/// A part is not grown beyond this. Well below what a broker takes, and small enough to let others in between.
const PART_BYTES: usize = 128 * 1024;

/// One answer, or a part of one. The numbers are those of `Part`'s fields.
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Answer {
    /// It is done.
    #[prost(message, tag = "3")]
    Done(Done),
    /// Connections in a channel.
    #[prost(message, tag = "4")]
    Members(Members),
    /// Connections by name: of a user, or of a channel.
    #[prost(message, tag = "5")]
    Counts(Counts),
    /// Connections.
    #[prost(message, tag = "6")]
    Connections(Connections),
    /// The worker.
    #[prost(message, tag = "7")]
    Node(Node),
    /// What became of what a client sent.
    #[prost(message, tag = "8")]
    Emulated(Emulated),
    /// Revocations that are in force.
    #[prost(message, tag = "9")]
    Revocations(Revocations),
    /// It was not done.
    #[prost(message, tag = "10")]
    Refused(Refused),
    /// Members of several channels.
    #[prost(message, tag = "11")]
    Roll(Roll),
}

/// See [`Answer::Done`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Done {}

/// See [`Answer::Members`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Members {
    #[prost(message, repeated, tag = "1")]
    pub(crate) members: Vec<ClientInfo>,
}

/// See [`Answer::Roll`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Roll {
    /// The life of the worker that answers.
    #[prost(fixed64, tag = "1")]
    pub(crate) life: u64,
    #[prost(message, repeated, tag = "2")]
    pub(crate) entries: Vec<Listed>,
}

/// A member of one of the channels.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Listed {
    /// The channel's place in the question.
    #[prost(uint32, tag = "1")]
    pub(crate) place: u32,
    #[prost(message, required, tag = "2")]
    pub(crate) member: ClientInfo,
    /// How often its session had been attached to a worker when it came to this one; 0: it cannot move.
    #[prost(uint32, tag = "3")]
    pub(crate) generation: u32,
    /// Another worker has it. It is listed for those who have not heard of that yet, and will not be for long.
    #[prost(bool, tag = "4")]
    pub(crate) is_elsewhere: bool,
}

/// See [`Answer::Counts`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Counts {
    #[prost(btree_map = "string, uint64", tag = "1")]
    pub(crate) by_name: BTreeMap<String, u64>,
}

/// See [`Answer::Connections`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Connections {
    #[prost(message, repeated, tag = "1")]
    pub(crate) connections: Vec<ConnectionInfo>,
}

/// What a back end may know of a connection.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ConnectionInfo {
    #[prost(string, tag = "1")]
    pub(crate) client: String,
    #[prost(string, tag = "2")]
    pub(crate) user: String,
    /// `websocket`.
    #[prost(string, tag = "3")]
    pub(crate) transport: String,
    /// `json` or `protobuf`.
    #[prost(string, tag = "4")]
    pub(crate) protocol: String,
    #[prost(string, repeated, tag = "7")]
    pub(crate) channels: Vec<String>,
    /// The `jti` of the connection's token; empty: none.
    #[prost(string, tag = "8")]
    pub(crate) token_id: String,
    /// The `iat` of the connection's token; 0: none.
    #[prost(uint64, tag = "9")]
    pub(crate) token_issued_at: u64,
}

/// See [`Answer::Node`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Node {
    #[prost(string, tag = "1")]
    pub(crate) version: String,
    #[prost(uint64, tag = "2")]
    pub(crate) clients: u64,
    /// Different ones.
    #[prost(uint64, tag = "3")]
    pub(crate) users: u64,
    /// Different ones.
    #[prost(uint64, tag = "4")]
    pub(crate) channels: u64,
    #[prost(uint64, tag = "5")]
    pub(crate) subscriptions: u64,
    /// Seconds since it was started.
    #[prost(uint64, tag = "6")]
    pub(crate) uptime: u64,
}

/// See [`Answer::Emulated`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Emulated {
    #[prost(enumeration = "Delivery", tag = "1")]
    pub(crate) delivery: i32,
}

/// See [`Answer::Refused`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Refused {}

impl Answer {
    /// It is done, and there is nothing to tell.
    pub(crate) fn done() -> Self {
        Self::Done(Done {})
    }

    /// It was not done, or not wholly.
    pub(crate) fn refused() -> Self {
        Self::Refused(Refused {})
    }

    /// What became of what a client sent.
    pub(super) fn emulated(delivery: Delivery) -> Self {
        Self::Emulated(Emulated {
            delivery: delivery.into(),
        })
    }

    /// The answer to `question` of a worker that has no clients.
    pub(super) fn nothing_to(question: &Question) -> Self {
        match question {
            Question::Presence(_) => Self::Members(Members::default()),
            Question::PresenceStats(_) | Question::Channels(_) => Self::Counts(Counts::default()),
            Question::Connections(_) => Self::Connections(Connections::default()),
            Question::Info(_) => Self::Node(Node::default()),
            Question::Emulate(_) => Self::emulated(Delivery::Unknown),
            Question::Revocations(_) => Self::Revocations(Revocations::default()),
            Question::Roll(_) => Self::Roll(Roll::default()),
            Question::Subscribe(_)
            | Question::Unsubscribe(_)
            | Question::Disconnect(_)
            | Question::Refresh(_)
            | Question::Revoke(_)
            | Question::Moved(_) => Self::done(),
        }
    }

    /// Adds what another shard, or another part, answers to the same question. A refusal outweighs whatever else was
    /// answered, and so do answers to two different questions.
    pub(super) fn absorb(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::Done(_), Self::Done(_)) => {}
            (Self::Members(all), Self::Members(more)) => all.members.extend(more.members),
            (Self::Counts(all), Self::Counts(more)) => {
                for (name, count) in more.by_name {
                    *all.by_name.entry(name).or_default() += count;
                }
            }
            (Self::Connections(all), Self::Connections(more)) => {
                all.connections.extend(more.connections);
            }
            (Self::Roll(all), Self::Roll(more)) if all.life == more.life => {
                all.entries.extend(more.entries);
            }
            (Self::Revocations(all), Self::Revocations(more)) => {
                all.revocations.extend(more.revocations);
            }
            _ => *self = Self::refused(),
        }
    }

    /// The same in parts, one at least, each of which a broker takes.
    pub(super) fn into_parts(self) -> Vec<Self> {
        match self {
            Self::Members(Members { members }) => cut(members, Message::encoded_len)
                .map(|members| Self::Members(Members { members }))
                .collect(),
            Self::Counts(Counts { by_name }) => cut(by_name, |(name, _)| name.len())
                .map(|by_name| Self::Counts(Counts { by_name }))
                .collect(),
            Self::Connections(Connections { connections }) => {
                cut(connections, Message::encoded_len)
                    .map(|connections| Self::Connections(Connections { connections }))
                    .collect()
            }
            Self::Revocations(Revocations { revocations }) => {
                cut(revocations, Message::encoded_len)
                    .map(|revocations| Self::Revocations(Revocations { revocations }))
                    .collect()
            }
            Self::Roll(Roll { life, entries }) => cut(entries, Message::encoded_len)
                .map(|entries| Self::Roll(Roll { life, entries }))
                .collect(),
            short => vec![short],
        }
    }
}

/// Overhead of an item on the wire, at most: tags and lengths.
const ITEM_OVERHEAD: usize = 24;

/// `items` in pieces of about [`PART_BYTES`]; one piece if there are none.
fn cut<T, C: FromIterator<T>>(
    items: impl IntoIterator<Item = T>,
    size: impl Fn(&T) -> usize,
) -> impl Iterator<Item = C> {
    let mut pieces = vec![Vec::new()];
    let mut filled = 0;
    for item in items {
        let size = size(&item) + ITEM_OVERHEAD;
        if filled > 0 && filled + size > PART_BYTES {
            pieces.push(Vec::new());
            filled = 0;
        }
        filled += size;
        if let Some(piece) = pieces.last_mut() {
            piece.push(item);
        }
    }
    pieces.into_iter().map(C::from_iter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(client: usize) -> ClientInfo {
        ClientInfo {
            client: client.to_string(),
            conn_info: vec![b'x'; 1000].into(),
            ..ClientInfo::default()
        }
    }

    #[test]
    fn a_long_answer_is_cut_into_parts_that_make_it_up_again() {
        let whole = Answer::Members(Members {
            members: (0..1000).map(member).collect(),
        });
        let mut parts = whole.clone().into_parts();
        assert!(parts.len() > 5);
        let sizes = parts.iter().map(Answer::encoded_len);
        assert!(sizes.max().unwrap() <= PART_BYTES);
        let mut again = parts.remove(0);
        parts.into_iter().for_each(|part| again.absorb(part));
        assert_eq!(again, whole);
    }

    #[test]
    fn every_answer_has_a_part() {
        for answer in [
            Answer::done(),
            Answer::Members(Members::default()),
            Answer::Counts(Counts::default()),
            Answer::Connections(Connections::default()),
            Answer::Revocations(Revocations::default()),
            Answer::Roll(Roll::default()),
        ] {
            assert_eq!(answer.clone().into_parts(), [answer]);
        }
    }

    #[test]
    fn what_several_shards_count_is_added_up() {
        let count = |list: &[(&str, u64)]| {
            let by_name = list
                .iter()
                .map(|(name, count)| ((*name).to_owned(), *count));
            Answer::Counts(Counts {
                by_name: by_name.collect(),
            })
        };
        let mut all = count(&[("a", 1), ("b", 2)]);
        all.absorb(count(&[("b", 3), ("c", 4)]));
        assert_eq!(all, count(&[("a", 1), ("b", 5), ("c", 4)]));
    }

    #[test]
    fn one_refusal_is_not_outweighed() {
        let mut answer = Answer::done();
        answer.absorb(Answer::refused());
        answer.absorb(Answer::done());
        assert_eq!(answer, Answer::refused());
    }
}
