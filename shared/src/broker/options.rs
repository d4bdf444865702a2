//! The broker, as written in a configuration.
//!
//! Owns the options and what makes sense of them. Gateway and worker have them under the same key, `broker`.

mod secure;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Brokers, MemoryBus, MemoryLimits, NatsConfig, NatsHistory, is_subject_prefix};
use crate::config::{Problems, duration};
use crate::secret::Secret;

/// Which pub/sub system joins the fleet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BrokerKind {
    /// A NATS server or cluster.
    #[default]
    Nats,
    /// This process alone: a single worker that is joined with no other.
    Memory,
}

/// See the module's documentation.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BrokerOptions {
    /// Which pub/sub system joins the fleet: `nats` or `memory`.
    pub kind: BrokerKind,
    /// Options of the NATS connection.
    pub nats: NatsOptions,
    /// Options of `memory`.
    pub memory: MemoryOptions,
}

/// Options named `broker.memory.*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemoryOptions {
    /// Most memory, in bytes, for the histories of all channels together. When it is full, what would expire first is
    /// dropped, and whoever has missed that is told that it cannot be recovered.
    pub history_bytes: usize,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self {
            history_bytes: MemoryLimits::default().history_bytes,
        }
    }
}

/// Options named `broker.nats.*`.
///
/// At most one kind of login is given: a user with a password, a token, an nkey, credentials, or one in an address. Files
/// are read again for every connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NatsOptions {
    /// Addresses of one cluster: `nats://host:port` or `tls://host:port`, with `user:password@` or `token@` if need be.
    /// Any one that answers will do; the others are learnt.
    pub servers: Vec<String>,
    /// The name of the user to log in as.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<Secret>,
    /// A file that holds it, instead.
    pub password_file: Option<PathBuf>,
    /// The token to log in with.
    pub token: Option<Secret>,
    /// A file that holds it, instead.
    pub token_file: Option<PathBuf>,
    /// The seed (`SU...`) of the user's nkey to log in with.
    pub nkey_seed: Option<Secret>,
    /// A file that holds it, instead.
    pub nkey_seed_file: Option<PathBuf>,
    /// The content of the credentials file to log in with: a user's JWT and seed, as `nsc` writes them.
    pub credentials: Option<Secret>,
    /// The credentials file, instead.
    pub credentials_file: Option<PathBuf>,
    /// Options of connections with TLS. Setting any of them has the same effect as `tls://` in an address: no server is
    /// told anything without TLS. A server that wants TLS gets it in any case.
    pub tls: NatsTlsOptions,
    /// Stands before every subject. Fleets with different prefixes do not see each other.
    pub subject_prefix: String,
    /// How long one attempt to connect may take.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// How long a subscription, or a publication with history, may take to be confirmed, a history to be read, and a
    /// publication to find room in the connection.
    #[serde(with = "duration")]
    pub request_timeout: Duration,
    /// A connection that is silent for this long is probed; after two unanswered probes it counts as lost.
    #[serde(with = "duration")]
    pub ping_interval: Duration,
    /// How many messages of one channel may wait in the connection for their shard. When there are more, some are dropped
    /// and counted: what a channel keeps is read again, what it does not is lost.
    pub subscription_capacity: usize,
    /// How the histories of channels are stored, in JetStream.
    pub history: NatsHistoryOptions,
}

/// Options named `broker.nats.tls.*`. A server's certificate has to name the host by which it was reached; those of a
/// cluster also each address that the servers tell of each other (`client_advertise`).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NatsTlsOptions {
    /// Certificates, in PEM, of whoever vouches for the servers; without it, whom the system trusts.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate chain, in PEM, for servers that ask for one.
    pub certificate_file: Option<PathBuf>,
    /// Its private key, in PEM.
    pub key_file: Option<PathBuf>,
}

/// Where JetStream keeps histories.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NatsStorage {
    /// On disk: history outlives a restart of the servers.
    #[default]
    File,
    /// In memory: with one replica, a restart of the server begins all histories anew.
    Memory,
}

impl NatsStorage {
    /// As JetStream spells it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Memory => "memory",
        }
    }
}

/// Options named `broker.nats.history.*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NatsHistoryOptions {
    /// Streams per namespace that has a history, between which its channels are divided: more make reading cheaper, as
    /// the server skips the messages of the other channels one by one. Cannot be changed while the streams exist. A
    /// power of two, up to 1024.
    pub partitions: u32,
    /// Where the servers keep histories: `file` or `memory`. Cannot be changed while the streams exist.
    pub storage: NatsStorage,
    /// On how many servers of a cluster each publication is kept: 1 to 5.
    pub replicas: u32,
    /// Most publications of one worker's shard that wait for the server's confirmation; further ones wait their turn.
    pub publish_in_flight_max: usize,
}

impl Default for NatsHistoryOptions {
    fn default() -> Self {
        let NatsHistory {
            partitions,
            storage,
            replicas,
            publish_in_flight_max,
            ..
        } = NatsHistory::default();
        Self {
            partitions,
            storage,
            replicas,
            publish_in_flight_max,
        }
    }
}

impl NatsHistoryOptions {
    /// Most partitions. Each is a stream, for which the server has files and tasks.
    const PARTITIONS_MAX: u32 = 1024;

    /// Most appends in flight: the server drops what is too much for a stream to queue.
    const IN_FLIGHT_MAX: usize = 10_000;

