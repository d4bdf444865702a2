//! Messages in a stream of bytes: each behind its length, which is a varint.

use bytes::{Buf as _, BytesMut};
use prost::Message;

use super::MESSAGE_MAX_BYTES;

/// Longest form of a length, in bytes. Shorter ones may be padded with zeros up to it.
const LENGTH_MAX_BYTES: usize = 5;

/// Longest message that the buffer keeps the room of when it is gone, in bytes.
pub(super) const SPARE_MAX_BYTES: usize = 64 * 1024;

/// What the other side sent is no message. The link cannot be used any more; its sessions are attached anew.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The length is not a varint, or beyond [`MESSAGE_MAX_BYTES`].
    #[error("a message is longer than {MESSAGE_MAX_BYTES} bytes, or its length is none")]
    TooLong,
    /// What stands behind the length is none of the messages.
    #[error("a message cannot be read")]
    Malformed(#[from] prost::DecodeError),
}

/// Appends a message behind its length, unless it is longer than [`MESSAGE_MAX_BYTES`]: then nothing is appended, and the
/// answer is `false`.
///
/// A message that is too long would cost the link, with all sessions on it; and if it answers what a client has said, the
/// next link as well, because that is said again there. It is the one session that has to end.
pub fn append(message: &impl Message, out: &mut BytesMut) -> bool {
    // The buffer grows: there is nothing else that could fail.
    message.encoded_len() <= MESSAGE_MAX_BYTES && message.encode_length_delimited(out).is_ok()
}

/// The messages in what has been read so far.
///
/// The payloads that come out share memory with what went in: a small one that is kept for long is better copied.
///
/// What waits here is never more than the longest message and what the reader has read behind it. A message of many small
/// parts (headers, numbers of sessions, messages of a client) takes up to 48 times its length once it is decoded: whoever
/// sends it has shown a passport, and is trusted that far.
#[derive(Debug, Default)]
pub struct Messages {
    unread: BytesMut,
    /// The buffer has grown for a message that is gone.
    is_oversized: bool,
    failed: Option<LinkError>,
}

impl Messages {
    /// Where what is read next belongs. It has no room of its own: the reader reserves as much as it wants to read, and
    /// takes the messages out before it reads more.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.unread
    }

    /// The next message; `None`: more has to be read first.
    ///
    /// # Errors
    /// When it is none, as soon as that can be told. Nothing behind it can be read either: the error stays.
    #[expect(
        clippy::should_implement_trait,
        reason = "the caller says which messages they are"
    )]
    pub fn next<M: Message + Default>(&mut self) -> Result<Option<M>, LinkError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.take().inspect_err(|error| {
            self.failed = Some(error.clone());
        })
    }

    fn take<M: Message + Default>(&mut self) -> Result<Option<M>, LinkError> {
        let Some((header, length)) = length(&self.unread)? else {
            return Ok(None);
        };
        if self.unread.len() < header + length {
            return Ok(None);
        }
        self.unread.advance(header);
        let message = self.unread.split_to(length).freeze();
        self.is_oversized |= length > SPARE_MAX_BYTES;
        self.shrink();
        Ok(Some(M::decode(message)?))
    }

    /// Gives up what a long message has made of the buffer: otherwise every link would keep room for the longest message
    /// that it has ever carried. Not while much is unread: that would be copied behind every message.
    fn shrink(&mut self) {
        if self.is_oversized && self.unread.len() <= SPARE_MAX_BYTES {
            self.unread = BytesMut::from(&self.unread[..]);
            self.is_oversized = false;
        }
    }
}

/// How long the length itself is, and the message behind it.
fn length(bytes: &[u8]) -> Result<Option<(usize, usize)>, LinkError> {
    let mut length = 0_u64;
    for (at, byte) in bytes.iter().take(LENGTH_MAX_BYTES).enumerate() {
        length |= u64::from(byte & 0x7f) << (7 * at);
        // What is still to come only makes it longer.
        let known = usize::try_from(length)
            .ok()
            .filter(|known| *known <= MESSAGE_MAX_BYTES)
            .ok_or(LinkError::TooLong)?;
        if byte & 0x80 == 0 {
            return Ok(Some((at + 1, known)));
        }
    }
    if bytes.len() >= LENGTH_MAX_BYTES {
        return Err(LinkError::TooLong);
    }
    Ok(None)
}
