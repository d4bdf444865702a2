//! One client of the protocol.
//!
//! It has no task of its own: it reads, writes and answers pings while its owner waits for
//! [`Client::next`]. It never reconnects: to a load generator every end is news.

mod dial;
mod failure;

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use flotilla_shared::protocol::types::{
    Command, ConnectRequest, PublishRequest, Reply, SubscribeRequest,
};
use flotilla_shared::protocol::{self, Format};
use futures_util::{Sink, Stream};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

pub use dial::{Dialer, Opened};
pub use failure::{Failure, Step};

/// Frames kept for a server that does not read.
const UNSENT_MAX: usize = 4096;

/// One connection.
#[derive(Debug)]
pub struct Client {
    socket: WebSocketStream<TcpStream>,
    format: Format,
    last_id: u32,
    /// The server wants its pings answered; answering otherwise is an offence.
    answers_pings: bool,
    /// Decoded, and not asked for yet.
    received: VecDeque<Reply>,
    unsent: VecDeque<Message>,
}

impl Client {
    fn new(socket: WebSocketStream<TcpStream>, format: Format) -> Self {
        Self {
            socket,
            format,
            last_id: 0,
            answers_pings: false,
            received: VecDeque::new(),
            unsent: VecDeque::new(),
        }
    }

    /// Sends a `publish`, and returns the id that its answer will have. It gets written while the
    /// owner waits for [`Client::next`].
    ///
    /// # Errors
    /// When the payload is not for this encoding, or too much is waiting already.
    pub fn publish(&mut self, channel: &str, data: Bytes) -> Result<u32, Failure> {
        self.send(Command {
            publish: Some(PublishRequest {
                channel: channel.to_owned(),
                data,
                ..PublishRequest::default()
            }),
            ..Command::default()
        })
    }

    /// Waits for the server's next message that is not a ping. Cancel-safe.
    ///
    /// # Errors
    /// When the connection ends, whoever ended it.
    pub async fn next(&mut self) -> Result<Reply, Failure> {
        loop {
            while let Some(reply) = self.received.pop_front() {
                if reply != Reply::default() {
                    return Ok(reply);
                }
                if self.answers_pings {
                    self.queue(Bytes::from_static(self.format.ping()))?;
                }
            }
            let message = std::future::poll_fn(|cx| self.poll(cx)).await?;
            self.take_in(message)?;
        }
    }

    /// Closes the connection. Whether the server answers is its own affair.
    pub async fn close(mut self) {
        // The run is over; an error now changes no result.
        let _ = self.socket.close(None).await;
    }

    async fn connect(&mut self, token: String) -> Result<(), Failure> {
        let connect = ConnectRequest {
            token,
            name: "flotilla-loadtest".to_owned(),
            ..ConnectRequest::default()
        };
        self.send(Command {
            connect: Some(connect),
            ..Command::default()
        })?;
        let reply = self.answer(Step::Connect).await?;
        self.answers_pings = reply.connect.is_some_and(|session| session.pong);
        Ok(())
    }

    async fn subscribe(&mut self, channel: &str) -> Result<(), Failure> {
        let subscribe = SubscribeRequest {
            channel: channel.to_owned(),
            ..SubscribeRequest::default()
        };
        self.send(Command {
            subscribe: Some(subscribe),
            ..Command::default()
        })?;
        self.answer(Step::Subscribe).await?;
        Ok(())
    }

    /// Waits for the answer to the last command. Publications that come first do not matter yet.
    async fn answer(&mut self, step: Step) -> Result<Reply, Failure> {
        loop {
            let reply = self.next().await?;
            if reply.id == self.last_id {
                return match &reply.error {
                    None => Ok(reply),
                    Some(error) => Err(Failure::Refused {
                        step,
                        code: error.code,
                    }),
                };
            }
        }
    }

    fn send(&mut self, command: Command) -> Result<u32, Failure> {
        self.last_id = self.last_id.wrapping_add(1).max(1);
        let command = Command {
            id: self.last_id,
            ..command
        };
        let mut frame = BytesMut::new();
        protocol::append_command(self.format, &command, &mut frame)
            .map_err(|_| Failure::Local("the payload is not JSON"))?;
        self.queue(frame.freeze())?;
        Ok(self.last_id)
    }

    fn queue(&mut self, frame: Bytes) -> Result<(), Failure> {
        if self.unsent.len() >= UNSENT_MAX {
            return Err(Failure::Stuck);
        }
        self.unsent.push_back(if self.format.is_text() {
            let text = Utf8Bytes::try_from(frame).map_err(|_| Failure::Local("not UTF-8"))?;
            Message::Text(text)
        } else {
            Message::Binary(frame)
        });
        Ok(())
    }

    /// Writes what the socket takes, and waits for a message. Writing never keeps from reading.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, Failure>> {
        if let Poll::Ready(Err(failure)) = self.poll_write(cx) {
            // The server may have said why before it went.
            return match Pin::new(&mut self.socket).poll_next(cx) {
                Poll::Ready(Some(Ok(message))) => Poll::Ready(Ok(message)),
                _ => Poll::Ready(Err(failure)),
            };
        }
        match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
            Some(message) => Poll::Ready(Ok(message?)),
            None => Poll::Ready(Err(Failure::Cut)),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let mut socket = Pin::new(&mut self.socket);
        while !self.unsent.is_empty() {
            ready!(socket.as_mut().poll_ready(cx))?;
            if let Some(message) = self.unsent.pop_front() {
                socket.as_mut().start_send(message)?;
            }
        }
        socket.poll_flush(cx).map_err(Failure::from)
    }

    fn take_in(&mut self, message: Message) -> Result<(), Failure> {
        match message {
            Message::Text(text) => self.decode(text.as_bytes()),
            Message::Binary(frame) => self.decode(&frame),
            Message::Close(frame) => Err(frame.into()),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(()),
        }
    }

    fn decode(&mut self, frame: &[u8]) -> Result<(), Failure> {
        for reply in protocol::replies(self.format, frame) {
            self.received
                .push_back(reply.map_err(|_| Failure::Protocol)?);
        }
        Ok(())
    }
}
