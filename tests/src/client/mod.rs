//! A small client of the protocol in either encoding, which shows a test everything it received.
//!
//! It has no task of its own: it reads only while a test waits for something, and answers pings
//! then. It never reconnects.

mod dial;

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use flotilla_shared::protocol::types::{
    Command, ConnectRequest, ConnectResult, Error, Publication, PublishRequest, Push, Reply,
    SubscribeRequest, SubscribeResult, UnsubscribeRequest,
};
use flotilla_shared::protocol::{self, Format};
use futures_util::{SinkExt, StreamExt};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

pub use dial::{Dial, Stream};

use crate::SOON;

/// How much later than promised a ping may come.
const PING_DELAY_MAX: Duration = Duration::from_secs(2);

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// The code of the Close frame; 1006 if there was none.
    pub code: u16,
    /// Its reason; what happened instead if there was no such frame.
    pub reason: String,
}

/// One connection.
pub struct Client {
    socket: WebSocketStream<Box<dyn Stream>>,
    format: Format,
    last_id: u32,
    /// What the server told at connect; default before that.
    session: ConnectResult,
    /// Replies and pushes received, and not asked for yet.
    inbox: VecDeque<Reply>,
    pings: usize,
    close: Option<Close>,
}

impl Client {
    fn new(socket: WebSocketStream<Box<dyn Stream>>, format: Format) -> Self {
        Self {
            socket,
            format,
            last_id: 0,
            session: ConnectResult::default(),
            inbox: VecDeque::new(),
            pings: 0,
            close: None,
        }
    }

    /// What the server answered to [`Client::connect`].
    pub fn session(&self) -> &ConnectResult {
        &self.session
    }

    /// The id of the worker that serves this client (fleets of the tests tell it).
    pub fn node(&self) -> &str {
        &self.session.node
    }

    /// Connects with a token; "" for none.
    ///
    /// # Errors
    /// When the answer is an error, or the connection is closed.
    pub async fn connect(&mut self, token: &str) -> Result<()> {
        let connect = ConnectRequest {
            token: token.to_owned(),
            ..Default::default()
        };
        let reply = self
            .call(Command {
                connect: Some(connect),
                ..Default::default()
            })
            .await?;
        self.session = reply
            .connect
            .with_context(|| format!("connect: {:?}", reply.error))?;
        Ok(())
    }

    /// Subscribes to a channel.
    ///
    /// # Errors
    /// When the answer is an error, or the connection is closed.
    pub async fn subscribe(&mut self, channel: &str) -> Result<SubscribeResult> {
        let reply = self.call(subscribe(channel)).await?;
        reply
            .subscribe
            .with_context(|| format!("subscribe to {channel:?}: {:?}", reply.error))
    }

    /// Ends a subscription.
    ///
    /// # Errors
    /// When the answer is an error, or the connection is closed.
    pub async fn unsubscribe(&mut self, channel: &str) -> Result<()> {
        let request = UnsubscribeRequest {
            channel: channel.to_owned(),
        };
        let command = Command {
            unsubscribe: Some(request),
            ..Default::default()
        };
        let reply = self.call(command).await?;
        let answer = reply.unsubscribe.map(|_| ());
        answer.with_context(|| format!("unsubscribe from {channel:?}: {:?}", reply.error))
    }

    /// Publishes to a channel and waits for the answer. JSON namespaces want `data` to be JSON.
    ///
    /// # Errors
    /// When the answer is an error, or the connection is closed.
    pub async fn publish(&mut self, channel: &str, data: impl Into<Bytes>) -> Result<()> {
        let reply = self.call(publish(channel, data)).await?;
        let answer = reply.publish.map(|_| ());
        answer.with_context(|| format!("publish to {channel:?}: {:?}", reply.error))
    }

    /// Sends a command and waits for its reply, be it an error.
    ///
    /// # Errors
    /// When the connection is closed, or no reply comes in time.
    pub async fn call(&mut self, mut command: Command) -> Result<Reply> {
        self.last_id += 1;
        let id = self.last_id;
        command.id = id;
        self.send(&[command]).await?;
        self.reply(id).await
    }

