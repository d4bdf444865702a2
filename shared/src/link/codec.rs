//! Messages in a stream of bytes: each behind its length, which is a varint.

use bytes::{Buf as _, BytesMut};
use prost::Message;

use super::MESSAGE_MAX_BYTES;

/// Longest form of a length, in bytes.
const LENGTH_MAX_BYTES: usize = 5;

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

/// Appends a message behind its length.
pub fn append(message: &impl Message, out: &mut BytesMut) {
    // The buffer grows: there is nothing that could fail.
    let _ = message.encode_length_delimited(out);
}

/// The messages in what has been read so far.
///
/// The payloads that come out share memory with what went in: a small one that is kept for long is better copied.
#[derive(Debug, Default)]
pub struct Messages {
    unread: BytesMut,
}

impl Messages {
    /// Where what is read next belongs.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.unread
    }

    /// The next message; `None`: more has to be read first.
    ///
    /// # Errors
    /// When it is none. Nothing behind it can be read either.
    pub fn next<M: Message + Default>(&mut self) -> Result<Option<M>, LinkError> {
        let Some((header, length)) = length(&self.unread)? else {
            return Ok(None);
        };
        if self.unread.len() < header + length {
            return Ok(None);
        }
        self.unread.advance(header);
        let message = self.unread.split_to(length).freeze();
        Ok(Some(M::decode(message)?))
    }
}

/// How long the length itself is, and the message behind it.
fn length(bytes: &[u8]) -> Result<Option<(usize, usize)>, LinkError> {
    let mut length = 0_u64;
    for (at, byte) in bytes.iter().take(LENGTH_MAX_BYTES).enumerate() {
        length |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return match usize::try_from(length) {
                Ok(length) if length <= MESSAGE_MAX_BYTES => Ok(Some((at + 1, length))),
                _ => Err(LinkError::TooLong),
            };
        }
    }
    if bytes.len() >= LENGTH_MAX_BYTES {
        return Err(LinkError::TooLong);
    }
    Ok(None)
}
