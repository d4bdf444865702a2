//! A worker process with one shard, and with the in-memory broker unless it is told otherwise.

use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

/// Everybody may do everything, with deltas in the namespace `docs`, and no ping disturbs the counting of bytes.
const SETTINGS: [&str; 12] = [
    "listen=127.0.0.1:0",
    "admin_listen=127.0.0.1:0",
    "shards=1",
    "broker.kind=memory",
    "client.allow_anonymous_connect_without_token=true",
    "client.ping_interval=0s",
    "channel.without_namespace.allow_subscribe_for_client=true",
    "channel.without_namespace.allow_subscribe_for_anonymous=true",
    "channel.without_namespace.allow_publish_for_client=true",
    "channel.without_namespace.allow_publish_for_anonymous=true",
    "log.format=json",
    r#"channel.namespaces=[{ name = "docs", history_size = 10, history_ttl = "5m", delta_publish = true,
        allowed_delta_types = ["fossil"], allow_subscribe_for_client = true, allow_subscribe_for_anonymous = true,
        allow_publish_for_client = true, allow_publish_for_anonymous = true, allow_history_for_client = true,
        allow_history_for_anonymous = true, presence = true, allow_presence_for_client = true,
        allow_presence_for_anonymous = true }]"#,
];

/// A running worker; it is killed when dropped.
pub(crate) struct Worker {
    child: Child,
    pub(crate) address: SocketAddr,
    /// Where it tells its metrics.
    #[allow(dead_code, reason = "not every bench reads metrics")]
    pub(crate) admin: SocketAddr,
}

impl Worker {
    /// Starts one and waits until it listens.
    pub(crate) fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// The same with settings of its own.
    pub(crate) fn start_with(settings: &[&str]) -> Result<Self> {
        super::allow_files()?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_flotilla-worker"));
        for setting in SETTINGS.iter().chain(settings) {
            command.args(["--set", setting]);
        }
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting the worker")?;
        let stderr = child.stderr.take().context("the worker's stderr")?;
        let mut lines = BufReader::new(stderr).lines();
        let (address, admin) = wait_until_serving(&mut lines)?;
        // Nobody may block on a full pipe; what comes is of no interest.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self {
            child,
            address,
            admin,
        })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the log until the worker serves; returns where, and where its metrics are.
fn wait_until_serving(
    lines: &mut impl Iterator<Item = io::Result<String>>,
) -> Result<(SocketAddr, SocketAddr)> {
    let mut addresses = None;
    let mut said = Vec::new();
    for line in lines {
        let line = line?;
        let record: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        if let (Some(websocket), Some(admin)) =
            (record["websocket"].as_str(), record["admin"].as_str())
        {
            addresses = Some((websocket.parse()?, admin.parse()?));
        }
        if record["phase"] == "serving" {
            return addresses.context("a worker that serves, but does not say where");
        }
        said.push(line);
    }
    bail!("the worker did not start: {said:?}")
}
