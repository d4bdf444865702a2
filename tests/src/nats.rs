//! nats-servers of the test's own: one, or a cluster, with JetStream if asked for.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::SOON;
use crate::eventually::eventually;
use crate::port::Reserved;
use crate::process::Process;

/// Name of a cluster; its servers have this name and a number.
const CLUSTER: &str = "tests";

/// Which servers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How many; more than one are a cluster.
    pub servers: usize,
    /// Whether they store streams, in files.
    pub stores: bool,
    /// How often a server asks a silent client whether it is there; the second unanswered time it is dropped.
    pub ping_interval: Duration,
    /// What else their configuration says, in nats-server's own format.
    pub configuration: &'static str,
}

impl Default for Layout {
    /// One server that stores nothing, and has nats-server's patience.
    fn default() -> Self {
        Self {
            servers: 1,
            stores: false,
            ping_interval: Duration::from_secs(120),
            configuration: "",
        }
    }
}

impl Layout {
    /// Starts the servers, and waits until they take clients and can store streams.
    ///
    /// # Errors
    /// When there is no nats-server, or they do not come up.
    pub async fn start(self) -> Result<Vec<Nats>> {
        let routes = (0..self.servers).map(|_| Reserved::port());
        let routes = routes.collect::<Result<Vec<_>>>()?;
        let urls: Vec<_> = routes
            .iter()
            .map(|route| format!("\"nats://{}\"", route.address()))
            .collect();
        let mut servers = Vec::new();
        for (number, route) in routes.into_iter().enumerate() {
            servers.push(Nats::launch(self, number, route, &urls.join(", "))?);
        }
        for server in &mut servers {
            server.ready().await?;
        }
        Ok(servers)
    }
}

/// A running nats-server on ports of its own of the loopback interface, which it keeps.
#[derive(Debug)]
pub struct Nats {
    name: String,
    process: Process,
    clients: Reserved,
    monitoring: Reserved,
    _route: Reserved,
    directory: TempDir,
}

impl Nats {
    /// Starts one server that stores nothing, and waits until it takes clients.
    ///
    /// # Errors
    /// As for [`Layout::start`].
    pub async fn start() -> Result<Self> {
        let mut servers = Layout::default().start().await?;
        Ok(servers.remove(0))
    }

    fn launch(layout: Layout, number: usize, route: Reserved, routes: &str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let name = format!("{CLUSTER}-{number}");
        let (clients, monitoring) = (Reserved::port()?, Reserved::port()?);
        let mut config = String::new();
        writeln!(config, "server_name: {name}")?;
        writeln!(config, "listen: \"{}\"", clients.address())?;
        writeln!(config, "http: \"{}\"", monitoring.address())?;
        writeln!(
            config,
            "ping_interval: \"{}ms\"",
            layout.ping_interval.as_millis()
        )?;
        writeln!(config, "ping_max: 2")?;
        writeln!(config, "{}", layout.configuration)?;
        if layout.stores {
            let store = directory.path().join("store");
            writeln!(config, "jetstream {{ store_dir: {:?} }}", store)?;
        }
        if layout.servers > 1 {
            let listen = route.address();
            writeln!(
                config,
                "cluster {{ name: {CLUSTER}, listen: \"{listen}\", routes: [{routes}] }}"
            )?;
        }
        std::fs::write(directory.path().join("nats.conf"), config)?;
        Ok(Self {
            process: run(&name, &directory)?,
            name,
            clients,
            monitoring,
            _route: route,
            directory,
        })
    }

    /// Its name in a cluster.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where clients connect: `host:port`.
    pub fn address(&self) -> String {
        self.clients.address()
    }

    /// Kills the server (SIGKILL). What it has stored stays.
    ///
    /// # Errors
    /// When it was not running.
    pub async fn kill(&mut self) -> Result<()> {
        self.process.kill().await
    }

    /// Sends the server a signal: SIGSTOP makes it hang, with all its connections open.
    ///
    /// # Errors
    /// When it is not running.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Starts the server again, after [`Nats::kill`], on the same ports and with what it has stored.
    ///
    /// # Errors
    /// As for [`Layout::start`].
    pub async fn restart(&mut self) -> Result<()> {
        self.process = run(&self.name, &self.directory)?;
        self.ready().await
    }

    /// Waits until it takes clients and, if it stores streams, knows all of them.
    async fn ready(&mut self) -> Result<()> {
        let what = format!("{} is healthy", self.name);
        eventually(&what, SOON, async || {
            if !self.process.is_running() {
                return Ok(Err(self.process.output()));
            }
            let answer = self.monitor("healthz").await?;
            ensure!(
                answer.status() == 200,
                "/healthz answers {}",
                answer.text().await?
            );
            Ok(Ok(()))
        })
        .await?
        .map_err(|output| anyhow::anyhow!("{} ended:\n{output}", self.name))
    }

    /// How many connections it has from the process of this name.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn connections_of(&self, process: &str) -> Result<usize> {
        let answer: Value = self.monitor("connz").await?.json().await?;
        let connections = answer["connections"].as_array().context("its clients")?;
        let names = connections
            .iter()
            .filter_map(|client| client["name"].as_str());
        Ok(names.filter(|name| name.starts_with(process)).count())
    }

    /// How many streams' leader this server is, as far as it knows.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn leads(&self) -> Result<usize> {
        let answer: Value = self.monitor("jsz?streams=true").await?.json().await?;
        let accounts = answer["account_details"].as_array();
        let streams = accounts
            .into_iter()
            .flatten()
            .filter_map(|account| account["stream_detail"].as_array());
        let led = streams
            .flatten()
            .filter(|stream| stream["cluster"]["leader"] == *self.name);
        Ok(led.count())
    }

    async fn monitor(&self, path: &str) -> reqwest::Result<reqwest::Response> {
        reqwest::get(format!("http://{}/{path}", self.monitoring.address())).await
    }
}

fn run(name: &str, directory: &TempDir) -> Result<Process> {
    let config = directory.path().join("nats.conf");
    Process::start(
        name,
        &find_server()?,
        ["-c".into(), config.into_os_string()],
    )
}

/// The server's program: by `FLOTILLA_NATS_SERVER`, in the tests' virtual environment, or
/// installed.
///
/// # Errors
/// When there is none.
pub fn find_server() -> Result<PathBuf> {
    let installed = std::env::var_os("PATH").unwrap_or_default();
    std::env::var_os("FLOTILLA_NATS_SERVER")
        .map(PathBuf::from)
        .into_iter()
        .chain([PathBuf::from(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/.venv/bin/nats-server"
        ))])
        .chain(std::env::split_paths(&installed).map(|folder| folder.join("nats-server")))
        .chain([PathBuf::from("/usr/sbin/nats-server")])
        .find(|path| path.is_file())
        .context("no nats-server: run `tests/run setup`, or set FLOTILLA_NATS_SERVER")
}
