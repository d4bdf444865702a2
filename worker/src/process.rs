//! The worker as a whole: its listeners, its shards and its place in the fleet.
//!
//! Owns: the start and the end. Each shard gets a thread of its own; the admin listener and the roster run on the
//! caller's runtime.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use flotilla_shared::admin::Admin;
use flotilla_shared::auth::{JwksRefresher, Verifier};
use flotilla_shared::broker::{BrokerError, BrokerMetrics, Brokers};
use flotilla_shared::lifecycle::{Lifecycle, Phase};
use flotilla_shared::metrics::{new_registry, watch_runtimes};
use flotilla_shared::roster::Life;
use futures_util::future::try_join_all;
use prometheus::Registry;
use tokio::task::{JoinHandle, JoinSet};

use crate::announce::Announcement;
use crate::api::{Api, ApiOptions, ApiService, Methods};
use crate::capacity::Capacity;
use crate::config::Config;
use crate::control::{Control, ControlBroker};
use crate::emulation::Sessions;
use crate::fleet::{Fleet, Shards, keep_in_step};
use crate::hooks::{Gates, Hooks};
use crate::listen::listen;
use crate::metrics::Metrics;
use crate::revocation::Revocations;
use crate::shard::Common;
use crate::thread::{BrokerSlot, ShardBrokers, ShardContext, ShardThread};
use crate::user_capacity::UserCapacity;

