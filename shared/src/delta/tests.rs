//! What holds for any source and target, and how small the delta of alike ones is.

use std::ops::Range;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::fossil_delta;

/// The target that a delta makes, or what is wrong with the delta.
fn apply(source: &[u8], delta: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut rest = delta;
    let (length, b'\n') = number(&mut rest)? else {
        return Err("no line end after the length");
    };
    let mut target = Vec::new();
    loop {
        match number(&mut rest)? {
            (count, b'@') => {
                let (offset, b',') = number(&mut rest)? else {
                    return Err("no comma after a copy");
                };
                let copied = source.get(offset..offset + count);
                target.extend_from_slice(copied.ok_or("copied from beyond the source")?);
            }
            (count, b':') => {
                let inserted = rest.split_off(..count);
                target.extend_from_slice(inserted.ok_or("inserted from beyond the delta")?);
            }
            (sum, b';') if rest.is_empty() => {
                let whole = target.len() == length && sum == checksum(&target);
                return whole.then_some(target).ok_or("another length or checksum");
            }
            _ => return Err("an unknown operation"),
        }
    }
}

/// Takes a number and the byte behind it.
fn number(rest: &mut &[u8]) -> Result<(usize, u8), &'static str> {
    let mut value = 0;
    while let Some(byte) = rest.split_off_first() {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'A'..=b'Z' => byte - b'A' + 10,
            b'_' => 36,
            b'a'..=b'z' => byte - b'a' + 37,
            b'~' => 63,
            _ => return Ok((value, *byte)),
        };
        value = value * 64 + usize::from(digit);
    }
    Err("ended within an operation")
}

/// Byte by byte: each counts by its place in its word.
fn checksum(bytes: &[u8]) -> usize {
    let place = |(at, byte): (usize, &u8)| usize::from(*byte) << (8 * (3 - at % 4));
    bytes.iter().enumerate().map(place).sum::<usize>() % (1 << 32)
}

#[track_caller]
fn check(source: &[u8], target: &[u8]) -> Vec<u8> {
    let delta = fossil_delta(source, target);
    let made = apply(source, &delta);
    assert_eq!(made.as_deref(), Ok(target), "{}", delta.escape_ascii());
    if str::from_utf8(target).is_ok() {
        assert!(str::from_utf8(&delta).is_ok(), "{}", delta.escape_ascii());
    }
    delta
}

/// The operations of a delta, without their numbers.
fn operations(delta: &[u8]) -> String {
    let mut rest = delta;
    let mut operations = String::new();
    while let Ok((count, byte)) = number(&mut rest) {
        match byte {
            b'@' => operations.push('@'),
            b':' => {
                operations.push(':');
                rest = &rest[count..];
            }
            _ => {}
        }
    }
    operations
}

/// ASCII without a pattern, the same each time.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let byte = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 57) as u8
    };
    (0..length).map(byte).collect()
}

#[test]
fn the_vector_of_the_specification() {
    let source = br#"{"symbol":"ABCDEFGHIJKLMNOP","price":100,"note":"an unchanged tail of text"}"#;
    let target = br#"{"symbol":"ABCDEFGHIJKLMNOP","price":101,"note":"an unchanged tail of text"}"#;
    assert_eq!(check(source, target), b"1C\nc@0,1:1_@d,11WY_l;");
}

#[test]
fn nothing_comes_from_and_leads_to_nothing() {
    assert_eq!(check(b"", b""), b"0\n0;");
    assert_eq!(check(b"a source", b""), b"0\n0;");
    assert_eq!(check(b"", b"a"), b"1\n1:a1X0000;");
}

#[test]
fn equal_payloads_cost_one_copy() {
    for length in [16, 100, 4_096, 65_536] {
        let payload = noise(length);
        let delta = check(&payload, &payload);
        assert_eq!(operations(&delta), "@");
        assert!(delta.len() <= 20, "{}", delta.escape_ascii());
    }
}

#[test]
fn each_part_that_stayed_is_copied() {
    let payload = |bid, ask, last| {
        format!(
            r#"{{"symbol":"FLOT","exchange":"X1","bid":{bid},"bid_size":1200,"currency":"EUR","ask":{ask},"ask_size":800,"currency":"EUR","last":{last},"time":1700000000}}"#
        )
    };
    let (old, new) = (payload(1.25, 1.27, 1.26), payload(1.33, 1.35, 1.34));
    let delta = check(old.as_bytes(), new.as_bytes());
    assert_eq!(operations(&delta), "@:@:@:@");
    assert!(3 * delta.len() < new.len(), "{}", delta.escape_ascii());
}

#[test]
fn what_moved_is_copied_from_where_it_was() {
    let payload = noise(4_096);
    let (front, back) = payload.split_at(1_003);
    let swapped = [back, front].concat();
    assert_eq!(operations(&check(&payload, &swapped)), "@@");
    let twice = [&payload[..], &payload[..]].concat();
    assert_eq!(operations(&check(&payload, &twice)), "@@");
    let without = [&payload[..700], &payload[900..]].concat();
    assert_eq!(operations(&check(&payload, &without)), "@@");
}

