//! The client protocol: messages, their two encodings, and the table of codes.
//!
//! A frame (a WebSocket message, or a chunk on other transports) carries any number of messages
//! in one [`Format`]. This module turns frames into messages and back. It does no I/O, keeps no
//! state, and knows nothing of sessions: what a command may do and when is decided elsewhere.
//!
//! Frames come from anyone. Decoding is lazy, one message at a time, and allocates no more than
//! a small multiple of the frame's size, which the transport bounds.

pub mod codes;
mod error;
mod format;
mod json;
mod protobuf;
#[cfg(test)]
mod tests;
pub mod types;

use std::marker::PhantomData;

use bytes::BytesMut;
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use error::{DecodeError, EncodeError, JsonProblem};
pub use format::Format;
pub use json::is_json;
use types::{Command, Push, Reply};

/// The commands of a client's frame, in order. An empty frame has none. The iterator ends
/// after the first error.
pub fn commands(format: Format, frame: &[u8]) -> Messages<'_, Command> {
    Messages::new(format, frame)
}

/// The replies of a server's frame, in order; for clients. The iterator ends after the first
/// error.
pub fn replies(format: Format, frame: &[u8]) -> Messages<'_, Reply> {
    Messages::new(format, frame)
}

/// Appends a reply to `out`, which holds the payload of one frame and nothing else: a message
/// that is not the first gets its separator.
///
/// # Errors
/// [`EncodeError`]; `out` is then as it was.
pub fn append_reply(format: Format, reply: &Reply, out: &mut BytesMut) -> Result<(), EncodeError> {
    append(format, reply, out)
}

/// Appends a push to `out`, as [`append_reply`] does for replies; for clients that only listen, who
/// get it without a reply around it.
///
/// # Errors
/// [`EncodeError`]; `out` is then as it was.
pub fn append_push(format: Format, push: &Push, out: &mut BytesMut) -> Result<(), EncodeError> {
    append(format, push, out)
}

/// Appends a command to `out`, as [`append_reply`] does for replies; for clients.
///
/// # Errors
/// [`EncodeError`]; `out` is then as it was.
pub fn append_command(
    format: Format,
    command: &Command,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    append(format, command, out)
}

fn append<T: Message + Serialize>(
    format: Format,
    message: &T,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    match format {
        Format::Json => json::append(message, out),
        Format::Protobuf => protobuf::append(message, out),
    }
}

/// The messages of a frame, decoded one at a time.
#[derive(Debug)]
pub struct Messages<'a, T> {
    format: Format,
    rest: &'a [u8],
    message: PhantomData<fn() -> T>,
}

impl<'a, T> Messages<'a, T> {
    fn new(format: Format, frame: &'a [u8]) -> Self {
        Self {
            format,
            rest: frame,
            message: PhantomData,
        }
    }
}

impl<T: Message + Default + DeserializeOwned> Iterator for Messages<'_, T> {
    type Item = Result<T, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = match self.format {
            Format::Json => json::next(&mut self.rest),
            Format::Protobuf => protobuf::next(&mut self.rest),
        };
        if let Some(Err(_)) = next {
            self.rest = &[];
        }
        next
    }
}

impl<T: Message + Default + DeserializeOwned> std::iter::FusedIterator for Messages<'_, T> {}
