//! The Protobuf encoding: each message behind its length, an unsigned LEB128 varint.

use bytes::BytesMut;
use prost::Message;

use super::error::{DecodeError, EncodeError};

/// Reads the next message and removes it from `rest`. The announced length is checked against
/// the frame before anything is allocated.
pub(super) fn next<T: Message + Default>(rest: &mut &[u8]) -> Option<Result<T, DecodeError>> {
    if rest.is_empty() {
        return None;
    }
    Some(take_body(rest).and_then(|body| Ok(T::decode(body)?)))
}

/// Splits the first message's body off `rest`.
fn take_body<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], DecodeError> {
    let announced = prost::encoding::decode_varint(rest).map_err(|_| DecodeError::Length)?;
    let left = rest.len();
    let (body, after) = usize::try_from(announced)
        .ok()
        .and_then(|length| rest.split_at_checked(length))
        .ok_or(DecodeError::Truncated { announced, left })?;
    *rest = after;
    Ok(body)
}

/// Appends a message; on error `out` is as it was.
pub(super) fn append<T: Message>(message: &T, out: &mut BytesMut) -> Result<(), EncodeError> {
    // prost checks for room before it writes anything.
    message.encode_length_delimited(out)?;
    Ok(())
}
