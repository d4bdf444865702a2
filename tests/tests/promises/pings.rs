//! Who is not there any more is found out, by asking.

use anyhow::{Context, Result, ensure};
use flotilla_shared::protocol::Format::{Json, Protobuf};
use flotilla_tests::SOON;
use flotilla_tests::eventually::eventually;
use flotilla_tests::fleet::{Builder, Fleet};
use flotilla_tests::raw::{End, Frame, Socket};
use flotilla_tests::token;

fn impatient() -> Builder {
    Fleet::builder()
        .worker("client.ping_interval", "600ms")
        .worker("client.pong_timeout", "300ms")
}

#[tokio::test]
async fn a_client_that_answers_pings_stays() -> Result<()> {
    let fleet = impatient().start().await?;
    for format in [Json, Protobuf] {
        let mut client = fleet.user("ada", format).await?;
        assert!(client.session().pong);
        for _ in 0..4 {
            client.ping().await?;
        }
        client.subscribe("room").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_closed_whatever_else_it_says() -> Result<()> {
    let fleet = impatient().start().await?;
    let address = &fleet.gateways[0].addresses().websocket;
    let mut socket = Socket::websocket(address, &[]).await?;
    let token = token::user("ada")?;
    let connect = format!("{{\"id\":1,\"connect\":{{\"token\":\"{token}\"}}}}");
    socket.send(Frame::new(1, connect).to_bytes()).await?;
    socket.frame().await?.context("the reply")?;
    let (_, ping) = socket.frame().await?.context("a ping")?;
    assert_eq!(ping, b"{}");
    // Not even a ping of the WebSocket, nor a command, is a pong.
    socket.send(Frame::new(9, "").to_bytes()).await?;
    let subscribe = "{\"id\":2,\"subscribe\":{\"channel\":\"room\"}}";
    socket.send(Frame::new(1, subscribe).to_bytes()).await?;
    assert_eq!(socket.end().await?, End::Closed(3012, "no pong".to_owned()));
    Ok(())
}

#[tokio::test]
async fn a_client_that_asks_for_pings_of_the_websocket_stays_without_a_word() -> Result<()> {
    let fleet = impatient().start().await?;
    for format in [Json, Protobuf] {
        let dial = fleet.dial().format(format);
        let dial = dial.query("cf_ws_frame_ping_pong", "true");
        let mut quiet = dial.connect(&token::user("ada")?).await?;
        assert_eq!((quiet.session().ping, quiet.session().pong), (0, false));
        quiet.subscribe("room").await?;
        let before = fleet.workers[0].scrape().await?;
        let pongs = (
            "flotilla_worker_messages_received_total",
            &["type=\"pong\""][..],
        );
        let before = before.sum(pongs.0, pongs.1)?;
        // The client's library answers while it waits for something to read.
        let many = eventually("four pongs", SOON, || async {
            let now = fleet.workers[0].scrape().await?.sum(pongs.0, pongs.1)?;
            ensure!(now >= before + 4.0, "{now} after {before}");
            let mut speaker = fleet.user("bob", Json).await?;
            speaker.subscribe("room").await?;
            speaker.publish("room", "\"still there?\"").await
        });
        let (publication, many) = tokio::join!(quiet.publication("room"), many);
        many?;
        assert_eq!(publication?.data, "\"still there?\"");
    }
    Ok(())
}

#[tokio::test]
async fn a_client_that_never_connects_is_closed_as_stale() -> Result<()> {
    let fleet = Fleet::builder()
        .worker("client.stale_close_delay", "300ms")
        .start()
        .await?;
    for format in [Json, Protobuf] {
        let mut silent = fleet.dial().format(format).open().await?;
        let close = silent.closed().await?;
        assert_eq!((close.code, close.reason.as_str()), (3502, "stale"));
    }
    Ok(())
}
