//! Messages reach every subscriber, on whichever worker, once, intact and in order.

use anyhow::Result;
use flotilla_shared::protocol::Format::{Json, Protobuf};
use flotilla_shared::protocol::types::{Command, ConnectRequest, Request, UnsubscribeRequest};
use flotilla_tests::client::{Client, publish, subscribe};
use flotilla_tests::fleet::Fleet;
use flotilla_tests::token;

const MESSAGES: usize = 300;

#[tokio::test]
async fn what_one_publisher_sends_arrives_in_order_on_every_worker() -> Result<()> {
    let fleet = Fleet::builder().workers(3).start().await?;
    let mut clients = fleet.spread(&[Json, Protobuf, Json]).await?;
    for client in &mut clients {
        client.subscribe("room").await?;
    }
    let sent = numbered("a", MESSAGES);
    publish_all(&mut clients[0], &sent).await?;
    for client in &mut clients {
        assert_eq!(
            client.texts("room", MESSAGES).await?,
            sent,
            "on {}",
            client.node()
        );
    }
    Ok(())
}

#[tokio::test]
async fn each_publisher_of_several_is_heard_in_its_own_order() -> Result<()> {
    let fleet = Fleet::builder().workers(3).start().await?;
    let mut clients = fleet.spread(&[Json, Protobuf, Json]).await?;
    for client in &mut clients {
        client.subscribe("room").await?;
    }
    let [first, second, listener] = &mut clients[..] else {
        panic!("three clients")
    };
    let (from_first, from_second) = (numbered("a", MESSAGES), numbered("b", MESSAGES));
    tokio::try_join!(
        publish_all(first, &from_first),
        publish_all(second, &from_second)
    )?;

    let heard = listener.texts("room", 2 * MESSAGES).await?;
    let (a, b): (Vec<_>, Vec<_>) = heard.into_iter().partition(|text| text.contains("\"a\""));
    assert_eq!(a, from_first);
    assert_eq!(b, from_second);
    Ok(())
}

#[tokio::test]
async fn a_publisher_receives_its_own_publication() -> Result<()> {
    let fleet = Fleet::builder().start().await?;
    for format in [Json, Protobuf] {
        let mut client = fleet.user("ada", format).await?;
        client.subscribe("room").await?;
        client.publish("room", "{\"hello\":1}").await?;
        let publication = client.publication("room").await?;
        assert_eq!(publication.data, "{\"hello\":1}");
        let info = publication.info.expect("who published it");
        assert_eq!(
            (info.user, info.client),
            ("ada".into(), client.session().client.clone())
        );
    }
    Ok(())
}

