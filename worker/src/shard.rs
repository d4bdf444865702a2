//! One shard of the worker: a thread with its own runtime, listener, hub and broker connection.
//!
//! Owns: everything its connections share. No lock and no other thread is involved between the broker and a socket;
//! shards do not know of each other. What is shared between them is counted at connect and disconnect only.

mod announcer;
mod channels;
mod condition;
mod moves;
mod rolls;
mod users;

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flotilla_shared::auth::PassportKeys;
use flotilla_shared::broker::Broker;
use flotilla_shared::clock::unix_seconds;
use flotilla_shared::lifecycle::Lifecycle;
use flotilla_shared::wheel::{GRANULARITY, Wheel};
use slab::Slab;
use tokio::sync::watch;
use uuid::Uuid;

use crate::api::ApiService;
use crate::capacity::Capacity;
use crate::closing::Ending;
use crate::connection::Connection;
use crate::emulation::Sessions;
use crate::fleet::Fleet;
use crate::hooks::{Gates, Hooks};
use crate::hub::Hub;
use crate::link::{Link, Seat};
use crate::look_up::Presences;
use crate::metrics::ShardMetrics;
use crate::policy::Policy;
use crate::roll::Lives;
use crate::session::Now;
use announcer::{Announcements, Announcer, publish_all};
use condition::Condition;
use moves::Moves;
use users::Users;

/// How often the outboxes are summed for the metrics.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Limits of every connection.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) message_max_bytes: usize,
    pub(crate) outbox_max_bytes: usize,
    pub(crate) write_timeout: Duration,
    pub(crate) head_timeout: Duration,
}

/// Who may connect.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    pub(crate) passport_keys: Option<Arc<PassportKeys>>,
    pub(crate) passport_required: bool,
    pub(crate) allowed_origins: Vec<String>,
    pub(crate) capacity: Capacity,
    /// Nobody becomes a client: see [`crate::echo`].
    pub(crate) echoes: bool,
}

/// What the shards of a worker have in common. It is asked when a request comes, and never while something is delivered.
#[derive(Clone)]
pub(crate) struct Common {
    /// All workers, this one among them.
    pub(crate) fleet: Fleet,
    /// The sessions that take commands from requests.
    pub(crate) sessions: Sessions,
    /// The server API, if clients' listener answers it, too.
    pub(crate) api: Option<ApiService>,
    /// Where the user's back end is asked.
    pub(crate) gates: Gates,
}

/// See the module's documentation.
pub(crate) struct Shard {
    policy: Rc<Policy>,
    limits: Limits,
    admission: Admission,
    lifecycle: Lifecycle,
    broker: Arc<dyn Broker>,
    hooks: Hooks,
    metrics: ShardMetrics,
    common: Common,
    began: Instant,
    hub: RefCell<Hub<Connection>>,
    wheel: RefCell<Wheel>,
    connections: RefCell<Slab<Rc<Connection>>>,
    lives: RefCell<watch::Receiver<Lives>>,
    presences: Presences,
    users: RefCell<Users>,
    links: RefCell<Vec<Weak<Link>>>,
    condition: Condition,
    announcer: Announcer,
    moves: RefCell<Moves>,
    /// Until the task that publishes them has started.
    announcements: Cell<Option<Announcements>>,
}

impl Shard {
    pub(crate) fn new(
        policy: Rc<Policy>,
        limits: Limits,
        admission: Admission,
        lifecycle: Lifecycle,
        broker: Arc<dyn Broker>,
        metrics: ShardMetrics,
        common: Common,
    ) -> Self {
        let (announcer, announcements) = Announcer::new(common.fleet.clone());
        let mut lives = common.fleet.lives();
        lives.mark_changed();
        Self {
            policy,
            limits,
            admission,
            lifecycle,
            broker,
            hooks: Hooks::new(common.gates.clone(), metrics.process().hooks.clone()),
            metrics,
            common,
            began: Instant::now(),
            hub: RefCell::new(Hub::new()),
            wheel: RefCell::new(Wheel::new(Instant::now())),
            connections: RefCell::new(Slab::new()),
            lives: RefCell::new(lives),
            presences: Presences::default(),
            users: RefCell::default(),
            links: RefCell::default(),
            condition: Condition::default(),
            announcer,
            moves: RefCell::default(),
            announcements: Cell::new(Some(announcements)),
        }
    }

