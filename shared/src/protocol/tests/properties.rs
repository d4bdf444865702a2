//! What holds for any message and any bytes.

use std::fmt::Debug;

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::strategies::{binary_payload, command, json_payload, reply};
use crate::protocol::{DecodeError, EncodeError, Format, Messages, append, commands, replies};

fn frame_of<T: Message + Serialize>(
    format: Format,
    messages: &[T],
) -> Result<Vec<u8>, EncodeError> {
    let mut frame = BytesMut::new();
    for message in messages {
        append(format, message, &mut frame)?;
    }
    Ok(frame.to_vec())
}

/// Decoding what was encoded gives the same messages.
fn check_round_trip<T>(format: Format, messages: Vec<T>) -> Result<(), TestCaseError>
where
    T: Message + Default + PartialEq + Debug + Serialize + DeserializeOwned,
{
    let frame = frame_of(format, &messages)?;
    let decoded: Result<Vec<T>, DecodeError> = Messages::new(format, &frame).collect();
    prop_assert_eq!(decoded, Ok(messages), "{}", frame.escape_ascii());
    Ok(())
}

/// A frame with one message, cut anywhere, is an error.
fn check_truncation<T>(format: Format, message: T, cut: Index) -> Result<(), TestCaseError>
where
    T: Message + Default + Debug + Serialize + DeserializeOwned,
{
    let mut frame = frame_of(format, &[message])?;
    if frame.len() > 1 {
        frame.truncate(1 + cut.index(frame.len() - 1));
        let outcomes: Vec<Result<T, DecodeError>> = Messages::new(format, &frame).collect();
        prop_assert!(matches!(outcomes[..], [Err(_)]), "{}", frame.escape_ascii());
    }
    Ok(())
}

/// Reads everything from bytes of any origin; what can be read can be written again, unless it
/// carries a payload that JSON cannot.
fn check_hostile(frame: &[u8]) -> Result<(), TestCaseError> {
    for format in Format::ALL {
        let mut out = BytesMut::new();
        for command in commands(format, frame).flatten() {
            append(Format::Protobuf, &command, &mut out)?;
        }
        for reply in replies(format, frame).flatten() {
            append(Format::Protobuf, &reply, &mut out)?;
        }
    }
    Ok(())
}

fn format() -> impl Strategy<Value = Format> {
    prop_oneof![Just(Format::Json), Just(Format::Protobuf)]
}

proptest! {
    #[test]
    fn commands_survive_both_encodings(
        format in format(),
        messages in vec(command(&json_payload()), 1..4),
    ) {
        check_round_trip(format, messages)?;
    }

    #[test]
    fn replies_survive_both_encodings(
        format in format(),
        messages in vec(reply(&json_payload()), 1..4),
    ) {
        check_round_trip(format, messages)?;
    }

    #[test]
    fn protobuf_carries_any_payload(
        sent in vec(command(&binary_payload()), 1..4),
        received in vec(reply(&binary_payload()), 1..4),
    ) {
        check_round_trip(Format::Protobuf, sent)?;
        check_round_trip(Format::Protobuf, received)?;
    }

    #[test]
    fn a_json_message_is_one_line(reply in reply(&json_payload())) {
        let frame = frame_of(Format::Json, &[reply])?;
        prop_assert!(!frame.contains(&b'\n') && !frame.contains(&b'\r'));
    }

    #[test]
    fn a_truncated_frame_is_an_error(
        format in format(),
        command in command(&json_payload()),
        reply in reply(&json_payload()),
        cut in any::<Index>(),
    ) {
        check_truncation(format, command, cut)?;
        check_truncation(format, reply, cut)?;
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(frame in vec(any::<u8>(), 0..256)) {
        check_hostile(&frame)?;
    }

    #[test]
    fn no_damage_to_a_frame_makes_a_decoder_panic(
        format in format(),
        messages in vec(command(&json_payload()), 1..4),
        damage in vec((any::<Index>(), any::<u8>()), 1..8),
    ) {
        let mut frame = frame_of(format, &messages)?;
        for (place, byte) in damage {
            let place = place.index(frame.len());
            frame[place] = byte;
        }
        check_hostile(&frame)?;
    }
}
