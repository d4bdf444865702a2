//! Sends back what a client sends: the way to try the worker's WebSockets with a conformance suite, which knows nothing
//! of the protocol that they carry.
//!
//! Owns: the life of a socket that echoes. The reader, the outbox, their limits and the way to end are those of every
//! client, so that what holds here holds there. There is no session: nobody is asked for a token, and nothing is timed.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use flotilla_shared::websocket::{Opcode, append_frame, close_frame};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::capacity::Permit;
use crate::closing::{Ending, close};
use crate::outbox::{Fate, Outbox, Pushed};
use crate::reader::Reader;

/// Echoes until the connection ends, then ends it. `rest` was read behind the upgrade's head. The place that `_permit`
/// stands for is taken until then.
pub(crate) async fn echo(outbox: Outbox, rest: Vec<u8>, message_max_bytes: usize, _permit: Permit) {
    let outbox = Rc::new(outbox);
    let mut reader = Reader::new(outbox.clone(), rest, message_max_bytes).await;
    let ending = read(&outbox, &mut reader).await;
    reader.flush().await;
    drop(reader);
    close(&outbox, &ending, close_frame).await;
}

async fn read(outbox: &Outbox, reader: &mut Reader<Outbox>) -> Ending {
    loop {
        let pending = outbox.queued_bytes() > 0;
        tokio::select! {
            message = reader.next() => {
                if let Some(ending) = answer(outbox, message) {
                    return ending;
                }
            }
            writable = outbox.writable(), if pending => {
                if writable.is_err() || outbox.flush().is_err() {
                    return Ending::Gone;
                }
            }
        }
    }
}

fn answer(outbox: &Outbox, message: Option<Result<Message, Error>>) -> Option<Ending> {
    let (opcode, payload) = match message {
        Some(Ok(Message::Text(text))) => (Opcode::Text, Bytes::from(text)),
        Some(Ok(Message::Binary(payload))) => (Opcode::Binary, payload),
        Some(Ok(Message::Close(frame))) => {
            return Some(Ending::ByClient(frame.map(|frame| u16::from(frame.code))));
        }
        // The library has answered a Ping.
        Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => return None,
        Some(Err(error)) => return Some(Ending::of(&error, outbox.fate())),
        None => return Some(Ending::Gone),
    };
    let mut frame = BytesMut::new();
    append_frame(opcode, &payload, &mut frame);
    match outbox.push(&frame.freeze()) {
        Pushed::Written | Pushed::Queued => None,
        Pushed::Refused if outbox.fate() == Fate::Overflowed => Some(Ending::Slow),
        Pushed::Refused => Some(Ending::Gone),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{SinkExt as _, StreamExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;
    use crate::capacity::Capacity;

    const LIMIT: usize = 100;

    #[tokio::test]
    async fn messages_come_back_as_they_are_up_to_the_limit_and_the_place_is_free_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let capacity = Capacity::new(1);
        let outbox = Outbox::new(socket, 1000);
        let served = echo(outbox, Vec::new(), LIMIT, capacity.take().unwrap());
        let talk = async {
            let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
            let bytes = Bytes::from(vec![0xff; LIMIT]);
            for message in [Message::text("hello"), Message::Binary(bytes)] {
                client.send(message.clone()).await.unwrap();
                assert_eq!(client.next().await.unwrap().unwrap(), message);
            }
            let long = "x".repeat(LIMIT + 1);
            client.send(Message::text(long)).await.unwrap();
            let Message::Close(Some(close)) = client.next().await.unwrap().unwrap() else {
                panic!("no close");
            };
            assert_eq!(u16::from(close.code), 1009);
        };
        tokio::join!(served, talk);
        assert_eq!(capacity.used(), 0);
    }
}
