//! Any message, for property tests.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use crate::protocol::types::*;

/// Payloads that both encodings carry: JSON texts without line ends around or between tokens,
/// or nothing. Spelled in ways that re-serialising would not keep.
pub(super) fn json_payload() -> BoxedStrategy<Bytes> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,4})?",
        text().prop_map(|value| serde_json::to_string(&value).expect("a string is JSON")),
        Just(r#""\u00e9\/\ud83d\ude00""#.to_owned()),
    ];
    let value = leaf.prop_recursive(3, 16, 4, |inner| {
        let list = vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(" ,")));
        // Keys repeat on purpose.
        let fields = vec(("[ab]{0,1}", inner), 0..4);
        let object = fields.prop_map(|fields| {
            let fields: Vec<String> = fields
                .iter()
                .map(|(key, value)| format!("\"{key}\" : {value}"))
                .collect();
            format!("{{{}}}", fields.join(","))
        });
        prop_oneof![list, object]
    });
    prop_oneof![
        1 => Just(Bytes::new()),
        4 => value.prop_map(Bytes::from),
    ]
    .boxed()
}

/// Payloads that Protobuf carries: any bytes.
pub(super) fn binary_payload() -> BoxedStrategy<Bytes> {
    vec(any::<u8>(), 0..64).prop_map(Bytes::from).boxed()
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-z:$#.*> ]{1,12}", any::<String>()]
}

fn texts() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(text(), text(), 0..3)
}

/// Any command whose payloads are as given.
pub(super) fn command(payload: &BoxedStrategy<Bytes>) -> impl Strategy<Value = Command> + use<> {
    let request = prop_oneof![
        4 => connect_request(payload).prop_map(Request::Connect),
        4 => subscribe_request(payload).prop_map(Request::Subscribe),
        1 => text().prop_map(|channel| Request::Unsubscribe(UnsubscribeRequest { channel })),
        4 => (text(), payload.clone(), any::<i32>()).prop_map(|(channel, data, kind)| {
            Request::Publish(PublishRequest { channel, data, kind })
        }),
        1 => text().prop_map(|channel| Request::Presence(PresenceRequest { channel })),
        1 => text().prop_map(|channel| Request::PresenceStats(PresenceStatsRequest { channel })),
        2 => history_request().prop_map(Request::History),
        1 => Just(Request::Ping(PingRequest {})),
        1 => payload.clone().prop_map(|data| Request::Send(SendRequest { data })),
        2 => (payload.clone(), text())
            .prop_map(|(data, method)| Request::Rpc(RpcRequest { data, method })),
        1 => text().prop_map(|token| Request::Refresh(RefreshRequest { token })),
        1 => (text(), text(), any::<i32>()).prop_map(|(channel, token, kind)| {
            Request::SubRefresh(SubRefreshRequest { channel, token, kind })
        }),
    ];
    let command = (any::<u32>(), request).prop_map(|(id, request)| Command::new(id, request));
    prop_oneof![9 => command, 1 => any::<u32>().prop_map(|id| Command { id, ..Command::default() })]
}

fn connect_request(
    payload: &BoxedStrategy<Bytes>,
) -> impl Strategy<Value = ConnectRequest> + use<> {
    let subs = btree_map(text(), subscribe_request(payload), 0..3);
    (text(), payload.clone(), subs, text(), text(), texts()).prop_map(
        |(token, data, subs, name, version, headers)| ConnectRequest {
            token,
            data,
            subs,
            name,
            version,
            headers,
        },
    )
}

fn subscribe_request(
    payload: &BoxedStrategy<Bytes>,
) -> impl Strategy<Value = SubscribeRequest> + use<> {
    let texts = (text(), text(), text(), text());
    let numbers = (any::<u64>(), any::<i64>(), any::<i32>());
    (
        texts,
        numbers,
        any::<[bool; 4]>(),
        payload.clone(),
        option::of(filter()),
    )
        .prop_map(
            |((channel, token, epoch, delta), (offset, flag, kind), flags, data, tf)| {
                let [recover, positioned, recoverable, join_leave] = flags;
                SubscribeRequest {
                    channel,
                    token,
                    recover,
                    epoch,
                    offset,
                    data,
                    positioned,
                    recoverable,
                    join_leave,
                    delta,
                    tf: tf.map(Box::new),
                    flag,
                    kind,
                }
            },
        )
}

