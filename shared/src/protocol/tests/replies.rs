//! The values that `golden/replies.txt` stands for.

use bytes::Bytes;

use crate::protocol::codes::{ErrorCode, UnsubscribeCode};
use crate::protocol::types::*;

pub(super) fn values() -> Vec<(&'static str, Reply)> {
    let mut values = sessions_and_subscriptions();
    values.extend(presence_and_history());
    values.extend(other_results());
    values.extend(publications());
    values.extend(pushes_in_channels());
    values.extend(pushes_elsewhere());
    values.push(("ping_of_the_server", Reply::default()));
    values
}

fn numbered(data: &'static str, offset: u64) -> Publication {
    Publication {
        data: Bytes::from_static(data.as_bytes()),
        offset,
        ..Default::default()
    }
}

fn person(user: &str, client: &str) -> ClientInfo {
    ClientInfo {
        user: user.into(),
        client: client.into(),
        ..Default::default()
    }
}

fn sessions_and_subscriptions() -> Vec<(&'static str, Reply)> {
    let connect = |result| Reply::connect(1, result);
    let recovered = SubscribeResult {
        recoverable: true,
        epoch: "e".into(),
        publications: vec![numbered("1", 8)],
        recovered: true,
        offset: 7,
        positioned: true,
        was_recovering: true,
        ..Default::default()
    };
    let positioned = SubscribeResult {
        positioned: true,
        ..Default::default()
    };
    vec![
        (
            "connect",
            connect(ConnectResult {
                client: "c1".into(),
                version: "v".into(),
                ping: 25,
                pong: true,
                ..Default::default()
            }),
        ),
        (
            "connect_full",
            connect(ConnectResult {
                client: "c1".into(),
                version: "v".into(),
                expires: true,
                ttl: 3600,
                data: Bytes::from_static(br#"{"a":1}"#),
                subs: [("a".into(), positioned), ("b".into(), recovered)].into(),
                ping: 25,
                pong: true,
                session: "s".into(),
                node: "n".into(),
                time: 1_700_000_000_000,
            }),
        ),
        ("subscribe", Reply::subscribe(2, SubscribeResult::default())),
        (
            "subscribe_full",
            Reply::subscribe(
                2,
                SubscribeResult {
                    expires: true,
                    ttl: 60,
                    recoverable: true,
                    epoch: "e1".into(),
                    publications: vec![numbered(r#"{"n":1}"#, 301), numbered(r#"{"n":2}"#, 302)],
                    recovered: true,
                    offset: 300,
                    positioned: true,
                    data: Bytes::from_static(b"[1]"),
                    was_recovering: true,
                    delta: true,
                    id: 9,
                },
            ),
        ),
        ("unsubscribe", Reply::unsubscribe(3)),
        ("publish", Reply::publish(4)),
    ]
}

fn presence_and_history() -> Vec<(&'static str, Reply)> {
    let presence = |presence| Reply {
        id: 5,
        presence: Some(presence),
        ..Reply::default()
    };
    let history = |history| Reply {
        id: 7,
        history: Some(history),
        ..Reply::default()
    };
    let somebody = ClientInfo {
        conn_info: Bytes::from_static(br#"{"name":"A"}"#),
        chan_info: Bytes::from_static(b"[1]"),
        ..person("42", "c1")
    };
    let two = PresenceResult {
        presence: [("c1".into(), somebody), ("c2".into(), person("", "c2"))].into(),
    };
    let stats = Reply {
        id: 6,
        presence_stats: Some(PresenceStatsResult::default()),
        ..Reply::default()
    };
    let one = HistoryResult {
        publications: vec![Publication {
            info: Some(person("42", "5f")),
            ..numbered(r#"{"b":2}"#, 9)
        }],
        epoch: "x1".into(),
        offset: 9,
    };
    vec![
        ("presence", presence(two)),
        ("presence_empty", presence(PresenceResult::default())),
        ("presence_stats", stats),
        ("history", history(one)),
        ("history_empty", history(HistoryResult::default())),
    ]
}

fn other_results() -> Vec<(&'static str, Reply)> {
    let ping = Reply {
        id: 8,
        ping: Some(PingResult {}),
        ..Reply::default()
    };
    let sum = RpcResult {
        data: Bytes::from_static(br#"{"sum":3}"#),
    };
    let rpc = Reply {
        id: 9,
        rpc: Some(sum),
        ..Reply::default()
    };
    let refresh = RefreshResult {
        client: "c1".into(),
        version: "v".into(),
        expires: true,
        ttl: 60,
    };
    let sub_refresh = SubRefreshResult {
        expires: true,
        ttl: 60,
    };
    vec![
        ("ping", ping),
        ("rpc", rpc),
        ("refresh", Reply::refresh(10, refresh)),
        ("sub_refresh", Reply::sub_refresh(11, sub_refresh)),
        ("error", Reply::error(2, ErrorCode::PermissionDenied)),
        ("error_temporary", Reply::error(2, ErrorCode::Internal)),
    ]
}

fn publications() -> Vec<(&'static str, Reply)> {
    let tagged = Publication {
        tags: [("k".into(), "v".into())].into(),
        ..numbered(r#"{"a":1}"#, 301)
    };
    let publisher = ClientInfo {
        conn_info: Bytes::from_static(b"{}"),
        chan_info: Bytes::from_static(b"0"),
        ..person("", "c2")
    };
    let full = Publication {
        data: Bytes::from_static(br#""3\n2@0,""#),
        info: Some(publisher),
        offset: 1,
        tags: [("a".into(), "1".into()), ("b".into(), "2".into())].into(),
        delta: true,
        time: -1,
        channel: "news:a".into(),
        epoch: "e".into(),
        version: 3,
    };
    vec![
        (
            "push_publication",
            Reply::push(Push::publication("news", tagged)),
        ),
        (
            "push_publication_full",
            Reply::push(Push {
                id: 5,
                ..Push::publication("", full)
            }),
        ),
    ]
}

fn pushes_in_channels() -> Vec<(&'static str, Reply)> {
    let news = |push| {
        Reply::push(Push {
            channel: "news".into(),
            ..push
        })
    };
    let info = Some(person("42", "c1"));
    let join = Join { info: info.clone() };
    let leave = Leave { info };
    let subscribe = Subscribe {
        recoverable: true,
        epoch: "e1".into(),
        offset: 300,
        positioned: true,
        data: Bytes::from_static(b"{}"),
    };
    let unsubscribe = Push::unsubscribe("news", UnsubscribeCode::InsufficientState);
    vec![
        (
            "push_join",
            news(Push {
                join: Some(join),
                ..Push::default()
            }),
        ),
        (
            "push_leave",
            news(Push {
                leave: Some(leave),
                ..Push::default()
            }),
        ),
        ("push_unsubscribe", Reply::push(unsubscribe)),
        (
            "push_subscribe",
            news(Push {
                subscribe: Some(subscribe),
                ..Push::default()
            }),
        ),
    ]
}

fn pushes_elsewhere() -> Vec<(&'static str, Reply)> {
    let message = Message {
        data: Bytes::from_static(br#"{"hello":"you"}"#),
    };
    let positioned = SubscribeResult {
        positioned: true,
        ..SubscribeResult::default()
    };
    let connect = Connect {
        client: "c1".into(),
        version: "v".into(),
        data: Bytes::from_static(b"1"),
        subs: [("a".into(), positioned)].into(),
        expires: true,
        ttl: 9,
        ping: 25,
        pong: true,
        session: "s".into(),
        node: "n".into(),
        time: 5,
    };
    let disconnect = Disconnect {
        code: 3001,
        reason: "shutdown".into(),
        reconnect: true,
    };
    let refresh = Refresh {
        expires: true,
        ttl: 60,
    };
    let pushes = [
        (
            "push_message",
            Push {
                message: Some(message),
                ..Push::default()
            },
        ),
        (
            "push_connect",
            Push {
                connect: Some(Box::new(connect)),
                ..Push::default()
            },
        ),
        (
            "push_disconnect",
            Push {
                disconnect: Some(disconnect),
                ..Push::default()
            },
        ),
        (
            "push_refresh",
            Push {
                refresh: Some(refresh),
                ..Push::default()
            },
        ),
    ];
    pushes.map(|(name, push)| (name, Reply::push(push))).into()
}
