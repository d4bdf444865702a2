//! The values that the files in `golden/` stand for.

use bytes::Bytes;

use crate::link::*;

const SESSION: u64 = 300;
const TEXT_FRAME: Bytes = Bytes::from_static(b"\x81\x02{}");

/// What `golden/to_worker.txt` stands for.
pub(super) fn to_worker() -> Vec<(&'static str, ToWorker)> {
    let mut values = vec![("heartbeat", ToWorker::default())];
    let said = [("hello", ForWorker::Hello(hello()))]
        .into_iter()
        .chain(opens().map(|(name, open)| (name, ForWorker::Open(open))))
        .chain([
            (
                "message",
                ForWorker::Message(message(SESSION, 1, br#"{"id":1}"#)),
            ),
            (
                "closed",
                ForWorker::Closed(Closed {
                    session: SESSION,
                    code: 3008,
                    is_slow: true,
                }),
            ),
            ("detach", ForWorker::Detach(Detach { session: u64::MAX })),
        ]);
    values.extend(said.map(|(name, body)| (name, body.into())));
    values
}

fn hello() -> Hello {
    Hello {
        version_min: 1,
        version_max: 2,
        gateway: "gateway-7".into(),
        shard: 3,
    }
}

fn opens() -> impl Iterator<Item = (&'static str, Open)> {
    let open = Open {
        session: SESSION,
        generation: 1,
        path: "/connection/websocket?a=b".into(),
        headers: vec![
            header("origin", "https://example.com"),
            header("x-empty", ""),
        ],
        protocols: vec!["centrifuge-protobuf".into(), "centrifuge-json".into()],
        restore: None,
    };
    let restore = Open {
        session: SESSION,
        generation: 2,
        path: "/".into(),
        headers: vec![header("x", "y")],
        protocols: vec!["p".into()],
        restore: Some(restore()),
    };
    let afresh = Open {
        session: 1,
        generation: 2,
        restore: Some(Restore::default()),
        ..Open::default()
    };
    [
        ("open", open),
        ("open_restore", restore),
        ("open_afresh", afresh),
    ]
    .into_iter()
}

fn restore() -> Restore {
    let position = |topic: &'static str, offset| Position {
        topic: topic.into(),
        offset,
    };
    Restore {
        state: Bytes::from_static(b"\x00\xff"),
        positions: vec![position("news", u64::MAX), position("\u{e9}", 0)],
        messages: vec![message(0, 8, b"{}"), message(0, 9, b"\x80")],
    }
}

fn header(name: &str, value: &str) -> Header {
    Header {
        name: name.into(),
        value: value.into(),
    }
}

fn message(session: u64, number: u64, payload: &'static [u8]) -> Message {
    Message {
        session,
        number,
        payload: payload.into(),
    }
}

/// What `golden/to_gateway.txt` stands for.
pub(super) fn to_gateway() -> Vec<(&'static str, ToGateway)> {
    let mut values = vec![("heartbeat", ToGateway::default())];
    let said = welcomes()
        .into_iter()
        .chain(beginnings())
        .chain(frames_for_one())
        .chain(topics())
        .chain(casts())
        .chain(upkeep())
        .chain(ends())
        .chain(conditions());
    values.extend(said.map(|(name, body)| (name, body.into())));
    values
}

fn welcomes() -> [(&'static str, ForGateway); 2] {
    let welcome = Welcome {
        version: 1,
        worker: "worker-a".into(),
        life: 0x0102_0304_0506_0708,
        shard: 3,
        shards: 4,
        message_max_bytes: 65_536,
        outbox_max_bytes: 1_048_576,
        write_timeout_ms: 10_000,
    };
    let none = Welcome {
        worker: "worker-a".into(),
        ..Welcome::default()
    };
    [
        ("welcome", ForGateway::Welcome(welcome)),
        ("welcome_none", ForGateway::Welcome(none)),
    ]
}

fn beginnings() -> [(&'static str, ForGateway); 4] {
    let opened = |protocol: Option<&str>, is_text| {
        ForGateway::Opened(Opened {
            session: SESSION,
            protocol: protocol.map(str::to_owned),
            is_text,
        })
    };
    let refused = Refused {
        session: SESSION,
        status: 503,
        elsewhere: true,
        answer: Bytes::from_static(b"HTTP/1.1 503 Service Unavailable\r\n\r\n"),
    };
    [
        ("opened", opened(Some("centrifuge-json"), true)),
        ("opened_without_protocol", opened(None, false)),
        ("opened_empty_protocol", opened(Some(""), false)),
        ("refused", ForGateway::Refused(refused)),
    ]
}

fn frames_for_one() -> [(&'static str, ForGateway); 3] {
    let send = Send {
        session: SESSION,
        frames: TEXT_FRAME,
        placed: Some(Placed {
            topic: 5,
            offset: 1000,
        }),
        is_answer: true,
    };
    let push = Send {
        session: SESSION,
        frames: Bytes::from_static(b"\x82\x01\x00"),
        placed: None,
        is_answer: false,
    };
    let ack = Ack {
        session: SESSION,
        number: 8,
    };
    [
        ("send", ForGateway::Send(send)),
        ("send_push", ForGateway::Send(push)),
        ("ack", ForGateway::Ack(ack)),
    ]
}

fn topics() -> [(&'static str, ForGateway); 5] {
    let topic = Topic {
        topic: 5,
        name: Bytes::from_static(b"news"),
    };
    let join = |offset, takes_casts| {
        ForGateway::Join(Join {
            session: SESSION,
            topic: 5,
            offset,
            takes_casts,
        })
    };
    let leave = Leave {
        session: SESSION,
        topic: 5,
    };
    [
        ("topic", ForGateway::Topic(topic)),
        ("join", join(Some(1000), true)),
        ("join_at_zero", join(Some(0), false)),
        ("join_nowhere", join(None, true)),
        ("leave", ForGateway::Leave(leave)),
    ]
}

fn casts() -> [(&'static str, ForGateway); 2] {
    let cast = |offset| {
        ForGateway::Cast(Cast {
            topic: 5,
            offset,
            frames: TEXT_FRAME,
        })
    };
    [("cast", cast(Some(1001))), ("cast_nowhere", cast(None))]
}

fn upkeep() -> [(&'static str, ForGateway); 2] {
    let state = State {
        session: SESSION,
        state: Bytes::from_static(b"\x00\xff"),
    };
    let keep_alive = KeepAlive {
        session: SESSION,
        interval_ms: 25_000,
        timeout_ms: 8_000,
        ping: TEXT_FRAME,
        pong: Bytes::from_static(b"{}"),
        code: 3012,
        reason: "no pong".into(),
    };
    [
        ("state", ForGateway::State(state)),
        ("keep_alive", ForGateway::KeepAlive(keep_alive)),
    ]
}

fn ends() -> [(&'static str, ForGateway); 4] {
    let close = |code, reason: &str| {
        ForGateway::Close(Close {
            session: SESSION,
            code,
            reason: reason.into(),
        })
    };
    let release = Release {
        sessions: vec![1, SESSION, u64::MAX],
    };
    [
        ("close", close(3501, "bad request")),
        ("close_cut", close(0, "")),
        ("release", ForGateway::Release(release)),
        (
            "detached",
            ForGateway::Detached(Detached { session: SESSION }),
        ),
    ]
}

fn conditions() -> [(&'static str, ForGateway); 2] {
    let condition = |is_cut_off| ForGateway::Condition(Condition { is_cut_off });
    [
        ("cut_off", condition(true)),
        ("cut_off_no_more", condition(false)),
    ]
}
