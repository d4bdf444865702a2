//! A small client that has no WebSocket: it listens to a stream, and posts its commands.
//!
//! Like [`crate::client::Client`] it has no task of its own and never reconnects; it answers pings while a test waits
//! for something.

use std::collections::VecDeque;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, BytesMut};
use flotilla_shared::protocol::types::{
    Command, ConnectRequest, ConnectResult, Disconnect, EmulationRequest, Publication, Reply,
};
use flotilla_shared::protocol::{self, Format};
use prost::Message as _;
use reqwest::StatusCode;
use tokio::time::timeout;

use crate::SOON;

/// The stream of such a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Server-sent events, asked for as a browser does.
    Sse,
    /// An answer that goes on.
    HttpStream(Format),
}

/// One client.
#[derive(Debug)]
pub struct Emulated {
    http: reqwest::Client,
    posts_to: String,
    format: Format,
    stream: reqwest::Response,
    read: BytesMut,
    session: ConnectResult,
    last_id: u32,
    waiting: VecDeque<Reply>,
}

impl Emulated {
    /// Opens a stream at `base` (`http://host:port`) and connects with a token; "" for none.
    ///
    /// # Errors
    /// When there is no stream, or the connect command is answered with an error.
    pub async fn connect(base: &str, kind: Kind, token: &str) -> Result<Self> {
        let http = reqwest::Client::new();
        let connect = Command {
            id: 1,
            connect: Some(ConnectRequest {
                token: token.to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let (format, request) = match kind {
            Kind::Sse => {
                let commands = frame(Format::Json, &[connect])?;
                let url = format!("{base}/connection/sse");
                let url = reqwest::Url::parse_with_params(
                    &url,
                    [("cf_connect", std::str::from_utf8(&commands)?)],
                )?;
                (Format::Json, http.get(url))
            }
            Kind::HttpStream(format) => {
                let request = http
                    .post(format!("{base}/connection/http_stream"))
                    .header("Content-Type", format.content_type())
                    .body(frame(format, &[connect])?.freeze());
                (format, request)
            }
        };
        let stream = timeout(SOON, request.send()).await??;
        ensure!(stream.status() == StatusCode::OK, "no stream: {stream:?}");
        let mut client = Self {
            http,
            posts_to: base.to_owned(),
            format,
            stream,
            read: BytesMut::new(),
            session: ConnectResult::default(),
            last_id: 1,
            waiting: VecDeque::new(),
        };
        let reply = client.reply(1).await?;
        let text = format!("connect: {:?}", reply.error);
        client.session = reply.connect.context(text)?;
        Ok(client)
    }

    /// Posts commands somewhere else from now on.
    #[must_use]
    pub fn posting_to(mut self, base: &str) -> Self {
        base.clone_into(&mut self.posts_to);
        self
    }

    /// What the server answered to the connect command.
    pub fn session(&self) -> &ConnectResult {
        &self.session
    }

    /// Posts commands, with the ids they have, and returns how the post was answered.
    ///
    /// # Errors
    /// When it was not answered.
    pub async fn post(&self, commands: &[Command]) -> Result<StatusCode> {
        let request = EmulationRequest {
            node: self.session.node.clone(),
            session: self.session.session.clone(),
            data: frame(self.format, commands)?.freeze(),
        };
        let body = match self.format {
            Format::Json => serde_json::to_vec(&request)?,
            Format::Protobuf => request.encode_to_vec(),
        };
        let post = self
            .http
            .post(format!("{}/emulation", self.posts_to))
            .header("Content-Type", self.format.content_type())
            .body(body);
        Ok(timeout(SOON, post.send()).await??.status())
    }

    /// Posts a command and waits for its reply, be it an error.
    ///
    /// # Errors
    /// When the post is refused, or no reply comes in time.
    pub async fn call(&mut self, mut command: Command) -> Result<Reply> {
        self.last_id += 1;
        let id = self.last_id;
        command.id = id;
        let status = self.post(&[command]).await?;
        ensure!(status == StatusCode::NO_CONTENT, "the post: {status}");
        self.reply(id).await
    }

    /// Waits for the reply to the command with this id.
    ///
    /// # Errors
    /// When the stream ends, or no reply comes in time.
    pub async fn reply(&mut self, id: u32) -> Result<Reply> {
        self.find(|reply| reply.id == id).await
    }

    /// Waits for the next publication in a channel.
    ///
    /// # Errors
    /// When the stream ends, or none comes in time.
    pub async fn publication(&mut self, channel: &str) -> Result<Publication> {
        let is_wanted = |reply: &Reply| {
            let push = reply.push.as_ref();
            push.is_some_and(|push| push.channel == channel && push.publication.is_some())
        };
        let push = self.find(is_wanted).await?.push;
        push.and_then(|push| push.publication)
            .context("a publication")
    }

    /// Waits for the server's last word, and for the end of the stream behind it.
    ///
    /// # Errors
    /// When either does not come in time, or something else comes behind the last word.
    pub async fn disconnected(&mut self) -> Result<Disconnect> {
        let is_last = |reply: &Reply| {
            let push = reply.push.as_ref();
            push.is_some_and(|push| push.disconnect.is_some())
        };
        let push = self.find(is_last).await?.push;
        match self.next().await? {
            None => push
                .and_then(|push| push.disconnect)
                .context("a disconnect"),
            Some(more) => bail!("behind the last word: {more:?}"),
        }
    }

    /// Waits for the next ping of the server, which is not answered; what comes before it stays.
    ///
    /// # Errors
    /// When the stream ends, or none comes in time.
    pub async fn ping(&mut self) -> Result<()> {
        loop {
            match self.next().await?.context("the stream ended")? {
                ping if ping == Reply::default() => return Ok(()),
                other => self.waiting.push_back(other),
            }
        }
    }

    async fn find(&mut self, is_wanted: impl Fn(&Reply) -> bool) -> Result<Reply> {
        loop {
            if let Some(at) = self.waiting.iter().position(&is_wanted) {
                return self.waiting.remove(at).context("it is there");
            }
            let next = self.next().await?;
            let next = next.with_context(|| format!("the stream ended: {:?}", self.waiting))?;
            if next == Reply::default() {
                self.post(&[Command::default()]).await?;
            } else {
                self.waiting.push_back(next);
            }
        }
    }

    /// The next message of the stream, in the order in which they came; none if it has ended.
    async fn next(&mut self) -> Result<Option<Reply>> {
        loop {
            if let Some(reply) = self.parse()? {
                return Ok(Some(reply));
            }
            let chunk = timeout(SOON, self.stream.chunk()).await;
            match chunk.context("nothing more came, and no end")?? {
                Some(chunk) => self.read.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }

    /// A whole message at the start of what was read, if there is one.
    fn parse(&mut self) -> Result<Option<Reply>> {
        if self.format == Format::Protobuf {
            let mut rest = &self.read[..];
            let Ok(length) = prost::decode_length_delimiter(&mut rest) else {
                return Ok(None);
            };
            let Some(message) = rest.get(..length) else {
                return Ok(None);
            };
            let reply = Reply::decode(message)?;
            let used = self.read.len() - rest.len() + length;
            self.read.advance(used);
            return Ok(Some(reply));
        }
        while let Some(at) = self.read.iter().position(|byte| *byte == b'\n') {
            let line = self.read.split_to(at + 1);
            let line = line.trim_ascii();
            let line = line.strip_prefix(b"data: ").unwrap_or(line);
            if !line.is_empty() {
                return Ok(Some(serde_json::from_slice(line)?));
            }
        }
        Ok(None)
    }
}

fn frame(format: Format, commands: &[Command]) -> Result<BytesMut> {
    let mut frame = BytesMut::new();
    for command in commands {
        protocol::append_command(format, command, &mut frame)?;
    }
    Ok(frame)
}
