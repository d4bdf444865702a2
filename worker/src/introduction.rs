//! How a client that only listens says who it is.
//!
//! Owns: the form of that, which is the body of a connect command, in JSON. Everything behind this reads commands only.

use bytes::{Bytes, BytesMut};
use flotilla_shared::protocol::types::{Command, ConnectRequest};
use flotilla_shared::protocol::{Format, append_command};

/// The same as a frame with the command that other clients send; `None` if it is no connect request.
pub(crate) fn introduction(words: &[u8]) -> Option<Bytes> {
    // serde would read the fields of a struct from an array, too.
    let is_object = words.trim_ascii_start().first() == Some(&b'{');
    let words = is_object.then_some(words)?;
    let connect: ConnectRequest = serde_json::from_slice(words).ok()?;
    let command = Command {
        id: 1,
        connect: Some(connect),
        ..Command::default()
    };
    let mut frame = BytesMut::new();
    append_command(Format::Json, &command, &mut frame).ok()?;
    Some(frame.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_body_of_a_connect_command_and_nothing_else() {
        let words = b"{\n \"token\": \"t\",\n \"data\": {\"a\":\n1}, \"id\": 7}";
        let frame = introduction(words).unwrap();
        let expected = r#"{"id":1,"connect":{"token":"t","data":{"a": 1}}}"#;
        assert_eq!(frame, expected);
        for odd in ["", "x", "1", "{}{}", "{} {\"id\":2}", "{\"token\":1}", "[]"] {
            assert_eq!(introduction(odd.as_bytes()), None, "{odd}");
        }
    }
}