fn filter() -> impl Strategy<Value = FilterNode> {
    let leaf =
        (text(), text(), text(), vec(text(), 0..3)).prop_map(|(key, cmp, val, vals)| FilterNode {
            key,
            cmp,
            val,
            vals,
            ..FilterNode::default()
        });
    leaf.prop_recursive(3, 8, 3, |inner| {
        (text(), vec(inner, 0..3)).prop_map(|(op, nodes)| FilterNode {
            op,
            nodes,
            ..FilterNode::default()
        })
    })
}

fn history_request() -> impl Strategy<Value = HistoryRequest> {
    let since = (any::<u64>(), text()).prop_map(|(offset, epoch)| StreamPosition { offset, epoch });
    (text(), any::<i32>(), option::of(since), any::<bool>()).prop_map(
        |(channel, limit, since, reverse)| HistoryRequest {
            channel,
            limit,
            since,
            reverse,
        },
    )
}

/// Any reply whose payloads are as given.
pub(super) fn reply(payload: &BoxedStrategy<Bytes>) -> impl Strategy<Value = Reply> + use<> {
    let id = any::<u32>;
    let empty = Reply::default;
    let error =
        (any::<u32>(), text(), any::<bool>()).prop_map(|(code, message, temporary)| Error {
            code,
            message,
            temporary,
        });
    let presence = btree_map(text(), client_info(payload), 0..3);
    let history = (vec(publication(payload), 0..3), text(), any::<u64>()).prop_map(
        |(publications, epoch, offset)| HistoryResult {
            publications,
            epoch,
            offset,
        },
    );
    let refresh = (text(), text(), any::<bool>(), any::<u32>()).prop_map(
        |(client, version, expires, ttl)| RefreshResult {
            client,
            version,
            expires,
            ttl,
        },
    );
    prop_oneof![
        8 => push(payload).prop_map(Reply::push),
        2 => (id(), error).prop_map(|(id, error)| Reply::error(id, error)),
        4 => (id(), connect_result(payload)).prop_map(|(id, result)| Reply::connect(id, result)),
        4 => (id(), subscribe_result(payload))
            .prop_map(|(id, result)| Reply::subscribe(id, result)),
        1 => id().prop_map(Reply::unsubscribe),
        1 => id().prop_map(Reply::publish),
        2 => (id(), presence).prop_map(move |(id, presence)| Reply {
            id,
            presence: Some(PresenceResult { presence }),
            ..empty()
        }),
        1 => (id(), id(), id()).prop_map(move |(id, num_clients, num_users)| Reply {
            id,
            presence_stats: Some(PresenceStatsResult { num_clients, num_users }),
            ..empty()
        }),
        2 => (id(), history)
            .prop_map(move |(id, history)| Reply { id, history: Some(history), ..empty() }),
        1 => id().prop_map(move |id| Reply { id, ping: Some(PingResult {}), ..empty() }),
        1 => (id(), payload.clone()).prop_map(move |(id, data)| Reply {
            id,
            rpc: Some(RpcResult { data }),
            ..empty()
        }),
        1 => (id(), refresh).prop_map(|(id, result)| Reply::refresh(id, result)),
        1 => (id(), any::<bool>(), any::<u32>()).prop_map(|(id, expires, ttl)| {
            Reply::sub_refresh(id, SubRefreshResult { expires, ttl })
        }),
        1 => Just(Reply::default()),
    ]
}

fn connect_result(payload: &BoxedStrategy<Bytes>) -> impl Strategy<Value = ConnectResult> + use<> {
    connect_push(payload).prop_map(|push| ConnectResult {
        client: push.client,
        version: push.version,
        expires: push.expires,
        ttl: push.ttl,
        data: push.data,
        subs: push.subs,
        ping: push.ping,
        pong: push.pong,
        session: push.session,
        node: push.node,
        time: push.time,
    })
}

