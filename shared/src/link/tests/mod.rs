//! Promises of the link's messages.

mod golden;
mod limits;
mod properties;
mod strategies;
mod values;
mod versions;

use bytes::BytesMut;
use prost::Message;

use super::{LinkError, Messages, append};

/// `messages` as a link carries them.
fn stream_of<M: Message>(messages: &[M]) -> Vec<u8> {
    let mut out = BytesMut::new();
    for message in messages {
        assert!(append(message, &mut out), "not too long");
    }
    out.to_vec()
}

/// Reads `stream` as it comes, chunk after chunk: the messages, and how many bytes are left, or why there are no more.
fn read<'a, M: Message + Default>(
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<M>, Result<usize, LinkError>) {
    let mut reader = Messages::default();
    let mut messages = Vec::new();
    for chunk in chunks {
        reader.buffer().extend_from_slice(chunk);
        loop {
            match reader.next() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Err(error)),
            }
        }
    }
    (messages, Ok(reader.buffer().len()))
}