#[tokio::test]
async fn both_encodings_meet_in_one_channel_with_the_payload_byte_for_byte() -> Result<()> {
    let fleet = Fleet::builder().workers(2).start().await?;
    let mut clients = fleet.spread(&[Json, Protobuf]).await?;
    // What a parser that builds values and writes them again would change.
    let payload = r#"{"b": 12345678901234567890, "a":1.0,"a":1e2 ,"é":"\u00e9\/"}"#;
    for client in &mut clients {
        client.subscribe("room").await?;
    }
    for publisher in 0..clients.len() {
        clients[publisher].publish("room", payload).await?;
        for client in &mut clients {
            assert_eq!(client.publication("room").await?.data, payload);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_subscriber_misses_nothing_published_after_it_was_told() -> Result<()> {
    let fleet = Fleet::builder().workers(2).start().await?;
    let mut clients = fleet.spread(&[Json, Protobuf]).await?;
    let [publisher, subscriber] = &mut clients[..] else {
        panic!("two clients")
    };
    for number in 0..100 {
        let channel = format!("fresh-{number}");
        subscriber.subscribe(&channel).await?;
        publisher.publish(&channel, number.to_string()).await?;
        assert_eq!(
            subscriber.publication(&channel).await?.data,
            number.to_string()
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_client_need_not_wait_for_one_answer_before_it_asks_the_next() -> Result<()> {
    let fleet = Fleet::builder().start().await?;
    for format in [Json, Protobuf] {
        let mut client = fleet.dial().format(format).open().await?;
        let connect = ConnectRequest {
            token: token::user("ada")?,
            ..Default::default()
        };
        let mut commands = vec![Command {
            id: 1,
            connect: Some(connect),
            ..Default::default()
        }];
        for (id, command) in [(2, subscribe("room")), (3, publish("elsewhere", "0"))] {
            commands.push(Command { id, ..command });
        }
        client.send(&commands).await?;
        assert!(client.reply(1).await?.connect.is_some());
        assert!(client.reply(2).await?.subscribe.is_some());
        assert!(client.reply(3).await?.publish.is_some());
        client.publish("room", "1").await?;
        assert_eq!(client.publication("room").await?.data, "1");
    }
    Ok(())
}

#[tokio::test]
async fn a_client_may_change_its_mind_before_it_is_answered() -> Result<()> {
    let fleet = Fleet::builder().start().await?;
    let mut users = fleet.spread(&[Json]).await?;
    let client = &mut users[0];
    let unsubscribe = UnsubscribeRequest {
        channel: "room".to_owned(),
    };
    let unsubscribe = Command::new(0, Request::Unsubscribe(unsubscribe));
    let ids = 100..110;
    let commands: Vec<_> = ids
        .clone()
        .map(|id| {
            let command = if id % 2 == 0 {
                subscribe("room")
            } else {
                unsubscribe.clone()
            };
            Command { id, ..command }
        })
        .chain([Command {
            id: 110,
            ..subscribe("room")
        }])
        .collect();
    // All in one message, and one by one.
    for together in [commands.len(), 1] {
        for message in commands.chunks(together) {
            client.send(message).await?;
        }
        for id in ids.clone() {
            let reply = client.reply(id).await?;
            assert!(reply.error.is_none(), "{reply:?}");
        }
        assert!(client.reply(110).await?.subscribe.is_some());
        client.publish("room", "1").await?;
        assert_eq!(client.publication("room").await?.data, "1");
        client.unsubscribe("room").await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_ended_subscription_receives_nothing_more_and_can_begin_again() -> Result<()> {
    let fleet = Fleet::builder().workers(2).start().await?;
    let mut clients = fleet.spread(&[Json, Protobuf]).await?;
    let [publisher, subscriber] = &mut clients[..] else {
        panic!("two clients")
    };
    subscriber.subscribe("left").await?;
    subscriber.subscribe("kept").await?;
    subscriber.unsubscribe("left").await?;
    publisher.publish("left", "1").await?;
    publisher.publish("kept", "2").await?;
    assert_eq!(subscriber.publication("kept").await?.data, "2");
    // A channel is kept for a moment after its last client has left; until it is gone, what was published before could
    // still be on its way.
    let worker = fleet
        .workers
        .iter()
        .find(|worker| worker.id() == subscriber.node())
        .expect("a worker of the fleet");
    worker
        .metric_becomes("flotilla_worker_channels", &[], 1.0)
        .await?;
    assert!(subscriber.received("left").is_none());
    subscriber.subscribe("left").await?;
    publisher.publish("left", "3").await?;
    assert_eq!(subscriber.publication("left").await?.data, "3");
    Ok(())
}

#[tokio::test]
async fn a_client_that_comes_back_to_any_worker_works() -> Result<()> {
    let fleet = Fleet::builder().workers(3).start().await?;
    let mut clients = fleet.spread(&[Json, Json, Json]).await?;
    let mut publisher = clients.pop().expect("three clients");
    let session = clients[0].session().client.clone();
    clients[0].close().await?;
    clients[1].close().await?;

    // The same session, as a client sees it, goes on wherever it lands.
    for user in ["user-0", "somebody", "somebody else", "yet another"] {
        let mut back = fleet.user(user, Protobuf).await?;
        assert_ne!(back.session().client, session, "ids are of connections");
        back.subscribe("room").await?;
        publisher.publish("room", format!("\"{user}\"")).await?;
        assert_eq!(back.publication("room").await?.data, format!("\"{user}\""));
        back.close().await?;
    }
    Ok(())
}

fn numbered(publisher: &str, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("{{\"from\":\"{publisher}\",\"n\":{number}}}"))
        .collect()
}

async fn publish_all(client: &mut Client, payloads: &[String]) -> Result<()> {
    for payload in payloads {
        client.publish("room", payload.clone()).await?;
    }
    Ok(())
}
