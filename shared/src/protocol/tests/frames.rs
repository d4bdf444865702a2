//! Promises about frames: batching, malformed input, payloads.

use bytes::{Bytes, BytesMut};

use super::{command_frame, reply_frame};
use crate::protocol::types::*;
use crate::protocol::{
    DecodeError, EncodeError, Format, JsonProblem, append_command, append_reply, commands, is_json,
    replies,
};

fn publication(data: &'static [u8]) -> Reply {
    let publication = Publication {
        data: Bytes::from_static(data),
        ..Default::default()
    };
    Reply::push(Push::publication("news", publication))
}

fn unsubscribe(id: u32) -> Command {
    Command::new(
        id,
        Request::Unsubscribe(UnsubscribeRequest {
            channel: "news".into(),
        }),
    )
}

fn ids(format: Format, frame: &[u8]) -> Result<Vec<u32>, DecodeError> {
    commands(format, frame)
        .map(|command| Ok(command?.id))
        .collect()
}

#[test]
fn commands_of_a_batch_come_in_order() {
    for format in Format::ALL {
        let mut frame = BytesMut::new();
        for id in 1..=3 {
            append_command(format, &unsubscribe(id), &mut frame).unwrap();
        }
        assert_eq!(ids(format, &frame), Ok(vec![1, 2, 3]), "{format:?}");
    }
}

#[test]
fn replies_of_a_batch_come_in_order() {
    for format in Format::ALL {
        let batch = [
            Reply::publish(1),
            publication(b"{\"a\":1}"),
            Reply::default(),
        ];
        let mut frame = BytesMut::new();
        for reply in &batch {
            append_reply(format, reply, &mut frame).unwrap();
        }
        let read: Result<Vec<Reply>, _> = replies(format, &frame).collect();
        assert_eq!(read, Ok(batch.to_vec()), "{format:?}");
    }
}

#[test]
fn json_messages_are_separated_by_one_line_end() {
    let mut frame = BytesMut::new();
    append_reply(Format::Json, &Reply::publish(1), &mut frame).unwrap();
    append_reply(Format::Json, &Reply::default(), &mut frame).unwrap();
    assert_eq!(frame, "{\"id\":1,\"publish\":{}}\n{}");
}

#[test]
fn an_empty_frame_holds_nothing() {
    for format in Format::ALL {
        assert_eq!(commands(format, b"").count(), 0);
    }
    assert_eq!(commands(Format::Json, b"\n \r\n").count(), 0);
}

#[test]
fn line_ends_and_white_space_around_json_messages_are_harmless() {
    let frame = b" {\"id\":1,\"ping\":{}}\r\n\n{ \"id\" : 2 , \"ping\" : { } }\n";
    assert_eq!(ids(Format::Json, frame), Ok(vec![1, 2]));
}

#[test]
fn a_ping_is_an_empty_reply_and_a_pong_an_empty_command() {
    for format in Format::ALL {
        assert_eq!(
            reply_frame(format, &Reply::default()).unwrap(),
            format.ping()
        );
        assert!(
            replies(format, format.ping())
                .next()
                .unwrap()
                .unwrap()
                .is_ping()
        );
        assert!(
            commands(format, format.ping())
                .next()
                .unwrap()
                .unwrap()
                .is_pong()
        );
        let request_without_id = command_frame(format, &unsubscribe(0)).unwrap();
        assert!(
            !commands(format, &request_without_id)
                .next()
                .unwrap()
                .unwrap()
                .is_pong()
        );
    }
}

#[test]
fn unknown_fields_are_ignored() {
    let json = br#"{"id":1,"new":[{}],"connect":{"name":"js","flag":3,"dict":"d","other":null}}"#;
    // The same in Protobuf: connect has flag (7), dict (8) and a field 99; the command a field 77.
    let protobuf = b"\x15\x08\x01\x22\x0e\x22\x02js\x38\x03\x42\x01d\x9a\x06\x02xx\xea\x04\x00";
    let frames: [(Format, &[u8]); 2] = [(Format::Json, json), (Format::Protobuf, protobuf)];
    for (format, frame) in frames {
        let expected = ConnectRequest {
            name: "js".into(),
            ..Default::default()
        };
        let read: Result<Vec<Command>, _> = commands(format, frame).collect();
        assert_eq!(
            read,
            Ok(vec![Command::new(1, Request::Connect(expected))]),
            "{format:?}"
        );
    }
}

