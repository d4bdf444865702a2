//! What the codecs cost per message, in both encodings.
//!
//! `publication` is the fan-out path: encoded once per message and format, whatever the number
//! of subscribers. `publish` and `connect` are what a worker decodes. The payloads are a chat
//! line and a document; cost per byte shows in the difference. `command` and `reply` are what passes
//! of each kind, at the size that clients usually send and get.
//!
//! The floors stand beside them: `syntax` only reads the same JSON and keeps nothing of it; `copy`
//! only copies the bytes that encoding writes.
#![allow(
    clippy::expect_used,
    reason = "a benchmark may stop at the first surprise"
)]

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use flotilla_shared::protocol::types::{
    Command, ConnectRequest, ConnectResult, HistoryRequest, HistoryResult, PingRequest,
    Publication, PublishRequest, Push, Reply, Request, SubscribeRequest, SubscribeResult,
};
use flotilla_shared::protocol::{Format, append_command, append_reply, commands, replies};
use serde::de::IgnoredAny;

const CHANNEL: &str = "chat:room-1f4c2a";

/// A JSON object of `bytes` bytes (at least 32).
fn payload(bytes: usize) -> Bytes {
    let frame = r#"{"user":"ada","text":""}"#;
    let text = "x".repeat(bytes.saturating_sub(frame.len()));
    Bytes::from(format!(r#"{{"user":"ada","text":"{text}"}}"#))
}

fn encoding(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    group.throughput(Throughput::Elements(1));
    for format in Format::ALL {
        for bytes in [64, 4096] {
            let data = payload(bytes);
            let mut out = BytesMut::with_capacity(2 * bytes);
            let id = BenchmarkId::new(format!("publication/{}", format.label()), bytes);
            group.bench_function(id, |b| {
                b.iter(|| {
                    let publication = Publication {
                        data: data.clone(),
                        ..Publication::default()
                    };
                    let reply = Reply::push(Push::publication(CHANNEL, publication));
                    out.clear();
                    append_reply(format, black_box(&reply), &mut out).expect("a JSON payload");
                    black_box(out.len())
                });
            });
        }
    }
    group.finish();
}

fn decoding(c: &mut Criterion) {
    let connect = Request::Connect(ConnectRequest {
        token: "x".repeat(160),
        name: "js".into(),
        version: "5.8.0".into(),
        ..ConnectRequest::default()
    });
    let publish = |bytes| {
        Request::Publish(PublishRequest {
            channel: CHANNEL.into(),
            data: payload(bytes),
            kind: 0,
        })
    };
    let requests = [
        ("connect", connect),
        ("publish/64", publish(64)),
        ("publish/4096", publish(4096)),
    ];

    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(1));
    for format in Format::ALL {
        for (name, request) in requests.clone() {
            let mut frame = BytesMut::new();
            append_command(format, &Command::new(7, request), &mut frame).expect("JSON payloads");
            group.bench_function(BenchmarkId::new(name, format.label()), |b| {
                b.iter(|| {
                    let command = commands(format, black_box(&frame)).next();
                    black_box(
                        command
                            .expect("a command")
                            .expect("well-formed")
                            .into_request(),
                    )
                });
            });
        }
        // What a client does; the load generator counts on it being cheap.
        let publication = Publication {
            data: payload(64),
            ..Publication::default()
        };
        let reply = Reply::push(Push::publication(CHANNEL, publication));
        let mut frame = BytesMut::new();
        append_reply(format, &reply, &mut frame).expect("a JSON payload");
        group.bench_function(BenchmarkId::new("publication/64", format.label()), |b| {
            b.iter(|| black_box(replies(format, black_box(&frame)).next()));
        });
    }
    group.finish();
}

/// What clients send, each with its name.
fn requests() -> [(&'static str, Request); 5] {
    [
        (
            "connect",
            Request::Connect(ConnectRequest {
                token: "x".repeat(160),
                name: "js".into(),
                version: "5.8.0".into(),
                ..ConnectRequest::default()
            }),
        ),
        (
            "subscribe",
            Request::Subscribe(SubscribeRequest {
                channel: CHANNEL.into(),
                recover: true,
                epoch: "5f3a9c1e77d20b46".into(),
                offset: 1234,
                ..SubscribeRequest::default()
            }),
        ),
        (
            "publish",
            Request::Publish(PublishRequest {
                channel: CHANNEL.into(),
                data: payload(64),
                kind: 0,
            }),
        ),
        ("ping", Request::Ping(PingRequest {})),
        (
            "history",
            Request::History(HistoryRequest {
                channel: CHANNEL.into(),
                limit: 10,
                ..HistoryRequest::default()
            }),
        ),
    ]
}

/// What they get for it. A ping of the client's is answered by an empty reply with its number.
fn answers() -> [(&'static str, Reply); 5] {
    let publication = Publication {
        data: payload(64),
        offset: 1234,
        ..Publication::default()
    };
    let connected = ConnectResult {
        client: "0d6cf8e2-64c0-4a6c-9d0b-2f4a3f6f7f01".into(),
        ping: 25,
        pong: true,
        ..ConnectResult::default()
    };
    let subscribed = SubscribeResult {
        recoverable: true,
        positioned: true,
        epoch: "5f3a9c1e77d20b46".into(),
        offset: 1234,
        ..SubscribeResult::default()
    };
    let history = HistoryResult {
        publications: vec![publication; 10],
        epoch: "5f3a9c1e77d20b46".into(),
        offset: 1234,
    };
    let pong = Reply {
        id: 7,
        ..Reply::default()
    };
    [
        ("connect", Reply::connect(7, connected)),
        ("subscribe", Reply::subscribe(7, subscribed)),
        ("publish", Reply::publish(7)),
        ("ping", pong),
        ("history", Reply::history(7, history)),
    ]
}

fn kinds_of_commands(c: &mut Criterion) {
    let mut group = c.benchmark_group("command");
    for (name, request) in requests() {
        for format in Format::ALL {
            let mut frame = BytesMut::new();
            let command = Command::new(7, request.clone());
            append_command(format, &command, &mut frame).expect("JSON payloads");
            group.bench_function(BenchmarkId::new(name, format.label()), |b| {
                b.iter(|| {
                    let command = commands(format, black_box(&frame)).next();
                    black_box(
                        command
                            .expect("a command")
                            .expect("well-formed")
                            .into_request(),
                    )
                });
            });
            if format == Format::Json {
                group.bench_function(BenchmarkId::new(name, "syntax"), |b| {
                    b.iter(|| {
                        serde_json::from_slice::<IgnoredAny>(black_box(&frame)).expect("JSON")
                    });
                });
            }
        }
    }
    group.finish();
}

fn kinds_of_replies(c: &mut Criterion) {
    let mut group = c.benchmark_group("reply");
    for (name, reply) in answers() {
        for format in Format::ALL {
            let mut out = BytesMut::with_capacity(4096);
            group.bench_function(BenchmarkId::new(name, format.label()), |b| {
                b.iter(|| {
                    out.clear();
                    append_reply(format, black_box(&reply), &mut out).expect("JSON payloads");
                    black_box(out.len())
                });
            });
            let encoded = out.clone();
            group.bench_function(
                BenchmarkId::new(name, format!("copy of {}", format.label())),
                |b| {
                    b.iter(|| {
                        out.clear();
                        out.extend_from_slice(black_box(&encoded));
                        black_box(out.len())
                    });
                },
            );
        }
    }
    group.finish();
}

criterion_group!(
    benches,
    encoding,
    decoding,
    kinds_of_commands,
    kinds_of_replies
);
criterion_main!(benches);
