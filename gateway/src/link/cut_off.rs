//! Links to workers that have lost their broker, and what is done for the sessions there.
//!
//! Owns: which links these are. A worker without a broker can do nothing for its sessions, so they are taken to workers that
//! can do more; but when the broker is away from everybody, nobody can, and every session is best left where it is.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::sleep;

use super::client::Client;
use super::moves::{RELEASED_PER_STEP, STEP};
use super::peer::Peer;
use super::thread::Thread;
use crate::metrics::MoveReason;

/// How long nobody is taken from a worker that is cut off, since the others may turn out to be as well: they do not notice at
/// the same moment that their broker is away.
const DOUBT: Duration = Duration::from_millis(500);

/// See the module's documentation.
#[derive(Default)]
pub(super) struct CutOff {
    /// And since when. Those that are cut off no more are forgotten when this is looked at.
    peers: RefCell<Vec<(Rc<Peer>, Instant)>>,
    news: Notify,
}

impl CutOff {
    /// The worker behind this link is cut off.
    pub(super) fn add(&self, peer: Rc<Peer>) {
        let mut peers = self.peers.borrow_mut();
        peers.retain(|(other, _)| other.number != peer.number);
        peers.push((peer, Instant::now()));
        self.news.notify_one();
    }

    /// Resolves when somebody is.
    async fn some(&self) {
        loop {
            let mut peers = std::mem::take(&mut *self.peers.borrow_mut());
            peers.retain(|(peer, _)| peer.is_cut_off());
            let is_some = !peers.is_empty();
            self.peers.replace(peers);
            if is_some {
                return;
            }
            self.news.notified().await;
        }
    }

    /// The sessions of those who have been for long enough.
    fn sessions(&self) -> VecDeque<(Rc<Peer>, Rc<Client>)> {
        let peers = self.peers.borrow();
        let overdue = peers.iter().filter(|(_, since)| since.elapsed() >= DOUBT);
        let sessions = overdue.flat_map(|(peer, _)| {
            let sessions = peer.sessions().into_iter();
            sessions.map(|client| (peer.clone(), client))
        });
        sessions.collect()
    }
}

/// Takes sessions away from workers that are cut off, as long as there is somebody who is not; for ever.
pub(super) async fn rescue(thread: Rc<Thread>) {
    loop {
        thread.cut_off.some().await;
        sleep(DOUBT).await;
        let mut sessions = thread.cut_off.sessions();
        while !sessions.is_empty() && thread.edge.pool.has_refuge() {
            let count = sessions.len().min(RELEASED_PER_STEP);
            for (peer, client) in sessions.drain(..count) {
                if peer.is_cut_off() {
                    client.release(peer.number, MoveReason::CutOff);
                }
            }
            sleep(STEP).await;
        }
    }
}
