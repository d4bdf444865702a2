//! Looking after the streams: that there is one for each partition, that it is what the configuration says, and that it
//! has not lost what was seen of it.
//!
//! One pass does all of that for all namespaces: at the start, after a reconnect, and whenever a stream does not answer.
//! Within a process there is one pass at a time, and whoever waits for it need not make another. Between processes the
//! server decides: of two streams with the same subjects it refuses the second, or, if both came at the same moment, the
//! one that was created first stays.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::History;
use super::api::{Refusal, StreamInfo, StreamList, metadata, no_jetstream};
use super::format::{self, PARTITIONS, SIZE_MIN};
use super::lives::Current;
use crate::broker::{BrokerError, IDEMPOTENCY_WINDOW, Retention};

/// Requests to create a stream that are open at the same time.
const CREATING: usize = 16;

/// How often the streams are looked up again because somebody else creates them, too.
const ROUNDS: usize = 5;

/// How long a stream with replicas may seem to have lost something: a new leader may have to catch up first.
const SUSPICION: Duration = Duration::from_secs(1);

/// The server takes no shorter ones.
const MAX_AGE_MIN: Duration = Duration::from_millis(100);

impl History {
    /// Makes sure that the streams have been looked after since `since`, or ever.
    pub(super) async fn settle(&self, since: Option<Instant>) -> Result<(), BrokerError> {
        let mut settled = self.config.lives.settled.lock().await;
        if settled.is_some_and(|settled| since.is_none_or(|since| settled >= since)) {
            return Ok(());
        }
        let (began, is_first) = (Instant::now(), settled.is_none());
        for (namespace, retention) in &self.config.namespaces {
            self.settle_namespace(namespace, *retention, is_first)
                .await
                .map_err(|refusal| match refusal {
                    Refusal::Failed(error) => error,
                    Refusal::NoStream if is_first => no_jetstream(),
                    Refusal::NoStream => unavailable("JetStream does not answer"),
                    Refusal::NotNow(reason) => BrokerError::Unavailable(reason),
                    _ => unavailable("the streams change all the time"),
                })?;
        }
        *settled = Some(began);
        self.config.lives.trust(began);
        Ok(())
    }

    async fn settle_namespace(
        &self,
        namespace: &str,
        retention: Retention,
        is_first: bool,
    ) -> Result<(), Refusal> {
        let subjects = format::subjects_of(&self.prefix, namespace);
        let mut suspected = HashSet::new();
        for _ in 0..ROUNDS {
            // Before asking: a stream that has got further meanwhile has lost nothing.
            let seen = self.config.lives.seen();
            let listed = self.api.list(&format!("{subjects}>")).await?;
            let listed = self.only_first(listed).await?;
            let mut found = self.check(namespace, retention, &listed)?;
            let mut is_sure = true;
            for info in &listed.streams {
                let name = name_of(info)?;
                let is_behind = seen
                    .get(name)
                    .is_some_and(|seen| info.state.last_seq < *seen);
                let is_lost = self
                    .config
                    .lives
                    .meet(name)
                    .is_some_and(|life| life.is_lost());
                if is_behind
                    && !is_lost
                    && self.config.replicas > 1
                    && suspected.insert(name.to_owned())
                {
                    is_sure = false;
                } else if is_behind || is_lost {
                    tracing::warn!("a stream has lost what it had: its histories begin anew");
                    self.api.delete(name).await?;
                    found.retain(|_, current| !current.life.is_named(name));
                } else if is_first {
                    self.adapt(name, info, retention).await?;
                }
            }
            if !is_sure {
                sleep(SUSPICION).await;
                continue;
            }
            let missing = (0..self.config.partitions).filter(|at| !found.contains_key(at));
            let missing: Vec<u32> = missing.collect();
            if missing.is_empty() {
                self.config.lives.set(namespace, found);
                return Ok(());
            }
            let creating = stream::iter(missing)
                .map(|partition| self.create(namespace, partition, retention))
                .buffer_unordered(CREATING);
            // What exists now, by whomever, the next round finds.
            creating.try_collect::<()>().await?;
        }
        Err(Refusal::Conflict)
    }

    /// A server that is asked twice at the same time may create two streams for a partition. The first one stays.
    async fn only_first(&self, listed: StreamList) -> Result<StreamList, Refusal> {
        let mut firsts: HashMap<u32, (SystemTime, StreamInfo)> = HashMap::new();
        let mut only = StreamList {
            silent: listed.silent,
            ..StreamList::default()
        };
        for info in listed.streams {
            let created = humantime::parse_rfc3339(&info.created).unwrap_or(UNIX_EPOCH);
            let Some((partition, _)) = format::read_name(name_of(&info)?) else {
                only.streams.push(info);
                continue;
            };
            let this = (created, info);
            let Some(other) = firsts.remove(&partition) else {
                firsts.insert(partition, this);
                continue;
            };
            let is_first = (this.0, name_of(&this.1)?) < (other.0, name_of(&other.1)?);
            let (first, second) = if is_first {
                (this, other)
            } else {
                (other, this)
            };
            self.api.delete(name_of(&second.1)?).await?;
            firsts.insert(partition, first);
        }
        only.streams
            .extend(firsts.into_values().map(|(_, info)| info));
        Ok(only)
    }

