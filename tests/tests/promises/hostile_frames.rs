//! Nothing that a client sends harms anybody but itself, and it is told what was wrong.

use std::iter::repeat_n;

use anyhow::{Context, Result};
use flotilla_shared::protocol::Format::{self, Json, Protobuf};
use flotilla_tests::fleet::Fleet;
use flotilla_tests::raw::{End, Frame, Socket};

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;

/// The largest message that a client may send, in bytes; the worker's default.
const MESSAGE_MAX: usize = 65_536;

/// What is sent, and the close code that answers it.
type Case = (&'static str, Vec<Frame>, u16);

fn with(frame: Frame, change: impl FnOnce(&mut Frame)) -> Frame {
    let mut frame = frame;
    change(&mut frame);
    frame
}

/// Frames that are wrong whatever they carry (RFC 6455 §5 and §7.4).
fn bad_framing() -> Vec<Case> {
    let text = || Frame::new(TEXT, "{}");
    let long = |length| Frame::new(TEXT, vec![b' '; length]);
    let first = |frame| with(frame, |frame| frame.fin = false);
    vec![
        (
            "not masked",
            vec![with(text(), |frame| frame.masked = false)],
            1002,
        ),
        (
            "reserved bit 1",
            vec![with(text(), |frame| frame.reserved = 4)],
            1002,
        ),
        (
            "reserved bit 3",
            vec![with(text(), |frame| frame.reserved = 1)],
            1002,
        ),
        ("reserved data opcode", vec![Frame::new(3, "x")], 1002),
        ("reserved control opcode", vec![Frame::new(11, "x")], 1002),
        ("a long ping", vec![Frame::new(PING, vec![0; 126])], 1002),
        ("a ping in pieces", vec![first(Frame::new(PING, "x"))], 1002),
        ("a continuation of nothing", vec![Frame::new(0, "x")], 1002),
        (
            "a message inside a message",
            vec![first(text()), text()],
            1002,
        ),
        ("a close of one byte", vec![Frame::new(CLOSE, [3])], 1002),
        (
            "a close code that nobody may send",
            vec![Frame::new(CLOSE, [3, 0xed])],
            1002,
        ),
        (
            "text that is not UTF-8",
            vec![Frame::new(TEXT, [0xff, 0xfe])],
            1007,
        ),
        ("a message too long", vec![long(MESSAGE_MAX + 1)], 1009),
        (
            "a message too long in pieces",
            vec![first(long(MESSAGE_MAX)), Frame::new(0, " ")],
            1009,
        ),
        (
            "a length of almost everything",
            vec![with(text(), |frame| {
                frame.claimed_length = Some(i64::MAX as u64)
            })],
            1009,
        ),
        (
            "a length with the forbidden top bit",
            vec![with(text(), |frame| frame.claimed_length = Some(u64::MAX))],
            1009,
        ),
    ]
}

/// Messages that are no commands.
fn bad_json() -> Vec<Case> {
    let deep = [
        repeat_n('[', 20_000).collect(),
        repeat_n(']', 20_000).collect::<String>(),
    ];
    let payload = format!("{{\"id\":1,\"connect\":{{\"data\":{}}}}}", deep.concat());
    let texts = [
        ("nothing", String::new()),
        ("white space", " \n \n".to_owned()),
        ("half an object", "{\"id\":1,".to_owned()),
        ("not an object", "[]".to_owned()),
        ("a number", "1".to_owned()),
        (
            "two objects on a line",
            "{\"id\":1,\"connect\":{}}{}".to_owned(),
        ),
        (
            "an id that is text",
            "{\"id\":\"1\",\"connect\":{}}".to_owned(),
        ),
        (
            "an id too large",
            "{\"id\":4294967296,\"connect\":{}}".to_owned(),
        ),
        ("a negative id", "{\"id\":-1,\"connect\":{}}".to_owned()),
        ("no id", "{\"connect\":{}}".to_owned()),
        (
            "a command of the wrong kind",
            "{\"id\":1,\"connect\":7}".to_owned(),
        ),
        ("a command that is none", "{\"id\":1}".to_owned()),
        (
            "not connected yet",
            "{\"id\":1,\"publish\":{\"channel\":\"a\",\"data\":1}}".to_owned(),
        ),
        ("a pong without a ping", "{}".to_owned()),
        ("brackets", repeat_n('[', 60_000).collect()),
        ("objects", "{\"a\":".repeat(10_000)),
        ("a deep payload", payload),
        ("a NUL", "\0".to_owned()),
    ];
    let case = |(what, text)| (what, vec![Frame::new(TEXT, String::into_bytes(text))], 3501);
    let mut cases: Vec<Case> = texts.into_iter().map(case).collect();
    cases.push((
        "binary to a JSON connection",
        vec![Frame::new(BINARY, "\0")],
        3501,
    ));
    cases
}

/// Messages that are no commands either.
fn bad_protobuf() -> Vec<Case> {
    // A filter within a filter within a filter: field 6 of FilterNode is FilterNode.
    let nest = |inner: Vec<u8>, field: u8| {
        let mut outer = vec![field << 3 | 2];
        outer.extend(varint(inner.len()));
        outer.extend(inner);
        outer
    };
    let filters = (0..2_000).fold(Vec::new(), |inner, _| nest(inner, 6));
    let subscribe = nest(filters, 13);
    let mut deep = vec![8, 1];
    deep.extend(nest(subscribe, 5));
    let deep = [varint(deep.len()), deep].concat();
    let messages: Vec<(&'static str, Vec<u8>)> = vec![
        ("nothing", vec![]),
        ("a length and nothing", vec![5]),
        ("a length beyond the frame", vec![5, 8, 1]),
        (
            "a length of almost everything",
            [vec![0xff; 9], vec![1]].concat(),
        ),
        ("a length of eleven bytes", vec![0xff; 11]),
        ("a length that never ends", vec![0x80]),
        ("an unknown wire type", vec![2, 8 | 7, 1]),
        ("a field number of zero", vec![2, 0, 1]),
        (
            "a string that is not UTF-8",
            vec![7, 8, 1, 42, 3, 10, 1, 0xff],
        ),
        ("a field beyond its message", vec![4, 8, 1, 34, 100]),
        ("no id", vec![2, 34, 0]),
        ("a command that is none", vec![2, 8, 1]),
        ("a pong without a ping", vec![0]),
        ("filters in filters", deep),
        ("noise", (0..=255).cycle().take(5_000).collect()),
    ];
    let case = |(what, bytes)| (what, vec![Frame::new(BINARY, bytes)], 3501);
    let mut cases: Vec<Case> = messages.into_iter().map(case).collect();
    cases.push((
        "text to a Protobuf connection",
        vec![Frame::new(TEXT, "{}")],
        3501,
    ));
    cases
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// Sends each case on a connection of its own, through the gateway and straight to the worker,
/// while another client of that worker keeps talking to itself.
async fn check(format: Format, cases: Vec<Case>) -> Result<()> {
    let mut fleet = Fleet::builder().start().await?;
    let mut bystander = fleet.user("bystander", Json).await?;
    bystander.subscribe("room").await?;
    let through = fleet.gateways[0].addresses().websocket.clone();
    let straight = fleet.workers[0].addresses().websocket.clone();
    let protocol = format!("Sec-WebSocket-Protocol: {}", format.subprotocol());
    let mut wrong = Vec::new();
    for (way, address) in [("the gateway", &through), ("the worker", &straight)] {
        for (what, frames, code) in &cases {
            let mut socket = Socket::websocket(address, &[&protocol]).await?;
            for frame in frames {
                socket.send(frame.to_bytes()).await?;
            }
            let end = socket
                .end()
                .await
                .with_context(|| format!("{what}, to {way}"))?;
            match end {
                End::Closed(got, ref reason) if got == *code && !reason.is_empty() => {}
                _ => wrong.push(format!("{what}, to {way}: {end:?} instead of {code}")),
            }
            bystander.publish("room", "1").await?;
            assert_eq!(bystander.publication("room").await?.data, "1");
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for service in fleet.workers.iter_mut().chain(&mut fleet.gateways) {
        let output = service.process().output();
        assert!(
            !output.contains("panicked"),
            "{} panicked:\n{output}",
            service.id()
        );
    }
    Ok(())
}

#[tokio::test]
async fn bad_framing_is_closed_with_the_code_that_fits() -> Result<()> {
    check(Json, bad_framing()).await
}

#[tokio::test]
async fn malformed_json_is_closed_as_a_bad_request() -> Result<()> {
    check(Json, bad_json()).await
}

#[tokio::test]
async fn malformed_protobuf_is_closed_as_a_bad_request() -> Result<()> {
    check(Protobuf, bad_protobuf()).await
}

#[tokio::test]
async fn a_message_in_pieces_with_a_ping_between_them_is_one_message() -> Result<()> {
    let fleet = Fleet::builder().start().await?;
    let address = &fleet.gateways[0].addresses().websocket;
    let mut socket = Socket::websocket(address, &[]).await?;
    let token = flotilla_tests::token::user("ada")?;
    let connect = format!("{{\"id\":1,\"connect\":{{\"token\":\"{token}\"}}}}");
    let (first, rest) = connect.as_bytes().split_at(10);
    socket
        .send(with(Frame::new(TEXT, first), |frame| frame.fin = false).to_bytes())
        .await?;
    socket
        .send(Frame::new(PING, "are you there").to_bytes())
        .await?;
    assert_eq!(
        socket.frame().await?.context("a pong")?,
        (10, b"are you there".to_vec())
    );
    for byte in Frame::new(0, rest).to_bytes() {
        // Each byte in a packet of its own.
        socket.send([byte]).await?;
    }
    let (opcode, reply) = socket.frame().await?.context("a reply")?;
    assert_eq!(opcode, TEXT);
    assert!(
        reply.starts_with(b"{\"id\":1,\"connect\":{"),
        "{:?}",
        reply.escape_ascii()
    );
    Ok(())
}

#[tokio::test]
async fn a_message_of_exactly_the_limit_is_taken() -> Result<()> {
    let fleet = Fleet::builder().start().await?;
    let mut client = fleet.user("ada", Json).await?;
    client.subscribe("room").await?;
    let command = |data: &str| {
        format!("{{\"id\":9,\"publish\":{{\"channel\":\"room\",\"data\":\"{data}\"}}}}")
    };
    let data = "x".repeat(MESSAGE_MAX - command("").len());
    client.send_frame(command(&data).into()).await?;
    client.reply(9).await?;
    assert_eq!(client.publication("room").await?.data.len(), data.len() + 2);
    Ok(())
}

#[tokio::test]
async fn a_payload_that_is_not_json_is_refused_where_json_is_expected() -> Result<()> {
    let fleet = Fleet::builder().start().await?;
    let mut client = fleet.user("ada", Protobuf).await?;
    for payload in [&b"not json"[..], b"", b"{\"a\":1", b"1 2", b"\xff"] {
        let command = flotilla_tests::client::publish("room", payload.to_vec());
        assert_eq!(
            client.refusal(command).await?.code,
            107,
            "{:?}",
            payload.escape_ascii()
        );
    }
    client.publish("room", "{}").await
}
