//! Golden vectors: the bytes in `golden/` are the wire format, in both directions.

use std::fmt::Debug;

use bytes::BytesMut;
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::{Format, Messages, append};

/// One message in both encodings.
struct Vector<'a> {
    name: &'a str,
    json: &'a str,
    protobuf: Vec<u8>,
}

/// Reads a file of vectors: lines `name`, `json`, `hex`, with blank lines and `#` between them.
fn parse(file: &str) -> Vec<Vector<'_>> {
    let lines: Vec<(&str, &str)> = file
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split_once(' ').expect("a keyword and a value"))
        .collect();
    lines
        .chunks(3)
        .map(|record| match record {
            [("name", name), ("json", json), ("hex", hex)] => Vector {
                name,
                json,
                protobuf: unhex(hex.trim_start()),
            },
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
fn check<T>(file: &str, values: Vec<(&str, T)>)
where
    T: Message + Default + PartialEq + Debug + Serialize + DeserializeOwned,
{
    let vectors = parse(file);
    let names: Vec<&str> = vectors.iter().map(|vector| vector.name).collect();
    let expected: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, expected, "file and values have the same vectors");

    for (vector, (name, value)) in vectors.iter().zip(values) {
        let encodings = [
            (Format::Json, vector.json.as_bytes()),
            (Format::Protobuf, &vector.protobuf),
        ];
        for (format, wire) in encodings {
            let decoded: Vec<T> = Messages::new(format, wire)
                .collect::<Result<_, _>>()
                .unwrap_or_else(|error| panic!("{name}: {format:?}: {error}"));
            assert_eq!(decoded.len(), 1, "{name}: {format:?}: one message");
            assert_eq!(decoded[0], value, "{name}: {format:?}: decoding");

            let mut out = BytesMut::new();
            append(format, &value, &mut out).expect("JSON payloads");
            assert_eq!(
                out.escape_ascii().to_string(),
                wire.escape_ascii().to_string(),
                "{name}: {format:?}: encoding"
            );
        }
    }
}

#[test]
fn commands_have_their_bytes_on_the_wire() {
    check(
        include_str!("../golden/commands.txt"),
        super::commands::values(),
    );
}

#[test]
fn replies_have_their_bytes_on_the_wire() {
    check(
        include_str!("../golden/replies.txt"),
        super::replies::values(),
    );
}
