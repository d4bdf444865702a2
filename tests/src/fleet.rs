//! A whole fleet: nats-server, workers and gateways, configured to know each other.

use anyhow::{Context, Result, bail, ensure};
use flotilla_shared::protocol::Format;
use tempfile::TempDir;
use toml::{Table, Value};

use crate::client::{Client, Dial};
use crate::fault::Link;
use crate::nats::{Layout, Nats};
use crate::port::Reserved;
use crate::service::{ANY_PORT, Service, Settings};
use crate::token;

/// The secret by which workers of a fleet know its gateways.
pub const PASSPORT_SECRET: &str = "the secret between the gateways and the workers of the tests";

/// Users to try before giving up on finding one for every worker.
const USERS_MAX: usize = 200;

/// What a fleet is made of.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    workers: usize,
    gateways: usize,
    linked: bool,
    fronted: bool,
    in_memory: bool,
    listed: bool,
    nats: Layout,
    worker: Settings,
    gateway: Settings,
}

impl Builder {
    /// Number of workers; 1 if not said.
    #[must_use]
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = count;
        self
    }

    /// Number of gateways; 1 if not said.
    #[must_use]
    pub fn gateways(mut self, count: usize) -> Self {
        self.gateways = count;
        self
    }

    /// Puts a [`Link`] between each worker and NATS.
    #[must_use]
    pub fn linked(mut self) -> Self {
        self.linked = true;
        self
    }

    /// Puts a [`Link`] between the gateways and each worker.
    #[must_use]
    pub fn fronted(mut self) -> Self {
        self.fronted = true;
        self
    }

    /// Tells the gateways the workers' addresses, instead of having them look at the roster.
    #[must_use]
    pub fn listed(mut self) -> Self {
        self.listed = true;
        self
    }

    /// Gives each worker a broker in its own memory, which keeps history: no worker knows another.
    #[must_use]
    pub fn in_memory(mut self) -> Self {
        self.in_memory = true;
        self
    }

    /// Has the servers between the workers be these, instead of one that stores nothing.
    #[must_use]
    pub fn nats(mut self, layout: Layout) -> Self {
        self.nats = layout;
        self
    }

    /// Sets a value of every worker's configuration by its dotted key.
    #[must_use]
    pub fn worker(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.worker.set(key, value);
        self
    }

    /// Sets a value of every gateway's configuration by its dotted key.
    #[must_use]
    pub fn gateway(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.gateway.set(key, value);
        self
    }

    /// Starts everything and waits until every gateway has found every worker.
    ///
    /// # Errors
    /// When any of it does not come up.
    pub async fn start(self) -> Result<Fleet> {
        let mut servers = self.nats.start().await?;
        let nats = servers.remove(0);
        let directory = tempfile::tempdir()?;
        let (workers, gateways) = (self.workers, self.gateways);
        let mut fleet = Fleet {
            gateways: Vec::new(),
            workers: Vec::new(),
            links: Vec::new(),
            fronts: Vec::new(),
            reserved: Vec::new(),
            nats,
            peers: servers,
            builder: self,
            directory,
        };
        for _ in 0..workers {
            fleet.add_worker().await?;
        }
        for _ in 0..gateways {
            fleet.add_gateway().await?;
        }
        fleet.sees_workers(workers).await?;
        Ok(fleet)
    }
}

/// A running fleet. Dropping it kills every process.
#[derive(Debug)]
pub struct Fleet {
    /// The gateways, in the order of their start.
    pub gateways: Vec<Service>,
    /// The workers, in the order of their start: `worker-0`, `worker-1`, ...
    pub workers: Vec<Service>,
    /// With [`Builder::linked`], the link of each worker to NATS.
    pub links: Vec<Link>,
    /// With [`Builder::fronted`], the link of the gateways to each worker.
    pub fronts: Vec<Link>,
    /// Ports of workers that are reached over such a link.
    reserved: Vec<Reserved>,
    /// The server between the workers; of a cluster the first one.
    pub nats: Nats,
    /// The other servers of a cluster.
    pub peers: Vec<Nats>,
    builder: Builder,
    directory: TempDir,
}

impl Fleet {
    /// A fleet of one worker and one gateway, unless more is said.
    ///
    /// Any user with a token by [`token::SECRET`] may subscribe and publish in channels without
    /// a namespace.
    pub fn builder() -> Builder {
        let builder = Builder {
            workers: 1,
            gateways: 1,
            ..Builder::default()
        };
        builder
            .worker("listen", ANY_PORT)
            .worker("admin_listen", ANY_PORT)
            // Two, so that what crosses shards is tested on a machine with one core as well.
            .worker("shards", 2)
            .worker("passport.secret_key", PASSPORT_SECRET)
            .worker("client.token.hmac_secret_key", token::SECRET)
            .worker("client.expose_node", true)
            .worker("channel.without_namespace.allow_subscribe_for_client", true)
            .worker("channel.without_namespace.allow_publish_for_client", true)
            .worker("roster.announce_interval", "500ms")
            .worker("log.format", "json")
            .gateway("listen", ANY_PORT)
            .gateway("admin_listen", ANY_PORT)
            .gateway("passport.secret_key", PASSPORT_SECRET)
            .gateway("identity.token.hmac_secret_key", token::SECRET)
            .gateway("pool.workers", Value::Array(Vec::new()))
            .gateway("pool.roster", true)
            .gateway("log.format", "json")
    }

