//! The JSON encoding: one object per line, lines separated by `\n`.

use std::io;

use bytes::BytesMut;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::error::{DecodeError, EncodeError, JsonProblem};

/// Reads the next message and removes it, with its line end, from `rest`. Blank lines are
/// skipped, so a trailing line end is harmless.
pub(super) fn next<T: DeserializeOwned>(rest: &mut &[u8]) -> Option<Result<T, DecodeError>> {
    while !rest.is_empty() {
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let line = rest[..end].trim_ascii();
        *rest = rest.get(end + 1..).unwrap_or_default();
        match line.first() {
            None => continue,
            // serde would read the fields of a struct from an array, too.
            Some(b'{') => return Some(serde_json::from_slice(line).map_err(DecodeError::from)),
            Some(_) => {
                let problem = JsonProblem::Field;
                return Some(Err(DecodeError::Json { column: 1, problem }));
            }
        }
    }
    None
}

/// Appends a message; on error `out` is as it was.
pub(super) fn append<T: Serialize>(message: &T, out: &mut BytesMut) -> Result<(), EncodeError> {
    let before = out.len();
    if before > 0 {
        out.extend_from_slice(b"\n");
    }
    let start = out.len();
    // Memory takes every write, and the keys of our maps are strings: what remains to fail is
    // a payload.
    if serde_json::to_writer(Appending(out), message).is_err() {
        out.truncate(before);
        return Err(EncodeError::NotJson);
    }
    // serde_json writes no line ends, so one that is here stands between tokens of a payload
    // (strings cannot contain it), where a space means the same.
    let mut written = &mut out[start..];
    while let Some(at) = memchr::memchr2(b'\n', b'\r', written) {
        written[at] = b' ';
        written = &mut written[at + 1..];
    }
    Ok(())
}

/// Whether `payload` is one complete JSON value, and so can go to JSON clients.
pub fn is_json(payload: &[u8]) -> bool {
    serde_json::from_slice::<&RawValue>(payload).is_ok()
}

/// Writes to the end of a buffer.
struct Appending<'a>(&'a mut BytesMut);

impl io::Write for Appending<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
