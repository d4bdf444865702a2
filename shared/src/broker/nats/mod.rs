//! The broker for production: core NATS, one subject per topic, so that each process receives only what it wants.
//!
//! This folder is the only place that knows `async_nats`. `address` reads the configured servers, `login` and `tls` say
//! who we are and whom we trust, `subject` spells topics, `table` holds the subscriptions and gathers their messages,
//! `keeper` is the task that opens and restores them, `link` is what the parts share; `history` keeps what channels with
//! a history remember, in JetStream.
//!
//! async-nats reconnects by itself and sends all subscriptions anew. What it does not do, and this adapter adds: a
//! barrier that proves a subscription, refusing to publish into a connection that is gone, and telling what was lost.

mod address;
mod history;
mod keeper;
mod link;
mod login;
mod subject;
mod table;
mod tls;

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectErrorKind, ConnectOptions, PublishError, PublishErrorKind};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::coop;
use tokio::time::timeout;
use uuid::Uuid;

use self::address::{MalformedAddress, Servers};
use self::history::{History, READER_CAPACITY};
use self::keeper::{Keeper, OPENS_QUEUED, Open};
use self::link::Link;
use self::login::introduce;
use self::subject::Subjects;
use self::tls::tls_failure;
use super::{
    Append, Appended, Broker, BrokerConnection, BrokerError, BrokerEvent, BrokerEvents,
    BrokerMetrics, HistoryPage, HistoryQuery, Retention, StreamPosition, Topic,
};
use crate::channel::Channel;

pub use self::history::NatsHistory;
pub use self::login::{NatsLogin, NatsSecret};
pub use self::subject::is_subject_prefix;
pub use self::tls::NatsTls;
pub(super) use self::tls::{check_ca, check_pair};

/// Bytes asked for in one read. A turn of the client's task makes at most 128 reads (tokio's cooperative budget), which
/// bounds what can pile up before the listener has its turn: see [`NatsConfig::subscription_capacity`].
const READ_BYTES: u16 = 16 * 1024;

/// First and longest pause between attempts to reconnect.
const RECONNECT_DELAY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// How to reach NATS.
#[derive(Clone)]
pub struct NatsConfig {
    /// Addresses of one cluster: `nats://host:port`, `tls://host:port`, with `user:password@` or `token@` if need be.
    /// Any one that answers will do; the others are learnt.
    pub servers: Vec<String>,
    /// Who we are, if it is not said in an address.
    pub login: Arc<NatsLogin>,
    /// Whom we trust.
    pub tls: Arc<NatsTls>,
    /// Stands before every subject; see [`is_subject_prefix`]. Fleets with different prefixes do not see each other.
    pub subject_prefix: String,
    /// How long one attempt to connect may take.
    pub connect_timeout: Duration,
    /// How long a subscription may take to be confirmed, and a publish to find room in the connection.
    pub request_timeout: Duration,
    /// A connection that is silent for this long is probed; after two unanswered probes it counts as lost.
    pub ping_interval: Duration,
    /// How many messages wait per subscription before more are dropped (and reported).
    ///
    /// The default holds what one turn of the client's task can read of messages of some 100 bytes and more, so a
    /// listener that takes turns with it loses nothing. It costs no memory until it is used.
    pub subscription_capacity: usize,
    /// Which channels have a history, and how it is stored.
    pub history: NatsHistory,
}

impl Default for NatsConfig {
    fn default() -> Self {
        Self {
            servers: vec!["nats://127.0.0.1:4222".to_owned()],
            login: Arc::default(),
            tls: Arc::default(),
            subject_prefix: "flotilla".to_owned(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(5),
            ping_interval: Duration::from_secs(10),
            subscription_capacity: 16_384,
            history: NatsHistory::default(),
        }
    }
}

impl fmt::Debug for NatsConfig {
    /// Leaves the servers out: their addresses may carry passwords.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("NatsConfig")
            .field("subject_prefix", &self.subject_prefix)
            .finish_non_exhaustive()
    }
}

/// The address that this machine has towards the first server.
pub(super) fn local_address(config: &NatsConfig) -> Option<IpAddr> {
    Servers::parse(&config.servers).ok()?.local_address()
}

/// Whether a login is in the addresses.
pub(super) fn has_login(servers: &[String]) -> Result<bool, MalformedAddress> {
    Ok(Servers::parse(servers)?.login.is_some())
}