/// How long the roster may take to say good-bye.
const GOOD_BYE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a worker could not take its ports.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The client listener.
    #[error("listen = \"{address}\" cannot be listened on")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// The admin listener.
    #[error("admin_listen = \"{address}\" cannot be listened on")]
    Admin {
        /// As configured.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// The listener of the server API.
    #[error("http_api.listen = \"{address}\" cannot be listened on")]
    Api {
        /// As configured.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// The file of revocations: without it, whoever was blocked would get in.
    #[error("revocations.file = \"{}\" cannot be read", path.display())]
    Revocations {
        /// As configured.
        path: PathBuf,
        /// The system's answer, or what is wrong with its content.
        source: io::Error,
    },
    /// Two of the process' metrics have one name: a bug.
    #[error("metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
}

/// Why a worker ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A shard's thread or runtime could not be made.
    #[error("shard {shard} could not be started")]
    Shard {
        /// Which one.
        shard: usize,
        /// The system's answer.
        source: io::Error,
    },
    /// A shard ended by a panic, which is a bug; the process should be restarted.
    #[error("shard {shard} has crashed")]
    Crashed {
        /// Which one.
        shard: usize,
    },
    /// What speaks with the other workers ended, which is a bug; the process should be restarted.
    #[error("the control connection has crashed")]
    Control,
    /// The broker refuses this worker: its login, certificate or permissions are not right.
    #[error("the worker cannot join the fleet")]
    Broker(#[source] BrokerError),
    /// Two of the process' metrics have one name: a bug.
    #[error("metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
}

/// A worker that has its ports and is not serving yet.
pub struct Worker {
    config: Config,
    listeners: Vec<StdListener>,
    address: SocketAddr,
    admin: Admin,
    api: Option<Api>,
    registry: Registry,
    metrics: Metrics,
    broker_metrics: BrokerMetrics,
    jwks: Option<JwksRefresher>,
    revocations: Revocations,
}

impl Worker {
    /// Takes the worker's ports; port 0 picks a free one.
    ///
    /// # Errors
    /// When a port is taken or may not be used.
    pub async fn bind(config: Config) -> Result<Self, BindError> {
        let failed = |source| BindError::Listen {
            address: config.listen,
            source,
        };
        let listeners = listen(config.listen, config.shards).map_err(failed)?;
        let address = listeners
            .first()
            .map_or(Ok(config.listen), StdListener::local_addr)
            .map_err(failed)?;
        let admin = Admin::bind(config.admin_listen)
            .await
            .map_err(|source| BindError::Admin {
                address: config.admin_listen,
                source,
            })?;
        let api = match &config.api {
            Some(options) => bind_api(options).await?,
            None => None,
        };
        let registry = new_registry()?;
        let metrics = Metrics::register(&registry)?;
        metrics.begin(&config.namespaces);
        let broker_metrics = BrokerMetrics::register(&registry)?;
        let jwks = config.verifier.refresher(&registry, "worker")?;
        let revocations = Revocations::load(config.revocations_file.clone()).map_err(|source| {
            BindError::Revocations {
                path: config.revocations_file.clone().unwrap_or_default(),
                source,
            }
        })?;
        Ok(Self {
            config,
            listeners,
            address,
            admin,
            api,
            registry,
            metrics,
            broker_metrics,
            jwks,
            revocations,
        })
    }

    /// Where clients and gateways connect.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Where metrics and health are.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin.local_addr()
    }

    /// Where back ends call the server API, if there is one.
    pub fn api_addr(&self) -> Option<SocketAddr> {
        self.api.as_ref().map(Api::local_addr)
    }

    /// The worker's id in the fleet.
    pub fn id(&self) -> &str {
        &self.config.id
    }

    /// Serves until a drain has ended or `lifecycle` is stopped.
    ///
    /// # Errors
    /// When a shard could not be started or has crashed.
    pub async fn serve(self, lifecycle: Lifecycle, brokers: Brokers) -> Result<(), ServeError> {
        self.say_where();
        warn_of(&self.config);
        let capacity = Capacity::new(self.config.connections_cap());
        let limit = i64::try_from(capacity.limit()).unwrap_or(i64::MAX);
        self.metrics.connections.limit.set(limit);
        let connected: ShardBrokers = self
            .listeners
            .iter()
            .map(|_| BrokerSlot::default())
            .collect();
        let ready = is_ready(connected.clone(), self.config.verifier.clone());
        let mailboxes = Shards::new(self.listeners.len());
        let sessions = Sessions::default();
        let reached = (mailboxes.clone(), sessions.clone());
        let control = self.control(&brokers, capacity.clone(), reached, &lifecycle);
        let (broker, fleet) = (control.broker.clone(), control.fleet.clone());
        let control = tokio::spawn(control.run(brokers.clone(), self.broker_metrics.clone()));
        let gates = Gates::new(&self.config.hooks);
        let methods = Methods {
            broker,
            namespaces: self.config.namespaces.clone(),
            channel_max_bytes: self.config.channel_max_bytes,
            fleet: fleet.clone(),
            revocations: self.revocations.clone(),
            hooks: Hooks::new(gates.clone(), self.metrics.hooks.clone()),
            losses: self.metrics.losses.clone(),
        };
        // What runs beside the shards and ends after them.
        let mut beside = JoinSet::new();
        let options = self.config.api.as_ref();
        let calls = self.metrics.api.clone();
        let service = options.map(|options| ApiService::new(options, methods, calls));
        if let (Some(api), Some(service)) = (self.api, service.clone()) {
            beside.spawn(async { drop(api.serve(service).await) });
        }
        let is_for_clients = options.is_some_and(|options| options.on_client_listener);
        let common = Common {
            fleet: fleet.clone(),
            sessions,
            api: service.filter(|_| is_for_clients),
            gates,
        };
        if let Some(jwks) = self.jwks {
            beside.spawn(jwks.run());
        }
        beside.spawn(keep_in_step(fleet.clone()));
        beside.spawn(show_phase(lifecycle.clone(), self.metrics.clone()));
        let user_capacity = UserCapacity::new(self.config.user_connections_max);
        let context = ShardContext {
            config: self.config,
            capacity,
            lifecycle: lifecycle.clone(),
            brokers,
            metrics: self.metrics,
            broker_metrics: self.broker_metrics,
            connected,
            mailboxes,
            revocations: self.revocations,
            user_capacity,
            common,
        };
        let shards = start(self.listeners, &context)?;
        watch_runtimes(
            &self.registry,
            shards.iter().map(ShardThread::runtime).collect(),
        )?;
        let admin = self.admin.serve(self.registry, lifecycle.clone(), ready);
        beside.spawn(async { drop(admin.await) });

        first_end(join(shards, &lifecycle), control, &lifecycle).await
    }
}

/// Waits for the shards to end. Without the task that speaks for this worker they must not go on: the others would take
/// it that this worker is gone, while its clients are here.
async fn first_end(
    shards: impl Future<Output = Result<(), ServeError>>,
    mut control: JoinHandle<()>,
    lifecycle: &Lifecycle,
) -> Result<(), ServeError> {
    let mut shards = pin!(shards);
    tokio::select! {
        result = &mut shards => {
            lifecycle.stop();
            // It says good-bye when it sees the end.
            let _ = tokio::time::timeout(GOOD_BYE_TIMEOUT, control).await;
            result
        }
        _ = &mut control => match lifecycle.phase() {
            Phase::Stopped => shards.await,
            _ => {
                lifecycle.stop();
                Err(ServeError::Control)
            }
        },
    }
}

