//! The gateway as a whole: its listeners, its edge and its way out.
//!
//! Owns the start and the end. Everything runs on the caller's runtime.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use flotilla_shared::admin::Admin;
use flotilla_shared::auth::JwksRefresher;
use flotilla_shared::broker::{BrokerError, BrokerMetrics, Brokers};
use flotilla_shared::lifecycle::Lifecycle;
use flotilla_shared::metrics::{new_registry, watch_runtimes};
use pingora::listeners::tls::TlsSettings;
use prometheus::Registry;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::admit::Admission;
use crate::announce::Announcement;
use crate::config::Config;
use crate::drain::drain;
use crate::edge::{Edge, EdgeApp};
use crate::link::{Door, LinkThreads};
use crate::listen::Listener;
use crate::metrics::Metrics;
use crate::route::{Membership, Pool, WorkerState};
use crate::tls::{self, TlsError};

/// Why a gateway could not take its ports.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// An address is taken or may not be used.
    #[error("{key} = \"{address}\" cannot be listened on")]
    Address {
        /// The setting that names it.
        key: &'static str,
        /// As configured.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// The certificate cannot be served.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Two of the process' metrics have one name: a bug.
    #[error("metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
}

/// Why a gateway ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A part that runs as long as the gateway has ended by a panic, which is a bug; the process
    /// should be restarted.
    #[error("a part of the gateway has crashed")]
    Crashed(#[from] JoinError),
    /// A link thread has ended, which is a bug; the process should be restarted.
    #[error("a link thread has crashed")]
    Links,
    /// The system has no thread left.
    #[error("link threads cannot be started")]
    Threads(#[source] io::Error),
    /// The broker refuses this gateway: its login, certificate or permissions are not right.
    #[error("the gateway cannot hear the roster")]
    Broker(#[source] BrokerError),
}

/// A gateway that has its ports and is not serving yet.
pub struct Gateway {
    config: Config,
    plain: Listener,
    tls: Option<(Listener, TlsSettings)>,
    admin: Admin,
    pool: Arc<Pool>,
    registry: Registry,
    metrics: Metrics,
    broker_metrics: Option<BrokerMetrics>,
    jwks: Option<JwksRefresher>,
}

impl Gateway {
    /// Takes the gateway's ports; port 0 picks a free one.
    ///
    /// # Errors
    /// When a port is taken or may not be used, or when the certificate cannot be read any more.
    pub async fn bind(config: Config) -> Result<Self, BindError> {
        let listen = |key, address| {
            Listener::bind(address).map_err(|source| BindError::Address {
                key,
                address,
                source,
            })
        };
        let plain = listen("listen", config.listen)?;
        let tls = match &config.tls {
            Some(tls) => Some((listen("tls.listen", tls.listen)?, tls::settings(tls)?)),
            None => None,
        };
        let address = config.admin_listen;
        let admin = Admin::bind(address)
            .await
            .map_err(|source| BindError::Address {
                key: "admin_listen",
                address,
                source,
            })?;
        let registry = new_registry()?;
        watch_runtimes(&registry, vec![Handle::current()])?;
        let pool = Arc::new(Pool::new(config.pool.load_factor, config.pool.ejection));
        let metrics = Metrics::register(&registry, pool.clone())?;
        let broker_metrics = config
            .brokers
            .as_ref()
            .map(|_| BrokerMetrics::register(&registry))
            .transpose()?;
        let jwks = config
            .edge
            .identity
            .verifier
            .refresher(&registry, "gateway")?;
        Ok(Self {
            config,
            plain,
            tls,
            admin,
            pool,
            registry,
            metrics,
            broker_metrics,
            jwks,
        })
    }

    /// Where clients connect without TLS.
    pub fn local_addr(&self) -> SocketAddr {
        self.plain.local_addr()
    }

    /// Where clients connect with TLS.
    pub fn tls_addr(&self) -> Option<SocketAddr> {
        self.tls.as_ref().map(|(listener, _)| listener.local_addr())
    }

    /// Where metrics and health are.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin.local_addr()
    }

    fn introduce(&self) {
        tracing::info!(
            websocket = %self.local_addr(),
            tls = self.tls_addr().map(tracing::field::display),
            admin = %self.admin_addr(),
            "listening"
        );
        if self.config.edge.endpoints.api {
            tracing::warn!(
                "http_api.forward is on: the server API is served to whoever can connect here and \
                 has a key, or to anybody if workers ask for none; for development only"
            );
        }
    }

    /// Serves until a drain has ended or `lifecycle` is stopped. The roster is looked for at
    /// `brokers`, or else at the configured broker, if `pool.roster` is on.
    ///
    /// # Errors
    /// When a part of the gateway has crashed.
    pub async fn serve(
        self,
        lifecycle: Lifecycle,
        brokers: Option<Brokers>,
    ) -> Result<(), ServeError> {
        self.introduce();
        let (connections_max, plan) = (self.config.connections_cap(), self.config.drain);
        self.metrics.limit_connections(connections_max);
        let address = self.plain.local_addr();
        let pool = self.pool;
        let (door, doors) = self.config.link_threads.map(Door::new).unzip();
        let edge = Arc::new(Edge {
            admission: Admission::new(
                self.config.handshakes_max,
                self.config.requests_max,
                connections_max,
            ),
            pool: pool.clone(),
            connections: Arc::default(),
            metrics: self.metrics,
            door,
            config: self.config.edge,
        });
        let links = doors.map(|doors| LinkThreads::start(&edge, doors, &address.to_string()));
        let mut links = links.transpose().map_err(ServeError::Threads)?;
        let roster = brokers.or(self.config.brokers).zip(self.broker_metrics);
        let roster = roster.map(|(brokers, metrics)| {
            let connections = edge.connections.clone();
            let announcement = Announcement::new(address, &brokers, connections, lifecycle.clone());
            (brokers, metrics, announcement)
        });
        let membership = Membership::new(pool.clone(), self.config.pool);
        let ready = {
            let edge = edge.clone();
            move || is_ready(&edge)
        };

        let (shutdown, watched) = watch::channel(false);
        let mut parts = JoinSet::new();
        let admin = self.admin.serve(self.registry, lifecycle.clone(), ready);
        parts.spawn(async { drop(admin.await) });
        let mut routes = JoinSet::new();
        routes.spawn(membership.run(roster));
        if let Some(jwks) = self.jwks {
            parts.spawn(jwks.run());
        }
        let app = EdgeApp {
            edge: edge.clone(),
            is_tls: false,
        };
        parts.spawn(self.plain.serve(None, app, watched.clone()));
        if let Some((listener, settings)) = self.tls {
            let app = EdgeApp {
                edge: edge.clone(),
                is_tls: true,
            };
            parts.spawn(listener.serve(Some(settings), app, watched));
        }
        lifecycle.serving();
        let result = tokio::select! {
            () = drain(&edge, plan, &lifecycle) => Ok(()),
            crash = crash(&mut parts) => Err(crash.into()),
            () = links_crashed(&mut links) => Err(ServeError::Links),
            Some(ended) = routes.join_next() => Err(ended.map_or_else(Into::into, ServeError::Broker)),
        };
        shutdown.send_replace(true);
        lifecycle.stop();
        result
    }
}

/// Waits for a link thread to crash.
async fn links_crashed(links: &mut Option<LinkThreads>) {
    match links {
        Some(links) => links.crashed().await,
        None => std::future::pending().await,
    }
}

/// Waits for a part to crash.
async fn crash(parts: &mut JoinSet<()>) -> JoinError {
    loop {
        match parts.join_next().await {
            Some(Err(crash)) => return crash,
            Some(Ok(())) => {}
            None => std::future::pending().await,
        }
    }
}

fn has_worker(pool: &Pool) -> bool {
    pool.workers()
        .iter()
        .any(|worker| worker.state() == WorkerState::Active)
}

/// Whether clients should be sent here; if not, why.
fn is_ready(edge: &Edge) -> Result<(), String> {
    if !has_worker(&edge.pool) {
        return Err("no worker is available".to_owned());
    }
    if !edge.config.identity.verifier.is_ready() {
        return Err("the keys for tokens have not been fetched yet".to_owned());
    }
    Ok(())
}
