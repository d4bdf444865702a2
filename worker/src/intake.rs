//! Where what a client says comes from: its own socket, requests of their own beside it, or a link.
//!
//! Owns: the one way of listening that a transport has. What is said is the connection's business.

use std::future::pending;
use std::io;
use std::rc::Rc;

use bytes::Bytes;
use flotilla_shared::protocol::codes::DisconnectCode;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::closing::Ending;
use crate::connection::Connection;
use crate::emulation::Posts;
use crate::introduction::introduction;
use crate::link::{Said, Word};
use crate::outbox::Outbox;
use crate::reader::Reader;

/// What a connection begins with.
#[derive(Debug)]
pub(crate) enum Source {
    /// A WebSocket, and what was read of it behind the upgrade's head.
    WebSocket(Vec<u8>),
    /// The same for a client that only listens, and says who it is in its first message, unless it has said so before.
    UniWebSocket {
        /// What it said before.
        first: Option<Bytes>,
        /// As above.
        rest: Vec<u8>,
    },
    /// A request whose answer goes on.
    Stream {
        /// The commands that came with it.
        first: Bytes,
        /// Those that come later; `None`, if the client only listens.
        posts: Option<Posts>,
    },
    /// The connection's seat on a link.
    Link,
}

/// Something that a client said.
#[derive(Debug)]
pub(crate) enum Input {
    /// A WebSocket's next message; the library's end of it.
    Message(Option<Result<Message, Error>>),
    /// A frame of commands.
    Commands(Bytes),
    /// A message of a client on a link.
    Numbered(Said, Bytes),
    /// Nothing more, and why.
    End(Ending),
    /// The session is to be handed over, with nothing left to be done.
    HandOver,
}

impl Input {
    /// How long it is, if it is something that was said.
    pub(crate) fn bytes(&self) -> Option<usize> {
        match self {
            Self::Message(Some(Ok(message))) => Some(message.len()),
            Self::Commands(commands) | Self::Numbered(_, commands) => Some(commands.len()),
            Self::Message(_) | Self::End(_) | Self::HandOver => None,
        }
    }
}

/// See the module's documentation.
pub(crate) enum Intake {
    WebSocket(Box<Reader<Connection>>),
    UniWebSocket(Box<UniWebSocket>),
    Stream(Box<Stream>),
    Link(Rc<Connection>),
}

/// See [`Source::UniWebSocket`].
pub(crate) struct UniWebSocket {
    reader: Reader<Connection>,
    first: Option<Bytes>,
    /// It has said who it is, and has nothing more to say.
    is_introduced: bool,
}

/// See [`Source::Stream`].
pub(crate) struct Stream {
    connection: Rc<Connection>,
    first: Option<Bytes>,
    posts: Option<Posts>,
}

impl Intake {
    /// Listens to `connection`.
    pub(crate) async fn new(
        connection: Rc<Connection>,
        source: Source,
        message_max_bytes: usize,
    ) -> Self {
        match source {
            Source::WebSocket(rest) => {
                let reader = Reader::new(connection, rest, message_max_bytes).await;
                Self::WebSocket(Box::new(reader))
            }
            Source::UniWebSocket { first, rest } => Self::UniWebSocket(Box::new(UniWebSocket {
                reader: Reader::new(connection, rest, message_max_bytes).await,
                is_introduced: first.is_some(),
                first,
            })),
            Source::Stream { first, posts } => Self::Stream(Box::new(Stream {
                connection,
                first: Some(first),
                posts,
            })),
            Source::Link => Self::Link(connection),
        }
    }

    /// Cancel-safe.
    pub(crate) async fn next(&mut self) -> Input {
        match self {
            Self::WebSocket(reader) => Input::Message(reader.next().await),
            // Boxed, so that the task of an idle WebSocket has no room for them.
            Self::UniWebSocket(socket) => Box::pin(socket.next()).await,
            Self::Stream(stream) => Box::pin(stream.next()).await,
            Self::Link(connection) => Box::pin(next_word(connection)).await,
        }
    }

    /// Writes what the transport itself has still to say.
    pub(crate) async fn flush(&mut self) {
        match self {
            Self::WebSocket(reader) => reader.flush().await,
            Self::UniWebSocket(socket) => socket.reader.flush().await,
            Self::Stream(_) | Self::Link(_) => {}
        }
    }
}

impl UniWebSocket {
    async fn next(&mut self) -> Input {
        if let Some(first) = self.first.take() {
            return Input::Commands(first);
        }
        let message = self.reader.next().await;
        let words = match &message {
            Some(Ok(Message::Text(text))) => text.as_bytes(),
            Some(Ok(Message::Binary(bytes))) => bytes,
            _ => return Input::Message(message),
        };
        let is_late = std::mem::replace(&mut self.is_introduced, true);
        match introduction(words).filter(|_| !is_late) {
            Some(command) => Input::Commands(command),
            None => Input::End(Ending::Disconnect(DisconnectCode::BadRequest)),
        }
    }
}

impl Stream {
    async fn next(&mut self) -> Input {
        if let Some(first) = self.first.take() {
            return Input::Commands(first);
        }
        let posts = &mut self.posts;
        let commands = async {
            match posts {
                Some(posts) => posts.next().await,
                None => pending().await,
            }
        };
        tokio::select! {
            commands = commands => Input::Commands(commands),
            ending = ending_of(self.connection.outbox()) => Input::End(ending),
        }
    }
}

/// What is next for a session on a link.
async fn next_word(connection: &Connection) -> Input {
    let Some(seat) = connection.outbox().seat() else {
        return Input::End(Ending::Gone);
    };
    match seat.next().await {
        Word::Message(said, payload) => Input::Numbered(said, payload),
        Word::HandOver => Input::HandOver,
        Word::End(ending) => Input::End(ending),
    }
}

/// How the client ends its connection, on which it has said everything.
async fn ending_of(outbox: &Outbox) -> Ending {
    let Some(socket) = outbox.socket() else {
        return Ending::Gone;
    };
    while socket.readable().await.is_ok() {
        match socket.try_read(&mut [0]) {
            // Whoever ends its side of a stream does not read it any more.
            Ok(0) => return Ending::Gone,
            // A second request, before the first one is answered.
            Ok(_) => return Ending::Violation,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    Ending::Gone
}