#[test]
fn a_delta_of_strangers_is_hardly_longer_than_its_target() {
    let bytes = noise(20_000);
    let (source, target) = bytes.split_at(10_000);
    let delta = check(source, target);
    assert_eq!(operations(&delta), ":");
    assert!(delta.len() <= target.len() + 20);
}

#[test]
fn no_character_is_cut() {
    // These differ in the last, the second and the first of their bytes.
    for (old, new) in [
        ("é", "è"),
        ("語", "誠"),
        ("⚓", "⛓"),
        ("😀", "🤖"),
        ("ż", "é"),
    ] {
        let around = "ein langer Anfang, der bleibt";
        let source = format!("{around}{old}{around}{old}{around}");
        let target = format!("{around}{new}{around}{new}{around}");
        let delta = check(source.as_bytes(), target.as_bytes());
        assert_eq!(operations(&delta), "@:@:@", "{old} {new}");
    }
}

#[test]
fn payloads_that_repeat_themselves_come_out_right() {
    const BYTES: usize = 1 << 16;
    let zeros = vec![0; BYTES];
    let mut dotted = zeros.clone();
    dotted.iter_mut().step_by(31).for_each(|byte| *byte = 1);
    let periodic: Vec<u8> = noise(48).into_iter().cycle().take(BYTES).collect();
    // Every block of the one is in the other, preceded and followed by something else.
    let shuffled: Vec<u8> = zeros[..BYTES / 2]
        .chunks(16)
        .zip(0_u8..=255)
        .flat_map(|(zeros, number)| [zeros, &[number; 16]].concat())
        .collect();
    let continuing = vec![0x80; BYTES];
    let payloads = [&zeros, &dotted, &periodic, &shuffled, &continuing];
    for source in payloads {
        for target in payloads {
            check(source, target);
        }
    }
}

/// A change to a payload.
#[derive(Clone, Debug)]
enum Edit {
    Replace(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, Index),
    Repeat(Index, Index),
}

impl Edit {
    fn apply(self, payload: &mut Vec<u8>) {
        let length = payload.len();
        let place = |index: Index| index.index(length + 1);
        let range =
            |a: Index, b: Index| -> Range<usize> { place(a).min(place(b))..place(a).max(place(b)) };
        match self {
            Self::Replace(at, byte) => {
                if let Some(old) = payload.get_mut(place(at)) {
                    *old = byte;
                }
            }
            Self::Insert(at, bytes) => drop(payload.splice(place(at)..place(at), bytes)),
            Self::Remove(a, b) => drop(payload.drain(range(a, b))),
            Self::Repeat(a, b) => payload.extend_from_within(range(a, b)),
        }
    }
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let index = any::<Index>;
    let edit = prop_oneof![
        (index(), any::<u8>()).prop_map(|(at, byte)| Edit::Replace(at, byte)),
        (index(), vec(any::<u8>(), 0..40)).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        (index(), index()).prop_map(|(a, b)| Edit::Remove(a, b)),
        (index(), index()).prop_map(|(a, b)| Edit::Repeat(a, b)),
    ];
    vec(edit, 0..6)
}

/// Bytes of any kind, and of few kinds, so that equal blocks are common.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..600),
        vec(0_u8..2, 0..600),
        vec(prop_oneof![Just(0x80_u8), Just(0xc3), Just(b'a')], 0..600),
    ]
}

/// Text of few characters, whose first or last bytes are the same.
fn text() -> impl Strategy<Value = String> {
    let characters = ["a", "é", "è", "語", "誠", "😀", "😁", "🤖"];
    let character = proptest::sample::select(characters.to_vec());
    let words = proptest::sample::select(vec!["ein langes Wort", "語語語語語語語", "😀😁😀😁😀"]);
    vec(prop_oneof![character, words], 0..60).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn any_target_comes_out_of_any_source(source in bytes(), target in bytes()) {
        check(&source, &target);
    }

    #[test]
    fn an_edited_payload_comes_out_of_the_old_one(source in bytes(), edits in edits()) {
        let mut target = source.clone();
        edits.into_iter().for_each(|edit| edit.apply(&mut target));
        check(&source, &target);
    }

    #[test]
    fn a_delta_of_text_is_text(source in text(), target in text()) {
        check(source.as_bytes(), target.as_bytes());
    }

    #[test]
    fn one_change_costs_little(
        source in vec(any::<u8>(), 300..3_000),
        at in any::<Index>(),
        inserted in vec(any::<u8>(), 0..20),
    ) {
        let mut target = source.clone();
        let at = at.index(source.len());
        target.splice(at..at, inserted.iter().copied());
        let delta = check(&source, &target);
        prop_assert!(delta.len() <= 60 + inserted.len(), "{}", delta.escape_ascii());
    }
}
