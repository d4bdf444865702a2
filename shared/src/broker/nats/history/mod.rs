//! Histories in JetStream: see `format` for how they are written.
//!
//! The stream is the only sequencer: the offset of a publication is its sequence in the partition's stream. What is
//! stored, the server publishes again on the live subject, where `table` reads its place off its headers. `lives` is
//! what is known of the streams, `settle` looks after them, `append` writes, `read` and `ends` read, `page` judges what
//! was read, `api` speaks with the server.
//!
//! Besides what every process of its kind needs, one that keeps histories subscribes to `<prefix>.inbox.>`, where answers
//! come, and publishes to these subjects, where `<stream>` is a name that begins with the prefix (its dots written as `-`)
//! and `_`:
//!
//! - `<prefix>.h.>`
//! - `$JS.API.STREAM.LIST`
//! - `$JS.API.STREAM.CREATE.<stream>`, `$JS.API.STREAM.UPDATE.<stream>`, `$JS.API.STREAM.DELETE.<stream>`
//! - `$JS.API.STREAM.PURGE.<stream>`
//! - `$JS.API.STREAM.INFO.<stream>`, `$JS.API.STREAM.MSG.GET.<stream>` with more than one replica
//! - `$JS.API.DIRECT.GET.<stream>`
//!
//! NATS cannot match a part of a name, so that permissions have `*` for the stream.
//!
//! One thing cannot be proved: who holds offset 0, of a channel that had no publications yet, and comes back after
//! more than the namespace's `history_meta_ttl`, is not told of publications that have expired altogether meanwhile.

mod api;
mod append;
mod config;
mod ends;
mod format;
mod lives;
mod page;
mod read;
mod settle;
mod stored;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use async_nats::Client;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use self::api::{Api, Refusal};
use self::format::Place;
use self::lives::Current;
use super::NatsConfig;
use super::link::Link;
use crate::broker::{
    Append, Appended, BrokerError, HistoryPage, HistoryQuery, Retention, StreamPosition,
};
use crate::channel::Channel;

pub use self::config::NatsHistory;
pub(super) use self::format::Republished;
pub(super) use self::lives::{Life, Lives};

/// The oldest server with all that is needed: batched direct gets.
const SERVER_MIN: (i64, i64, i64) = (2, 11, 0);

/// Answers that a connection for reading takes in at once: those of a batch, and its end.
pub(super) const READER_CAPACITY: usize = 2 * read::BATCH_MAX;

/// For what part of its time a call tries again, so that it can still say what is the matter.
const PERSISTENCE: f64 = 0.75;

/// How long to leave servers that elect a leader before asking again.
const ELECTION: Duration = Duration::from_millis(100);

/// The histories, as one connection reaches them.
pub(super) struct History {
    config: NatsHistory,
    prefix: String,
    /// Appends and requests, on the connection of all else.
    api: Api,
    /// Reads, on a connection of their own.
    reader: Api,
    window: Semaphore,
    patience: Duration,
}

impl History {
    /// Looks after the streams, unless this process has done so already.
    pub(super) async fn start(
        config: &NatsConfig,
        (client, reader): (Client, Client),
        link: &Link,
    ) -> Result<Self, BrokerError> {
        let patience = config.request_timeout;
        let (major, minor, patch) = SERVER_MIN;
        if !client.is_server_compatible(major, minor, patch) {
            let version = client.server_info().version;
            let reason = format!("history needs NATS {major}.{minor}, and this is {version}");
            return Err(BrokerError::Refused(reason));
        }
        let window = Semaphore::new(config.history.publish_in_flight_max);
        let history = Self {
            config: config.history.clone(),
            prefix: config.subject_prefix.clone(),
            api: Api { client, patience },
            reader: Api {
                client: reader,
                patience,
            },
            window,
            patience,
        };
        match history.settle(None).await {
            Err(BrokerError::Timeout) if link.is_denied() => {
                let reason = "NATS permissions do not allow the subjects that history needs";
                Err(BrokerError::Refused(reason.to_owned()))
            }
            settled => settled.map(|()| history),
        }
    }

    /// What is known of the streams.
    pub(super) fn lives(&self) -> &Lives {
        &self.config.lives
    }

    /// After a lost connection the streams may be others. Where this fails, whoever needs one tries again.
    pub(super) async fn restore(&self) {
        self.lives().doubt();
        if let Err(error) = self.bounded(self.trust()).await {
            tracing::warn!(%error, "cannot look after the histories yet");
        }
    }

