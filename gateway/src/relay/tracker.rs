//! Finds where WebSocket frames end in a stream of bytes (RFC 6455 §5.2).
//!
//! It reads headers, and the status code of a Close frame; it never looks at other payload and
//! never judges a frame: that is the worker's business, which sees the same bytes. What the
//! gateway needs to know is where a frame of its own may go, and whether a side has said goodbye.

/// Most bytes of an incomplete header that can be left over between two scans.
pub(super) const CARRY_MAX: usize = 13;

/// The Close status code of a frame without one (RFC 6455 §7.1.5).
pub(crate) const NO_STATUS: u16 = 1005;

const OPCODE_CLOSE: u8 = 0x8;
const CONTROL_PAYLOAD_MAX: u8 = 125;

/// What one scan found in a slice of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// So many bytes may be passed on; the rest, at most [`CARRY_MAX`], is an incomplete header
    /// that has to be put in front of what comes next.
    pub(super) forward: usize,
    /// Where the last frame that ends in this slice ends.
    pub(super) boundary: Option<usize>,
}

/// The frame position of one direction of a connection.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    /// Payload bytes of the current frame that are still to come.
    remaining: u64,
    /// The status code of the Close frame whose payload is still to come.
    closing: Option<u16>,
    /// The status code of the first complete Close frame.
    close: Option<u16>,
}

impl Tracker {
    /// Whether everything passed on so far ends with a frame, so that another may follow.
    pub(super) fn at_boundary(&self) -> bool {
        self.remaining == 0
    }

    /// The status code of the first complete Close frame, once there was one.
    pub(super) fn close(&self) -> Option<u16> {
        self.close
    }

    /// Forgets the frame that is under way: its sender is not listened to any more, and what was
    /// scanned of it was not passed on.
    pub(super) fn drop_partial_frame(&mut self) {
        self.remaining = 0;
        self.closing = None;
    }

    /// Advances over `bytes`, which begin where the bytes passed on so far ended.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> Scan {
        let mut scan = Scan::default();
        loop {
            if self.remaining > 0 {
                let rest = (bytes.len() - scan.forward) as u64;
                let payload = rest.min(self.remaining);
                self.remaining -= payload;
                scan.forward += payload as usize;
                if self.remaining > 0 {
                    return scan;
                }
                self.end_frame(&mut scan);
            }
            let Some(header) = Header::parse(&bytes[scan.forward..]) else {
                return scan;
            };
            scan.forward += header.length;
            self.remaining = header.remaining;
            self.closing = header.close;
            if self.remaining == 0 {
                self.end_frame(&mut scan);
            }
        }
    }

    fn end_frame(&mut self, scan: &mut Scan) {
        scan.boundary = Some(scan.forward);
        self.close = self.close.or(self.closing.take());
    }
}

/// A complete frame header; that of a Close frame takes the status code along.
struct Header {
    length: usize,
    remaining: u64,
    close: Option<u16>,
}

