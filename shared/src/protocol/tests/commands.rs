//! The values that `golden/commands.txt` stands for.

use bytes::Bytes;

use crate::protocol::types::*;

pub(super) fn values() -> Vec<(&'static str, Command)> {
    let mut values = connecting();
    values.extend(subscribing());
    values.extend(in_channels());
    values.extend(elsewhere());
    values.extend(refreshing());
    values.push(("pong", Command::default()));
    values
}

fn news() -> String {
    "news".into()
}

fn connecting() -> Vec<(&'static str, Command)> {
    let connect = |request| Command::new(1, Request::Connect(request));
    vec![
        (
            "connect",
            connect(ConnectRequest {
                token: "t".into(),
                name: "rs".into(),
                version: "1".into(),
                ..Default::default()
            }),
        ),
        (
            "connect_full",
            connect(ConnectRequest {
                token: "t".into(),
                data: Bytes::from_static(br#"{"k":[1,2]}"#),
                subs: [
                    (
                        "a".into(),
                        SubscribeRequest {
                            flag: SubscribeRequest::COMPACTION,
                            ..Default::default()
                        },
                    ),
                    (
                        "b".into(),
                        SubscribeRequest {
                            recover: true,
                            epoch: "e1".into(),
                            offset: 7,
                            ..Default::default()
                        },
                    ),
                ]
                .into(),
                name: "js".into(),
                version: "5.7.1".into(),
                headers: [("x-a".into(), "1".into()), ("x-b".into(), "2".into())].into(),
            }),
        ),
        ("connect_empty", connect(ConnectRequest::default())),
    ]
}

fn subscribing() -> Vec<(&'static str, Command)> {
    let in_a_or_b = FilterNode {
        key: "t".into(),
        cmp: "in".into(),
        vals: vec!["a".into(), "b".into()],
        ..Default::default()
    };
    let equals_c = FilterNode {
        key: "u".into(),
        cmp: "eq".into(),
        val: "c".into(),
        ..Default::default()
    };
    let not_c = FilterNode {
        op: "not".into(),
        nodes: vec![equals_c],
        ..Default::default()
    };
    let both = FilterNode {
        op: "and".into(),
        nodes: vec![in_a_or_b, not_c],
        ..Default::default()
    };
    vec![
        (
            "subscribe",
            Command::new(
                2,
                Request::Subscribe(SubscribeRequest {
                    channel: "news".into(),
                    recover: true,
                    epoch: "e1".into(),
                    offset: 300,
                    delta: "fossil".into(),
                    flag: SubscribeRequest::COMPACTION,
                    ..Default::default()
                }),
            ),
        ),
        (
            "subscribe_full",
            Command::new(
                3,
                Request::Subscribe(SubscribeRequest {
                    channel: "n:ü \"x\".*>".into(),
                    token: "tok".into(),
                    recover: true,
                    epoch: "_".into(),
                    offset: u64::MAX,
                    data: Bytes::from_static(b"null"),
                    positioned: true,
                    recoverable: true,
                    join_leave: true,
                    delta: "fossil".into(),
                    tf: Some(Box::new(both)),
                    flag: SubscribeRequest::COMPACTION | SubscribeRequest::REJECT_UNRECOVERED,
                    kind: 1,
                }),
            ),
        ),
        (
            "unsubscribe",
            Command::new(
                3,
                Request::Unsubscribe(UnsubscribeRequest {
                    channel: "news".into(),
                }),
            ),
        ),
    ]
}

fn in_channels() -> Vec<(&'static str, Command)> {
    numbered([
        (
            "publish",
            4,
            Request::Publish(PublishRequest {
                channel: news(),
                data: Bytes::from_static(
                    br#"{"z": 1.0e+2, "a":12345678901234567890.123, "a":"\u00fc\/"}"#,
                ),
                kind: 0,
            }),
        ),
        (
            "publish_scalar",
            5,
            Request::Publish(PublishRequest {
                channel: news(),
                data: Bytes::from_static(b"\"x\""),
                kind: 1,
            }),
        ),
        (
            "presence",
            6,
            Request::Presence(PresenceRequest { channel: news() }),
        ),
        (
            "presence_stats",
            7,
            Request::PresenceStats(PresenceStatsRequest { channel: news() }),
        ),
        (
            "history",
            4,
            Request::History(HistoryRequest {
                channel: news(),
                limit: -1,
                since: Some(StreamPosition {
                    offset: 5,
                    epoch: "e1".into(),
                }),
                reverse: false,
            }),
        ),
        (
            "history_reverse",
            8,
            Request::History(HistoryRequest {
                channel: news(),
                limit: 1,
                since: None,
                reverse: true,
            }),
        ),
    ])
}

fn elsewhere() -> Vec<(&'static str, Command)> {
    numbered([
        ("ping", 9, Request::Ping(PingRequest {})),
        (
            "send",
            0,
            Request::Send(SendRequest {
                data: Bytes::from_static(b"[]"),
            }),
        ),
        (
            "rpc",
            u32::MAX,
            Request::Rpc(RpcRequest {
                data: Bytes::from_static(br#"{"q":true}"#),
                method: "sum".into(),
            }),
        ),
    ])
}

fn refreshing() -> Vec<(&'static str, Command)> {
    numbered([
        (
            "refresh",
            10,
            Request::Refresh(RefreshRequest { token: "t2".into() }),
        ),
        (
            "sub_refresh",
            11,
            Request::SubRefresh(SubRefreshRequest {
                channel: news(),
                token: "t3".into(),
                kind: 0,
            }),
        ),
        (
            "sub_refresh_tracking",
            12,
            Request::SubRefresh(SubRefreshRequest {
                channel: news(),
                token: String::new(),
                kind: 1,
            }),
        ),
    ])
}

fn numbered<const N: usize>(
    requests: [(&'static str, u32, Request); N],
) -> Vec<(&'static str, Command)> {
    requests
        .map(|(name, id, request)| (name, Command::new(id, request)))
        .into()
}
