//! A worker or a gateway as a process of its own.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

/// A running process; it is killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// Where it takes clients.
    pub(crate) address: SocketAddr,
    /// Where it tells its metrics.
    #[allow(dead_code, reason = "not every bench reads metrics")]
    pub(crate) admin: SocketAddr,
}

impl Server {
    /// Starts `program` with settings, each `key=value`, and waits until it serves.
    pub(crate) fn start<'a>(
        program: impl AsRef<OsStr>,
        settings: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self> {
        super::allow_files()?;
        let mut command = Command::new(&program);
        for setting in ["log.format=json"].into_iter().chain(settings) {
            command.args(["--set", setting]);
        }
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {:?}", program.as_ref()))?;
        let stderr = child.stderr.take().context("the process' stderr")?;
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

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the log until the process serves; returns where, and where its metrics are.
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
            return addresses.context("a process that serves, but does not say where");
        }
        said.push(line);
    }
    bail!("the process did not start: {said:?}")
}
