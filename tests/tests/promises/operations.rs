//! What a back end wants of a user happens on whichever worker serves the user, whichever worker is asked.

use anyhow::{Context, Result, bail, ensure};
use flotilla_shared::protocol::Format::{Json, Protobuf};
use flotilla_shared::protocol::types::{Command, PresenceRequest, PresenceStatsRequest};
use flotilla_tests::SOON;
use flotilla_tests::client::Client;
use flotilla_tests::eventually::eventually;
use flotilla_tests::fleet::{Builder, Fleet, namespace};
use flotilla_tests::token;
use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};
use serde_json::{Value, json};

const KEY: &str = "the key of the back end";

/// The channel of the tests, in a namespace where it is known who is there.
const ROOM: &str = "lobby:1";

/// A fleet whose workers all know each other.
async fn fleet_of(workers: usize) -> Result<Fleet> {
    let fleet = builder(workers).start().await?;
    all_answer(&fleet, workers).await?;
    Ok(fleet)
}

/// Waits until whichever worker is asked, all answer.
async fn all_answer(fleet: &Fleet, count: usize) -> Result<()> {
    for worker in 0..count {
        eventually("all workers answer", SOON, async || {
            let answer = call(fleet, worker, "info", &json!({})).await?;
            let nodes = answer["result"]["nodes"].as_array().map(Vec::len);
            ensure!(nodes == Some(count), "{answer}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

fn builder(workers: usize) -> Builder {
    Fleet::builder()
        .workers(workers)
        .worker("http_api.listen", "127.0.0.1:0")
        .worker("http_api.key", KEY)
        .worker(
            "channel.namespaces",
            vec![namespace(
                "lobby",
                &[
                    "allow_subscribe_for_client",
                    "presence",
                    "allow_presence_for_subscriber",
                ],
            )],
        )
}

/// Calls a method of the worker with this number.
async fn call(fleet: &Fleet, worker: usize, method: &str, body: &Value) -> Result<Value> {
    let api = fleet.workers[worker].addresses().api.as_ref();
    let url = format!("http://{}/api/{method}", api.context("no API")?);
    let request = reqwest::Client::new().post(url).header("X-API-Key", KEY);
    Ok(request.json(body).send().await?.json().await?)
}

/// Two users, each served by a worker of its own, in the room.
async fn two_in_the_room(fleet: &Fleet) -> Result<Vec<Client>> {
    let mut clients = fleet.spread(&[Json, Protobuf]).await?;
    for client in &mut clients {
        client.subscribe(ROOM).await?;
    }
    Ok(clients)
}

#[tokio::test]
async fn whichever_worker_is_asked_knows_who_is_on_all_of_them() -> Result<()> {
    let fleet = fleet_of(2).await?;
    let _clients = two_in_the_room(&fleet).await?;
    let body = json!({"channel": ROOM});
    for worker in 0..2 {
        let answer = call(&fleet, worker, "presence_stats", &body).await?;
        assert_eq!(
            answer,
            json!({"result": {"num_clients": 2, "num_users": 2}})
        );
        let answer = call(&fleet, worker, "presence", &body).await?;
        let presence = answer["result"]["presence"].as_object().context("none")?;
        assert_eq!(presence.len(), 2);
        for (client, info) in presence {
            assert_eq!(&info["client"], client);
            assert!(
                info["user"]
                    .as_str()
                    .is_some_and(|user| user.starts_with("user-"))
            );
        }
        let answer = call(&fleet, worker, "channels", &json!({"pattern": "lobby:*"})).await?;
        let channels = json!({"channels": {ROOM: {"num_clients": 2}}});
        assert_eq!(answer["result"], channels);
        let answer = call(&fleet, worker, "info", &json!({})).await?;
        let nodes = answer["result"]["nodes"].as_array().context("no nodes")?;
        for (number, node) in nodes.iter().enumerate() {
            assert_eq!(node["uid"], format!("worker-{number}"));
            for count in ["num_clients", "num_users", "num_channels", "num_subs"] {
                assert_eq!(node[count], 1, "{count} of {node}");
            }
        }
        assert_eq!(nodes.len(), 2);
        eventually("the gateway is named", SOON, async || {
            let answer = call(&fleet, worker, "info", &json!({})).await?;
            let gateways = answer["result"]["gateways"].as_array().context("none")?;
            let [gateway] = &gateways[..] else {
                bail!("{answer}")
            };
            let address = &fleet.gateways[0].addresses().websocket;
            ensure!(gateway["address"] == *address, "{gateway}");
            ensure!(gateway["phase"] == "serving", "{gateway}");
            ensure!(gateway["num_clients"] == 2, "{gateway}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_presence_that_a_client_s_queue_does_not_hold_is_refused_and_counted_all_the_same()
-> Result<()> {
    let fleet = builder(2)
        .worker("client.queue_max_size", 64)
        .start()
        .await?;
    all_answer(&fleet, 2).await?;
    let mut clients = two_in_the_room(&fleet).await?;
    let channel = ROOM.to_owned();
    let presence = Command {
        presence: Some(PresenceRequest {
            channel: channel.clone(),
        }),
        ..Default::default()
    };
    assert_eq!(clients[0].refusal(presence).await?.code, 106);
    let stats = Command {
        presence_stats: Some(PresenceStatsRequest { channel }),
        ..Default::default()
    };
    let stats = clients[0].call(stats).await?.presence_stats;
    let stats = stats.context("no counts")?;
    assert_eq!((stats.num_clients, stats.num_users), (2, 2));
    Ok(())
}

#[tokio::test]
async fn the_connections_of_all_workers_can_be_read_page_by_page() -> Result<()> {
    let fleet = fleet_of(2).await?;
    let mut clients = two_in_the_room(&fleet).await?;
    clients.push(fleet.user("somebody", Json).await?);
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let body = json!({"limit": 1, "cursor": cursor});
        let answer = call(&fleet, 0, "connections", &body).await?;
        let page = answer["result"]["connections"]
            .as_object()
            .context("none")?;
        assert!(page.len() <= 1, "{answer}");
        seen.extend(
            page.iter()
                .map(|(client, info)| (client.clone(), info.clone())),
        );
        match answer["result"]["cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen.len(), 3);
    for client in &clients {
        let (_, info) = seen
            .iter()
            .find(|(_, info)| info["node"] == client.node())
            .context("a worker's connections are missing")?;
        assert_eq!(info["transport"], "websocket");
    }
    let mine = call(
        &fleet,
        0,
        "connections",
        &json!({"user": "somebody", "expression": ""}),
    )
    .await?;
    let mine = mine["result"]["connections"].as_object().context("none")?;
    assert_eq!(mine.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_user_is_unsubscribed_and_disconnected_wherever_it_is() -> Result<()> {
    let fleet = fleet_of(2).await?;
    let mut clients = two_in_the_room(&fleet).await?;
    for client in &mut clients {
        // By the worker that does not serve the user.
        let other = usize::from(client.node() == "worker-0");
        let user = user_of(&fleet, client).await?;
        let body = json!({"user": user, "channel": ROOM});
        let answer = call(&fleet, other, "unsubscribe", &body).await?;
        assert_eq!(answer, json!({"result": {}}));
        client.push(ROOM, |push| push.unsubscribe.is_some()).await?;
        let body = json!({"user": user, "disconnect": {"code": 4001, "reason": "enough"}});
        let answer = call(&fleet, other, "disconnect", &body).await?;
        assert_eq!(answer, json!({"result": {}}));
        let close = client.closed().await?;
        assert_eq!((close.code, close.reason.as_str()), (4001, "enough"));
    }
    Ok(())
}

#[tokio::test]
async fn a_client_sees_who_is_there_on_all_workers_and_only_where_it_may() -> Result<()> {
    let fleet = fleet_of(2).await?;
    let mut clients = two_in_the_room(&fleet).await?;
    let ids: Vec<String> = clients
        .iter()
        .map(|client| client.session().client.clone())
        .collect();
    for client in &mut clients {
        let request = PresenceRequest {
            channel: ROOM.to_owned(),
        };
        let reply = client.call(presence(request)).await?;
        let there = reply.presence.context("no presence")?.presence;
        assert_eq!(there.len(), 2);
        for id in &ids {
            assert_eq!(&there[id].client, id);
        }
        let request = PresenceStatsRequest {
            channel: ROOM.to_owned(),
        };
        let command = Command {
            presence_stats: Some(request),
            ..Command::default()
        };
        let stats = client.call(command).await?.presence_stats;
        let stats = stats.context("no stats")?;
        assert_eq!((stats.num_clients, stats.num_users), (2, 2));
    }
    let mut stranger = fleet.user("stranger", Json).await?;
    let request = PresenceRequest {
        channel: ROOM.to_owned(),
    };
    assert_eq!(stranger.refusal(presence(request)).await?.code, 103);
    Ok(())
}

fn presence(request: PresenceRequest) -> Command {
    Command {
        presence: Some(request),
        ..Command::default()
    }
}

#[tokio::test]
async fn a_user_is_subscribed_and_refreshed_wherever_it_is() -> Result<()> {
    let fleet = fleet_of(2).await?;
    let mut clients = fleet.spread(&[Json, Protobuf]).await?;
    for client in &mut clients {
        // By the worker that does not serve the user.
        let other = usize::from(client.node() == "worker-0");
        let user = user_of(&fleet, client).await?;
        let body = json!({"user": user, "channel": ROOM, "data": {"why": "invited"}});
        let answer = call(&fleet, other, "subscribe", &body).await?;
        assert_eq!(answer, json!({"result": {}}));
        let push = client.push(ROOM, |push| push.subscribe.is_some()).await?;
        let subscribe = push.subscribe.context("no subscribe push")?;
        assert_eq!(subscribe.data, r#"{"why":"invited"}"#);
        let body = json!({"channel": ROOM, "data": 1});
        call(&fleet, other, "publish", &body).await?;
        assert_eq!(client.publication(ROOM).await?.data, "1");

        let body = json!({"user": user, "expire_at": 4_000_000_000_u64});
        let answer = call(&fleet, other, "refresh", &body).await?;
        assert_eq!(answer, json!({"result": {}}));
        let push = client.push("", |push| push.refresh.is_some()).await?;
        assert!(push.refresh.context("no refresh push")?.expires);
        let body = json!({"user": user, "expired": true});
        call(&fleet, other, "refresh", &body).await?;
        assert_eq!(client.closed().await?.code, 3005);
    }
    Ok(())
}

/// The user of `client`, as the fleet knows it.
async fn user_of(fleet: &Fleet, client: &Client) -> Result<Value> {
    let answer = call(fleet, 0, "connections", &json!({})).await?;
    let own = &answer["result"]["connections"][&client.session().client]["user"];
    ensure!(own.is_string(), "not listed: {answer}");
    Ok(own.clone())
}

#[tokio::test]
async fn a_user_who_may_have_one_connection_keeps_the_newest() -> Result<()> {
    let fleet = builder(2)
        .worker("client.subscribe_to_user_personal_channel.enabled", true)
        .worker(
            "client.subscribe_to_user_personal_channel.single_connection",
            true,
        )
        .start()
        .await?;
    all_answer(&fleet, 2).await?;
    let mut other = fleet.user("8", Json).await?;
    let token = token::user("7")?;
    let mut clients = Vec::new();
    for worker in fleet.workers.iter().chain(&fleet.workers) {
        let dial = flotilla_tests::client::Dial::to(worker.url());
        clients.push(dial.connect(&token).await?);
        if let [.., older, _] = clients.as_mut_slice() {
            assert_eq!(older.closed().await?.code, 3504);
        }
    }
    let newest = clients.last_mut().context("nobody came")?;
    newest.subscribe(ROOM).await?;
    other.subscribe(ROOM).await?;
    Ok(())
}

#[tokio::test]
async fn a_worker_that_hangs_is_named() -> Result<()> {
    let mut fleet = fleet_of(3).await?;
    let _clients = two_in_the_room(&fleet).await?;
    fleet.workers[2].process().signal(SIGSTOP)?;
    // A stopped process may do something more before it stands.
    eventually("it is missed", SOON, async || {
        let answer = call(&fleet, 0, "info", &json!({})).await?;
        let result = &answer["result"];
        ensure!(result["partial"] == true, "{answer}");
        ensure!(result["silent"] == json!(["worker-2"]), "{answer}");
        ensure!(
            result["nodes"].as_array().map(Vec::len) == Some(2),
            "{answer}"
        );
        Ok(())
    })
    .await?;
    let body = json!({"user": "nobody", "channel": ROOM});
    let answer = call(&fleet, 0, "unsubscribe", &body).await?;
    assert_eq!(answer["error"]["code"], 100, "{answer}");
    assert!(
        answer["error"]["message"]
            .as_str()
            .is_some_and(|text| text.contains("worker-2"))
    );
    fleet.workers[2].process().signal(SIGCONT)?;
    all_answer(&fleet, 3).await
}

#[tokio::test]
async fn a_killed_worker_is_missed_no_longer_than_its_lease() -> Result<()> {
    let mut fleet = fleet_of(2).await?;
    fleet.workers[1].process().kill().await?;
    let answer = call(&fleet, 0, "info", &json!({})).await?;
    assert_eq!(answer["result"]["silent"], json!(["worker-1"]), "{answer}");
    eventually("the answer is complete again", SOON, async || {
        let answer = call(&fleet, 0, "info", &json!({})).await?;
        ensure!(answer["result"].get("partial").is_none(), "{answer}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_blocked_user_is_put_out_and_kept_out_of_every_worker() -> Result<()> {
    let fleet = fleet_of(2).await?;
    let mut client = fleet.user("7", Json).await?;
    let other = usize::from(client.node() == "worker-0");
    let answer = call(&fleet, other, "block_user", &json!({"user": "7"})).await?;
    assert_eq!(answer, json!({"result": {}}));
    assert_eq!(client.closed().await?.code, 3503);
    for worker in &fleet.workers {
        let dial = flotilla_tests::client::Dial::to(worker.url());
        let refused = dial.connect(&token::user("7")?).await;
        assert!(refused.is_err(), "{} lets it in", worker.id());
    }
    fleet.user("8", Json).await?;
    call(&fleet, 0, "unblock_user", &json!({"user": "7"})).await?;
    fleet.user("7", Json).await?;
    Ok(())
}

#[tokio::test]
async fn a_restarted_worker_still_knows_who_is_blocked() -> Result<()> {
    let mut fleet = fleet_of(2).await?;
    call(&fleet, 0, "block_user", &json!({"user": "7"})).await?;
    fleet.workers[1].process().kill().await?;
    fleet.workers[1].restart().await?;
    fleet.workers[1].ready().await?;
    let url = fleet.workers[1].url();
    eventually("it has learnt it from the other", SOON, async || {
        let dial = flotilla_tests::client::Dial::to(&url);
        ensure!(dial.connect(&token::user("7")?).await.is_err(), "not yet");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_revoked_token_ends_its_connection_and_opens_no_other() -> Result<()> {
    let fleet = fleet_of(2).await?;
    let marked = token::sign(
        token::SECRET,
        &json!({"sub": "7", "jti": "t1", "iat": 1000}),
    )?;
    let mut client = fleet.dial().connect(&marked).await?;
    let answer = call(&fleet, 0, "revoke_token", &json!({"uid": "t1"})).await?;
    assert_eq!(answer, json!({"result": {}}));
    assert_eq!(client.closed().await?.code, 3500);
    assert!(fleet.dial().connect(&marked).await.is_err());

    let newer = token::sign(
        token::SECRET,
        &json!({"sub": "7", "jti": "t2", "iat": 3000}),
    )?;
    let mut client = fleet.dial().connect(&newer).await?;
    let body = json!({"user": "7", "issued_before": 2000});
    call(&fleet, 0, "invalidate_user_tokens", &body).await?;
    fleet.dial().connect(&newer).await?;
    let body = json!({"user": "7", "issued_before": 3001});
    call(&fleet, 1, "invalidate_user_tokens", &body).await?;
    assert_eq!(client.closed().await?.code, 3500);
    assert!(fleet.dial().connect(&newer).await.is_err());
    Ok(())
}
