//! Gathers what is known of the workers and publishes it to the pool: the one writer.
//!
//! Sources are the configured list, the roster, the resolver and the health checks. None of them is
//! waited for by anyone who routes a client.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use flotilla_shared::broker::{BrokerError, BrokerMetrics, Brokers};
use flotilla_shared::lifecycle::Phase;
use flotilla_shared::roster::WorkerEntry;
use futures_util::future::join_all;
use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::pool::{Member, Pool, Worker, WorkerState};
use super::roster;
use crate::announce::Announcement;
use crate::config::PoolConfig;

/// How long a resolved name is good for, and how long one that does not resolve is left alone.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(5);
/// How long the resolver may take.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);

/// What is known of the workers.
pub(crate) struct Membership {
    pool: Arc<Pool>,
    config: PoolConfig,
    members: HashMap<String, Arc<Member>>,
    addresses: HashMap<String, Resolved>,
}

#[derive(Clone, Copy)]
struct Resolved {
    address: Option<SocketAddr>,
    /// Whether the last lookup found it.
    is_resolving: bool,
    at: Instant,
}

impl Membership {
    pub(crate) fn new(pool: Arc<Pool>, config: PoolConfig) -> Self {
        Self {
            pool,
            config,
            members: HashMap::new(),
            addresses: HashMap::new(),
        }
    }

    /// Keeps the pool up to date until the broker refuses to let the roster be heard. Dropping the future ends
    /// everything it has started.
    pub(crate) async fn run(
        mut self,
        roster: Option<(Brokers, BrokerMetrics, Announcement)>,
    ) -> BrokerError {
        let (announced, mut entries) = watch::channel(Vec::new());
        let (targets, watched) = watch::channel(BTreeSet::new());
        let (publish, mut unhealthy) = watch::channel(BTreeSet::new());
        // Their other ends are here: whichever of them ends first, the others do too.
        let mut tasks = JoinSet::new();
        let checks = self.config.health_check.run(watched, publish);
        tasks.spawn(async {
            checks.await;
            Ok(())
        });
        // Kept so that waiting for the roster is waiting for ever where there is none.
        let _announced = match roster {
            Some((brokers, metrics, announcement)) => {
                tasks.spawn(roster::listen(brokers, metrics, announcement, announced));
                None
            }
            None => Some(announced),
        };
        loop {
            let known = entries.borrow_and_update().clone();
            let sick = unhealthy.borrow_and_update().clone();
            self.resolve(&known).await;
            let workers = self.gather(&known, &sick);
            let found: BTreeSet<SocketAddr> = workers
                .iter()
                .filter_map(|worker| worker.address())
                .collect();
            self.publish(workers);
            targets.send_if_modified(|targets| {
                let is_news = *targets != found;
                *targets = found;
                is_news
            });
            tokio::select! {
                _ = entries.changed() => {}
                _ = unhealthy.changed() => {}
                Some(Ok(Err(error))) = tasks.join_next() => return error,
                () = sleep(RESOLVE_INTERVAL) => {}
            }
        }
    }

    /// Looks up the names that are new or were looked up some time ago. One that does not resolve
    /// any more keeps its last address: health checks say whether somebody is there.
    async fn resolve(&mut self, entries: &[WorkerEntry]) {
        let announced = entries.iter().map(|entry| &entry.address);
        let names: BTreeSet<&String> = self.config.workers.iter().chain(announced).collect();
        self.addresses.retain(|name, _| names.contains(name));
        let now = Instant::now();
        let is_due = |name: &&&String| {
            let known = self.addresses.get(**name);
            known.is_none_or(|resolved| now - resolved.at >= RESOLVE_INTERVAL)
        };
        let lookups = names.iter().filter(is_due).map(|name| async move {
            let found = timeout(RESOLVE_TIMEOUT, lookup_host(name.as_str())).await;
            let address = found
                .ok()
                .and_then(Result::ok)
                .and_then(|mut all| all.next());
            ((*name).clone(), address)
        });
        for (name, address) in join_all(lookups).await {
            let before = self.addresses.get(&name);
            // Once, not every few seconds for as long as it lasts.
            if address.is_none() && before.is_none_or(|before| before.is_resolving) {
                tracing::warn!(worker = name, "the worker's name does not resolve");
            }
            let is_resolving = address.is_some();
            let address = address.or(before.and_then(|before| before.address));
            let resolved = Resolved {
                address,
                is_resolving,
                at: Instant::now(),
            };
            self.addresses.insert(name, resolved);
        }
    }

    /// Puts everything that is known together, one worker for each `host:port`.
    fn gather(&mut self, entries: &[WorkerEntry], sick: &BTreeSet<SocketAddr>) -> Vec<Worker> {
        // A worker that has started anew has a new id and, for the time of its predecessor's lease,
        // shares the address with it: whoever serves speaks for the address.
        let mut announced: BTreeMap<&str, &WorkerEntry> = BTreeMap::new();
        for entry in entries.iter().filter(|entry| entry.phase != Phase::Stopped) {
            let slot = announced.entry(&entry.address).or_insert(entry);
            if slot.phase != Phase::Serving {
                *slot = entry;
            }
        }
        let configured = self.config.workers.iter().map(String::as_str);
        let names: BTreeSet<&str> = configured.chain(announced.keys().copied()).collect();
        self.members.retain(|name, _| names.contains(name.as_str()));
        let mut workers = Vec::with_capacity(names.len());
        for name in names {
            let entry = announced.get(name).copied();
            let address = self
                .addresses
                .get(name)
                .and_then(|resolved| resolved.address);
            let is_sick = address.is_none_or(|address| sick.contains(&address));
            let state = match entry.map(|entry| entry.phase) {
                _ if is_sick => WorkerState::Unhealthy,
                None | Some(Phase::Serving) => WorkerState::Active,
                Some(Phase::Starting) => WorkerState::Starting,
                Some(Phase::Draining | Phase::Stopped) => WorkerState::Draining,
            };
            let member = self
                .members
                .entry(name.to_owned())
                .or_insert_with(|| Member::new(name));
            workers.push(Worker {
                member: member.clone(),
                address,
                state,
                label: entry.map_or(name, |entry| &entry.id).to_owned(),
                announced: entry.map_or(0, |entry| entry.connections),
                limit: entry
                    .map(|entry| entry.connections_limit)
                    .filter(|limit| *limit > 0),
            });
        }
        workers
    }

    fn publish(&self, workers: Vec<Worker>) {
        let before = self.pool.workers();
        let states = |workers: &[Worker]| -> BTreeMap<String, WorkerState> {
            workers
                .iter()
                .map(|worker| (worker.label.clone(), worker.state))
                .collect()
        };
        let (was, is) = (states(&before), states(&workers));
        for (worker, state) in is
            .iter()
            .filter(|(worker, state)| was.get(*worker) != Some(*state))
        {
            tracing::info!(worker, state = state.label(), "worker has changed");
        }
        for worker in was.keys().filter(|worker| !is.contains_key(*worker)) {
            tracing::info!(worker, "worker has left");
        }
        self.pool.publish(workers);
    }
}

#[cfg(test)]
mod tests;
