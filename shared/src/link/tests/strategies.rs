//! Any message, for property tests.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::link::*;

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-z/?=-]{1,12}", any::<String>()]
}

/// Anything that a gateway may say.
pub(super) fn to_worker() -> impl Strategy<Value = ToWorker> {
    let session = any::<u64>;
    let hello = (any::<u32>(), any::<u32>(), text(), any::<u32>()).prop_map(
        |(version_min, version_max, gateway, shard)| Hello {
            version_min,
            version_max,
            gateway,
            shard,
        },
    );
    let closed =
        (session(), any::<u32>(), any::<bool>()).prop_map(|(session, code, is_slow)| Closed {
            session,
            code,
            is_slow,
        });
    let body = prop_oneof![
        1 => hello.prop_map(ForWorker::Hello),
        4 => open().prop_map(ForWorker::Open),
        4 => message().prop_map(ForWorker::Message),
        1 => closed.prop_map(ForWorker::Closed),
        1 => session().prop_map(|session| ForWorker::Detach(Detach { session })),
    ];
    option::weighted(0.9, body).prop_map(|body| ToWorker { body })
}

fn open() -> impl Strategy<Value = Open> {
    let header = (text(), text()).prop_map(|(name, value)| Header { name, value });
    let position = (bytes(), any::<u64>()).prop_map(|(topic, offset)| Position { topic, offset });
    let restore = (bytes(), vec(position, 0..3), vec(message(), 0..3)).prop_map(
        |(state, positions, messages)| Restore {
            state,
            positions,
            messages,
        },
    );
    let headers = vec(header, 0..3);
    let protocols = vec(text(), 0..3);
    let numbers = (any::<u64>(), any::<u32>());
    (numbers, text(), headers, protocols, option::of(restore)).prop_map(
        |((session, generation), path, headers, protocols, restore)| Open {
            session,
            generation,
            path,
            headers,
            protocols,
            restore,
        },
    )
}

fn message() -> impl Strategy<Value = Message> {
    (any::<u64>(), any::<u64>(), bytes()).prop_map(|(session, number, payload)| Message {
        session,
        number,
        payload,
    })
}

/// Anything that a worker may say.
pub(super) fn to_gateway() -> impl Strategy<Value = ToGateway> {
    let body = prop_oneof![of_sessions(), of_frames(), of_topics()];
    option::weighted(0.9, body).prop_map(|body| ToGateway { body })
}

fn of_sessions() -> impl Strategy<Value = ForGateway> {
    let session = any::<u64>;
    let limits = (any::<u64>(), any::<u64>(), any::<u64>());
    let shard = (any::<u32>(), any::<u32>());
    let welcome = (any::<u32>(), text(), any::<u64>(), shard, limits).prop_map(
        |(version, worker, life, (shard, shards), limits)| Welcome {
            version,
            worker,
            life,
            shard,
            shards,
            message_max_bytes: limits.0,
            outbox_max_bytes: limits.1,
            write_timeout_ms: limits.2,
        },
    );
    let opened =
        (session(), option::of(text()), any::<bool>()).prop_map(|(session, protocol, is_text)| {
            Opened {
                session,
                protocol,
                is_text,
            }
        });
    let refused = (session(), any::<u32>(), any::<bool>(), bytes()).prop_map(
        |(session, status, elsewhere, answer)| Refused {
            session,
            status,
            elsewhere,
            answer,
        },
    );
    let close = (session(), any::<u32>(), text()).prop_map(|(session, code, reason)| Close {
        session,
        code,
        reason,
    });
    prop_oneof![
        welcome.prop_map(ForGateway::Welcome),
        opened.prop_map(ForGateway::Opened),
        refused.prop_map(ForGateway::Refused),
        (session(), bytes())
            .prop_map(|(session, state)| ForGateway::State(State { session, state })),
        keep_alive().prop_map(ForGateway::KeepAlive),
        close.prop_map(ForGateway::Close),
        vec(session(), 0..8).prop_map(|sessions| ForGateway::Release(Release { sessions })),
        session().prop_map(|session| ForGateway::Detached(Detached { session })),
        any::<bool>().prop_map(|is_cut_off| ForGateway::Condition(Condition { is_cut_off })),
    ]
}

fn keep_alive() -> impl Strategy<Value = KeepAlive> {
    let times = (any::<u64>(), any::<u64>());
    (any::<u64>(), times, bytes(), bytes(), any::<u32>(), text()).prop_map(
        |(session, (interval_ms, timeout_ms), ping, pong, code, reason)| KeepAlive {
            session,
            interval_ms,
            timeout_ms,
            ping,
            pong,
            code,
            reason,
        },
    )
}

fn of_frames() -> impl Strategy<Value = ForGateway> {
    let placed = (any::<u32>(), any::<u64>()).prop_map(|(topic, offset)| Placed { topic, offset });
    let send = (any::<u64>(), bytes(), option::of(placed), any::<bool>()).prop_map(
        |(session, frames, placed, is_answer)| Send {
            session,
            frames,
            placed,
            is_answer,
        },
    );
    let cast =
        (any::<u32>(), option::of(any::<u64>()), bytes()).prop_map(|(topic, offset, frames)| {
            Cast {
                topic,
                offset,
                frames,
            }
        });
    prop_oneof![
        send.prop_map(ForGateway::Send),
        cast.prop_map(ForGateway::Cast),
        (any::<u64>(), any::<u64>())
            .prop_map(|(session, number)| ForGateway::Ack(Ack { session, number })),
    ]
}

fn of_topics() -> impl Strategy<Value = ForGateway> {
    let offset = option::of(any::<u64>());
    let join = (any::<u64>(), any::<u32>(), offset, any::<bool>()).prop_map(
        |(session, topic, offset, takes_casts)| Join {
            session,
            topic,
            offset,
            takes_casts,
        },
    );
    prop_oneof![
        (any::<u32>(), bytes()).prop_map(|(topic, name)| ForGateway::Topic(Topic { topic, name })),
        join.prop_map(ForGateway::Join),
        (any::<u64>(), any::<u32>())
            .prop_map(|(session, topic)| ForGateway::Leave(Leave { session, topic })),
    ]
}