    pub(crate) fn policy(&self) -> &Rc<Policy> {
        &self.policy
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn admission(&self) -> &Admission {
        &self.admission
    }

    pub(crate) fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }

    pub(crate) fn broker(&self) -> &dyn Broker {
        &*self.broker
    }

    /// All workers.
    pub(crate) fn fleet(&self) -> &Fleet {
        &self.common.fleet
    }

    pub(crate) fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    /// What this shard's clients want to know of who is where.
    pub(crate) fn presences(&self) -> &Presences {
        &self.presences
    }

    pub(crate) fn metrics(&self) -> &ShardMetrics {
        &self.metrics
    }

    /// What it has in common with the worker's other shards.
    pub(crate) fn common(&self) -> &Common {
        &self.common
    }

    /// The time for a session.
    pub(crate) fn now(&self) -> Now {
        Now {
            at: Instant::now(),
            unix_seconds: unix_seconds(),
        }
    }

    /// Takes in a connection; `make` gets the id that is free.
    pub(crate) fn attach(&self, make: impl FnOnce(u32) -> Connection) -> (u32, Rc<Connection>) {
        let mut connections = self.connections.borrow_mut();
        let entry = connections.vacant_entry();
        let id = entry.key() as u32;
        let connection = Rc::new(make(id));
        entry.insert(connection.clone());
        (id, connection)
    }

    /// Forgets a connection: nothing of it stays in the hub or in the list.
    pub(crate) fn detach(&self, id: u32, connection: &Connection) {
        if let Some(seat) = connection.outbox().seat() {
            // Said before, unless the connection ends by a panic.
            seat.end(&Ending::Gone);
        }
        connection.outbox().shut();
        self.leave_all(connection);
        self.users
            .borrow_mut()
            .remove(id, connection.session().borrow().user());
        self.connections.borrow_mut().try_remove(id as usize);
    }

    /// Open connections of this shard.
    pub(crate) fn connections(&self) -> usize {
        self.connections.borrow().len()
    }

    /// Notes that this connection's user is known now.
    pub(crate) fn list(&self, id: u32, user: &str) {
        self.users.borrow_mut().add(id, user);
    }

    /// Takes in a gateway's link, on which nothing but the welcome was said yet.
    pub(crate) fn note_link(&self, link: &Rc<Link>) {
        self.links.borrow_mut().push(Rc::downgrade(link));
        self.introduce(link);
    }

    /// The links that are there.
    fn open_links(&self) -> impl Iterator<Item = Rc<Link>> {
        let mut links = self.links.borrow_mut();
        links.retain(|link| link.strong_count() > 0);
        let open: Vec<_> = links.iter().filter_map(Weak::upgrade).collect();
        open.into_iter()
    }

    /// The connections of `user` in this shard.
    pub(crate) fn connections_of(&self, user: &str) -> Vec<Rc<Connection>> {
        let connections = self.connections.borrow();
        self.users
            .borrow()
            .candidates(user)
            .filter_map(|id| connections.get(id as usize))
            .filter(|connection| connection.session().borrow().user() == user)
            .cloned()
            .collect()
    }

    /// The connections of this client, of whom it is known that it is connected. After a move there may be two.
    pub(crate) fn connections_as(&self, user: &str, client: Uuid) -> Vec<Rc<Connection>> {
        let is_it = |connection: &&Rc<Connection>| {
            let session = connection.session().borrow();
            session.is_connected() && session.client() == client
        };
        let connections = self.connections.borrow();
        if user.is_empty() {
            // Nobody's are not in the index.
            let all = connections.iter().map(|(_, connection)| connection);
            return all.filter(is_it).cloned().collect();
        }
        let users = self.users.borrow();
        let ids = users.candidates(user);
        let of_user = ids.filter_map(|id| connections.get(id as usize));
        of_user.filter(is_it).cloned().collect()
    }

