//! Fossil deltas: source and target are what stands before and behind the first half.
#![no_main]

use flotilla_shared::delta::fossil_delta;
use libfuzzer_sys::fuzz_target;

/// So much longer than its target a delta may be.
const OVERHEAD_MAX: usize = 24;

fuzz_target!(|bytes: &[u8]| {
    let (source, target) = bytes.split_at(bytes.len() / 2);
    let delta = fossil_delta(source, target);
    assert_eq!(
        apply(source, &delta).as_deref(),
        Some(target),
        "{}",
        delta.escape_ascii()
    );
    assert!(delta.len() <= target.len() + OVERHEAD_MAX);
    assert!(std::str::from_utf8(target).is_err() || std::str::from_utf8(&delta).is_ok());
});

/// What a client makes of a delta.
fn apply(source: &[u8], delta: &[u8]) -> Option<Vec<u8>> {
    let (mut rest, mut target) = (delta, Vec::new());
    let (length, b'\n') = number(&mut rest)? else {
        return None;
    };
    loop {
        match number(&mut rest)? {
            (count, b'@') => {
                let (offset, b',') = number(&mut rest)? else {
                    return None;
                };
                target.extend_from_slice(source.get(offset..offset + count)?);
            }
            (count, b':') => target.extend_from_slice(rest.split_off(..count)?),
            (sum, b';') => {
                let is_whole =
                    rest.is_empty() && target.len() == length && sum == checksum(&target);
                return is_whole.then_some(target);
            }
            _ => return None,
        }
    }
}

/// Takes a number, and the byte behind it.
fn number(rest: &mut &[u8]) -> Option<(usize, u8)> {
    const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~";
    let mut value = 0;
    loop {
        let byte = *rest.split_off_first()?;
        match DIGITS.iter().position(|digit| *digit == byte) {
            Some(digit) => value = value * 64 + digit,
            None => return Some((value, byte)),
        }
    }
}

/// The sum of the bytes as big-endian words; the last one is filled up with zeros.
fn checksum(bytes: &[u8]) -> usize {
    let words = bytes.chunks(4).map(|chunk| {
        let mut word = [0; 4];
        word[..chunk.len()].copy_from_slice(chunk);
        u32::from_be_bytes(word)
    });
    words.fold(0, u32::wrapping_add) as usize
}