/// Opens a connection and passes the first barrier on it.
pub(super) async fn connect(
    config: &NatsConfig,
    name: &str,
    metrics: &BrokerMetrics,
) -> Result<BrokerConnection, BrokerError> {
    let subjects = Subjects::new(&config.subject_prefix)?;
    let servers = Servers::parse(&config.servers)
        .map_err(|error| BrokerError::Refused(format!("NATS server {error}")))?;
    let link = Arc::new(Link::new(metrics, &config.history));
    let noted = Arc::clone(&link);
    let client = options(config, &servers, &subjects, name)
        .event_callback(move |event| {
            noted.note(event);
            std::future::ready(())
        })
        .connect(servers.addresses.clone())
        .await
        .map_err(|error| connect_error(&error))?;
    let barrier = subjects.barrier(&Uuid::new_v4().simple().to_string());
    let patience = config.request_timeout;
    let started = Keeper::start(
        client.clone(),
        Arc::clone(&link),
        metrics,
        barrier,
        patience,
    )
    .await;
    let keeper = match started {
        Err(BrokerError::Timeout) if link.is_denied() => {
            let allow = format!("NATS permissions do not allow {}.>", config.subject_prefix);
            return Err(BrokerError::Refused(allow));
        }
        other => other?,
    };
    let history = if config.history.namespaces.is_empty() {
        None
    } else {
        let reader = options(config, &servers, &subjects, &format!("{name} (history)"))
            .subscription_capacity(READER_CAPACITY)
            .connect(servers.addresses)
            .await
            .map_err(|error| connect_error(&error))?;
        let clients = (client.clone(), reader);
        Some(Arc::new(History::start(config, clients, &link).await?))
    };
    let (opens, wishes) = mpsc::channel(OPENS_QUEUED);
    tokio::spawn(keeper.run(wishes, history.clone()));
    let events = Box::new(NatsEvents {
        link: Arc::clone(&link),
    });
    let request_timeout = config.request_timeout;
    let metrics = metrics.clone();
    let broker = Arc::new(NatsBroker {
        client,
        subjects,
        link,
        opens,
        history,
        request_timeout,
        metrics,
    });
    Ok(BrokerConnection { broker, events })
}

fn options(
    config: &NatsConfig,
    servers: &Servers,
    subjects: &Subjects,
    name: &str,
) -> ConnectOptions {
    let login = match &servers.login {
        Some(login) => Arc::new(login.clone()),
        None => Arc::clone(&config.login),
    };
    let options =
        ConnectOptions::with_auth_callback(move |nonce| introduce(Arc::clone(&login), nonce));
    let is_tls_required = servers.want_tls() || config.tls.is_wanted();
    config
        .tls
        .apply(options, is_tls_required)
        .name(name)
        .connection_timeout(config.connect_timeout)
        .ping_interval(config.ping_interval)
        .subscription_capacity(config.subscription_capacity)
        .read_buffer_capacity(READ_BYTES)
        .max_reconnects(None)
        .reconnect_delay_callback(reconnect_delay)
        .custom_inbox_prefix(subjects.inboxes())
}

/// Doubles from attempt to attempt. Half of it is chance, so that a fleet does not return in step.
fn reconnect_delay(attempts: usize) -> Duration {
    let (first, longest) = RECONNECT_DELAY;
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
    let delay = first
        .saturating_mul(2_u32.saturating_pow(doublings))
        .min(longest);
    delay.mul_f64(rand::random_range(0.5..=1.0))
}

fn connect_error(error: &async_nats::ConnectError) -> BrokerError {
    if let Some(failure) = tls_failure(error) {
        return BrokerError::Refused(format!("no TLS with the NATS server: {failure}"));
    }
    match error.kind() {
        ConnectErrorKind::Authentication => {
            // The library's own word for it is about signatures.
            let reason = error.source().map(ToString::to_string);
            BrokerError::Refused(format!("no login for NATS: {}", reason.unwrap_or_default()))
        }
        ConnectErrorKind::AuthorizationViolation => {
            BrokerError::Refused("NATS does not accept the login".to_owned())
        }
        ConnectErrorKind::ServerParse | ConnectErrorKind::Tls => {
            BrokerError::Refused(error.to_string())
        }
        ConnectErrorKind::Dns
        | ConnectErrorKind::TimedOut
        | ConnectErrorKind::Io
        | ConnectErrorKind::MaxReconnects => BrokerError::Unreachable(error.to_string()),
    }
}

/// The half that acts.
struct NatsBroker {
    client: Client,
    subjects: Subjects,
    link: Arc<Link>,
    opens: mpsc::Sender<Open>,
    history: Option<Arc<History>>,
    request_timeout: Duration,
    metrics: BrokerMetrics,
}

impl NatsBroker {
    /// Commands given to a client that is not connected would wait in it for as long as that takes.
    fn check_connected(&self) -> Result<(), BrokerError> {
        if self.is_connected() {
            Ok(())
        } else if self.link.is_closed() {
            Err(BrokerError::Closed)
        } else {
            Err(BrokerError::Disconnected)
        }
    }

    /// What keeps the histories, if it can be reached.
    fn history(&self) -> Result<&History, BrokerError> {
        self.check_connected()?;
        self.history.as_deref().ok_or_else(BrokerError::no_history)
    }

