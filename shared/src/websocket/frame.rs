//! Encoding of the frames that a server sends (RFC 6455 §5): unmasked and never fragmented.

use bytes::{BufMut, Bytes, BytesMut};

/// Longest header of a frame that a server sends, in bytes.
pub const SERVER_HEADER_MAX_BYTES: usize = 10;

/// Longest reason that fits in a Close frame, in bytes: a control frame carries at most 125, two
/// of which are the code (RFC 6455 §5.5.1).
pub const CLOSE_REASON_MAX_BYTES: usize = 123;

/// What a frame is (RFC 6455 §5.2). Continuations are missing because nothing here is fragmented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// A message of UTF-8 text.
    Text = 0x1,
    /// A message of bytes.
    Binary = 0x2,
    /// The last frame of its sender.
    Close = 0x8,
    /// Asks for a pong.
    Ping = 0x9,
    /// Answers a ping, or says that the sender is alive.
    Pong = 0xa,
}

/// Appends one complete frame. A control frame's payload must not exceed 125 bytes.
pub fn append_frame(opcode: Opcode, payload: &[u8], out: &mut BytesMut) {
    debug_assert!(
        payload.len() <= 125 || !matches!(opcode, Opcode::Close | Opcode::Ping | Opcode::Pong)
    );
    out.reserve(SERVER_HEADER_MAX_BYTES + payload.len());
    out.put_u8(0x80 | opcode as u8);
    match payload.len() {
        short @ 0..=125 => out.put_u8(short as u8),
        medium @ 126..=0xffff => {
            out.put_u8(126);
            out.put_u16(medium as u16);
        }
        long => {
            out.put_u8(127);
            out.put_u64(long as u64);
        }
    }
    out.put_slice(payload);
}

/// One Close frame. A reason that does not fit is cut at the last character that does.
pub fn close_frame(code: u16, reason: &str) -> Bytes {
    let mut end = reason.len().min(CLOSE_REASON_MAX_BYTES);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let mut payload = BytesMut::with_capacity(2 + end);
    payload.put_u16(code);
    payload.put_slice(&reason.as_bytes()[..end]);
    let mut frame = BytesMut::with_capacity(2 + payload.len());
    append_frame(Opcode::Close, &payload, &mut frame);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_the_shortest_form() {
        let check = |length: usize, header: &[u8]| {
            let payload = vec![7; length];
            let mut out = BytesMut::from(&b"before"[..]);
            append_frame(Opcode::Binary, &payload, &mut out);
            assert_eq!(&out[..6], b"before");
            assert_eq!(&out[6..6 + header.len()], header, "length {length}");
            assert_eq!(&out[6 + header.len()..], payload);
        };
        check(0, &[0x82, 0]);
        check(125, &[0x82, 125]);
        check(126, &[0x82, 126, 0, 126]);
        check(65_535, &[0x82, 126, 0xff, 0xff]);
        check(65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn a_close_frame_carries_code_and_reason() {
        assert_eq!(&close_frame(1001, "bye")[..], b"\x88\x05\x03\xe9bye");
        assert_eq!(&close_frame(1012, "")[..], b"\x88\x02\x03\xf4");
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let frame = close_frame(3000, &"é".repeat(100));
        assert_eq!(frame.len(), 2 + 2 + 122);
        assert!(std::str::from_utf8(&frame[4..]).is_ok());
    }
}
