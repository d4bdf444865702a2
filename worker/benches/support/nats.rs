//! A real nats-server, and what a worker is told of it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;

use super::observe::{eventually, metric};

/// What a channel with history keeps.
pub(crate) const KEPT: usize = 100;

/// A nats-server that stores in a folder of its own; it is killed when dropped.
pub(crate) struct NatsServer {
    child: Child,
    folder: TempDir,
    url: String,
}

impl NatsServer {
    /// Starts one and waits until it takes clients.
    pub(crate) fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let child = launch(folder.path(), "-1")?;
        let url = url_of(folder.path())?;
        Ok(Self { child, folder, url })
    }

    /// Kills it and starts it again, with what it has stored. Returns how long it takes until it takes clients.
    pub(crate) fn restart(&mut self) -> Result<Duration> {
        self.child.kill()?;
        self.child.wait()?;
        for file in std::fs::read_dir(self.folder.path())? {
            let file = file?.path();
            if file.is_file() {
                std::fs::remove_file(file)?;
            }
        }
        let port = self.url.rsplit(':').next().context("no port")?;
        let started = Instant::now();
        self.child = launch(self.folder.path(), port)?;
        self.url = url_of(self.folder.path())?;
        Ok(started.elapsed())
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Bytes that its folder takes on the disk.
    pub(crate) fn stored_bytes(&self) -> Result<u64> {
        bytes_in(self.folder.path())
    }

    /// What a worker is told to use this server, with channels of `kept:` that have a history, and so many channels at
    /// most for each client.
    pub(crate) fn settings(&self, channel_limit: usize) -> [String; 4] {
        let all_may = "allow_subscribe_for_client = true, allow_subscribe_for_anonymous = true, \
             allow_publish_for_client = true, allow_publish_for_anonymous = true, \
             allow_history_for_client = true, allow_history_for_anonymous = true";
        [
            "broker.kind=nats".to_owned(),
            format!(r#"broker.nats.servers=["{}"]"#, self.url),
            format!("client.channel_limit={channel_limit}"),
            format!(
                r#"channel.namespaces=[{{ name = "kept", history_size = {KEPT}, history_ttl = "1h",
                    force_recovery = true, {all_may} }}]"#
            ),
        ]
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        // It may be gone already. Its folder goes after it: a server that still runs would write into it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn launch(folder: &Path, port: &str) -> Result<Child> {
    let binary = flotilla_tests::nats::find_server()?;
    Command::new(binary)
        .args(["-a", "127.0.0.1", "-p", port, "--ports_file_dir"])
        .arg(folder)
        .args(["-js", "-sd"])
        .arg(folder.join("store"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("starting nats-server")
}

/// The server tells its address in a file that appears once it listens.
fn url_of(folder: &Path) -> Result<String> {
    eventually("nats-server listens", || {
        for file in std::fs::read_dir(folder)? {
            let file = file?.path();
            if file.extension().is_some_and(|name| name == "ports") {
                // Half a file is none yet.
                let ports = serde_json::from_slice::<Value>(&std::fs::read(file)?);
                let url = ports.ok().and_then(|ports| {
                    let url = ports["nats"][0].as_str();
                    url.map(str::to_owned)
                });
                return Ok(url);
            }
        }
        Ok(None)
    })
}

fn bytes_in(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() {
            bytes_in(&entry.path())?
        } else {
            entry.metadata()?.len()
        };
    }
    Ok(bytes)
}

/// Waits until somebody is in so many channels of a worker, those in which somebody was a moment ago included.
pub(crate) fn has_channels(admin: SocketAddr, count: usize) -> Result<()> {
    eventually("the worker has so many channels", || {
        let channels = metric(admin, "flotilla_worker_channels")?;
        Ok((channels == count as f64).then_some(()))
    })
}
