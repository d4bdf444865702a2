//! The workers as a gateway sees them at one moment, and the choice among them.

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::rendezvous::{hash, load_bound, score};

/// What a gateway does with a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkerState {
    /// Gets nothing yet: it has announced itself and does not serve.
    Starting,
    /// Gets new connections.
    Active,
    /// Keeps what it has and gets no more: it is leaving.
    Draining,
    /// Gets nothing: health checks fail, or its name does not resolve.
    Unhealthy,
}

impl WorkerState {
    pub(crate) const ALL: [Self; 4] = [
        Self::Starting,
        Self::Active,
        Self::Draining,
        Self::Unhealthy,
    ];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What this gateway itself knows of a worker. It outlives snapshots.
#[derive(Debug)]
pub(crate) struct Member {
    /// `host:port` as configured or announced: what the hash is of.
    name: String,
    hash: u64,
    /// Connections that this gateway holds to it.
    connections: AtomicU64,
    /// Milliseconds of the pool's clock until which it is passed over.
    ejected_until: AtomicU64,
    /// Links of this gateway on which it says that it is cut off.
    pub(super) cut_off: AtomicU64,
}

impl Member {
    pub(super) fn new(name: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            hash: hash(name),
            connections: AtomicU64::new(0),
            ejected_until: AtomicU64::new(0),
            cut_off: AtomicU64::new(0),
        })
    }
}

/// One worker in a snapshot.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    pub(super) member: Arc<Member>,
    /// Where to connect to; `None` while the name does not resolve.
    pub(super) address: Option<SocketAddr>,
    pub(super) state: WorkerState,
    /// Its name in metrics: the id that it announced, else its address.
    pub(super) label: String,
    /// Connections that the worker has announced, from all gateways.
    pub(super) announced: u64,
    /// Connections that it can take, if it has announced that.
    pub(super) limit: Option<u64>,
}

impl Worker {
    /// Where to connect to, if its name resolves.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    pub(crate) fn state(&self) -> WorkerState {
        self.state
    }

    /// Connections that this gateway holds to it.
    pub(crate) fn connections(&self) -> u64 {
        self.member.connections.load(Ordering::Relaxed)
    }

    /// What is announced is a moment old but counts every gateway's connections, our own count is
    /// exact but only ours: the greater is nearer to the truth.
    pub(super) fn load(&self) -> u64 {
        self.connections().max(self.announced)
    }

    pub(super) fn hash(&self) -> u64 {
        self.member.hash
    }

    pub(super) fn is_full(&self) -> bool {
        self.limit.is_some_and(|limit| self.load() >= limit)
    }
}

/// How a worker came to be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The key's home.
    Sticky,
    /// The home was not available or had more than its share.
    Rehash,
    /// Another worker had refused before.
    Fallback,
    /// There was no key to go by.
    Random,
    /// No worker was available.
    None,
}

impl Decision {
    pub(crate) const ALL: [Self; 5] = [
        Self::Sticky,
        Self::Rehash,
        Self::Fallback,
        Self::Random,
        Self::None,
    ];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Sticky => "sticky",
            Self::Rehash => "rehash",
            Self::Fallback => "fallback",
            Self::Random => "random",
            Self::None => "none",
        }
    }
}

/// The current snapshot, for any number of readers.
#[derive(Debug)]
pub(crate) struct Pool {
    workers: ArcSwap<Vec<Worker>>,
    load_factor: f64,
    ejection: Duration,
    start: Instant,
}

impl Pool {
    /// An empty pool. A worker takes at most `load_factor` times its even share before keys go past
    /// it, and is passed over for `ejection` after it could not be reached.
    pub(crate) fn new(load_factor: f64, ejection: Duration) -> Self {
        Self {
            workers: ArcSwap::default(),
            load_factor,
            ejection,
            start: Instant::now(),
        }
    }

    /// The workers as last published.
    pub(crate) fn workers(&self) -> Arc<Vec<Worker>> {
        self.workers.load_full()
    }

    /// Replaces the snapshot. Only the membership does.
    pub(super) fn publish(&self, workers: Vec<Worker>) {
        self.workers.store(Arc::new(workers));
    }

