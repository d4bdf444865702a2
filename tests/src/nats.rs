//! A nats-server of the test's own.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde::Deserialize;
use tempfile::TempDir;

use crate::SOON;
use crate::eventually::eventually;
use crate::process::Process;

/// A running nats-server on a free port of the loopback interface.
#[derive(Debug)]
pub struct Nats {
    process: Process,
    port: u16,
    directory: TempDir,
}

impl Nats {
    /// Starts a server and waits until it accepts clients.
    ///
    /// # Errors
    /// When there is no nats-server, or it does not come up.
    pub async fn start() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let (process, port) = run(&directory, "-1").await?;
        Ok(Self {
            process,
            port,
            directory,
        })
    }

    /// Where clients connect: `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Kills the server (SIGKILL).
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

    /// Starts a server again on the same port, after [`Nats::kill`].
    ///
    /// # Errors
    /// As for [`Nats::start`].
    pub async fn restart(&mut self) -> Result<()> {
        let (process, port) = run(&self.directory, &self.port.to_string()).await?;
        self.process = process;
        self.port = port;
        Ok(())
    }
}

/// What nats-server writes into its ports file.
#[derive(Deserialize)]
struct Ports {
    nats: Vec<String>,
}

/// Runs a server on `port` (-1: a free one) and returns the port that it took.
async fn run(directory: &TempDir, port: &str) -> Result<(Process, u16)> {
    let folder = directory.path().display().to_string();
    let args = ["-a", "127.0.0.1", "-p", port, "--ports_file_dir", &folder];
    let mut process = Process::start("nats-server", &find_server()?, args)?;
    let file = directory
        .path()
        .join(format!("nats-server_{}.ports", process.id()?));
    let ports = eventually("nats-server's ports file", SOON, async || {
        if !process.is_running() {
            bail!("nats-server ended:\n{}", process.output());
        }
        let text = std::fs::read(&file).with_context(|| file.display().to_string())?;
        Ok(serde_json::from_slice::<Ports>(&text)?)
    })
    .await?;
    let url = ports.nats.first().context("a client port")?;
    let port = url.rsplit(':').next().and_then(|port| port.parse().ok());
    Ok((process, port.with_context(|| format!("the port in {url}"))?))
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