    /// Starts one more worker.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn add_worker(&mut self) -> Result<&Service> {
        let id = format!("worker-{}", self.workers.len());
        let mut brokers = self.brokers();
        if self.builder.linked {
            let link = Link::to(self.nats.address()).await?;
            brokers = vec![link.address()];
            self.links.push(link);
        }
        let mut settings = self.builder.worker.clone();
        settings.set("id", id.as_str());
        if self.builder.fronted {
            let port = Reserved::port()?;
            let front = Link::to(port.address()).await?;
            settings.set("listen", port.address());
            settings.set("advertise", front.address());
            self.reserved.push(port);
            self.fronts.push(front);
        }
        if self.builder.in_memory {
            settings.set("broker.kind", "memory");
        } else {
            use_nats(&mut settings, &brokers);
        }
        let path = self.directory.path();
        let worker = Service::start("flotilla-worker", &id, &settings, path).await?;
        worker.ready().await?;
        self.workers.push(worker);
        self.workers.last().context("the worker just added")
    }

    async fn add_gateway(&mut self) -> Result<()> {
        let id = format!("gateway-{}", self.gateways.len());
        let mut settings = self.builder.gateway.clone();
        use_nats(&mut settings, &self.brokers());
        if self.builder.listed {
            let workers = self
                .workers
                .iter()
                .map(|worker| worker.addresses().websocket.clone());
            settings.set("pool.workers", workers.collect::<Vec<_>>());
            settings.set("pool.roster", false);
        }
        let path = self.directory.path();
        self.gateways
            .push(Service::start("flotilla-gateway", &id, &settings, path).await?);
        Ok(())
    }

    /// All servers between the workers.
    pub fn servers(&mut self) -> Vec<&mut Nats> {
        std::iter::once(&mut self.nats)
            .chain(&mut self.peers)
            .collect()
    }

    /// Where these take clients.
    fn brokers(&self) -> Vec<String> {
        let servers = std::iter::once(&self.nats).chain(&self.peers);
        servers.map(Nats::address).collect()
    }

    /// Where clients of the fleet connect: the first gateway.
    pub fn url(&self) -> String {
        self.gateways[0].url()
    }

    /// A connection through the first gateway.
    pub fn dial(&self) -> Dial {
        Dial::to(self.url())
    }

    /// A user connected through the first gateway.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn user(&self, name: &str, format: Format) -> Result<Client> {
        self.dial()
            .format(format)
            .connect(&token::user(name)?)
            .await
    }

    /// Users named `user-N`, each connected through the first gateway and served by a worker of
    /// its own. One per format given; no more than there are workers.
    ///
    /// # Errors
    /// When a connection fails, or the gateway never chooses some worker.
    pub async fn spread(&self, formats: &[Format]) -> Result<Vec<Client>> {
        let mut clients: Vec<Client> = Vec::new();
        for number in 0..USERS_MAX {
            let Some(format) = formats.get(clients.len()) else {
                return Ok(clients);
            };
            let name = format!("user-{number}");
            // The gateway's choice is by what it sees: the token in the upgrade request.
            let dial = self
                .dial()
                .header("authorization", &format!("Bearer {}", token::user(&name)?));
            let client = dial.format(*format).connect("").await?;
            ensure!(!client.node().is_empty(), "the worker did not tell its id");
            if clients.iter().all(|other| other.node() != client.node()) {
                clients.push(client);
            }
        }
        bail!("{USERS_MAX} users did not reach {} workers", formats.len())
    }

    /// The worker with this id.
    ///
    /// # Errors
    /// When there is none.
    pub fn worker(&mut self, id: &str) -> Result<&mut Service> {
        let found = self.workers.iter_mut().find(|worker| worker.id() == id);
        found.with_context(|| format!("no worker {id:?}"))
    }

    /// Waits until every gateway sees exactly this many workers that can take connections.
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn sees_workers(&self, count: usize) -> Result<()> {
        for gateway in &self.gateways {
            let labels = ["state=\"active\""];
            gateway
                .metric_becomes("flotilla_gateway_workers", &labels, count as f64)
                .await?;
        }
        Ok(())
    }
}

/// Adds a namespace to a list for `channel.namespaces`, with options that are switched on.
pub fn namespace(name: &str, allowed: &[&str]) -> Value {
    let mut table = Table::new();
    table.insert("name".to_owned(), name.into());
    table.extend(
        allowed
            .iter()
            .map(|option| ((*option).to_owned(), true.into())),
    );
    table.into()
}

fn use_nats(settings: &mut Settings, servers: &[String]) {
    settings.set("broker.kind", "nats");
    let servers = servers.iter().map(|server| format!("nats://{server}"));
    settings.set("broker.nats.servers", servers.collect::<Vec<_>>());
}