    /// The workers to try for this key, in this order; without a key, in a random order.
    pub(crate) fn route(&self, key: Option<&str>) -> Vec<(Worker, Decision)> {
        let workers = self.workers.load();
        let hashed = key.map_or_else(rand::random, hash);
        let home = workers
            .iter()
            .max_by_key(|worker| score(hashed, worker.member.hash));
        let home = home.map(|worker| worker.member.hash);
        let now = self.now();
        let mut available: Vec<&Worker> = workers
            .iter()
            .filter(|worker| worker.state == WorkerState::Active && !worker.is_full())
            .collect();
        let total = available.iter().map(|worker| worker.load()).sum();
        let bound = load_bound(self.load_factor, total, available.len());
        // Those above their share, those that did not answer a moment ago, and those that can do
        // nothing come last instead of never: a bad choice is better than none.
        available.sort_by_cached_key(|worker| {
            let is_ejected = worker.member.ejected_until.load(Ordering::Relaxed) > now;
            let is_above = worker.load() >= bound;
            (
                worker.is_cut_off(),
                is_ejected,
                is_above,
                Reverse(score(hashed, worker.member.hash)),
            )
        });
        let decision = |place, worker: &Worker| match key {
            _ if place > 0 => Decision::Fallback,
            None => Decision::Random,
            Some(_) if Some(worker.member.hash) == home => Decision::Sticky,
            Some(_) => Decision::Rehash,
        };
        let numbered = available.into_iter().enumerate();
        numbered
            .map(|(place, worker)| (worker.clone(), decision(place, worker)))
            .collect()
    }

    /// The workers to try for a short request with this key, in this order: it takes no place, so it
    /// does not matter how full they are.
    pub(crate) fn reach(&self, key: Option<&str>) -> Vec<Worker> {
        let workers = self.workers.load();
        let hashed = key.map_or_else(rand::random, hash);
        let now = self.now();
        let is_active = |worker: &&Worker| worker.state == WorkerState::Active;
        let mut reached: Vec<Worker> = workers.iter().filter(is_active).cloned().collect();
        reached.sort_by_cached_key(|worker| {
            let is_ejected = worker.member.ejected_until.load(Ordering::Relaxed) > now;
            (is_ejected, Reverse(score(hashed, worker.member.hash)))
        });
        reached
    }

    /// Whether the worker is not being passed over.
    pub(super) fn is_trusted(&self, worker: &Worker) -> bool {
        worker.member.ejected_until.load(Ordering::Relaxed) <= self.now()
    }

    /// Passes a worker over for a while, because it could not be reached.
    pub(crate) fn eject(&self, worker: &Worker) {
        let until = self.now() + self.ejection.as_millis() as u64;
        worker
            .member
            .ejected_until
            .fetch_max(until, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }
}

/// A connection's place at a worker, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Placement(Arc<Member>);

impl Placement {
    pub(crate) fn at(worker: &Worker) -> Self {
        worker.member.connections.fetch_add(1, Ordering::Relaxed);
        Self(worker.member.clone())
    }

    pub(super) fn hash(&self) -> u64 {
        self.0.hash
    }

    /// The worker's `host:port`.
    pub(crate) fn worker(&self) -> &str {
        &self.0.name
    }
}

impl Drop for Placement {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashMap;

    use super::*;

    fn worker(name: &str) -> Worker {
        Worker {
            member: Member::new(name),
            address: Some(SocketAddr::from(([127, 0, 0, 1], 1))),
            state: WorkerState::Active,
            label: name.to_owned(),
            announced: 0,
            limit: None,
        }
    }

    pub(in crate::route) fn pool(count: usize) -> Pool {
        let pool = Pool::new(1.25, Duration::from_secs(5));
        pool.publish(
            (0..count)
                .map(|number| worker(&format!("w{number}:1")))
                .collect(),
        );
        pool
    }

    /// The same pool with one worker changed.
    fn change(pool: &Pool, label: &str, change: impl Fn(&mut Worker)) {
        let mut workers = (*pool.workers()).clone();
        workers
            .iter_mut()
            .filter(|worker| worker.label == label)
            .for_each(change);
        pool.publish(workers);
    }

    pub(in crate::route) fn route(pool: &Pool, key: &str) -> Vec<(String, Decision)> {
        let route = pool.route(Some(key)).into_iter();
        route
            .map(|(worker, decision)| (worker.label, decision))
            .collect()
    }

    #[test]
    fn every_worker_is_a_candidate_once_and_the_home_is_first() {
        let pool = pool(5);
        let first = route(&pool, "user");
        assert_eq!(first, route(&pool, "user"));
        assert_eq!(first[0].1, Decision::Sticky);
        assert!(
            first[1..]
                .iter()
                .all(|(_, decision)| *decision == Decision::Fallback)
        );
        let mut labels: Vec<&String> = first.iter().map(|(label, _)| label).collect();
        labels.sort_unstable();
        assert_eq!(labels, ["w0:1", "w1:1", "w2:1", "w3:1", "w4:1"]);
    }

