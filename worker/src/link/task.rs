//! The task of a link: reads what the gateway says, and writes what the shard has for it.
//!
//! Owns: the socket, and the link's end. Reading never waits for writing: a gateway that takes nothing is heard until too
//! much waits for it.

use std::io;
use std::rc::Rc;
use std::time::Instant;

use flotilla_shared::link::{
    ForGateway, ForWorker, HEARTBEAT_INTERVAL, LinkError, Messages, SILENCE_MAX, ToWorker,
    VERSIONS, Welcome,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::timeout;

use super::window::Misuse;
use super::{Arrival, Link};
use crate::accept;
use crate::closing::Ending;
use crate::shard::Shard;

/// Room for what one read takes.
const READ_BYTES: usize = 64 * 1024;

/// Why a link ends.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the gateway has closed it")]
    Closed,
    #[error("the gateway is silent")]
    Silent,
    #[error("the gateway does not take what is sent to it")]
    Stalled,
    #[error("the link has no numbers left")]
    Exhausted,
    #[error("the connection is lost")]
    Lost(#[from] io::Error),
    #[error("the gateway speaks versions {0} to {1}")]
    Version(u32, u32),
    #[error("what the gateway says is not understood")]
    Unreadable(#[from] LinkError),
    #[error("the gateway sends {0}")]
    Misuse(#[from] Misuse),
    #[error("the gateway says something at the wrong time")]
    OutOfPlace,
}

/// Leaves the sessions of a link to whoever has them next, also after a panic.
struct Sessions {
    link: Rc<Link>,
    shard: Rc<Shard>,
}

/// Serves a link until its end.
pub(crate) async fn serve(shard: Rc<Shard>, arrival: Arrival) {
    let gateway = arrival.hello.gateway.clone();
    match run(&shard, arrival).await {
        Failure::Closed => tracing::debug!(gateway, "a link has ended"),
        error => tracing::warn!(gateway, %error, "a link is closed"),
    }
}

async fn run(shard: &Rc<Shard>, arrival: Arrival) -> Failure {
    let link = Rc::new(Link::default());
    let version = version(&arrival);
    link.say(ForGateway::Welcome(welcome(shard, &arrival, version)));
    let spoken = (arrival.hello.version_min, arrival.hello.version_max);
    let (mut socket, messages) = match arrival.unpack() {
        Ok(unpacked) => unpacked,
        Err(error) => return error.into(),
    };
    let (input, output) = socket.split();
    if version == 0 {
        // The last that is said; it fits into the socket.
        let _ = timeout(SILENCE_MAX, write_once(&link, output)).await;
        return Failure::Version(spoken.0, spoken.1);
    }
    shard.note_link(&link);
    shard.metrics().process().connections.links.inc();
    let sessions = Sessions {
        link: link.clone(),
        shard: shard.clone(),
    };
    tokio::select! {
        ended = sessions.read(input, messages) => ended.err(),
        ended = write(&link, output) => ended.err(),
    }
    .unwrap_or(Failure::Closed)
}

/// The highest version that both sides speak; 0: there is none.
fn version(arrival: &Arrival) -> u32 {
    let highest = arrival.hello.version_max.min(*VERSIONS.end());
    let lowest = arrival.hello.version_min.max(*VERSIONS.start());
    if highest >= lowest { highest } else { 0 }
}

fn welcome(shard: &Shard, arrival: &Arrival, version: u32) -> Welcome {
    let limits = shard.limits();
    let millis = limits.write_timeout.as_millis();
    Welcome {
        version,
        worker: shard.fleet().id().to_owned(),
        life: shard.fleet().life().0,
        shard: arrival.shard,
        shards: arrival.shards,
        message_max_bytes: limits.message_max_bytes as u64,
        outbox_max_bytes: limits.outbox_max_bytes as u64,
        write_timeout_ms: u64::try_from(millis).unwrap_or(u64::MAX),
    }
}

async fn write_once(link: &Link, mut socket: WriteHalf<'_>) -> io::Result<()> {
    match link.outgoing.take().await {
        Some(said) => socket.write_all(&said).await,
        None => Ok(()),
    }
}

/// Writes what has gathered whenever there is something, and a heartbeat when there is nothing.
async fn write(link: &Link, mut socket: WriteHalf<'_>) -> Result<(), Failure> {
    loop {
        let said = match timeout(HEARTBEAT_INTERVAL, link.outgoing.take()).await {
            Ok(said) => said,
            Err(_) => {
                link.heartbeat();
                continue;
            }
        };
        let Some(mut said) = said else {
            return Err(why_closed(link));
        };
        while !said.is_empty() {
            let written = tokio::select! {
                written = socket.write(&said) => written?,
                () = link.outgoing.closed() => return Err(why_closed(link)),
            };
            if written == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero).into());
            }
            link.outgoing.wrote(written);
            let _ = said.split_to(written);
        }
    }
}

fn why_closed(link: &Link) -> Failure {
    if link.outgoing.is_stalled() {
        Failure::Stalled
    } else {
        Failure::Exhausted
    }
}

impl Sessions {
    async fn read(&self, mut socket: ReadHalf<'_>, mut messages: Messages) -> Result<(), Failure> {
        loop {
            while let Some(message) = messages.next::<ToWorker>()? {
                if let Some(body) = message.body {
                    self.hear(body)?;
                }
            }
            // A gateway that always says something must not keep the shard from anything else.
            tokio::task::yield_now().await;
            messages.buffer().reserve(READ_BYTES);
            match timeout(SILENCE_MAX, socket.read_buf(messages.buffer())).await {
                Ok(Ok(0)) => return Err(Failure::Closed),
                Ok(read) => drop(read?),
                Err(_) => return Err(Failure::Silent),
            }
        }
    }

    fn hear(&self, body: ForWorker) -> Result<(), Failure> {
        let number = match &body {
            ForWorker::Hello(_) => return Err(Failure::OutOfPlace),
            ForWorker::Open(open) => open.session,
            ForWorker::Message(message) => message.session,
            ForWorker::Closed(closed) => closed.session,
            ForWorker::Detach(detach) => detach.session,
        };
        if let ForWorker::Open(open) = body {
            if self.link.has(number) {
                return Err(Failure::OutOfPlace);
            }
            return Ok(accept::open(open, &self.link, &self.shard)?);
        }
        // It may just have ended here.
        let Some(connection) = self.link.session(number) else {
            return Ok(());
        };
        let Some(seat) = connection.outbox().seat() else {
            return Ok(());
        };
        let message_max_bytes = self.shard.limits().message_max_bytes;
        match body {
            ForWorker::Message(message) if message.payload.len() > message_max_bytes => {
                connection.end(Ending::TooBig);
            }
            ForWorker::Message(message) => seat.take(&message, false)?,
            ForWorker::Closed(closed) => seat.closed(&closed),
            ForWorker::Detach(_) => seat.detach(Instant::now()),
            ForWorker::Hello(_) | ForWorker::Open(_) => {}
        }
        connection.arm();
        Ok(())
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        self.shard.metrics().process().connections.links.dec();
        let now = Instant::now();
        for connection in self.link.abandon() {
            if let Some(seat) = connection.outbox().seat() {
                seat.orphan(now);
            }
            connection.outbox().orphan();
            connection.arm();
        }
    }
}
