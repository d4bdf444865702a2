//! A real nats-server for one test.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use flotilla_shared::broker::conformance;
use flotilla_shared::broker::{Brokers, NatsConfig, Retention};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

/// How long the server may take to listen.
const START: Duration = Duration::from_secs(20);

/// A nats-server on a port of its own choice; killed when dropped.
pub(crate) struct NatsServer {
    binary: PathBuf,
    folder: TempDir,
    arguments: Vec<String>,
    process: Child,
    url: String,
}

/// What the server writes into its ports file.
#[derive(Deserialize)]
struct Ports {
    nats: Vec<String>,
}

impl NatsServer {
    /// Starts a server without a configuration.
    pub(crate) async fn start() -> Result<Self> {
        Self::start_with("").await
    }

    /// Starts a server with `configuration`, in the server's own format.
    pub(crate) async fn start_with(configuration: &str) -> Result<Self> {
        Self::start_in(tempfile::tempdir()?, configuration, false).await
    }

    async fn start_in(folder: TempDir, configuration: &str, jetstream: bool) -> Result<Self> {
        let file = configuration_file(&folder);
        std::fs::write(&file, configuration)?;
        let mut arguments = vec!["-c".to_owned(), file.display().to_string()];
        if jetstream {
            let store = folder.path().join("store").display().to_string();
            arguments.extend(["-js".to_owned(), "-sd".to_owned(), store]);
        }
        let binary = find_binary()?;
        let process = spawn(&binary, folder.path(), &arguments, "-1")?;
        let url = wait_for_url(folder.path()).await?;
        Ok(Self {
            binary,
            folder,
            arguments,
            process,
            url,
        })
    }

    /// Writes another configuration, for the next start.
    pub(crate) fn configure(&self, configuration: &str) -> Result<()> {
        std::fs::write(configuration_file(&self.folder), configuration)?;
        Ok(())
    }

    /// Starts a server with JetStream, which stores in the server's own folder.
    pub(crate) async fn start_with_jetstream() -> Result<Self> {
        Self::start_with_jetstream_and("").await
    }

    /// As [`start_with_jetstream`](Self::start_with_jetstream), with a configuration.
    pub(crate) async fn start_with_jetstream_and(configuration: &str) -> Result<Self> {
        Self::start_in(tempfile::tempdir()?, configuration, true).await
    }

    /// Where JetStream stores.
    pub(crate) fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// Kills the server without giving it a chance to say good-bye.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        self.process.kill().await?;
        Ok(())
    }

    /// Starts the server again on the port it had.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        let port = self.url.rsplit(':').next().context("no port")?.to_owned();
        for file in std::fs::read_dir(self.folder.path())? {
            let file = file?.path();
            if file.extension() == Some(OsStr::new("ports")) {
                std::fs::remove_file(file)?;
            }
        }
        self.process = spawn(&self.binary, self.folder.path(), &self.arguments, &port)?;
        wait_for_url(self.folder.path()).await?;
        Ok(())
    }

    /// Freezes the server: its connections stay open and silent. Returns once it stands still.
    pub(crate) async fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        let threads = format!("/proc/{}/task", self.pid()?);
        let deadline = Instant::now() + START;
        while !all_stopped(Path::new(&threads))? {
            ensure!(Instant::now() < deadline, "nats-server does not stop");
            sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Lets a frozen server go on.
    pub(crate) fn thaw(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid()?, signal)?;
        Ok(())
    }

    fn pid(&self) -> Result<Pid> {
        let pid = self.process.id().context("the server is not running")?;
        Ok(Pid::from_raw(pid.try_into()?))
    }

    /// A configuration that leads to this server.
    pub(crate) fn config(&self) -> NatsConfig {
        NatsConfig {
            servers: vec![self.url.clone()],
            ..NatsConfig::default()
        }
    }

    /// Connections to this server, with the default configuration.
    pub(crate) fn brokers(&self) -> Brokers {
        Brokers::Nats(self.config())
    }

    /// A configuration that leads to this server, with a history for all channels of the promises.
    pub(crate) fn config_with_history(&self) -> NatsConfig {
        let mut config = self.config();
        config.history.partitions = 4;
        config.history.namespaces = namespaces();
        config
    }
}

impl Drop for NatsServer {
    /// Before its folder is removed: a server that still runs would write into it.
    fn drop(&mut self) {
        let _ = self.process.start_kill();
        while let Ok(None) = self.process.try_wait() {
            std::thread::yield_now();
        }
    }
}

/// The namespaces of the channels that the promises use.
pub(crate) fn namespaces() -> Vec<(String, Retention)> {
    let names = ["", "end", "private", "räume", "聊天"];
    let namespaces = names.map(|name| (name.to_owned(), conformance::RETENTION));
    namespaces.to_vec()
}

fn configuration_file(folder: &TempDir) -> PathBuf {
    folder.path().join("nats.conf")
}

fn spawn(binary: &Path, folder: &Path, arguments: &[String], port: &str) -> Result<Child> {
    Command::new(binary)
        .args(["-a", "127.0.0.1", "-p", port, "--ports_file_dir"])
        .arg(folder)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {}", binary.display()))
}

/// Whether every thread is in state `T`, the field behind the name in parentheses (proc(5)).
fn all_stopped(threads: &Path) -> Result<bool> {
    for thread in std::fs::read_dir(threads)? {
        let status = std::fs::read_to_string(thread?.path().join("stat"))?;
        let (_, fields) = status.rsplit_once(')').context("no name in stat")?;
        if !fields.trim_start().starts_with('T') {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The server tells its address in a file that appears once it listens.
async fn wait_for_url(folder: &Path) -> Result<String> {
    let deadline = Instant::now() + START;
    while Instant::now() < deadline {
        for file in std::fs::read_dir(folder)? {
            let file = file?.path();
            if file.extension() != Some(OsStr::new("ports")) {
                continue;
            }
            // Half a file is none yet.
            let ports = serde_json::from_slice::<Ports>(&std::fs::read(&file)?);
            if let Some(url) = ports.ok().and_then(|ports| ports.nats.into_iter().next()) {
                return Ok(url);
            }
        }
        sleep(Duration::from_millis(5)).await;
    }
    bail!("nats-server does not listen after {START:?}")
}

/// `FLOTILLA_NATS_SERVER`, else `nats-server` from the search path, `/usr/sbin`, or what the test runner installed.
fn find_binary() -> Result<PathBuf> {
    if let Some(binary) = std::env::var_os("FLOTILLA_NATS_SERVER") {
        return Ok(binary.into());
    }
    let installed = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/.venv/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from(installed)])
        .map(|folder| folder.join("nats-server"))
        .find(|binary| binary.is_file())
        .context(
            "no nats-server found: set FLOTILLA_NATS_SERVER, or start the tests with tests/run",
        )
}
