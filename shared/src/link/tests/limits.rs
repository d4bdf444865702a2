//! How long messages may be, and how much memory they take.

use std::mem::size_of;

use bytes::{Bytes, BytesMut};

use super::super::codec::SPARE_MAX_BYTES;
use super::{read, stream_of};
use crate::link::*;

/// A message that is `length` bytes long behind its length.
fn long(length: usize) -> ToGateway {
    let of = |frames: usize| {
        ToGateway::from(ForGateway::Cast(Cast {
            frames: vec![b'x'; frames].into(),
            ..Cast::default()
        }))
    };
    let around = prost::Message::encoded_len(&of(length)) - length;
    of(length - around)
}

#[test]
fn a_length_is_refused_as_soon_as_it_is_too_long() {
    let lengths: [(&str, &[u8]); 5] = [
        ("one more than the limit", b"\x81\x80\x80\x20"),
        ("more than the limit already", b"\xff\xff\xff\xff"),
        (
            "more than the limit in the last byte",
            b"\x80\x80\x80\x80\x01",
        ),
        ("zeros without an end", b"\x80\x80\x80\x80\x80"),
        ("more than any limit", b"\x80\x80\x80\x80\x7f"),
    ];
    for (what, bytes) in lengths {
        let (last, first) = bytes.split_last().expect("some bytes");
        let mut reader = Messages::default();
        for byte in first {
            reader.buffer().extend_from_slice(&[*byte]);
            assert_eq!(reader.next::<ToWorker>(), Ok(None), "{what}");
        }
        reader.buffer().extend_from_slice(&[*last]);
        assert_eq!(reader.next::<ToWorker>(), Err(LinkError::TooLong), "{what}");
    }
}

#[test]
fn a_length_that_is_padded_with_zeros_is_one() {
    let detach = ForWorker::Detach(Detach { session: 1 });
    for length in [
        &b"\x04"[..],
        b"\x84\x00",
        b"\x84\x80\x00",
        b"\x84\x80\x80\x00",
        b"\x84\x80\x80\x80\x00",
    ] {
        let (messages, left) = read::<ToWorker>([length, b"\x2a\x02\x08\x01"]);
        assert_eq!(left, Ok(0));
        assert_eq!(messages, [ToWorker::from(detach.clone())]);
    }
    let (heartbeats, left) = read::<ToWorker>([&b"\x80\x80\x80\x80\x00"[..]]);
    assert_eq!((heartbeats, left), (vec![ToWorker::default()], Ok(0)));
}

#[test]
fn the_longest_message_passes_and_a_longer_one_is_not_sent() {
    let mut out = BytesMut::new();
    let longest = long(MESSAGE_MAX_BYTES);
    assert!(append(&longest, &mut out));
    let (messages, left) = read::<ToGateway>([&out[..]]);
    assert_eq!(left, Ok(0));
    assert!(messages == [longest], "as it went in");

    out.clear();
    assert!(append(&ToGateway::default(), &mut out));
    assert!(!append(&long(MESSAGE_MAX_BYTES + 1), &mut out));
    assert_eq!(out[..], [0], "nothing of it");
}

#[test]
fn a_long_message_leaves_no_room_behind() {
    let mut reader = Messages::default();
    let mut stream = stream_of(&[long(4 * 1024 * 1024)]);
    stream.extend_from_slice(b"\x00\x04\x2a");
    for chunk in stream.chunks(16 * 1024) {
        assert_eq!(reader.next::<ToGateway>(), Ok(None));
        reader.buffer().extend_from_slice(chunk);
    }
    assert!(reader.next::<ToGateway>().is_ok_and(|long| long.is_some()));
    assert!(
        !reader.buffer().try_reclaim(SPARE_MAX_BYTES + 1),
        "the room for the long one is still there"
    );
    // What has been read behind it is not lost.
    assert_eq!(reader.next(), Ok(Some(ToGateway::default())));
    assert_eq!(reader.buffer()[..], b"\x04\x2a"[..]);
}

#[test]
fn the_room_for_short_messages_is_used_again() {
    let mut reader = Messages::default();
    let stream = stream_of(&[long(SPARE_MAX_BYTES)]);
    reader.buffer().extend_from_slice(&stream);
    assert!(
        reader
            .next::<ToGateway>()
            .is_ok_and(|message| message.is_some())
    );
    assert!(reader.buffer().try_reclaim(SPARE_MAX_BYTES));
}

#[test]
fn what_is_read_behind_a_long_message_is_not_copied_for_each_message() {
    let messages = vec![long(SPARE_MAX_BYTES + 1); 20];
    let mut reader = Messages::default();
    reader.buffer().extend_from_slice(&stream_of(&messages));
    let mut copies = 0;
    while !reader.buffer().is_empty() {
        let end = reader.buffer().as_ptr_range().end;
        assert!(
            reader
                .next::<ToGateway>()
                .is_ok_and(|message| message.is_some())
        );
        copies += usize::from(reader.buffer().as_ptr_range().end != end);
    }
    assert!(copies <= 1, "{copies} copies");
}

#[test]
fn a_message_of_many_small_parts_takes_at_most_48_times_its_length() {
    const PARTS: usize = 1025;
    // Two bytes each, or one.
    let open = |open: Open| ToWorker::from(ForWorker::Open(open));
    let restore = |restore: Restore| Open {
        restore: Some(restore),
        ..Open::default()
    };
    let headers = open(Open {
        headers: vec![Header::default(); PARTS],
        ..Open::default()
    });
    let protocols = open(Open {
        protocols: vec![String::new(); PARTS],
        ..Open::default()
    });
    let positions = open(restore(Restore {
        positions: vec![Position::default(); PARTS],
        ..Restore::default()
    }));
    let messages = open(restore(Restore {
        messages: vec![Message::default(); PARTS],
        ..Restore::default()
    }));
    for message in [headers, protocols, positions, messages] {
        check_memory(&message, |ToWorker { body }| match body {
            Some(ForWorker::Open(open)) => {
                let restore = open.restore.unwrap_or_default();
                open.headers.capacity() * size_of::<Header>()
                    + open.protocols.capacity() * size_of::<String>()
                    + restore.positions.capacity() * size_of::<Position>()
                    + restore.messages.capacity() * size_of::<Message>()
            }
            other => panic!("not an Open: {other:?}"),
        });
    }
    let release = ForGateway::Release(Release {
        sessions: vec![0; PARTS],
    });
    check_memory(&ToGateway::from(release), |ToGateway { body }| match body {
        Some(ForGateway::Release(release)) => release.sessions.capacity() * size_of::<u64>(),
        other => panic!("not a Release: {other:?}"),
    });
}

fn check_memory<M: prost::Message + Default>(message: &M, taken: impl Fn(M) -> usize) {
    let stream = Bytes::from(stream_of(std::slice::from_ref(message)));
    let (mut messages, _) = read::<M>([&stream[..]]);
    let taken = taken(messages.remove(0));
    assert!(taken > stream.len(), "the parts are counted");
    assert!(taken <= 48 * stream.len(), "{taken} of {}", stream.len());
}
