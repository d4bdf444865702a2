//! What one version says that another does not know, and what none does.

use bytes::Bytes;

use super::read;
use crate::link::*;

/// One message of each direction with these bytes behind its length.
fn both(body: &[u8]) -> (Result<ToWorker, LinkError>, Result<ToGateway, LinkError>) {
    (one(body), one(body))
}

fn one<M: prost::Message + Default>(body: &[u8]) -> Result<M, LinkError> {
    let length = u8::try_from(body.len()).expect("a short message");
    let (mut messages, end) = read::<M>([&[length], body]);
    assert_eq!(end?, 0, "nothing is left");
    assert_eq!(messages.len(), 1, "one message");
    Ok(messages.remove(0))
}

#[test]
fn what_a_newer_version_says_is_passed_over() {
    let bodies: [&[u8]; 4] = [
        b"\xa2\x06\x02\x08\x01", // 100: a message
        b"\xa0\x06\x01",         // 100: a number
        b"\xa5\x06\x01\x02\x03\x04",
        b"\xa1\x06\x01\x02\x03\x04\x05\x06\x07\x08",
    ];
    for body in bodies {
        let expected = (Ok(ToWorker::default()), Ok(ToGateway::default()));
        assert_eq!(both(body), expected, "{}", body.escape_ascii());
    }
}

#[test]
fn fields_of_a_newer_version_are_passed_over() {
    let detach = ForWorker::Detach(Detach { session: 300 });
    let detached = ForGateway::Detached(Detached { session: 300 });
    // 100 in the message, and 100 behind it.
    assert_eq!(
        one(b"\x2a\x08\x08\xac\x02\xa2\x06\x02\x08\x01\xa0\x06\x07"),
        Ok(ToWorker::from(detach)),
    );
    assert_eq!(
        one(b"\x72\x08\x08\xac\x02\xa2\x06\x02\x08\x01\xa0\x06\x07"),
        Ok(ToGateway::from(detached)),
    );
}

#[test]
fn fields_that_an_older_version_leaves_out_have_their_defaults() {
    let bodies = [
        (b"\x7a\x00", ForGateway::Condition(Condition::default())),
        (b"\x0a\x00", ForGateway::Welcome(Welcome::default())),
        (b"\x3a\x00", ForGateway::Join(Join::default())),
        (b"\x4a\x00", ForGateway::Cast(Cast::default())),
        (b"\x5a\x00", ForGateway::KeepAlive(KeepAlive::default())),
    ];
    for (bytes, body) in bodies {
        assert_eq!(one(bytes), Ok(ToGateway::from(body)));
    }
    assert_eq!(
        one(b"\x12\x00"),
        Ok(ToWorker::from(ForWorker::Open(Open::default())))
    );
}

#[test]
fn what_no_version_says_is_refused() {
    let bodies: [(&str, &[u8]); 6] = [
        ("a body that goes beyond the message", b"\x0a\x05\x08"),
        ("a number where a message belongs", b"\x08\x01"),
        ("a field without a number", b"\x02\x00"),
        ("a kind of field that there is not", b"\x0f\x00"),
        ("a field that ends in its number", b"\xa2"),
        ("text that is none", b"\x0a\x04\x1a\x02\xff\xfe"),
    ];
    for (what, body) in bodies {
        let refused = one::<ToWorker>(body);
        assert!(matches!(refused, Err(LinkError::Malformed(_))), "{what}");
    }
}

#[test]
fn nothing_is_read_behind_what_is_no_message() {
    let mut reader = Messages::default();
    reader.buffer().extend_from_slice(b"\x02\x08\x01\x00");
    let error = reader.next::<ToWorker>();
    assert!(matches!(error, Err(LinkError::Malformed(_))));
    assert_eq!(reader.next::<ToWorker>(), error);
    reader.buffer().extend_from_slice(b"\x00");
    assert_eq!(reader.next::<ToWorker>(), error);
}

#[test]
fn debugging_output_does_not_show_what_headers_say() {
    let open = Open {
        headers: vec![Header {
            name: "x-flotilla-passport".into(),
            value: "secret".into(),
        }],
        restore: Some(Restore {
            state: Bytes::from_static(b"signed"),
            ..Restore::default()
        }),
        ..Open::default()
    };
    let shown = format!("{:?}", ToWorker::from(ForWorker::Open(open)));
    assert!(shown.contains("x-flotilla-passport"), "{shown}");
    assert!(!shown.contains("secret"), "{shown}");
}