#[test]
fn null_means_absent_except_for_a_payload() {
    let cases = [
        (
            r#"{"id":1,"connect":null,"ping":{}}"#,
            r#"{"id":1,"ping":{}}"#,
        ),
        (
            r#"{"id":1,"connect":{"token":null,"name":"a","subs":null,"headers":null}}"#,
            r#"{"id":1,"connect":{"name":"a"}}"#,
        ),
        (
            r#"{"id":1,"subscribe":{"channel":"a","offset":null,"recover":null,"tf":null}}"#,
            r#"{"id":1,"subscribe":{"channel":"a"}}"#,
        ),
        (
            r#"{"id":1,"publish":{"channel":"a","data":null,"type":null}}"#,
            r#"{"id":1,"publish":{"channel":"a","data":null}}"#,
        ),
    ];
    for (sent, meant) in cases {
        let command = commands(Format::Json, sent.as_bytes())
            .next()
            .unwrap()
            .unwrap();
        let again = command_frame(Format::Json, &command).unwrap();
        assert_eq!(
            again.escape_ascii().to_string(),
            meant.as_bytes().escape_ascii().to_string()
        );
    }
}

#[test]
fn of_several_requests_the_first_in_the_schema_counts() {
    let frame = br#"{"id":1,"rpc":{},"subscribe":{"channel":"a"}}"#;
    let command = commands(Format::Json, frame).next().unwrap().unwrap();
    assert!(matches!(
        command.into_request(),
        Some(Request::Subscribe(_))
    ));
}

#[test]
fn malformed_json_is_an_error_that_quotes_nothing() {
    let cases: [(&str, JsonProblem); 14] = [
        ("secret", JsonProblem::Field),
        ("[]", JsonProblem::Field),
        ("null", JsonProblem::Field),
        ("\"secret\"", JsonProblem::Field),
        ("{secret}", JsonProblem::Syntax),
        ("{\"id\":1}{\"id\":2}", JsonProblem::Syntax),
        ("{\"id\":1,\"id\":2}", JsonProblem::Field),
        ("{\"id\":-1}", JsonProblem::Field),
        ("{\"id\":4294967296}", JsonProblem::Field),
        ("{\"id\":\"secret\"}", JsonProblem::Field),
        ("{\"connect\":{\"token\":5}}", JsonProblem::Field),
        ("{\"publish\":{\"data\":{]}}", JsonProblem::Syntax),
        ("{\"id\":1,", JsonProblem::End),
        ("{\"rpc\":{\"data\":[[[", JsonProblem::End),
    ];
    for (line, expected) in cases {
        let error = ids(Format::Json, line.as_bytes()).unwrap_err();
        assert!(
            matches!(error, DecodeError::Json { problem, .. } if problem == expected),
            "{line}: {error:?}"
        );
        assert!(!error.to_string().contains("secret"), "{line}: {error}");
    }
}

#[test]
fn json_that_is_not_utf8_is_an_error() {
    for line in [
        &b"{\"publish\":{\"data\":\"\xff\"}}"[..],
        b"{\"connect\":{\"token\":\"\xff\"}}",
    ] {
        assert!(ids(Format::Json, line).is_err(), "{}", line.escape_ascii());
    }
}

#[test]
fn malformed_protobuf_is_an_error() {
    let cases: [(&str, &[u8]); 8] = [
        ("a length without an end", b"\x80"),
        (
            "a length of eleven bytes",
            b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
        ),
        (
            "a length beyond 64 bits",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
        ),
        ("a length beyond the frame", b"\x05\x08\x01"),
        (
            "the largest length",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ),
        ("a field beyond its message", b"\x04\x22\xff\xff\x01"),
        ("a string that is not UTF-8", b"\x05\x32\x03\x0a\x01\xff"),
        ("a field of the wrong type", b"\x02\x20\x01"),
    ];
    for (what, frame) in cases {
        assert!(ids(Format::Protobuf, frame).is_err(), "{what}");
    }
}

#[test]
fn an_announced_length_is_checked_against_the_frame() {
    let error = ids(Format::Protobuf, b"\xff\xff\xff\xff\x0f\x08\x01").unwrap_err();
    assert_eq!(
        error,
        DecodeError::Truncated {
            announced: u64::from(u32::MAX),
            left: 2
        }
    );
}

#[test]
fn nothing_follows_an_error() {
    let json = b"{\"id\":1,\"ping\":{}}\n{\n{\"id\":2,\"ping\":{}}";
    let protobuf = b"\x04\x08\x01\x5a\x00\x02\x20\x01\x04\x08\x02\x5a\x00";
    let frames: [(Format, &[u8]); 2] = [(Format::Json, json), (Format::Protobuf, protobuf)];
    for (format, frame) in frames {
        let outcomes: Vec<bool> = commands(format, frame)
            .map(|command| command.is_ok())
            .collect();
        assert_eq!(outcomes, [true, false], "{format:?}");
    }
}

