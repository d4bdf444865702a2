//! Who is in the fleet, and how loaded.
//!
//! Owns: the messages in which workers and gateways speak of themselves, and the table that a listener makes of them. The table is
//! pure: it is fed messages and the time, and knows neither the broker that carried them nor what they are for.
//!
//! Each announces itself at short intervals and whenever its phase changes. An entry lives as long as its lease:
//! who has not been heard of for that long is gone, however it went.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::lifecycle::Phase;

/// How long an entry lives without being announced again.
pub const LEASE: Duration = Duration::from_secs(5);

/// Most workers, and most gateways, in a table; announcements of more are not taken in.
pub const ENTRIES_MAX: usize = 4096;

/// Longest `id`, `address` and `version` that are taken in, in bytes.
const TEXT_MAX_BYTES: usize = 255;

/// One life of a worker, from its start to its end. A worker that is started again may have its old name, and nothing else
/// of what it had.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Life(pub u64);

impl Life {
    /// Of a worker of a version that does not tell.
    pub const UNKNOWN: Self = Self(0);

    /// One that was never there before.
    #[must_use]
    pub fn draw() -> Self {
        Self(rand::random_range(1..=u64::MAX))
    }
}

/// What a worker says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerEntry {
    /// Its name, unique in the fleet.
    pub id: String,
    /// Which of this name it is.
    #[serde(default)]
    pub life: Life,
    /// `host:port` of its client listener.
    pub address: String,
    /// Only a worker that is [`Phase::Serving`] takes new clients.
    pub phase: Phase,
    /// Open client connections.
    pub connections: u64,
    /// Most connections it takes.
    pub connections_limit: u64,
    /// Its version, for people and for rolling upgrades.
    pub version: String,
    /// How often it could not tell channels who comes and goes. Whoever relies on that asks when the number changes.
    #[serde(default)]
    pub missed: u64,
}

/// What a gateway says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayEntry {
    /// Its name, unique in the fleet: each life of a gateway has another one.
    pub id: String,
    /// `host:port` of its client listener.
    pub address: String,
    /// Only a gateway that is [`Phase::Serving`] takes new clients.
    pub phase: Phase,
    /// Open client connections.
    pub connections: u64,
    /// Its version.
    pub version: String,
}

/// What is said on the roster's topic, as JSON. Fields that a reader does not know are ignored, so that versions can
/// be mixed while a fleet is upgraded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RosterMessage {
    /// A worker is there.
    Announce(WorkerEntry),
    /// A gateway is there. It says no good-bye: it is forgotten with its lease.
    AnnounceGateway(GatewayEntry),
    /// A worker leaves, in good order.
    Leave {
        /// Its name.
        id: String,
        /// Which of this name it was.
        #[serde(default)]
        life: Life,
    },
    /// Whoever is there is asked to announce itself now.
    Query,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Roster {
    lease: Duration,
    entries: BTreeMap<String, (WorkerEntry, Instant)>,
    gateways: BTreeMap<String, (GatewayEntry, Instant)>,
}

impl Roster {
    /// An empty table whose entries live for `lease`.
    #[must_use]
    pub fn new(lease: Duration) -> Self {
        Self {
            lease,
            entries: BTreeMap::new(),
            gateways: BTreeMap::new(),
        }
    }

    /// Takes a message in; true if a worker's entry has come, gone or changed.
    pub fn apply(&mut self, message: RosterMessage, now: Instant) -> bool {
        match message {
            RosterMessage::Announce(entry) => self.announce(entry, now),
            RosterMessage::AnnounceGateway(entry) => {
                self.announce_gateway(entry, now);
                false
            }
            RosterMessage::Leave { id, life } => self.leave(&id, life),
            RosterMessage::Query => false,
        }
    }

    fn announce(&mut self, entry: WorkerEntry, now: Instant) -> bool {
        let is_sane = is_sane(&entry.id, &entry.address, &entry.version);
        let is_known = self.entries.contains_key(&entry.id);
        if !is_sane || !is_known && self.entries.len() >= ENTRIES_MAX {
            return false;
        }
        let id = entry.id.clone();
        let is_news = self
            .entries
            .get(&id)
            .is_none_or(|(before, _)| *before != entry);
        self.entries.insert(id, (entry, now));
        is_news
    }

    fn announce_gateway(&mut self, entry: GatewayEntry, now: Instant) {
        let is_known = self.gateways.contains_key(&entry.id);
        if is_sane(&entry.id, &entry.address, &entry.version)
            && (is_known || self.gateways.len() < ENTRIES_MAX)
        {
            self.gateways.insert(entry.id.clone(), (entry, now));
        }
    }

    /// A worker that was started again meanwhile has not left.
    fn leave(&mut self, id: &str, life: Life) -> bool {
        let is_meant = self.entries.get(id).is_some_and(|(entry, _)| {
            life == Life::UNKNOWN || entry.life == Life::UNKNOWN || entry.life == life
        });
        is_meant && self.entries.remove(id).is_some()
    }

    /// Removes the entries whose lease has lapsed, and returns the workers among them.
    pub fn expire(&mut self, now: Instant) -> Vec<WorkerEntry> {
        let mut lapsed = Vec::new();
        let lease = self.lease;
        let gateways = &mut self.gateways;
        gateways.retain(|_, (_, heard)| now.saturating_duration_since(*heard) < lease);
        self.entries.retain(|_, (entry, heard)| {
            let is_alive = now.saturating_duration_since(*heard) < lease;
            if !is_alive {
                lapsed.push(entry.clone());
            }
            is_alive
        });
        lapsed
    }

