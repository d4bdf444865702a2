//! A link thread: an OS thread with everything it needs, so that nothing on the data path is shared with another one.
//!
//! Owns: its clients, its links, its timer, and what has been gathered for clients and is to be written. Clients come over
//! a bounded channel from the edge.

use std::cell::{Cell, RefCell};
use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use flotilla_shared::auth::PassportKeys;
use flotilla_shared::wheel::{GRANULARITY, Wheel};
use slab::Slab;
use tokio::sync::{mpsc, watch};
use tokio::task::{spawn_local, unconstrained};
use tokio::time::{MissedTickBehavior, interval};

use super::arrival::Arrival;
use super::carry;
use super::client::Client;
use super::counts::Counts;
use super::cut_off::{self, CutOff};
use super::moves::{self, Moves};
use super::peer::Peer;
use super::peers::Peers;
use super::session::LinkNumber;
use crate::edge::Edge;
use crate::metrics::LinkMetrics;
use crate::upstream::UpstreamLimits;

/// See the module's documentation.
pub(super) struct Thread {
    pub(super) edge: Arc<Edge>,
    index: usize,
    threads: usize,
    gateway: Arc<str>,
    pub(super) peers: Peers,
    pub(super) moves: Moves,
    pub(super) cut_off: CutOff,
    pub(super) counts: Counts,
    clients: RefCell<Slab<Rc<Client>>>,
    wheel: RefCell<Wheel>,
    /// Those for whom something has been gathered.
    gathered: RefCell<Vec<Rc<Client>>>,
    sessions: Cell<u64>,
    links: Cell<LinkNumber>,
}

impl Thread {
    /// Thread `index` of `threads`.
    pub(super) fn new(
        edge: Arc<Edge>,
        (index, threads): (usize, usize),
        gateway: Arc<str>,
    ) -> Rc<Self> {
        let counts = Counts::new(&edge.metrics);
        Rc::new(Self {
            edge,
            index,
            threads,
            gateway,
            peers: Peers::default(),
            moves: Moves::default(),
            cut_off: CutOff::default(),
            counts,
            clients: RefCell::default(),
            wheel: RefCell::new(Wheel::new(Instant::now())),
            gathered: RefCell::default(),
            sessions: Cell::new(0),
            links: Cell::new(0),
        })
    }

    /// Serves those who come, until there is nobody who could send any, or `stopped`.
    pub(super) async fn run(
        self: Rc<Self>,
        mut arrivals: mpsc::Receiver<Arrival>,
        mut stopped: watch::Receiver<bool>,
    ) {
        let clock = spawn_local(unconstrained(self.clone().keep_time()));
        let moves = spawn_local(Moves::run(self.clone()));
        let balance = spawn_local(moves::balance(self.clone()));
        let rescue = spawn_local(cut_off::rescue(self.clone()));
        let welcomed = async {
            while let Some(arrival) = arrivals.recv().await {
                spawn_local(carry::receive(self.clone(), arrival));
            }
        };
        tokio::select! {
            () = welcomed => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
            _ = clock => {}
            _ = moves => {}
            _ = balance => {}
            _ = rescue => {}
        }
        self.counts.flush();
    }

    async fn keep_time(self: Rc<Self>) {
        let mut ticks = interval(GRANULARITY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut due = Vec::new();
        loop {
            ticks.tick().await;
            let now = Instant::now();
            self.wheel.borrow_mut().advance(now, &mut due);
            for (key, tick) in due.drain(..) {
                let client = self.clients.borrow().get(key as usize).cloned();
                if let Some(client) = client.filter(|client| client.armed.get() == tick) {
                    client.armed.set(0);
                    if client.tick(now) {
                        self.dirty(client.clone());
                    }
                    self.arm(&client);
                }
            }
            self.write_gathered();
            self.counts.flush();
        }
    }

    /// The thread will look at this client when something may be due.
    pub(super) fn arm(&self, client: &Client) {
        let (Some(key), Some(deadline)) = (client.key.get(), client.deadline()) else {
            return;
        };
        let mut wheel = self.wheel.borrow_mut();
        let armed = client.armed.get();
        if armed == 0 || wheel.tick_of(deadline) < armed {
            client.armed.set(wheel.arm(key, deadline));
        }
    }

    /// A client is here from now on.
    pub(super) fn enter(&self, client: &Rc<Client>) {
        let key = self.clients.borrow_mut().insert(client.clone());
        client.key.set(u32::try_from(key).ok());
    }

    /// Up to `most` clients from `next` on, which is where to go on the next time; 0 when they have all been seen.
    pub(super) fn clients_from(&self, next: &mut usize, most: usize) -> Vec<Rc<Client>> {
        let clients = self.clients.borrow();
        let range = *next..(*next + most).min(clients.capacity());
        *next = if range.end < clients.capacity() {
            range.end
        } else {
            0
        };
        range.filter_map(|key| clients.get(key).cloned()).collect()
    }

    /// A client is gone.
    pub(super) fn leave(&self, client: &Client) {
        if let Some(key) = client.key.take() {
            let _ = self.clients.borrow_mut().try_remove(key as usize);
        }
    }

    /// Something has been gathered for this client.
    pub(super) fn dirty(&self, client: Rc<Client>) {
        self.gathered.borrow_mut().push(client);
    }

    /// Writes what has been gathered: one write for each client.
    pub(super) fn write_gathered(&self) {
        let mut gathered = mem::take(&mut *self.gathered.borrow_mut());
        gathered.drain(..).for_each(|client| client.outbox.write());
        // The memory is for the next time.
        self.gathered.replace(gathered);
    }

    /// A link has ended: the sessions that were there are opened elsewhere.
    pub(super) fn link_ended(&self, peer: &Peer) {
        self.edge.pool.eject(&peer.worker);
        for client in peer.die() {
            if client.lost(peer) {
                self.moves
                    .lost(client, &peer.worker, self.metrics().moving());
            }
        }
    }

    pub(super) fn index(&self) -> usize {
        self.index
    }

    pub(super) fn threads(&self) -> usize {
        self.threads
    }

    /// The gateway's name, for the workers' logs.
    pub(super) fn gateway(&self) -> &str {
        &self.gateway
    }

    pub(super) fn metrics(&self) -> &LinkMetrics {
        &self.edge.metrics.links
    }

    pub(super) fn passport_keys(&self) -> Option<&PassportKeys> {
        self.edge.config.passport_keys.as_ref()
    }

    pub(super) fn upstream_limits(&self) -> UpstreamLimits {
        self.edge.config.upstream
    }

    /// A number that no session of this thread has had.
    pub(super) fn next_session(&self) -> u64 {
        self.sessions.set(self.sessions.get() + 1);
        self.sessions.get()
    }

    /// A number that no link of this thread has had.
    pub(super) fn next_link(&self) -> LinkNumber {
        self.links.set(self.links.get() + 1);
        self.links.get()
    }
}
