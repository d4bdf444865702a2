//! How a link begins: an HTTP upgrade on the worker's client listener, then who we are and who it is.

use bytes::BytesMut;
use flotilla_shared::auth::Passport;
use flotilla_shared::auth::passport::PASSPORT_HEADER;
use flotilla_shared::clock::unix_seconds;
use flotilla_shared::link::{
    ForGateway, ForWorker, Hello, Messages, PATH, PROTOCOL, ToGateway, ToWorker, VERSIONS, Welcome,
    append,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::thread::Thread;
use crate::route::Worker;
use crate::upstream::{AnswerHead, FailureKind, connect};

/// A link whose worker has said who it is.
pub(super) struct Dialed {
    pub(super) socket: TcpStream,
    pub(super) welcome: Welcome,
    /// What came behind the welcome.
    pub(super) messages: Messages,
}

/// Opens a link to a shard of this worker.
pub(super) async fn dial(
    thread: &Thread,
    worker: &Worker,
    shard: u32,
) -> Result<Dialed, FailureKind> {
    let limits = thread.upstream_limits();
    let address = worker.address().ok_or(FailureKind::Unreachable)?;
    let socket = connect(address, limits).await?;
    match timeout(limits.handshake_timeout, introduce(thread, socket, shard)).await {
        Ok(result) => result,
        Err(_) => Err(FailureKind::AnswerTimeout),
    }
}

async fn introduce(
    thread: &Thread,
    mut socket: TcpStream,
    shard: u32,
) -> Result<Dialed, FailureKind> {
    let keys = thread.passport_keys().ok_or(FailureKind::Rejected)?;
    let passport = keys
        .sign(&Passport::default(), unix_seconds())
        .map_err(|_| FailureKind::Rejected)?;
    let request = format!(
        "GET {PATH} HTTP/1.1\r\nHost: worker\r\nConnection: Upgrade\r\nUpgrade: {PROTOCOL}\r\n\
         {PASSPORT_HEADER}: {passport}\r\n\r\n"
    );
    let broken = |_| FailureKind::Broken;
    socket.write_all(request.as_bytes()).await.map_err(broken)?;
    let mut buffer = Vec::new();
    let head = AnswerHead::read(&mut socket, &mut buffer).await?;
    if head.status != 101 {
        tracing::warn!(status = head.status, "the worker takes no link");
        return Err(FailureKind::Rejected);
    }
    let hello = Hello {
        version_min: *VERSIONS.start(),
        version_max: *VERSIONS.end(),
        gateway: thread.gateway().to_owned(),
        shard,
    };
    let mut said = BytesMut::new();
    append(&ToWorker::from(ForWorker::Hello(hello)), &mut said);
    socket.write_all(&said).await.map_err(broken)?;
    let mut messages = Messages::default();
    messages
        .buffer()
        .extend_from_slice(&buffer.split_off(head.length));
    let welcome = welcome(&mut socket, &mut messages).await?;
    if !VERSIONS.contains(&welcome.version) {
        tracing::warn!(
            worker = welcome.worker,
            version = welcome.version,
            ours = ?VERSIONS,
            "worker and gateway have no version of the link in common"
        );
        return Err(FailureKind::Rejected);
    }
    Ok(Dialed {
        socket,
        welcome,
        messages,
    })
}

async fn welcome(socket: &mut TcpStream, messages: &mut Messages) -> Result<Welcome, FailureKind> {
    loop {
        let message = messages.next::<ToGateway>();
        match message.map_err(|_| FailureKind::Invalid)? {
            Some(ToGateway {
                body: Some(ForGateway::Welcome(welcome)),
            }) => return Ok(welcome),
            Some(_) => return Err(FailureKind::Invalid),
            None => {}
        }
        match socket.read_buf(messages.buffer()).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return Err(FailureKind::Broken),
        }
    }
}
