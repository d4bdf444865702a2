//! Where frames end in a stream of any bytes, however it is cut. The first byte says how.
#![no_main]

// Private to the gateway's relay, and tried here as it is.
#[path = "../../../gateway/src/relay/tracker.rs"]
mod tracker;

use libfuzzer_sys::fuzz_target;
use tracker::{CARRY_MAX, NO_STATUS, Tracker};

fuzz_target!(|bytes: &[u8]| {
    let Some((size, stream)) = bytes.split_first() else {
        return;
    };
    let whole = scan(stream, stream.len());
    assert_eq!(scan(stream, usize::from(*size)), whole, "when cut");
    assert_eq!(whole, read(stream), "when read frame by frame");
});

/// Where the last complete frame ends, and the status code of the first Close.
type Found = (usize, Option<u16>);

/// Scans `stream` in chunks, as a pump does.
fn scan(stream: &[u8], size: usize) -> Found {
    let mut tracker = Tracker::default();
    let (mut unscanned, mut passed, mut end) = (Vec::new(), 0, 0);
    for chunk in stream.chunks(size.max(1)) {
        unscanned.extend_from_slice(chunk);
        let scan = tracker.scan(&unscanned);
        assert!(
            unscanned.len() - scan.forward <= CARRY_MAX,
            "too much is held back"
        );
        if let Some(boundary) = scan.boundary {
            assert!(boundary <= scan.forward);
            end = passed + boundary;
        }
        passed += scan.forward;
        unscanned.drain(..scan.forward);
        assert_eq!(tracker.at_boundary(), end == passed);
    }
    let close = tracker.close();
    tracker.drop_partial_frame();
    assert!(tracker.at_boundary());
    (end, close)
}

/// The same, from the whole stream at once (RFC 6455 §5.2).
fn read(stream: &[u8]) -> Found {
    let (mut end, mut close) = (0, None);
    while let Some((length, status)) = frame(&stream[end..]) {
        end += length;
        close = close.or(status);
    }
    (end, close)
}

/// The length of the complete frame that `bytes` begin with, and its status code if it is a Close.
fn frame(bytes: &[u8]) -> Option<(usize, Option<u16>)> {
    let [first, second, ..] = *bytes else {
        return None;
    };
    let (extended, length) = match second & 0x7f {
        126 => (
            2,
            u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?).into(),
        ),
        127 => (8, u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?)),
        short => (0, short.into()),
    };
    let is_masked = second & 0x80 != 0;
    let head = 2 + extended + if is_masked { 4 } else { 0 };
    let payload = bytes.get(head..)?.get(..usize::try_from(length).ok()?)?;
    // Longer ones break the rules, and are not taken for what they say they are.
    if first & 0x0f != 8 || second & 0x7f > 125 {
        return Some((head + payload.len(), None));
    }
    let mask = if is_masked {
        [bytes[2], bytes[3]]
    } else {
        [0, 0]
    };
    let status = payload.first_chunk().map_or(NO_STATUS, |code: &[u8; 2]| {
        u16::from_be_bytes([code[0] ^ mask[0], code[1] ^ mask[1]])
    });
    Some((head + payload.len(), Some(status)))
}