/// Says what an operator should know about the configuration, loudly.
fn warn_of(config: &Config) {
    for option in &config.insecure {
        tracing::warn!("INSECURE: {} is set: {}", option.key, option.effect);
    }
    if !config.lets_anyone_in() {
        tracing::warn!(
            "nobody can connect: there is no client.token key, no passport key, no connect hook, and no anonymous access"
        );
    }
}

impl Worker {
    fn say_where(&self) {
        tracing::info!(
            worker = self.config.id,
            websocket = %self.address,
            admin = %self.admin.local_addr(),
            api = self.api_addr().map(tracing::field::display),
            shards = self.listeners.len(),
            "listening"
        );
    }

    /// What speaks for this worker, and hears the others.
    fn control(
        &self,
        brokers: &Brokers,
        capacity: Capacity,
        (mailboxes, sessions): (Shards, Sessions),
        lifecycle: &Lifecycle,
    ) -> Control {
        let id = &self.config.id;
        let broker = ControlBroker::default();
        let revocations = self.revocations.clone();
        let life = Life::draw();
        Control {
            announcement: Announcement {
                id: id.clone(),
                life,
                address: self.config.advertised(self.address, brokers),
                capacity,
                interval: self.config.announce_interval,
            },
            fleet: Fleet::new(
                (id.clone(), life),
                broker.clone(),
                mailboxes,
                revocations,
                sessions,
                self.metrics.fleet.clone(),
            ),
            broker,
            lifecycle: lifecycle.clone(),
        }
    }
}

async fn bind_api(options: &ApiOptions) -> Result<Option<Api>, BindError> {
    let Some(address) = options.listen else {
        return Ok(None);
    };
    let bound = Api::bind(address).await;
    bound
        .map(Some)
        .map_err(|source| BindError::Api { address, source })
}

fn start(
    listeners: Vec<StdListener>,
    context: &ShardContext,
) -> Result<Vec<ShardThread>, ServeError> {
    let starts = listeners.into_iter().enumerate().map(|(shard, listener)| {
        ShardThread::start(shard, listener, context.clone())
            .map_err(|source| ServeError::Shard { shard, source })
    });
    starts.collect()
}

/// Waits for every shard to serve, and then for every shard to end, or for one to crash.
async fn join(shards: Vec<ShardThread>, lifecycle: &Lifecycle) -> Result<(), ServeError> {
    let (starts, ends): (Vec<_>, Vec<_>) = shards.into_iter().map(ShardThread::split).unzip();
    let ends = ends.into_iter().enumerate().map(|(shard, end)| async move {
        let ended = end.await.map_err(|_| ServeError::Crashed { shard })?;
        ended.map_err(ServeError::Broker)
    });
    let mut ended = pin!(try_join_all(ends));
    tokio::select! {
        ended = &mut ended => return ended.map(drop),
        started = try_join_all(starts) => {
            // A shard that ended before it served was told to leave, or has crashed: nothing is to be announced.
            if started.is_ok() {
                lifecycle.serving();
            }
        }
    }
    ended.await.map(drop)
}

/// Whether every shard has its broker, and tokens can be verified.
fn is_ready(
    shards: ShardBrokers,
    verifier: Arc<Verifier>,
) -> impl Fn() -> Result<(), String> + Send + Sync + 'static {
    move || {
        let obstacles = shards.iter().filter_map(|shard| shard.check().err());
        let obstacles: Vec<String> = obstacles.collect();
        if let Some(first) = obstacles.first() {
            let (some, all) = (obstacles.len(), shards.len());
            return Err(format!("{some} of {all} shards: {first}"));
        }
        if !verifier.is_ready() {
            return Err("the keys for tokens have not been fetched yet".to_owned());
        }
        Ok(())
    }
}

async fn show_phase(lifecycle: Lifecycle, metrics: Metrics) {
    let mut status = lifecycle.subscribe();
    loop {
        metrics.phase(status.borrow_and_update().phase);
        if status.changed().await.is_err() {
            return;
        }
    }
}