#[test]
fn nesting_too_deep_to_be_meant_is_an_error_and_no_overflow() {
    let depth = 2_000;
    let filter = r#"{"nodes":["#.repeat(depth) + &"]}".repeat(depth);
    let json = format!(r#"{{"id":1,"subscribe":{{"tf":{filter}}}}}"#);
    assert!(ids(Format::Json, json.as_bytes()).is_err());

    let mut nested = Vec::new();
    for _ in 0..depth {
        let mut outer = vec![0x32];
        prost::encoding::encode_varint(nested.len() as u64, &mut outer);
        outer.append(&mut nested);
        nested = outer;
    }
    let mut frame = Vec::new();
    for tag in [0x6a, 0x2a] {
        let mut outer = vec![tag];
        prost::encoding::encode_varint(nested.len() as u64, &mut outer);
        outer.append(&mut nested);
        nested = outer;
    }
    prost::encoding::encode_varint(nested.len() as u64, &mut frame);
    frame.append(&mut nested);
    assert!(ids(Format::Protobuf, &frame).is_err());
}

#[test]
fn a_deep_payload_is_only_looked_through() {
    let payload = "[".repeat(30_000) + &"]".repeat(30_000);
    assert!(is_json(payload.as_bytes()));
    let frame = format!(r#"{{"id":1,"publish":{{"channel":"a","data":{payload}}}}}"#);
    let command = commands(Format::Json, frame.as_bytes())
        .next()
        .unwrap()
        .unwrap();
    assert_eq!(command.publish.unwrap().data, payload);
}

#[test]
fn a_payload_that_is_not_json_is_refused_for_json_only() {
    let payloads: [&[u8]; 7] = [
        b"{",
        b"\xff",
        b"\"\xff\"",
        b"1 2",
        b"{}{}",
        b" ",
        b"{\"push\":{}}\n{\"push\":{}}",
    ];
    for payload in payloads {
        assert!(!is_json(payload), "{}", payload.escape_ascii());
        let reply = publication(payload);
        let mut out = BytesMut::from(&b"{}"[..]);
        let outcome = append_reply(Format::Json, &reply, &mut out);
        assert_eq!(
            outcome,
            Err(EncodeError::NotJson),
            "{}",
            payload.escape_ascii()
        );
        assert_eq!(out, "{}", "the frame is as it was");

        let frame = reply_frame(Format::Protobuf, &reply).unwrap();
        let read = replies(Format::Protobuf, &frame).next().unwrap().unwrap();
        assert_eq!(read, reply);
    }
}

#[test]
fn line_ends_inside_a_payload_do_not_split_the_message() {
    let reply = publication(b"\r\n{\n  \"a\": \"x\\ny\",\r\n  \"b\": [ ]\n}\n");
    let frame = reply_frame(Format::Json, &reply).unwrap();
    let text = r#"{"push":{"channel":"news","pub":{"data":{   "a": "x\ny",    "b": [ ] }}}}"#;
    assert_eq!(
        frame.escape_ascii().to_string(),
        text.as_bytes().escape_ascii().to_string()
    );
    assert_eq!(replies(Format::Json, &frame).count(), 1);
}

#[test]
fn every_json_value_is_a_payload() {
    for payload in [
        "null",
        "true",
        "0",
        "-1.5e300",
        "\"\"",
        "\"\\ud800\"",
        "[]",
        "{}",
        " 1 ",
    ] {
        assert!(is_json(payload.as_bytes()), "{payload}");
    }
}

#[test]
fn a_map_entry_without_a_value_is_an_empty_value() {
    let json = br#"{"id":1,"connect":{"subs":{"a":{}}}}"#;
    let short = b"\x09\x08\x01\x22\x05\x1a\x03\x0a\x01a";
    let long = b"\x0b\x08\x01\x22\x07\x1a\x05\x0a\x01a\x12\x00";
    let frames: [(Format, &[u8]); 3] = [
        (Format::Json, json),
        (Format::Protobuf, short),
        (Format::Protobuf, long),
    ];
    for (format, frame) in frames {
        let command = commands(format, frame).next().unwrap().unwrap();
        let subs = command.connect.unwrap().subs;
        assert_eq!(subs, [("a".to_owned(), SubscribeRequest::default())].into());
    }
}
