//! A gateway before its workers.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use flotilla_tests::process::binary;

use super::observe::eventually;
use super::support::client::Client;
use super::support::server::Server;
use super::support::worker;

/// How workers know the gateway.
const PASSPORT: &str = "passport.secret_key=the secret between the tiers of a benchmark";

/// How a gateway takes sessions to workers.
#[derive(Clone, Copy)]
pub(crate) enum Transport {
    /// Many over one connection.
    Link,
    /// Each over a connection of its own.
    Relay,
}

impl Transport {
    /// What the measurements call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Relay => "relay",
        }
    }
}

/// A running fleet; all of it is killed when dropped.
pub(crate) struct Fleet {
    pub(crate) gateway: Server,
    pub(crate) workers: Vec<Server>,
}

impl Fleet {
    /// Starts a worker for each of `workers`, which are their settings, and a gateway; waits until that takes clients.
    pub(crate) fn start(
        transport: Transport,
        workers: &[&[&str]],
        gateway: &[&str],
    ) -> Result<Self> {
        let workers = workers
            .iter()
            .map(|settings| worker::start(&[&[PASSPORT], *settings].concat()))
            .collect::<Result<Vec<_>>>()?;
        let program = binary("flotilla-gateway")
            .context("this benchmark needs it: cargo build --release -p flotilla-gateway")?;
        let addresses: Vec<_> = workers
            .iter()
            .map(|worker| worker.address.to_string())
            .collect();
        let pool = format!("pool.workers={addresses:?}");
        let transport = match transport {
            Transport::Link => "pool.transport=link",
            Transport::Relay => "pool.transport=websocket",
        };
        let settings = [
            "listen=127.0.0.1:0",
            "admin_listen=127.0.0.1:0",
            PASSPORT,
            transport,
            &pool,
        ];
        let gateway = Server::start(program, settings.iter().chain(gateway).copied())?;
        wait_until_taking(gateway.address)?;
        Ok(Self { gateway, workers })
    }
}

/// Waits until a session can be opened here: whoever stands before a worker has to find it first.
pub(crate) fn wait_until_taking(server: SocketAddr) -> Result<()> {
    eventually("a session is opened", || Ok(Client::connect(server).ok()))?;
    Ok(())
}