    fn history(&self, key: &str, problems: &mut Problems) -> NatsHistory {
        let mut check = |option: &str, is_sound: bool, problem: String| {
            if !is_sound {
                problems.add(&format!("{key}.{option}"), problem);
            }
        };
        let partitions =
            self.partitions.is_power_of_two() && self.partitions <= Self::PARTITIONS_MAX;
        let most = Self::PARTITIONS_MAX;
        check(
            "partitions",
            partitions,
            format!("has to be a power of two, up to {most}"),
        );
        let replicas = (1..=5).contains(&self.replicas);
        check("replicas", replicas, "has to be between 1 and 5".to_owned());
        let most = Self::IN_FLIGHT_MAX;
        let in_flight = (1..=most).contains(&self.publish_in_flight_max);
        let problem = format!("has to be between 1 and {most}");
        check("publish_in_flight_max", in_flight, problem);
        NatsHistory {
            partitions: self.partitions,
            storage: self.storage,
            replicas: self.replicas,
            publish_in_flight_max: self.publish_in_flight_max,
            ..NatsHistory::default()
        }
    }
}

impl Default for NatsOptions {
    fn default() -> Self {
        let NatsConfig {
            servers,
            subject_prefix,
            connect_timeout,
            request_timeout,
            ping_interval,
            subscription_capacity,
            ..
        } = NatsConfig::default();
        let history = NatsHistoryOptions::default();
        Self {
            servers,
            user: None,
            password: None,
            password_file: None,
            token: None,
            token_file: None,
            nkey_seed: None,
            nkey_seed_file: None,
            credentials: None,
            credentials_file: None,
            tls: NatsTlsOptions::default(),
            subject_prefix,
            connect_timeout,
            request_timeout,
            ping_interval,
            subscription_capacity,
            history,
        }
    }
}

impl BrokerOptions {
    /// Where connections come from, for these options, which are found at `key` of the configuration. What is wrong
    /// with them is noted in `problems`.
    pub fn brokers(&self, key: &str, problems: &mut Problems) -> Brokers {
        match self.kind {
            BrokerKind::Memory => {
                Brokers::Memory(self.memory.bus(&format!("{key}.memory"), problems))
            }
            BrokerKind::Nats => Brokers::Nats(self.nats.config(&format!("{key}.nats"), problems)),
        }
    }
}

impl MemoryOptions {
    fn bus(&self, key: &str, problems: &mut Problems) -> MemoryBus {
        if self.history_bytes == 0 {
            problems.add(&format!("{key}.history_bytes"), "must not be zero");
        }
        MemoryBus::with_limits(MemoryLimits {
            history_bytes: self.history_bytes,
            ..MemoryLimits::default()
        })
    }
}

impl NatsOptions {
    fn config(&self, key: &str, problems: &mut Problems) -> NatsConfig {
        if self.servers.is_empty() {
            problems.add(&format!("{key}.servers"), "names no server");
        }
        if !is_subject_prefix(&self.subject_prefix) {
            let problem =
                "has to be one or more words of letters, digits, `-` and `_`, joined by dots";
            problems.add(&format!("{key}.subject_prefix"), problem);
        }
        let durations = [
            ("connect_timeout", self.connect_timeout),
            ("request_timeout", self.request_timeout),
            ("ping_interval", self.ping_interval),
        ];
        for (name, _) in durations.iter().filter(|(_, duration)| duration.is_zero()) {
            problems.add(&format!("{key}.{name}"), "must not be zero");
        }
        if self.subscription_capacity == 0 {
            problems.add(&format!("{key}.subscription_capacity"), "must not be zero");
        }
        NatsConfig {
            servers: self.servers.clone(),
            login: self.login(key, problems).into(),
            tls: self.tls.files(&format!("{key}.tls"), problems).into(),
            subject_prefix: self.subject_prefix.clone(),
            connect_timeout: self.connect_timeout,
            request_timeout: self.request_timeout,
            ping_interval: self.ping_interval,
            subscription_capacity: self.subscription_capacity,
            history: self.history.history(&format!("{key}.history"), problems),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{Append, BrokerMetrics, HistoryQuery, Retention};
    use crate::channel::Channel;

    /// How many of 100 publications of 1000 bytes each are kept.
    async fn kept(history_bytes: usize) -> usize {
        let options = BrokerOptions {
            kind: BrokerKind::Memory,
            memory: MemoryOptions { history_bytes },
            ..BrokerOptions::default()
        };
        let brokers = options.brokers("broker", &mut Problems::default());
        let metrics = BrokerMetrics::register(&prometheus::Registry::new()).unwrap();
        let connection = brokers.connect("test", &metrics).await.unwrap();
        let broker = &connection.broker;
        let channel = Channel::parse("news", 255).unwrap();
        let retention = Retention {
            size: 1000,
            ttl: Duration::from_secs(60),
            meta_ttl: Duration::from_secs(60),
        };
        for _ in 0..100 {
            let append = Append {
                payload: vec![b'x'; 1000].into(),
                ..Append::default()
            };
            broker.append(&channel, retention, append).await.unwrap();
        }
        let all = HistoryQuery {
            limit: usize::MAX,
            ..HistoryQuery::default()
        };
        let page = broker.history(&channel, retention, all).await.unwrap();
        page.publications.len()
    }

    #[tokio::test]
    async fn the_memory_for_histories_is_what_the_option_says() {
        assert_eq!(kept(MemoryOptions::default().history_bytes).await, 100);
        let few = kept(50_000).await;
        assert!((20..50).contains(&few), "{few}");
    }

    #[test]
    fn no_memory_for_histories_is_a_mistake() {
        let mut problems = Problems::default();
        let options = MemoryOptions { history_bytes: 0 };
        options.bus("broker.memory", &mut problems);
        let errors = problems.finish(Some(())).unwrap_err();
        assert!(errors.to_string().contains("broker.memory.history_bytes"));
    }
}