    /// What was found, by partition.
    fn check(
        &self,
        namespace: &str,
        retention: Retention,
        listed: &StreamList,
    ) -> Result<HashMap<u32, Current>, Refusal> {
        let mut found = HashMap::new();
        let silent = listed.silent.iter().map(|name| (name.as_str(), None));
        let streams = listed
            .streams
            .iter()
            .map(|info| Ok((name_of(info)?, Some(info))));
        for stream in streams.chain(silent.map(Ok::<_, Refusal>)) {
            let (name, info) = stream?;
            let read = format::read_name(name).zip(self.config.lives.meet(name));
            let Some(((partition, _), life)) = read else {
                let reason = format!("the stream {name} has subjects that the histories need");
                return Err(BrokerError::Refused(reason).into());
            };
            let mut size_min = u64::from(retention.size);
            if let Some(info) = info {
                self.check_config(namespace, name, &info.config)?;
                let metadata = metadata(&info.config);
                let written = metadata.get(SIZE_MIN).and_then(|text| text.parse().ok());
                size_min = size_min.min(written.unwrap_or_default());
            }
            found.insert(partition, Current { life, size_min });
        }
        Ok(found)
    }

    /// What cannot be changed has to be as configured.
    fn check_config(&self, namespace: &str, name: &str, config: &Value) -> Result<(), Refusal> {
        let configured = self.config.partitions.to_string();
        let partitions = metadata(config).get(PARTITIONS).copied().unwrap_or("?");
        let storage = config.get("storage").and_then(Value::as_str).unwrap_or("?");
        let mismatch = if partitions != configured {
            format!("has {partitions} partitions, not {configured}")
        } else if storage != self.config.storage.name() {
            let configured = self.config.storage.name();
            format!("has {storage} storage, not {configured}")
        } else {
            return Ok(());
        };
        let shown = if namespace.is_empty() {
            "channels without a namespace"
        } else {
            namespace
        };
        let reason = format!(
            "the history of {shown} {mismatch} (stream {name}): configure what it has, or delete its streams"
        );
        Err(BrokerError::Refused(reason).into())
    }

    /// Changes what can be changed, if it is not as configured.
    async fn adapt(
        &self,
        name: &str,
        info: &StreamInfo,
        retention: Retention,
    ) -> Result<(), Refusal> {
        let mut config = info.config.clone();
        let size_min = metadata(&config)
            .get(SIZE_MIN)
            .and_then(|text| text.parse().ok());
        let size_min = u64::from(retention.size).min(size_min.unwrap_or_default());
        for (option, value) in self.options(retention) {
            config[option] = value;
        }
        config["metadata"][SIZE_MIN] = json!(size_min.to_string());
        if config == info.config {
            return Ok(());
        }
        tracing::info!(stream = name, "the retention of a stream changes");
        self.api.update(name, &config).await
    }

    async fn create(
        &self,
        namespace: &str,
        partition: u32,
        retention: Retention,
    ) -> Result<(), Refusal> {
        let name = format::new_name(&self.prefix, namespace, partition);
        let subjects = format!(
            "{}{partition}.*",
            format::subjects_of(&self.prefix, namespace)
        );
        let live = format!("{}.ch.{{{{wildcard(1)}}}}", self.prefix);
        let mut config = json!({
            "name": name,
            "subjects": [subjects],
            "retention": "limits",
            "discard": "old",
            "storage": self.config.storage.name(),
            "allow_direct": true,
            "republish": { "src": subjects, "dest": live },
            "metadata": {
                PARTITIONS: self.config.partitions.to_string(),
                SIZE_MIN: retention.size.to_string(),
            },
        });
        for (option, value) in self.options(retention) {
            config[option] = value;
        }
        match self.api.create(&name, &config).await {
            Err(Refusal::Conflict) => Ok(()),
            other => other,
        }
    }

    /// The options of a stream that follow from the configuration and may change with it. One message more than a
    /// channel's history has is kept as proof that nothing is missing behind it.
    fn options(&self, retention: Retention) -> [(&'static str, Value); 4] {
        let max_age = retention.meta_ttl.max(MAX_AGE_MIN);
        let nanoseconds = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        [
            ("max_msgs_per_subject", json!(u64::from(retention.size) + 1)),
            ("max_age", json!(nanoseconds(max_age))),
            (
                "duplicate_window",
                json!(nanoseconds(IDEMPOTENCY_WINDOW.min(max_age))),
            ),
            ("num_replicas", json!(self.config.replicas)),
        ]
    }
}

fn name_of(info: &StreamInfo) -> Result<&str, Refusal> {
    let name = info.config.get("name").and_then(Value::as_str);
    name.ok_or_else(|| BrokerError::Refused("a stream has no name".to_owned()).into())
}

fn unavailable(reason: &str) -> BrokerError {
    BrokerError::Unavailable(reason.to_owned())
}
