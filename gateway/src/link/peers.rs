//! The links that a thread has: one to a worker's shard, opened when somebody needs it, and kept.
//!
//! Owns: which links there are or are being opened, and how long a worker is left alone after one failed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use flotilla_shared::link::Welcome;
use tokio::sync::watch;

use super::dial::{Dialed, dial};
use super::line;
use super::peer::{Limits, Peer};
use super::thread::Thread;
use crate::route::Worker;
use crate::upstream::FailureKind;

/// How long a worker is left alone after a link to it has failed; twice as long each time in a row.
const BACK_OFF: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(2);

/// A link that has lasted for less than this has failed.
const SHORT: Duration = Duration::from_secs(5);

/// A link that exists, is being opened, or could not be opened.
type Found = Option<Result<Rc<Peer>, FailureKind>>;

/// What is known of one worker.
#[derive(Default)]
struct Known {
    shards: Option<u32>,
    links: HashMap<u32, watch::Receiver<Found>>,
    failures: u32,
    retry_at: Option<Instant>,
}

impl Known {
    fn is_left_alone(&self, now: Instant) -> bool {
        self.retry_at.is_some_and(|at| at > now)
    }

    fn failed(&mut self, now: Instant) {
        let wait = BACK_OFF_MAX.min(BACK_OFF * 2_u32.saturating_pow(self.failures));
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(now + wait);
    }
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Peers {
    workers: RefCell<HashMap<SocketAddr, Known>>,
}

impl Peers {
    /// The link to the worker's shard that serves this session.
    pub(super) async fn link(
        thread: &Rc<Thread>,
        worker: &Worker,
        session: u64,
    ) -> Result<Rc<Peer>, FailureKind> {
        let address = worker.address().ok_or(FailureKind::Unreachable)?;
        let mut found = thread.peers.find(thread, worker, address, session)?;
        let found = found.wait_for(Option::is_some).await;
        let found = found.map(|found| found.clone());
        // Whoever opens it says what came of it.
        found.ok().flatten().unwrap_or(Err(FailureKind::Broken))
    }

    fn find(
        &self,
        thread: &Rc<Thread>,
        worker: &Worker,
        address: SocketAddr,
        session: u64,
    ) -> Result<watch::Receiver<Found>, FailureKind> {
        let mut workers = self.workers.borrow_mut();
        let now = Instant::now();
        if !workers.contains_key(&address) {
            // Workers come and go, and those that have gone need not be known for ever.
            workers.retain(|_, known| !known.links.is_empty() || known.is_left_alone(now));
        }
        let known = workers.entry(address).or_default();
        let shard = shard(thread.index(), thread.threads(), known.shards, session);
        if let Some(link) = known.links.get(&shard) {
            return Ok(link.clone());
        }
        if known.is_left_alone(now) {
            return Err(FailureKind::Unreachable);
        }
        let (sender, receiver) = watch::channel(None);
        known.links.insert(shard, receiver.clone());
        tokio::task::spawn_local(open(thread.clone(), worker.clone(), address, shard, sender));
        Ok(receiver)
    }

    /// A link could not be opened.
    fn failed(&self, address: SocketAddr, shard: u32) {
        if let Some(known) = self.workers.borrow_mut().get_mut(&address) {
            known.links.remove(&shard);
            known.failed(Instant::now());
        }
    }

    /// A link is open. The worker says to which shard, of how many: before, that was a guess.
    fn opened(&self, address: SocketAddr, guess: u32, welcome: &Welcome) {
        if let Some(known) = self.workers.borrow_mut().get_mut(&address) {
            known.shards = Some(welcome.shards.max(1));
            if let Some(link) = known.links.remove(&guess) {
                known.links.insert(welcome.shard, link);
            }
        }
    }

    /// A link has ended, which had lasted for so long.
    fn ended(&self, address: SocketAddr, shard: u32, lasted: Duration) {
        let mut workers = self.workers.borrow_mut();
        let Some(known) = workers.get_mut(&address) else {
            return;
        };
        known.links.remove(&shard);
        // Whoever is there next may be another one.
        known.shards = None;
        if lasted < SHORT {
            known.failed(Instant::now());
        } else {
            known.failures = 0;
        }
        if known.links.is_empty() && known.failures == 0 {
            workers.remove(&address);
        }
    }
}

/// Opens a link and serves it to its end.
async fn open(
    thread: Rc<Thread>,
    worker: Worker,
    address: SocketAddr,
    shard: u32,
    found: watch::Sender<Found>,
) {
    let connecting = thread.metrics().link_connecting();
    let dialed = dial(&thread, &worker, shard).await;
    drop(connecting);
    let Dialed {
        socket,
        welcome,
        messages,
    } = match dialed {
        Ok(dialed) => dialed,
        Err(kind) => {
            thread.peers.failed(address, shard);
            found.send_replace(Some(Err(kind)));
            return;
        }
    };
    tracing::info!(
        worker = worker.label(),
        shard = welcome.shard,
        "a link is open"
    );
    thread.peers.opened(address, shard, &welcome);
    let begun = Instant::now();
    let peer = Peer::new(thread.next_link(), worker, Limits::of(&welcome));
    found.send_replace(Some(Ok(peer.clone())));
    line::serve(thread.clone(), peer, socket, messages).await;
    thread.peers.ended(address, welcome.shard, begun.elapsed());
}

/// The shard of a worker that serves a session. Each thread has as few links as it takes for every shard to have one: what is
/// cast comes once over each. `shards` is `None` before the worker has said how many there are.
fn shard(index: usize, threads: usize, shards: Option<u32>, session: u64) -> u32 {
    let (index, threads) = (index as u32, (threads as u32).max(1));
    let Some(shards) = shards.filter(|shards| *shards > threads) else {
        return shards.map_or(index, |shards| index % shards);
    };
    let mine = (shards - index).div_ceil(threads);
    index + threads * (session % u64::from(mine)) as u32
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_shard_has_a_link_and_no_more_than_it_takes() {
        for threads in 1..9 {
            for shards in 1..9_u32 {
                let mut links = BTreeSet::new();
                for index in 0..threads {
                    for session in 1..100 {
                        let shard = shard(index, threads, Some(shards), session);
                        assert!(shard < shards);
                        links.insert((index, shard));
                    }
                }
                let served: BTreeSet<u32> = links.iter().map(|(_, shard)| *shard).collect();
                assert_eq!(served.len(), shards as usize, "{threads} {shards}");
                assert_eq!(links.len(), threads.max(shards as usize));
            }
        }
        assert_eq!(shard(3, 4, None, 1), 3);
    }

    #[test]
    fn a_worker_is_left_alone_for_longer_each_time() {
        let (now, mut known) = (Instant::now(), Known::default());
        let mut waits = Vec::new();
        for _ in 0..7 {
            known.failed(now);
            waits.push((known.retry_at.unwrap() - now).as_millis());
        }
        assert_eq!(waits, [100, 200, 400, 800, 1600, 2000, 2000]);
    }
}
