//! What holds for a frame of any bytes, in either direction; shared by the targets of both encodings.

use std::fmt::Debug;

use bytes::BytesMut;
use flotilla_shared::protocol::{
    EncodeError, Format, Messages, append_command, append_reply, commands, replies,
};

/// Reads `frame` as commands and as replies. Whatever could be read can be written again, and is then read as the same.
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
    T: Debug + PartialEq,
    for<'a> Messages<'a, T>: Iterator<Item = Result<T, flotilla_shared::protocol::DecodeError>>,
{
    let mut messages = read(format, frame);
    let understood: Vec<T> = messages.by_ref().map_while(Result::ok).collect();
    assert!(understood.len() <= frame.len(), "more messages than bytes");
    assert!(messages.next().is_none(), "something follows the end");

    let mut written = BytesMut::new();
    for message in &understood {
        append(format, message, &mut written).expect("what was read can be written");
    }
    let again: Vec<T> = read(format, &written)
        .map(|message| message.expect("what was written can be read"))
        .collect();
    assert_eq!(understood, again, "{}", written.escape_ascii());
}
