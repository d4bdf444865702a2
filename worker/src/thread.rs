//! A shard's thread, from its start to its end.
//!
//! Owns: the order in which a shard comes to life (broker, hub, timer, listener) and goes (drain). What happens in
//! between is `shard`'s.

use std::io;
use std::net::TcpListener as StdListener;
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use flotilla_shared::broker::{
    Broker, BrokerConnection, BrokerError, BrokerEvents, BrokerMetrics, Brokers,
};
use flotilla_shared::lifecycle::{Lifecycle, Phase};
use flotilla_shared::tcp;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;

use crate::accept;
use crate::capacity::Capacity;
use crate::config::Config;
use crate::drain::{DrainPlan, drain};
use crate::fleet::{Errand, Shards};
use crate::handshakes::{Handshakes, Place};
use crate::metrics::{Metrics, ShardMetrics};
use crate::operations;
use crate::policy::Policy;
use crate::revocation::Revocations;
use crate::shard::{Admission, Common, Shard};
use crate::user_capacity::UserCapacity;

/// How long a shard waits before it tries a broker that could not be reached again.
const BROKER_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// How long a shard pauses after `accept` failed, which it does when the process has no file left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Clients of one shard that may be shaking hands at the same time.
const HANDSHAKES_MAX: usize = 1024;

/// The broker connection of each shard.
pub(crate) type ShardBrokers = Arc<[BrokerSlot]>;

/// A shard's broker connection, once it has one.
#[derive(Default)]
pub(crate) struct BrokerSlot {
    connected: OnceLock<Arc<dyn Broker>>,
    /// Why there is none yet.
    obstacle: Mutex<Option<BrokerError>>,
}

impl BrokerSlot {
    /// What keeps this shard from the broker, if anything does.
    pub(crate) fn check(&self) -> Result<(), String> {
        match self.connected.get() {
            Some(broker) if broker.is_connected() => Ok(()),
            Some(_) => Err("the connection to the broker is lost".to_owned()),
            None => {
                let obstacle = self.obstacle.lock().unwrap_or_else(PoisonError::into_inner);
                Err(match &*obstacle {
                    Some(error) => error.to_string(),
                    None => "connecting to the broker".to_owned(),
                })
            }
        }
    }

    fn note(&self, error: BrokerError) {
        let mut obstacle = self.obstacle.lock().unwrap_or_else(PoisonError::into_inner);
        *obstacle = Some(error);
    }
}

/// What every shard's thread is given.
#[derive(Clone)]
pub(crate) struct ShardContext {
    pub(crate) config: Config,
    pub(crate) capacity: Capacity,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) brokers: Brokers,
    pub(crate) metrics: Metrics,
    pub(crate) broker_metrics: BrokerMetrics,
    pub(crate) connected: ShardBrokers,
    pub(crate) mailboxes: Shards,
    pub(crate) revocations: Revocations,
    pub(crate) user_capacity: UserCapacity,
    pub(crate) common: Common,
}

/// A shard's thread, seen from outside.
pub(crate) struct ShardThread {
    runtime: Handle,
    started: oneshot::Receiver<()>,
    ended: oneshot::Receiver<Result<(), BrokerError>>,
}

impl ShardThread {
    /// Starts shard number `index`, which takes `listener`.
    ///
    /// # Errors
    /// When the system has no thread or no runtime for it.
    pub(crate) fn start(
        index: usize,
        listener: StdListener,
        context: ShardContext,
    ) -> io::Result<Self> {
        let (start, started) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        std::thread::Builder::new()
            .name(format!("shard-{index}"))
            .spawn(move || {
                let served =
                    LocalSet::new().block_on(&runtime, context.run(index, listener, start));
                // Nobody listens any more if the process is being torn down.
                match served {
                    Ok(()) => drop(end.send(Ok(()))),
                    Err(Failure::Broker(error)) => drop(end.send(Err(error))),
                    Err(Failure::Crashed) => {}
                }
            })?;
        Ok(Self {
            runtime: handle,
            started,
            ended,
        })
    }

    /// The runtime, for the metrics.
    pub(crate) fn runtime(&self) -> Handle {
        self.runtime.clone()
    }

    /// Resolves when the shard serves, and when it has ended. Each is an error if the shard has crashed before; it may
    /// also have ended because the broker does not want it.
    pub(crate) fn split(
        self,
    ) -> (
        oneshot::Receiver<()>,
        oneshot::Receiver<Result<(), BrokerError>>,
    ) {
        (self.started, self.ended)
    }
}

/// Why a shard ended before its time.
enum Failure {
    /// It has lost a part that it cannot do without: its clients are better off elsewhere.
    Crashed,
    /// The broker refuses it, and would again.
    Broker(BrokerError),
}