fn connect_push(payload: &BoxedStrategy<Bytes>) -> impl Strategy<Value = Connect> + use<> {
    let texts = (text(), text(), text(), text());
    let numbers = (any::<u32>(), any::<u32>(), any::<i64>());
    let subs = btree_map(text(), subscribe_result(payload), 0..2);
    (texts, numbers, any::<[bool; 2]>(), payload.clone(), subs).prop_map(
        |((client, version, session, node), (ttl, ping, time), [expires, pong], data, subs)| {
            Connect {
                client,
                version,
                data,
                subs,
                expires,
                ttl,
                ping,
                pong,
                session,
                node,
                time,
            }
        },
    )
}

fn subscribe_result(
    payload: &BoxedStrategy<Bytes>,
) -> impl Strategy<Value = SubscribeResult> + use<> {
    let numbers = (any::<u32>(), any::<u64>(), any::<i64>());
    let publications = vec(publication(payload), 0..3);
    (
        numbers,
        any::<[bool; 6]>(),
        text(),
        publications,
        payload.clone(),
    )
        .prop_map(|((ttl, offset, id), flags, epoch, publications, data)| {
            let [
                expires,
                recoverable,
                recovered,
                positioned,
                was_recovering,
                delta,
            ] = flags;
            SubscribeResult {
                expires,
                ttl,
                recoverable,
                epoch,
                publications,
                recovered,
                offset,
                positioned,
                data,
                was_recovering,
                delta,
                id,
            }
        })
}

fn publication(payload: &BoxedStrategy<Bytes>) -> impl Strategy<Value = Publication> + use<> {
    let info = option::of(client_info(payload));
    let numbers = (any::<u64>(), any::<i64>(), any::<u64>());
    (
        payload.clone(),
        info,
        numbers,
        texts(),
        any::<bool>(),
        text(),
        text(),
    )
        .prop_map(
            |(data, info, (offset, time, version), tags, delta, channel, epoch)| Publication {
                data,
                info,
                offset,
                tags,
                delta,
                time,
                channel,
                epoch,
                version,
            },
        )
}

fn client_info(payload: &BoxedStrategy<Bytes>) -> impl Strategy<Value = ClientInfo> + use<> {
    (text(), text(), payload.clone(), payload.clone()).prop_map(
        |(user, client, conn_info, chan_info)| ClientInfo {
            user,
            client,
            conn_info,
            chan_info,
        },
    )
}

fn push(payload: &BoxedStrategy<Bytes>) -> impl Strategy<Value = Push> + use<> {
    let nothing = Push::default;
    let subscribe = (any::<[bool; 2]>(), text(), any::<u64>(), payload.clone()).prop_map(
        |([recoverable, positioned], epoch, offset, data)| Subscribe {
            recoverable,
            epoch,
            offset,
            positioned,
            data,
        },
    );
    let body = prop_oneof![
        6 => publication(payload).prop_map(|publication| Push::publication("", publication)),
        1 => option::of(client_info(payload))
            .prop_map(move |info| Push { join: Some(Join { info }), ..nothing() }),
        1 => option::of(client_info(payload))
            .prop_map(move |info| Push { leave: Some(Leave { info }), ..nothing() }),
        1 => (any::<u32>(), text()).prop_map(move |(code, reason)| Push {
            unsubscribe: Some(Unsubscribe { code, reason }),
            ..nothing()
        }),
        1 => payload.clone()
            .prop_map(move |data| Push { message: Some(Message { data }), ..nothing() }),
        1 => subscribe.prop_map(move |subscribe| Push { subscribe: Some(subscribe), ..nothing() }),
        1 => connect_push(payload)
            .prop_map(move |connect| Push { connect: Some(Box::new(connect)), ..nothing() }),
        1 => (any::<u32>(), text(), any::<bool>()).prop_map(move |(code, reason, reconnect)| Push {
            disconnect: Some(Disconnect { code, reason, reconnect }),
            ..nothing()
        }),
        1 => (any::<bool>(), any::<u32>()).prop_map(move |(expires, ttl)| Push {
            refresh: Some(Refresh { expires, ttl }),
            ..nothing()
        }),
    ];
    (any::<i64>(), text(), body).prop_map(|(id, channel, body)| Push {
        id,
        channel,
        ..body
    })
}