impl Header {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let [first, second, ..] = *bytes else {
            return None;
        };
        let masked = second & 0x80 != 0;
        let short = second & 0x7f;
        let (extended, payload) = match short {
            126 => (
                2,
                u64::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?)),
            ),
            127 => (8, u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?)),
            _ => (0, u64::from(short)),
        };
        let length = 2 + extended + if masked { 4 } else { 0 };
        if bytes.len() < length {
            return None;
        }
        if first & 0x0f != OPCODE_CLOSE || short > CONTROL_PAYLOAD_MAX {
            return Some(Self {
                length,
                remaining: payload,
                close: None,
            });
        }
        if payload < 2 {
            return Some(Self {
                length,
                remaining: payload,
                close: Some(NO_STATUS),
            });
        }
        let mut code: [u8; 2] = *bytes.get(length..)?.first_chunk()?;
        if masked {
            code[0] ^= bytes[2];
            code[1] ^= bytes[3];
        }
        let close = Some(u16::from_be_bytes(code));
        Some(Self {
            length: length + 2,
            remaining: payload - 2,
            close,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(opcode: u8, payload: &[u8], masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut bytes = vec![0x80 | opcode];
        match payload.len() {
            length @ 0..=125 => bytes.push(mask | length as u8),
            length @ 126..=0xffff => {
                bytes.push(mask | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            length => {
                bytes.push(mask | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        if masked {
            let key = [0x11, 0x22, 0x33, 0x44];
            bytes.extend(key);
            bytes.extend(
                payload
                    .iter()
                    .zip(key.iter().cycle())
                    .map(|(byte, key)| byte ^ key),
            );
        } else {
            bytes.extend(payload);
        }
        bytes
    }

    /// Feeds `bytes` in chunks of these sizes (the last one repeats) the way a pump does, and
    /// answers every place at which a frame may be inserted.
    fn boundaries(bytes: &[u8], sizes: &[usize]) -> (Vec<usize>, Tracker) {
        let mut tracker = Tracker::default();
        let (mut carry, mut passed, mut found) = (Vec::new(), 0, Vec::new());
        let (mut rest, mut sizes) = (bytes, sizes.iter().copied().peekable());
        let mut size = 1;
        while !rest.is_empty() {
            size = sizes.next().unwrap_or(size);
            let (chunk, after) = rest.split_at(size.clamp(1, rest.len()));
            rest = after;
            carry.extend_from_slice(chunk);
            let scan = tracker.scan(&carry);
            assert!(carry.len() - scan.forward <= CARRY_MAX);
            if let Some(boundary) = scan.boundary {
                found.push(passed + boundary);
            }
            assert_eq!(
                tracker.at_boundary(),
                scan.boundary.is_none_or(|at| at == scan.forward)
                    && (scan.boundary.is_some()
                        || found.last().copied().unwrap_or(0) == passed + scan.forward)
            );
            passed += scan.forward;
            carry.drain(..scan.forward);
        }
        assert_eq!(passed + carry.len(), bytes.len());
        (found, tracker)
    }

    #[test]
    fn every_split_finds_the_same_frames() {
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for (opcode, length, masked) in [
            (1, 5, true),
            (2, 300, false),
            (9, 4, true),
            (0, 66_000, true),
            (10, 0, false),
            (1, 0, true),
        ] {
            bytes.extend(frame(opcode, &vec![0xab; length], masked));
            ends.push(bytes.len());
        }
        // One byte at a time every frame's end is seen; larger chunks see the last of each chunk.
        assert_eq!(boundaries(&bytes, &[1]).0, ends);
        for size in [2, 3, 7, 13, 1000, 65_536, bytes.len()] {
            let (found, tracker) = boundaries(&bytes, &[size]);
            assert!(
                found.iter().all(|end| ends.contains(end)),
                "{size}: {found:?}"
            );
            assert_eq!(found.last(), ends.last());
            assert!(tracker.at_boundary());
            assert_eq!(tracker.close(), None);
        }
    }

    #[test]
    fn a_close_tells_its_code_at_every_split() {
        let check = |bytes: &[u8], code: u16| {
            for size in 1..=bytes.len() {
                assert_eq!(
                    boundaries(bytes, &[size]).1.close(),
                    Some(code),
                    "chunks of {size}"
                );
            }
        };
        check(&frame(8, b"\x03\xe8bye", false), 1000);
        check(&frame(8, b"\x0b\xc0slow", true), 3008);
        check(&frame(8, b"\x03\xe9", true), 1001);
        check(&frame(8, b"", true), NO_STATUS);
        let after_data = [frame(1, b"text", true), frame(8, b"\x03\xf4", true)].concat();
        check(&after_data, 1012);
        let two = [frame(8, b"\x03\xe8", false), frame(8, b"\x03\xe9", false)].concat();
        check(&two, 1000);
    }

    #[test]
    fn hostile_lengths_are_only_counted() {
        let mut tracker = Tracker::default();
        let huge = [
            0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4, 9,
        ];
        assert_eq!(
            tracker.scan(&huge),
            Scan {
                forward: huge.len(),
                boundary: None
            }
        );
        assert!(!tracker.at_boundary());
        // A "Close" of a size that no control frame may have.
        let mut tracker = Tracker::default();
        tracker.scan(&[0x88, 126, 0, 200, 3, 232]);
        assert_eq!(tracker.close(), None);
    }

    proptest! {
        #[test]
        fn frames_end_where_they_end(
            frames in proptest::collection::vec((0u8..16, 0usize..200, any::<bool>()), 1..8),
            sizes in proptest::collection::vec(1usize..40, 1..20),
        ) {
            let (mut bytes, mut ends) = (Vec::new(), Vec::new());
            for (opcode, length, masked) in frames {
                bytes.extend(frame(opcode, &vec![3; length], masked));
                ends.push(bytes.len());
            }
            let (found, tracker) = boundaries(&bytes, &sizes);
            prop_assert!(found.iter().all(|end| ends.contains(end)));
            prop_assert_eq!(found.last(), ends.last());
            prop_assert!(tracker.at_boundary());
        }

        #[test]
        fn arbitrary_bytes_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            sizes in proptest::collection::vec(1usize..40, 1..20),
        ) {
            boundaries(&bytes, &sizes);
        }
    }
}