    /// Sends a command and waits for the error that answers it.
    ///
    /// # Errors
    /// When it is answered by anything else.
    pub async fn refusal(&mut self, command: Command) -> Result<Error> {
        let reply = self.call(command).await?;
        let text = format!("not refused: {reply:?}");
        reply.error.context(text)
    }

    /// Sends commands, with the ids they have, in one frame.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn send(&mut self, commands: &[Command]) -> Result<()> {
        let mut frame = BytesMut::new();
        for command in commands {
            protocol::append_command(self.format, command, &mut frame)?;
        }
        let message = if self.format.is_text() {
            Message::Text(frame.freeze().try_into()?)
        } else {
            Message::Binary(frame.freeze())
        };
        self.send_frame(message).await
    }

    /// Sends a WebSocket message as it is.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn send_frame(&mut self, message: Message) -> Result<()> {
        timeout(SOON, self.socket.send(message))
            .await
            .context("sending")??;
        Ok(())
    }

    /// Waits for the reply to the command with this id.
    ///
    /// # Errors
    /// When the connection is closed, or no reply comes in time.
    pub async fn reply(&mut self, id: u32) -> Result<Reply> {
        self.find(&format!("the reply to command {id}"), |client| {
            let mut inbox = client.inbox.iter();
            let at = inbox.position(|reply| reply.push.is_none() && reply.id == id)?;
            client.inbox.remove(at)
        })
        .await
    }

    /// Waits for the next publication in a channel, in the order in which they came.
    ///
    /// # Errors
    /// When the connection is closed, or none comes in time.
    pub async fn publication(&mut self, channel: &str) -> Result<Publication> {
        let push = self
            .push(channel, |push| push.publication.is_some())
            .await?;
        push.publication.context("a publication")
    }

    /// Waits for the next publication in a channel for a short time; none if none comes.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn publication_within(
        &mut self,
        channel: &str,
        time: Duration,
    ) -> Result<Option<Publication>> {
        match timeout(time, self.publication(channel)).await {
            Ok(publication) => publication.map(Some),
            Err(_) => Ok(None),
        }
    }

    /// The next publication in a channel among what was received already.
    pub fn received(&mut self, channel: &str) -> Option<Publication> {
        self.take_push(channel, |push| push.publication.is_some())?
            .publication
    }

    /// The payloads, as text, of the next `count` publications in a channel.
    ///
    /// # Errors
    /// As for [`Client::publication`].
    pub async fn texts(&mut self, channel: &str, count: usize) -> Result<Vec<String>> {
        let mut texts = Vec::with_capacity(count);
        while texts.len() < count {
            let publication = self.publication(channel).await;
            let publication = publication
                .with_context(|| format!("publication {} of {count}", texts.len() + 1))?;
            texts.push(String::from_utf8(publication.data.to_vec())?);
        }
        Ok(texts)
    }

    /// Waits for the next push in a channel for which `wanted` is true; the others stay.
    ///
    /// # Errors
    /// When the connection is closed, or none comes in time.
    pub async fn push(&mut self, channel: &str, wanted: impl Fn(&Push) -> bool) -> Result<Push> {
        self.find(&format!("a push in {channel:?}"), |client| {
            client.take_push(channel, &wanted)
        })
        .await
    }

    /// Waits for whatever comes next, a reply or a push, in the order in which they came; the inner error is the end of
    /// the connection. A server that does not ping as it has promised is gone, as it is to the SDKs.
    ///
    /// # Errors
    /// When what comes is not of the protocol.
    pub async fn next(&mut self) -> Result<Result<Reply, Close>> {
        loop {
            if let Some(reply) = self.inbox.pop_front() {
                return Ok(Ok(reply));
            }
            if let Some(close) = &self.close {
                return Ok(Err(close.clone()));
            }
            match self.patience() {
                None => self.read().await?,
                Some(patience) => match timeout(patience, self.read()).await {
                    Ok(read) => read?,
                    Err(_) => self.dropped(format!("not even a ping within {patience:?}"))?,
                },
            }
        }
    }

    /// How long the server may be silent, if it said that it would ping.
    fn patience(&self) -> Option<Duration> {
        let every = Duration::from_secs(self.session.ping.into());
        (!every.is_zero()).then_some(every + PING_DELAY_MAX)
    }

    fn take_push(&mut self, channel: &str, wanted: impl Fn(&Push) -> bool) -> Option<Push> {
        let is_wanted = |push: &Push| push.channel == channel && wanted(push);
        let mut inbox = self.inbox.iter();
        let at = inbox.position(|reply| reply.push.as_ref().is_some_and(is_wanted))?;
        self.inbox.remove(at)?.push
    }

    /// Waits for the next ping of the server. It is answered.
    ///
    /// # Errors
    /// When the connection is closed, or none comes in time.
    pub async fn ping(&mut self) -> Result<()> {
        let before = self.pings;
        self.find("a ping", |client| (client.pings > before).then_some(()))
            .await
    }

    /// Waits for the end of the connection, keeping what comes before it.
    ///
    /// # Errors
    /// When it is still open at the deadline.
    pub async fn closed(&mut self) -> Result<Close> {
        let wait = async {
            while self.close.is_none() {
                self.read().await?;
            }
            anyhow::Ok(())
        };
        timeout(SOON, wait)
            .await
            .context("the connection is still open")??;
        self.close.clone().context("the end")
    }

    /// Closes the connection from this side and waits for the end.
    ///
    /// # Errors
    /// When the server does not close in time.
    pub async fn close(&mut self) -> Result<Close> {
        timeout(SOON, self.socket.close(None))
            .await
            .context("closing")??;
        self.closed().await
    }

    /// Reads until `look` finds what a test waits for.
    async fn find<T>(
        &mut self,
        what: &str,
        mut look: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<T> {
        let wait = async {
            loop {
                if let Some(found) = look(self) {
                    return Ok(found);
                }
                if let Some(close) = &self.close {
                    bail!(
                        "closed instead of {what}: {} {:?}",
                        close.code,
                        close.reason
                    );
                }
                self.read().await?;
            }
        };
        timeout(SOON, wait)
            .await
            .with_context(|| format!("{what} did not come"))?
    }

    /// Takes in one message of the WebSocket.
    async fn read(&mut self) -> Result<()> {
        match self.socket.next().await {
            Some(Ok(Message::Text(text))) => {
                ensure!(
                    self.format.is_text(),
                    "a text frame to a Protobuf client: {text}"
                );
                self.take_in(text.as_bytes()).await
            }
            Some(Ok(Message::Binary(data))) => {
                ensure!(
                    !self.format.is_text(),
                    "a binary frame to a JSON client: {data:?}"
                );
                self.take_in(&data).await
            }
            Some(Ok(Message::Close(Some(close)))) => {
                let (code, reason) = (close.code.into(), close.reason.to_string());
                self.close.get_or_insert(Close { code, reason });
                Ok(())
            }
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => self.dropped(error.to_string()),
            None => self.dropped("the connection ended without a Close".to_owned()),
        }
    }

    fn dropped(&mut self, reason: String) -> Result<()> {
        self.close.get_or_insert(Close { code: 1006, reason });
        Ok(())
    }

    async fn take_in(&mut self, frame: &[u8]) -> Result<()> {
        let replies: Vec<Reply> =
            protocol::replies(self.format, frame).collect::<Result<_, _>>()?;
        let before = self.pings;
        for reply in replies {
            if reply == Reply::default() {
                self.pings += 1;
            } else {
                self.inbox.push_back(reply);
            }
        }
        if self.pings > before {
            // Where it cannot be answered any more, the connection ends, and reading tells how.
            let _ = self.send(&[Command::default()]).await;
        }
        Ok(())
    }
}

/// A command, without an id yet, to subscribe to a channel.
pub fn subscribe(channel: &str) -> Command {
    let request = SubscribeRequest {
        channel: channel.to_owned(),
        ..Default::default()
    };
    Command {
        subscribe: Some(request),
        ..Default::default()
    }
}

/// A command, without an id yet, to publish to a channel.
pub fn publish(channel: &str, data: impl Into<Bytes>) -> Command {
    let (channel, data) = (channel.to_owned(), data.into());
    let request = PublishRequest {
        channel,
        data,
        ..Default::default()
    };
    Command {
        publish: Some(request),
        ..Default::default()
    }
}