    async fn open(&self, topic: &Topic, token: u64) -> Result<(), BrokerError> {
        self.check_connected()?;
        let subject = self.subjects.topic(topic)?;
        let reservation = self.link.table.reserve(token)?;
        let (done, answer) = oneshot::channel();
        let wish = Open {
            subject,
            token,
            serial: reservation.serial(),
            done,
        };
        let granted = async {
            self.opens
                .send(wish)
                .await
                .map_err(|_| BrokerError::Closed)?;
            answer.await.unwrap_or(Err(BrokerError::Closed))
        };
        timeout(self.request_timeout, granted)
            .await
            .unwrap_or(Err(BrokerError::Timeout))?;
        if reservation.keep() {
            Ok(())
        } else {
            Err(BrokerError::Refused(
                "unsubscribed while opening".to_owned(),
            ))
        }
    }

    async fn send(&self, topic: &Topic, payload: Bytes) -> Result<(), BrokerError> {
        self.check_connected()?;
        let subject = self.subjects.topic(topic)?;
        let size = payload.len();
        let sent = timeout(self.request_timeout, self.client.publish(subject, payload)).await;
        sent.map_err(|_| BrokerError::Timeout)?
            .map_err(|error| self.publish_error(&error, size))
    }

    fn publish_error(&self, error: &PublishError, size: usize) -> BrokerError {
        match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => BrokerError::TooLarge {
                size,
                limit: self.client.max_payload(),
            },
            PublishErrorKind::InvalidSubject => BrokerError::Refused(error.to_string()),
            PublishErrorKind::Send => BrokerError::Closed,
        }
    }
}

#[async_trait]
impl Broker for NatsBroker {
    async fn subscribe(&self, topic: &Topic, token: u64) -> Result<(), BrokerError> {
        self.open(topic, token)
            .await
            .inspect_err(|error| self.metrics.failed(error))
    }

    fn unsubscribe(&self, token: u64) {
        self.link.table.remove(token);
    }

    async fn publish(&self, topic: &Topic, payload: Bytes) -> Result<(), BrokerError> {
        let size = payload.len();
        let outcome = self.send(topic, payload).await;
        match &outcome {
            Ok(()) => self.metrics.sent(size),
            Err(error) => self.metrics.failed(error),
        }
        outcome
    }

    async fn append(
        &self,
        channel: &Channel,
        _: Retention,
        append: Append,
    ) -> Result<Appended, BrokerError> {
        let size = append.payload.len();
        let appended = match self.history() {
            Ok(history) => history.append(channel, &append).await,
            Err(error) => Err(error),
        };
        match &appended {
            Ok(appended) => self.metrics.appended(appended, size),
            Err(error) => self.metrics.failed(error),
        }
        appended
    }

    async fn history(
        &self,
        channel: &Channel,
        retention: Retention,
        query: HistoryQuery,
    ) -> Result<HistoryPage, BrokerError> {
        let page = match self.history() {
            Ok(history) => history.read(channel, retention, query).await,
            Err(error) => Err(error),
        };
        match &page {
            Ok(page) => self.metrics.read(page),
            Err(error) => self.metrics.failed(error),
        }
        page
    }

    async fn ends(&self, channels: &[Channel]) -> Result<Vec<StreamPosition>, BrokerError> {
        let ends = match self.history() {
            Ok(history) => history.ends(channels).await,
            Err(error) => Err(error),
        };
        ends.inspect_err(|error| self.metrics.failed(error))
    }

    async fn remove_history(&self, channel: &Channel) -> Result<(), BrokerError> {
        let removed = match self.history() {
            Ok(history) => history.remove(channel).await,
            Err(error) => Err(error),
        };
        removed.inspect_err(|error| self.metrics.failed(error))
    }

    fn is_connected(&self) -> bool {
        self.link.is_up() && self.client.connection_state() == State::Connected
    }
}

impl Drop for NatsBroker {
    fn drop(&mut self) {
        self.link.close();
    }
}

/// The half that listens.
struct NatsEvents {
    link: Arc<Link>,
}

#[async_trait]
impl BrokerEvents for NatsEvents {
    async fn next_batch(&mut self, batch: &mut Vec<BrokerEvent>) -> bool {
        // tokio would end the turn after 128 messages; a batch has bounds of its own. In exchange it costs one unit of
        // the budget, so that a busy listener still lets other tasks of its thread run.
        coop::consume_budget().await;
        coop::unconstrained(poll_fn(|context| {
            self.link.table.poll_batch(context, batch)
        }))
        .await
    }
}

impl Drop for NatsEvents {
    /// Without a listener nothing must be queued any more.
    fn drop(&mut self) {
        self.link.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_to_reconnect_slow_down_but_never_stop() {
        let (first, longest) = RECONNECT_DELAY;
        for attempts in [0, 1] {
            assert!(reconnect_delay(attempts) <= first);
        }
        for attempts in [10, 100, usize::MAX] {
            let delay = reconnect_delay(attempts);
            assert!(longest / 2 <= delay && delay <= longest, "{delay:?}");
        }
    }
}
