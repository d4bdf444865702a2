//! A large message is a message like any other: whatever stands before, behind or inside it on the wire arrives.

use anyhow::{Context, Result};
use flotilla_tests::fleet::Fleet;
use flotilla_tests::raw::{Frame, Socket};
use flotilla_tests::token;

const TEXT: u8 = 1;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Far more than the worker reads at a time, and less than it takes.
const LARGE: usize = 20_000;

fn publish(id: usize, length: usize) -> Frame {
    let data = "x".repeat(length);
    let command =
        format!("{{\"id\":{id},\"publish\":{{\"channel\":\"room\",\"data\":\"{data}\"}}}}");
    Frame::new(TEXT, command)
}

/// The same message in two frames, with a ping between them.
fn in_pieces(frame: &Frame) -> Vec<u8> {
    let (first, rest) = frame.payload.split_at(frame.payload.len() / 2);
    let mut head = Frame::new(TEXT, first);
    head.fin = false;
    let parts = [head, Frame::new(PING, "between"), Frame::new(0, rest)];
    parts.iter().flat_map(Frame::to_bytes).collect()
}

/// Reads until the reply with this id, counting the pongs on the way.
async fn reply(socket: &mut Socket, id: usize, pongs: &mut usize) -> Result<()> {
    let wanted = format!("{{\"id\":{id},\"publish\":{{}}}}");
    loop {
        let (opcode, payload) = socket.frame().await?.context("the connection ended")?;
        match opcode {
            PONG => *pongs += 1,
            _ if payload == wanted.as_bytes() => return Ok(()),
            // Its own publications come back in between.
            _ => assert!(
                payload.starts_with(b"{\"push\":"),
                "{:?}",
                payload.escape_ascii()
            ),
        }
    }
}

#[tokio::test]
async fn large_and_small_messages_are_answered_in_order_however_they_are_cut() -> Result<()> {
    let fleet = Fleet::builder().start().await?;
    let address = &fleet.workers[0].addresses().websocket;
    let mut socket = Socket::websocket(address, &[]).await?;
    let connect = format!(
        "{{\"id\":1,\"connect\":{{\"token\":\"{}\"}}}}\n{{\"id\":2,\"subscribe\":{{\"channel\":\"room\"}}}}",
        token::user("ada")?
    );
    socket.send(Frame::new(TEXT, connect).to_bytes()).await?;
    for start in ["{\"id\":1,\"connect\":", "{\"id\":2,\"subscribe\":"] {
        let (_, payload) = socket.frame().await?.context("a reply")?;
        assert!(
            payload.starts_with(start.as_bytes()),
            "{:?}",
            payload.escape_ascii()
        );
    }
    let mut pongs = 0;
    for round in 1..=3 {
        let id = |at: usize| 100 * round + at;
        // All at once.
        let together = [
            publish(id(1), LARGE).to_bytes(),
            publish(id(2), 10).to_bytes(),
            in_pieces(&publish(id(3), LARGE)),
            publish(id(4), LARGE).to_bytes(),
            Frame::new(PING, "behind").to_bytes(),
            publish(id(5), 10).to_bytes(),
        ];
        socket.send(together.concat()).await?;
        for at in 1..=5 {
            reply(&mut socket, id(at), &mut pongs).await?;
        }
        // One by one, each alone on the wire and cut in the middle of its header.
        for at in 6..=8 {
            let bytes = publish(id(at), LARGE).to_bytes();
            let (head, rest) = bytes.split_at(5);
            socket.send(head).await?;
            socket.send(rest).await?;
            reply(&mut socket, id(at), &mut pongs).await?;
        }
    }
    assert_eq!(pongs, 6);
    Ok(())
}
