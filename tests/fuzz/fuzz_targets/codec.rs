//! What holds for a frame of any bytes, in either direction; shared by the targets of both encodings.

use bytes::BytesMut;
use flotilla_shared::protocol::{
    EncodeError, Format, Messages, append_command, append_reply, commands, replies,
};

/// Reads `frame` as commands and as replies. Whatever could be read can be written again, and is then read as what
/// is written the same way.
pub fn check(format: Format, frame: &[u8]) {
    check_direction(format, frame, commands, append_command);
    check_direction(format, frame, replies, append_reply);
}

fn check_direction<T>(
    format: Format,
    frame: &[u8],
    read: for<'a> fn(Format, &'a [u8]) -> Messages<'a, T>,
    append: fn(Format, &T, &mut BytesMut) -> Result<(), EncodeError>,
) where
    for<'a> Messages<'a, T>: Iterator<Item = Result<T, flotilla_shared::protocol::DecodeError>>,
{
    let mut messages = read(format, frame);
    let understood: Vec<T> = messages.by_ref().map_while(Result::ok).collect();
    assert!(understood.len() <= frame.len(), "more messages than bytes");
    assert!(messages.next().is_none(), "something follows the end");

    let written = write(format, &understood, append);
    let again: Vec<T> = read(format, &written)
        .map(|message| message.expect("what was written can be read"))
        .collect();
    assert_eq!(understood.len(), again.len());
    // Not the messages themselves: a line end between the tokens of a JSON payload becomes a space.
    assert_eq!(written, write(format, &again, append));
}

fn write<T>(
    format: Format,
    messages: &[T],
    append: fn(Format, &T, &mut BytesMut) -> Result<(), EncodeError>,
) -> BytesMut {
    let mut written = BytesMut::new();
    for message in messages {
        append(format, message, &mut written).expect("what was read can be written");
    }
    written
}
