//! The opening of a gateway's link.

use std::io;

use flotilla_shared::auth::passport::PASSPORT_HEADER;
use flotilla_shared::http::RequestHead;
use flotilla_shared::link::{ForWorker, Hello, Messages, PROTOCOL, ToWorker};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::answer::Answer;
use super::{Request, admit};
use crate::link::Arrival;
use crate::metrics::Rejected;
use crate::shard::Shard;

/// A link that may be opened.
pub(super) struct Opening {
    /// What was read behind the head.
    rest: Vec<u8>,
}

impl Opening {
    /// Every check before the 101: only gateways have links, and who is one is shown by a passport.
    pub(super) fn new(request: Request, shard: &Shard) -> Result<Self, Answer> {
        let admission = shard.admission();
        if admission.passport_keys.is_none() || admission.echoes {
            return Err(Answer::not_found());
        }
        let head = &request.head;
        is_upgrade(head)?;
        if head.header(PASSPORT_HEADER).is_none() {
            let message = "links are for gateways";
            return Err(Answer::new(Rejected::Passport, 403, message));
        }
        admit::visitor(head, shard)?;
        admit::is_open(shard)?;
        Ok(Self { rest: request.rest })
    }

    /// Answers, reads the gateway's Hello, and hands the link to the shard that it names.
    pub(super) async fn hand_over(self, socket: TcpStream, shard: &Shard) {
        let opened = timeout(shard.limits().head_timeout, self.read_hello(socket, shard));
        let problem = match opened.await {
            Ok(Ok(arrival)) => return shard.fleet().hand_over(arrival).await,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the gateway does not say Hello".to_owned(),
        };
        tracing::warn!(problem, "a link could not be opened");
    }

    async fn read_hello(self, mut socket: TcpStream, shard: &Shard) -> io::Result<Arrival> {
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {PROTOCOL}\r\n\r\n"
        );
        socket.write_all(answer.as_bytes()).await?;
        let mut messages = Messages::default();
        messages.buffer().extend_from_slice(&self.rest);
        let hello = loop {
            match messages.next::<ToWorker>().map_err(io::Error::other)? {
                Some(message) => break hello(message)?,
                None => {
                    if socket.read_buf(messages.buffer()).await? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
            }
        };
        Arrival::new(socket, messages, hello, shard.fleet().shards())
    }
}

fn hello(message: ToWorker) -> io::Result<Hello> {
    match message.body {
        Some(ForWorker::Hello(hello)) => Ok(hello),
        _ => Err(io::Error::other("the first message is not a Hello")),
    }
}

fn is_upgrade(head: &RequestHead) -> Result<(), Answer> {
    let names_upgrade = |option: &str| option.eq_ignore_ascii_case("upgrade");
    let is_ours = head.once("Upgrade")?.is_some_and(|name| name == PROTOCOL);
    let has_body = head
        .once("Content-Length")?
        .is_some_and(|length| length != "0")
        || head.header("Transfer-Encoding").is_some();
    if head.method != "GET" {
        return Err(Answer::method_not_allowed("GET"));
    }
    if has_body || !is_ours || !head.list("Connection").any(names_upgrade) {
        return Err(Answer::bad_request("links are opened by an upgrade"));
    }
    Ok(())
}