    /// Forgets everyone's silence: called when the broker was away, since nobody could be heard then.
    pub fn renew_all(&mut self, now: Instant) {
        for (_, heard) in self.entries.values_mut() {
            *heard = now;
        }
        for (_, heard) in self.gateways.values_mut() {
            *heard = now;
        }
    }

    /// Every gateway that is there, in the order of their ids.
    pub fn gateways(&self) -> impl Iterator<Item = &GatewayEntry> {
        self.gateways.values().map(|(entry, _)| entry)
    }

    /// Every worker that is there, in the order of their ids.
    pub fn entries(&self) -> impl Iterator<Item = &WorkerEntry> {
        self.entries.values().map(|(entry, _)| entry)
    }
}

fn is_sane(id: &str, address: &str, version: &str) -> bool {
    let texts = [id, address, version];
    !id.is_empty() && texts.iter().all(|text| text.len() <= TEXT_MAX_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, connections: u64) -> WorkerEntry {
        WorkerEntry {
            id: id.to_owned(),
            life: Life(1),
            address: "10.0.0.1:8001".to_owned(),
            phase: Phase::Serving,
            connections,
            connections_limit: 100,
            version: "0.1.0".to_owned(),
            missed: 0,
        }
    }

    fn ids(roster: &Roster) -> Vec<&str> {
        roster.entries().map(|entry| entry.id.as_str()).collect()
    }

    #[test]
    fn an_entry_lives_as_long_as_it_is_announced() {
        let start = Instant::now();
        let mut roster = Roster::new(LEASE);
        assert!(roster.apply(RosterMessage::Announce(entry("a", 0)), start));
        assert!(roster.apply(RosterMessage::Announce(entry("b", 0)), start));
        let later = start + LEASE / 2;
        assert!(!roster.apply(RosterMessage::Announce(entry("a", 0)), later));
        assert!(roster.apply(RosterMessage::Announce(entry("a", 1)), later));
        let gone = roster.expire(start + LEASE);
        assert_eq!(gone, [entry("b", 0)]);
        assert_eq!(ids(&roster), ["a"]);
    }

    #[test]
    fn whoever_says_good_bye_is_gone_at_once() {
        let mut roster = Roster::new(LEASE);
        roster.apply(RosterMessage::Announce(entry("a", 0)), Instant::now());
        let leave = || leave("a", Life(1));
        assert!(roster.apply(leave(), Instant::now()));
        assert!(!roster.apply(leave(), Instant::now()));
        assert!(ids(&roster).is_empty());
    }

    fn leave(id: &str, life: Life) -> RosterMessage {
        RosterMessage::Leave {
            id: id.to_owned(),
            life,
        }
    }

    #[test]
    fn a_good_bye_that_comes_late_is_not_taken_for_the_next_life_s() {
        let mut roster = Roster::new(LEASE);
        let next = WorkerEntry {
            life: Life(2),
            ..entry("a", 0)
        };
        roster.apply(RosterMessage::Announce(next), Instant::now());
        assert!(!roster.apply(leave("a", Life(1)), Instant::now()));
        assert_eq!(ids(&roster), ["a"]);
        let by_an_older_version = leave("a", Life::UNKNOWN);
        assert!(roster.apply(by_an_older_version, Instant::now()));
    }

    #[test]
    fn a_gateway_is_there_while_it_announces_itself_and_is_no_worker() {
        let start = Instant::now();
        let mut roster = Roster::new(LEASE);
        let gateway = GatewayEntry {
            id: "g".to_owned(),
            address: "10.0.0.9:8000".to_owned(),
            phase: Phase::Serving,
            connections: 1,
            version: String::new(),
        };
        roster.apply(RosterMessage::AnnounceGateway(gateway.clone()), start);
        assert_eq!(roster.gateways().collect::<Vec<_>>(), [&gateway]);
        assert!(ids(&roster).is_empty());
        assert!(roster.expire(start + LEASE).is_empty());
        assert_eq!(roster.gateways().count(), 0);
    }

    #[test]
    fn silence_while_the_broker_was_away_is_nobody_s_fault() {
        let start = Instant::now();
        let mut roster = Roster::new(LEASE);
        roster.apply(RosterMessage::Announce(entry("a", 0)), start);
        roster.renew_all(start + 2 * LEASE);
        assert!(roster.expire(start + 2 * LEASE).is_empty());
    }

    #[test]
    fn the_table_is_bounded() {
        let now = Instant::now();
        let mut roster = Roster::new(LEASE);
        for at in 0..=ENTRIES_MAX {
            roster.apply(RosterMessage::Announce(entry(&at.to_string(), 0)), now);
        }
        assert_eq!(roster.entries().count(), ENTRIES_MAX);
        assert!(
            roster.apply(RosterMessage::Announce(entry("0", 7)), now),
            "a known one still speaks"
        );
        assert!(!roster.apply(RosterMessage::Announce(entry(&"x".repeat(256), 0)), now));
        assert!(!roster.apply(RosterMessage::Announce(entry("", 0)), now));
    }

    #[test]
    fn messages_read_the_same_in_a_mixed_fleet() {
        let text = r#"{"type":"announce","id":"a","address":"h:1","phase":"draining","connections":1,"connections_limit":2,"version":"9","zone":"new"}"#;
        let RosterMessage::Announce(read) = serde_json::from_str(text).unwrap() else {
            panic!()
        };
        assert_eq!((read.id.as_str(), read.phase), ("a", Phase::Draining));
        assert_eq!(read.life, Life::UNKNOWN);
        let query = serde_json::to_string(&RosterMessage::Query).unwrap();
        assert_eq!(query, r#"{"type":"query"}"#);
    }
}