    pub(super) async fn append(
        &self,
        channel: &Channel,
        append: &Append,
    ) -> Result<Appended, BrokerError> {
        let place = &self.place(channel)?;
        let appending = async {
            let permit = self.window.acquire().await;
            let _permit = permit.map_err(|_| BrokerError::Closed)?;
            let append_once = |current| async move {
                let current: Current = current;
                self.append_once(place, &current, append).await
            };
            self.persist(place, append_once).await
        };
        self.bounded(appending).await
    }

    pub(super) async fn read(
        &self,
        channel: &Channel,
        retention: Retention,
        query: HistoryQuery,
    ) -> Result<HistoryPage, BrokerError> {
        let place = &self.place(channel)?;
        let read_once = |current| async move {
            let current: Current = current;
            self.read_once(place, &current, retention, query).await
        };
        self.bounded(self.persist(place, read_once)).await
    }

    pub(super) async fn ends(
        &self,
        channels: &[Channel],
    ) -> Result<Vec<StreamPosition>, BrokerError> {
        let places = channels.iter().map(|channel| self.place(channel));
        let places: Vec<Place> = places.collect::<Result<_, _>>()?;
        let mut partitions: BTreeMap<(&str, u32), Vec<usize>> = BTreeMap::new();
        for (at, place) in places.iter().enumerate() {
            let partition = (place.namespace.as_str(), place.partition);
            partitions.entry(partition).or_default().push(at);
        }
        let reading = async {
            let mut ends = vec![None; places.len()];
            for indices in partitions.into_values() {
                let asked: Vec<&Place> = indices.iter().map(|at| &places[*at]).collect();
                let Some(first) = asked.first().copied() else {
                    continue;
                };
                let asked = &asked;
                let ends_once = |current| async move {
                    let current: Current = current;
                    self.ends_once(asked, &current).await
                };
                let found = self.persist(first, ends_once).await?;
                for (at, end) in indices.into_iter().zip(found) {
                    ends[at] = Some(end);
                }
            }
            let ends: Option<Vec<_>> = ends.into_iter().collect();
            ends.ok_or_else(|| BrokerError::Unavailable("an end was not told".to_owned()))
        };
        self.bounded(reading).await
    }

    pub(super) async fn remove(&self, channel: &Channel) -> Result<(), BrokerError> {
        let place = &self.place(channel)?;
        let remove_once = |current| async move {
            let current: Current = current;
            self.remove_once(place, &current).await
        };
        self.bounded(self.persist(place, remove_once)).await
    }

    fn place(&self, channel: &Channel) -> Result<Place, BrokerError> {
        if self.config.retention(channel.namespace()).is_none() {
            let reason = "no history is configured for the channel's namespace";
            return Err(BrokerError::Refused(reason.to_owned()));
        }
        Place::of(&self.prefix, channel, self.config.partitions)
    }

    /// Does something with the stream of a partition: with another one if that is gone, and later if it has no leader.
    async fn persist<T, F: Future<Output = Result<T, Refusal>>>(
        &self,
        place: &Place,
        act: impl Fn(Current) -> F,
    ) -> Result<T, BrokerError> {
        let mut reason = "the channel's stream does not answer".to_owned();
        let started = Instant::now();
        while started.elapsed() < self.patience.mul_f64(PERSISTENCE) {
            let began = Instant::now();
            match self.attempt(place, &act).await {
                Ok(done) => return Ok(done),
                Err(Refusal::Failed(error)) => return Err(error),
                Err(Refusal::Behind) => sleep(read::CATCH_UP).await,
                Err(Refusal::NotNow(told)) => {
                    reason = told;
                    sleep(ELECTION).await;
                }
                // It may be another one now. If it is the same, it may get a leader.
                Err(Refusal::NoStream | Refusal::Conflict) => {
                    match self.settle(Some(began)).await {
                        Ok(()) => sleep(read::CATCH_UP).await,
                        Err(error) if error.is_temporary() => sleep(ELECTION).await,
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Err(BrokerError::Unavailable(reason))
    }

    async fn attempt<T, F: Future<Output = Result<T, Refusal>>>(
        &self,
        place: &Place,
        act: &impl Fn(Current) -> F,
    ) -> Result<T, Refusal> {
        self.trust().await?;
        let current = self.lives().current(&place.namespace, place.partition);
        act(current.ok_or(Refusal::NoStream)?).await
    }

    /// Makes sure that what is known of the streams can be relied on.
    async fn trust(&self) -> Result<(), BrokerError> {
        match self.lives().doubted() {
            None => Ok(()),
            since => self.settle(since).await,
        }
    }

    async fn bounded<T>(
        &self,
        doing: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        let done = timeout(self.patience, doing).await;
        done.unwrap_or(Err(BrokerError::Timeout))
    }
}
