//! Golden vectors: the bytes in `golden/` are what is on the link, in both directions.
//!
//! A changed vector is a changed protocol: gateways and workers of two versions run side by side in every deployment. What
//! is new gets a tag and a vector of its own, and those that are here stay as they are.

use std::fmt::Debug;

use prost::Message;

use super::{read, stream_of, values};

/// Reads a file of vectors: lines `name`, `text`, `hex`, with blank lines and `#` between them.
fn parse(file: &str) -> Vec<(&str, Vec<u8>)> {
    let lines: Vec<(&str, &str)> = file
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split_once(' ').expect("a keyword and a value"))
        .collect();
    lines
        .chunks(3)
        .map(|record| match record {
            [("name", name), ("text", _), ("hex", hex)] => (*name, unhex(hex.trim_start())),
            other => panic!("not a vector: {other:?}"),
        })
        .collect()
}

fn unhex(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .map(|digits| {
            let digits = std::str::from_utf8(digits).expect("ASCII");
            u8::from_str_radix(digits, 16).expect("two hexadecimal digits")
        })
        .collect()
}

/// Compares a file with the values it stands for, one by one and in both directions.
fn check<M: Message + Default + PartialEq + Debug>(file: &str, values: &[(&str, M)]) {
    let vectors = parse(file);
    let names: Vec<&str> = vectors.iter().map(|(name, _)| *name).collect();
    let expected: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, expected, "file and values have the same vectors");

    for ((name, bytes), (_, value)) in vectors.iter().zip(values) {
        let (decoded, left) = read::<M>([bytes.as_slice()]);
        assert_eq!(left, Ok(0), "{name}: one message and nothing else");
        assert_eq!(decoded, std::slice::from_ref(value), "{name}: decoding");
        assert_eq!(
            stream_of(std::slice::from_ref(value))
                .escape_ascii()
                .to_string(),
            bytes.escape_ascii().to_string(),
            "{name}: encoding"
        );
    }
}

#[test]
fn what_a_gateway_says_has_its_bytes_on_the_link() {
    check(
        include_str!("../golden/to_worker.txt"),
        &values::to_worker(),
    );
}

#[test]
fn what_a_worker_says_has_its_bytes_on_the_link() {
    check(
        include_str!("../golden/to_gateway.txt"),
        &values::to_gateway(),
    );
}
