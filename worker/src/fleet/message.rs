//! What goes through the workers' inboxes.
//!
//! Owns: the envelope. A request names who asks, under which number; the answer comes back to the asker's inbox under
//! the same number, in one part or more. A message that cannot be read is no message.

use bytes::Bytes;
use prost::{Message, Oneof};

use super::answer::Answer;
use super::request::Request;

/// See the module's documentation.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Envelope {
    /// The id of the worker that wrote it.
    #[prost(string, tag = "1")]
    pub(super) from: String,
    /// Chosen at random by the asker.
    #[prost(fixed64, tag = "2")]
    pub(super) number: u64,
    /// `None`: something that this version does not know.
    #[prost(oneof = "Content", tags = "3, 4")]
    pub(super) content: Option<Content>,
}

/// What is in an envelope.
#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Content {
    #[prost(message, tag = "3")]
    Request(Request),
    #[prost(message, tag = "4")]
    Part(Part),
}

/// One part of an answer.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Part {
    /// Counts from 0.
    #[prost(uint32, tag = "1")]
    pub(super) index: u32,
    /// How many parts there are; 0 is read as 1.
    #[prost(uint32, tag = "2")]
    pub(super) parts: u32,
    /// `None`: one that this version does not know.
    #[prost(oneof = "Answer", tags = "3, 4, 5, 6, 7, 8, 9, 10, 11")]
    pub(super) answer: Option<Answer>,
}

impl Envelope {
    pub(super) fn request(from: &str, number: u64, request: Request) -> Self {
        Self {
            from: from.to_owned(),
            number,
            content: Some(Content::Request(request)),
        }
    }

    /// One envelope for each part of `answer`.
    pub(super) fn answer(from: &str, number: u64, answer: Answer) -> impl Iterator<Item = Self> {
        let answers = answer.into_parts();
        let parts = u32::try_from(answers.len()).unwrap_or(u32::MAX);
        answers.into_iter().zip(0..).map(move |(answer, index)| {
            let part = Part {
                index,
                parts,
                answer: Some(answer),
            };
            Self {
                from: from.to_owned(),
                number,
                content: Some(Content::Part(part)),
            }
        })
    }

    pub(super) fn into_payload(self) -> Bytes {
        self.encode_to_vec().into()
    }
}
