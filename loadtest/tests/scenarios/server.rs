//! A server of the protocol that does just enough, and what it is told wrongly.

use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use flotilla_shared::protocol::types::{
    Command, ConnectResult, Error, Publication, PublishResult, Push, Reply, SubscribeResult,
};
use flotilla_shared::protocol::{self, Format};
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

/// What the server does to some of those who come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// Every second connection is closed with this code instead of an answer to `connect`.
    pub(crate) close_half: Option<u16>,
    /// Every `subscribe` is answered with this error.
    pub(crate) refuse_subscribe: Option<u32>,
    /// A connection is closed with 3001 after its first `publish`.
    pub(crate) close_after_publish: bool,
    /// Every second publication vanishes.
    pub(crate) lose_half: bool,
    /// Every publication is sent this many times more.
    pub(crate) repeat: usize,
}

/// A running server; it ends when dropped.
pub(crate) struct Server {
    pub(crate) url: String,
    /// Pings that were answered.
    pub(crate) pongs: watch::Sender<u64>,
    _tasks: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start(faults: Faults) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("ws://{}/connection/websocket", listener.local_addr()?);
        let pongs = watch::Sender::new(0);
        let mut tasks = JoinSet::new();
        let counter = pongs.clone();
        tasks.spawn(async move {
            let mut sessions = JoinSet::new();
            for number in 0.. {
                let Ok((stream, _)) = listener.accept().await else {
                    return;
                };
                let session = Session {
                    faults,
                    number,
                    published: 0,
                    pongs: counter.clone(),
                };
                sessions.spawn(async move {
                    // The tests look at what the clients say.
                    let _ = session.run(stream).await;
                });
            }
        });
        Ok(Self {
            url,
            pongs,
            _tasks: tasks,
        })
    }
}

struct Session {
    faults: Faults,
    number: u64,
    published: u64,
    pongs: watch::Sender<u64>,
}

impl Session {
    async fn run(mut self, stream: TcpStream) -> Result<()> {
        let mut format = Format::Json;
        #[expect(clippy::result_large_err, reason = "the type is the library's")]
        let choose = |request: &Request, mut response: Response| {
            if request.headers().contains_key(SEC_WEBSOCKET_PROTOCOL) {
                format = Format::Protobuf;
                let name = HeaderValue::from_static(format.subprotocol());
                response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, name);
            }
            Ok(response)
        };
        let mut socket = tokio_tungstenite::accept_hdr_async(stream, choose).await?;
        while let Some(message) = socket.next().await {
            let message = message?;
            if message.is_close() {
                continue;
            }
            for command in protocol::commands(format, &message.into_data()) {
                let (replies, close) = self.answer(command?);
                for reply in replies {
                    send(&mut socket, format, &reply).await?;
                }
                if let Some(code) = close {
                    let frame = CloseFrame {
                        code: code.into(),
                        reason: "a test".into(),
                    };
                    socket.close(Some(frame)).await?;
                }
            }
        }
        Ok(())
    }

    fn answer(&mut self, command: Command) -> (Vec<Reply>, Option<u16>) {
        if command.is_pong() {
            self.pongs.send_modify(|pongs| *pongs += 1);
            return (Vec::new(), None);
        }
        let reply = Reply {
            id: command.id,
            ..Reply::default()
        };
        if command.connect.is_some() {
            let close = self.faults.close_half.filter(|_| self.number % 2 == 1);
            let session = ConnectResult {
                client: self.number.to_string(),
                ping: 25,
                pong: true,
                ..ConnectResult::default()
            };
            let reply = Reply {
                connect: Some(session),
                ..reply
            };
            // A ping at once: nobody waits 25 seconds in a test.
            let replies = vec![reply, Reply::default()];
            return (if close.is_none() { replies } else { Vec::new() }, close);
        }
        if let Some(publish) = command.publish {
            let reply = Reply {
                publish: Some(PublishResult::default()),
                ..reply
            };
            let mut replies = self.published(&publish.channel, publish.data);
            replies.push(reply);
            return (replies, self.faults.close_after_publish.then_some(3001));
        }
        let error = self.faults.refuse_subscribe.map(|code| Error {
            code,
            message: "a test".to_owned(),
            temporary: false,
        });
        let reply = Reply {
            subscribe: error.is_none().then(SubscribeResult::default),
            error,
            ..reply
        };
        (vec![reply], None)
    }

    fn published(&mut self, channel: &str, data: Bytes) -> Vec<Reply> {
        self.published += 1;
        if self.faults.lose_half && self.published.is_multiple_of(2) {
            return Vec::new();
        }
        let publication = Publication {
            data,
            ..Publication::default()
        };
        let push = Reply::push(Push::publication(channel, publication));
        vec![push; 1 + self.faults.repeat]
    }
}

async fn send(
    socket: &mut WebSocketStream<TcpStream>,
    format: Format,
    reply: &Reply,
) -> Result<()> {
    let mut frame = BytesMut::new();
    if *reply == Reply::default() {
        frame.extend_from_slice(format.ping());
    } else {
        protocol::append_reply(format, reply, &mut frame)?;
    }
    let message = match format {
        Format::Json => Message::Text(frame.freeze().try_into().context("JSON is UTF-8")?),
        Format::Protobuf => Message::Binary(frame.freeze()),
    };
    Ok(socket.send(message).await?)
}
