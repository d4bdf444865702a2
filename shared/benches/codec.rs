//! What the codecs cost per message, in both encodings.
//!
//! `publication` is the fan-out path: encoded once per message and format, whatever the number
//! of subscribers. `publish` and `connect` are what a worker decodes. The payloads are a chat
//! line and a document; cost per byte shows in the difference.
#![allow(
    clippy::expect_used,
    reason = "a benchmark may stop at the first surprise"
)]

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use flotilla_shared::protocol::types::{
    Command, ConnectRequest, Publication, PublishRequest, Push, Reply, Request,
};
use flotilla_shared::protocol::{Format, append_command, append_reply, commands, replies};

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

criterion_group!(benches, encoding, decoding);
criterion_main!(benches);
