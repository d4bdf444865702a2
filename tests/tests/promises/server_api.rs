//! A back end publishes over HTTP, through any worker, to clients of all workers.

use anyhow::{Context, Result, ensure};
use flotilla_shared::protocol::Format::{Json, Protobuf};
use flotilla_tests::SOON;
use flotilla_tests::eventually::eventually;
use flotilla_tests::fleet::{Fleet, namespace};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

pub(crate) const KEY: &str = "the key of the back end";

/// Calls a method of one worker's API: status and body.
pub(crate) async fn call(
    address: &str,
    method: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> Result<(StatusCode, String)> {
    let mut request = Client::new().post(format!("http://{address}/api/{method}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.json(body).send().await?;
    Ok((response.status(), response.text().await?))
}

async fn fleet(workers: usize) -> Result<(Fleet, Vec<String>)> {
    let fleet = Fleet::builder()
        .workers(workers)
        .worker("http_api.listen", "127.0.0.1:0")
        .worker("http_api.key", KEY)
        .worker("http_api.previous_key", "the key before it")
        .worker(
            "channel.namespaces",
            vec![namespace("news", &["allow_subscribe_for_client"])],
        )
        .start()
        .await?;
    let addresses = fleet
        .workers
        .iter()
        .map(|worker| worker.addresses().api.clone());
    let addresses: Option<Vec<String>> = addresses.collect();
    let addresses = addresses.context("a worker does not say where its API is")?;
    Ok((fleet, addresses))
}

#[tokio::test]
async fn a_publication_reaches_clients_of_every_worker_in_both_encodings() -> Result<()> {
    let (fleet, apis) = fleet(2).await?;
    let mut clients = fleet.spread(&[Json, Protobuf]).await?;
    for client in &mut clients {
        client.subscribe("news:1").await?;
        client.subscribe("news:2").await?;
    }
    for (number, api) in apis.iter().enumerate() {
        let body = json!({"channel": "news:1", "data": {"number": number}});
        let (status, answer) = call(api, "publish", &[("X-API-Key", KEY)], &body).await?;
        assert_eq!(
            (status, answer.as_str()),
            (StatusCode::OK, "{\"result\":{}}")
        );
        for client in &mut clients {
            let publication = client.publication("news:1").await?;
            assert_eq!(publication.data, format!("{{\"number\":{number}}}"));
            assert_eq!(
                publication.info, None,
                "nobody's publication but the back end's"
            );
        }
    }
    let body = json!({"channels": ["news:1", "news:2", "nowhere:1"], "data": "to all"});
    let (_, answer) = call(&apis[0], "broadcast", &[("X-API-Key", KEY)], &body).await?;
    let answer: Value = serde_json::from_str(&answer)?;
    let responses = &answer["result"]["responses"];
    assert_eq!(responses[0], json!({"result": {}}));
    assert_eq!(responses[2]["error"]["code"], 102);
    for client in &mut clients {
        for channel in ["news:1", "news:2"] {
            assert_eq!(client.publication(channel).await?.data, "\"to all\"");
        }
    }
    Ok(())
}

#[tokio::test]
async fn only_a_known_key_opens_the_api() -> Result<()> {
    let (_fleet, apis) = fleet(1).await?;
    let body = json!({"channel": "news:1", "data": 1});
    for (headers, status) in [
        (vec![], 401),
        (vec![("X-API-Key", "wrong")], 401),
        (
            vec![("Authorization", "Bearer the key of the back end")],
            401,
        ),
        (
            vec![("Authorization", "apikey the key of the back end")],
            200,
        ),
        (vec![("X-API-Key", "the key before it")], 200),
    ] {
        let (got, answer) = call(&apis[0], "publish", &headers, &body).await?;
        assert_eq!(got.as_u16(), status, "{headers:?}: {answer}");
        assert!(!answer.contains("the key"), "{answer}");
    }
    Ok(())
}

#[tokio::test]
async fn errors_are_told_in_the_body_or_as_statuses() -> Result<()> {
    let (_fleet, apis) = fleet(1).await?;
    let key = ("X-API-Key", KEY);
    let statuses = ("X-Centrifugo-Error-Mode", "transport");
    for (method, body, status, code) in [
        (
            "publish",
            json!({"channel": "nowhere:1", "data": 1}),
            404,
            102,
        ),
        ("publish", json!({"channel": "news:1"}), 400, 107),
        ("history", json!({"channel": "news:1"}), 400, 108),
        ("nonsense", json!({}), 404, 104),
    ] {
        let (got, answer) = call(&apis[0], method, &[key], &body).await?;
        let answer: Value = serde_json::from_str(&answer)?;
        assert_eq!(
            (got.as_u16(), &answer["error"]["code"]),
            (200, &json!(code))
        );
        let (got, answer) = call(&apis[0], method, &[key, statuses], &body).await?;
        let answer: Value = serde_json::from_str(&answer)?;
        assert_eq!((got.as_u16(), &answer["code"]), (status, &json!(code)));
    }
    let huge = json!({"channel": "news:1", "data": "x".repeat(2 * 1024 * 1024)});
    let (status, _) = call(&apis[0], "publish", &[key], &huge).await?;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    Ok(())
}

#[tokio::test]
async fn without_nats_the_back_end_is_told_to_try_again() -> Result<()> {
    let (mut fleet, apis) = fleet(1).await?;
    fleet.nats.kill().await?;
    let body = json!({"channel": "news:1", "data": 1});
    eventually("an error that may be tried again", SOON, || async {
        let (_, answer) = call(&apis[0], "publish", &[("X-API-Key", KEY)], &body).await?;
        let answer: Value = serde_json::from_str(&answer)?;
        ensure!(answer["error"]["code"] == 100, "{answer}");
        Ok(())
    })
    .await
}