    /// Every connection of this shard that nobody has asked to end yet.
    pub(crate) fn all_connections(&self) -> Vec<Rc<Connection>> {
        self.some_connections(usize::MAX)
    }

    /// Up to `count` connections that nobody has asked to end yet.
    pub(crate) fn some_connections(&self, count: usize) -> Vec<Rc<Connection>> {
        let connections = self.connections.borrow();
        let open = connections.iter().map(|(_, connection)| connection);
        open.filter(|connection| connection.ending().is_none())
            .take(count)
            .cloned()
            .collect()
    }

    /// Connections for whose end nothing has been done yet: nobody has asked them, or their gateway, for it.
    pub(crate) fn connections_to_end(&self) -> Vec<Rc<Connection>> {
        let mut open = self.all_connections();
        open.retain(|connection| {
            let seat = connection.outbox().seat();
            !seat.is_some_and(Seat::is_released)
        });
        open
    }

    /// Arms the wheel for a connection, unless it is armed for an earlier tick (`armed`, 0: not armed) already.
    pub(crate) fn arm(&self, id: u32, deadline: Instant, armed: u64) -> Option<u64> {
        let mut wheel = self.wheel.borrow_mut();
        let is_needed = armed == 0 || wheel.tick_of(deadline) < armed;
        is_needed.then(|| wheel.arm(id, deadline))
    }

    /// Publishes what this shard announces. Never ends by itself.
    pub(crate) fn announcements(&self) -> impl Future<Output = ()> + use<> {
        let announcements = self.announcements.take();
        let broker = self.broker.clone();
        let fleet = self.fleet().clone();
        async move {
            if let Some(announcements) = announcements {
                publish_all(broker, fleet, announcements).await;
            }
        }
    }

    /// The shard's one timer: deadlines of connections, lingering channels, metrics. Never ends by itself.
    pub(crate) async fn keep_time(self: Rc<Self>) {
        let mut interval = tokio::time::interval(GRANULARITY);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut due = Vec::new();
        let mut sampled = Instant::now();
        loop {
            interval.tick().await;
            let now = Instant::now();
            self.wheel.borrow_mut().advance(now, &mut due);
            for (id, tick) in due.drain(..) {
                let connection = self.connections.borrow().get(id as usize).cloned();
                if let Some(connection) = connection {
                    connection.fired(tick);
                }
            }
            let left = self.hub.borrow_mut().sweep(now);
            left.into_iter()
                .for_each(|token| self.broker.unsubscribe(token));
            self.look_after_condition(now);
            self.give_up_overdue(now);
            self.settle();
            self.check_streams();
            self.call_rolls(now);
            self.tell_moves();
            self.repair_streams();
            self.flush_metrics();
            if now.saturating_duration_since(sampled) >= SAMPLE_INTERVAL {
                sampled = now;
                self.metrics.send_queue_bytes(self.queued_bytes());
                let members = self.hub.borrow().members_remembered();
                self.metrics.members_remembered(members);
            }
        }
    }

    /// What waits for clients and for gateways.
    fn queued_bytes(&self) -> usize {
        let connections = self.connections.borrow();
        let outboxes = connections
            .iter()
            .map(|(_, own)| own.outbox().queued_bytes());
        let links = self.open_links();
        outboxes.chain(links.map(|link| link.waiting_bytes())).sum()
    }

    /// Makes what this shard has counted visible.
    pub(crate) fn flush_metrics(&self) {
        let hub = self.hub.borrow();
        self.metrics.flush(hub.channels(), hub.subscriptions());
    }
}