impl ShardContext {
    async fn run(
        self,
        index: usize,
        listener: StdListener,
        started: oneshot::Sender<()>,
    ) -> Result<(), Failure> {
        let listener = match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "the listener cannot be used");
                return Err(Failure::Crashed);
            }
        };
        let slot = self.connected.get(index).ok_or(Failure::Crashed)?;
        let connection = tokio::select! {
            connection = self.connect(index, slot) => connection.map_err(Failure::Broker)?,
            () = self.turn_away(&listener) => return Err(Failure::Crashed),
            () = self.lifecycle.wait_for(Phase::Draining) => return Ok(()),
        };
        slot.connected.get_or_init(|| connection.broker.clone());
        let plan = self.config.drain;
        let policy = Rc::new(Policy::new(
            &self.config,
            self.revocations,
            self.user_capacity,
        ));
        let admission = Admission {
            passport_keys: self.config.passport_keys.clone(),
            passport_required: self.config.passport_required,
            allowed_origins: self.config.allowed_origins.clone(),
            capacity: self.capacity,
            echoes: self.config.websocket_echo,
        };
        let shard = Rc::new(Shard::new(
            policy,
            self.config.limits.clone(),
            admission,
            self.lifecycle,
            connection.broker,
            ShardMetrics::new(self.metrics),
            self.common,
        ));
        // Serving begins when every shard has come this far; nobody waits if one of them failed.
        let _ = started.send(());
        let errands = self.mailboxes.open(index);
        let served = serve(&shard, &listener, connection.events, errands, plan).await;
        shard.flush_metrics();
        served
    }

    /// Answers whoever comes while there is no broker.
    async fn turn_away(&self, listener: &TcpListener) {
        let (counts, patience) = (&self.metrics.connections, self.config.limits.head_timeout);
        let serve = |socket, place| accept::turn_away(socket, place, counts.clone(), patience);
        accept_all(listener, serve).await;
    }

    /// Connects to the broker, for as long as it takes. A broker that refuses this worker does so because of its
    /// configuration: whoever supervises the process has to know.
    async fn connect(
        &self,
        index: usize,
        slot: &BrokerSlot,
    ) -> Result<BrokerConnection, BrokerError> {
        let name = format!("{}-{index}", self.config.id);
        loop {
            match self.brokers.connect(&name, &self.broker_metrics).await {
                Err(error) if error.is_temporary() => {
                    tracing::warn!(%error, "no broker yet; trying again");
                    slot.note(error);
                }
                decided => return decided,
            }
            tokio::time::sleep(BROKER_RETRY_INTERVAL).await;
        }
    }
}

/// Serves until a drain has ended. A panic in a client's task ends that client; one in the shard's own tasks, or a broker
/// connection that is closed for good, would leave clients that hear nothing any more.
async fn serve(
    shard: &Rc<Shard>,
    listener: &TcpListener,
    events: Box<dyn BrokerEvents>,
    errands: mpsc::Receiver<Errand>,
    plan: DrainPlan,
) -> Result<(), Failure> {
    let pump = tokio::task::spawn_local(shard.clone().pump(events));
    let clock = tokio::task::spawn_local(shard.clone().keep_time());
    let clerk = tokio::task::spawn_local(operations::serve(shard.clone(), errands));
    let announcements = tokio::task::spawn_local(shard.announcements());
    // Also while draining: who comes then gets an answer and goes to another worker.
    let clients = accept_all(listener, |socket, place| {
        accept::serve(socket, shard.clone(), place)
    });
    tokio::select! {
        () = clients => Err(Failure::Crashed),
        () = drain(shard, plan) => Ok(()),
        _ = pump => Err(Failure::Crashed),
        _ = clock => Err(Failure::Crashed),
        _ = clerk => Err(Failure::Crashed),
        _ = announcements => Err(Failure::Crashed),
    }
}

/// Accepts for ever, and has each client served by a task of its own.
async fn accept_all<F>(listener: &TcpListener, serve: impl Fn(TcpStream, Place) -> F)
where
    F: Future<Output = ()> + 'static,
{
    let handshakes = Handshakes::new(HANDSHAKES_MAX);
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                if tcp::prepare(&socket).is_ok() {
                    // The next ones wait in the listener's backlog meanwhile.
                    let place = handshakes.enter().await;
                    tokio::task::spawn_local(serve(socket, place));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use flotilla_shared::broker::MemoryBus;
    use prometheus::Registry;

    use super::*;
    use crate::connection::tests::shard;

    #[tokio::test]
    async fn a_shard_that_hears_nothing_any_more_has_crashed() {
        let metrics = BrokerMetrics::register(&Registry::new()).unwrap();
        let brokers = Brokers::Memory(MemoryBus::default());
        let connection = brokers.connect("test", &metrics).await.unwrap();
        drop(connection.broker);
        let plan = DrainPlan {
            settle: Duration::ZERO,
            window: Duration::ZERO,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shard = shard().await;
        let errands = Shards::new(1).open(0);
        let serving = serve(&shard, &listener, connection.events, errands, plan);
        assert!(LocalSet::new().run_until(serving).await.is_err());
    }
}