    #[test]
    fn a_home_that_is_not_available_is_passed_over_and_the_others_keep_their_order() {
        let cases: [&dyn Fn(&mut Worker); 5] = [
            &|worker| worker.state = WorkerState::Starting,
            &|worker| worker.state = WorkerState::Draining,
            &|worker| worker.state = WorkerState::Unhealthy,
            &|worker| (worker.announced, worker.limit) = (10, Some(10)),
            &|worker| worker.announced = 1000,
        ];
        for case in cases {
            let pool = pool(5);
            let before = route(&pool, "user");
            change(&pool, &before[0].0, case);
            let after = route(&pool, "user");
            assert_eq!(after[0], (before[1].0.clone(), Decision::Rehash));
            let rest = |route: &[(String, Decision)]| -> Vec<String> {
                route.iter().map(|(label, _)| label.clone()).collect()
            };
            assert_eq!(rest(&after)[..4], rest(&before)[1..]);
        }
    }

    #[test]
    fn nobody_is_a_candidate_where_nobody_is_available() {
        assert!(pool(0).route(Some("user")).is_empty());
        let pool = pool(1);
        change(&pool, "w0:1", |worker| {
            worker.state = WorkerState::Unhealthy
        });
        assert!(pool.route(None).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_could_not_be_reached_comes_last_for_a_while() {
        let pool = pool(3);
        let home = pool.route(Some("user"))[0].0.clone();
        pool.eject(&home);
        assert_eq!(route(&pool, "user")[2].0, home.label);
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!(route(&pool, "user")[0], (home.label, Decision::Sticky));
    }

    #[test]
    fn no_worker_gets_more_than_its_bounded_share() {
        let pool = pool(4);
        let mut placements = Vec::new();
        for number in 0..1000 {
            // A crowd whose keys are not spread at all.
            let key = format!("user-{}", number % 3);
            placements.push(Placement::at(&pool.route(Some(&key))[0].0));
            let most = pool
                .workers()
                .iter()
                .map(Worker::connections)
                .max()
                .unwrap();
            assert!(most <= load_bound(1.25, number, 4), "{most} of {number}");
        }
        drop(placements);
        assert!(
            pool.workers()
                .iter()
                .all(|worker| worker.connections() == 0)
        );
    }

    #[test]
    fn a_worker_that_joins_is_filled_up_and_then_nothing_moves_any_more() {
        let pool = pool(3);
        change(&pool, "w2:1", |worker| worker.state = WorkerState::Starting);
        let key = |number: usize| format!("user-{number}");
        let place = |number| Placement::at(&pool.route(Some(&key(number)))[0].0);
        let mut placements: Vec<Placement> = (0..900).map(place).collect();
        // The two are as even as keys are.
        let moves = |pool: &Pool, placements: &[Placement]| -> Vec<usize> {
            let Some(imbalance) = pool.imbalance() else {
                return Vec::new();
            };
            let numbered = placements.iter().enumerate();
            numbered
                .filter(|(number, at)| imbalance.moves(at, Some(&key(*number)), 0))
                .map(|(number, _)| number)
                .collect()
        };
        assert!(moves(&pool, &placements).is_empty());
        change(&pool, "w2:1", |worker| worker.state = WorkerState::Active);
        let mut moved = 0;
        while let Some(number) = moves(&pool, &placements).first() {
            let (home, decision) = pool.route(Some(&key(*number))).swap_remove(0);
            assert_eq!((home.label.as_str(), decision), ("w2:1", Decision::Sticky));
            placements[*number] = Placement::at(&home);
            moved += 1;
        }
        let joined = pool.workers()[2].connections();
        assert_eq!(joined, moved);
        assert!((260..=300).contains(&joined), "{joined}");
        // Nor where it is not known how loaded anybody is, or where there is nobody else.
        change(&pool, "w2:1", |worker| {
            worker.state = WorkerState::Unhealthy
        });
        assert!(moves(&pool, &placements).is_empty());
    }

    #[test]
    fn without_a_key_everybody_gets_some() {
        let pool = pool(4);
        let mut counts = HashMap::new();
        for _ in 0..400 {
            let (worker, decision) = pool.route(None).swap_remove(0);
            assert_eq!(decision, Decision::Random);
            *counts.entry(worker.label).or_insert(0) += 1;
        }
        assert!(
            counts.len() == 4 && counts.values().all(|count| *count > 40),
            "{counts:?}"
        );
    }
}
