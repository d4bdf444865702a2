//! A development fleet of a built-in profile, `flotilla dev`, on a free port.

use std::ffi::OsStr;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::process::Command;

use crate::SOON;
use crate::nats::find_server;
use crate::process::{Process, binary};

/// A gateway and workers: one process over memory, or one for each over NATS.
#[derive(Debug)]
pub struct Dev {
    process: Process,
    port: u16,
    /// Where it notes what runs; goes with it.
    _state: TempDir,
}

impl Dev {
    /// Starts it in one process, and waits until it takes clients.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(profile: &str) -> Result<Self> {
        Self::start_with(profile, &[]).await
    }

    /// The same as processes of their own, over a nats-server that is the fleet's.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn over_nats(profile: &str) -> Result<Self> {
        let server = find_server()?;
        let options = ["--nats".as_ref(), "--nats-server".as_ref(), server.as_ref()];
        Self::start_with(profile, &options).await
    }

    async fn start_with(profile: &str, options: &[&OsStr]) -> Result<Self> {
        let state = tempfile::tempdir()?;
        let mut command = Command::new(binary("flotilla")?);
        command
            .args(["dev", "--profile", profile, "--port", "0"])
            .args(options)
            .env("XDG_RUNTIME_DIR", state.path())
            .env("XDG_STATE_HOME", state.path());
        let mut process = Process::spawn("flotilla dev", &mut command)?;
        let port = process.line("the address", |line| {
            let url = line.trim().strip_prefix("WebSocket")?;
            let authority = url.split('/').nth(2)?;
            authority.rsplit(':').next()?.parse().ok()
        });
        let port = port.await.context("of the gateway")?;
        Ok(Self {
            process,
            port,
            _state: state,
        })
    }

    /// Host and port of the gateway.
    pub fn address(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// Ends it in an orderly way.
    ///
    /// # Errors
    /// When that takes too long, or it fails.
    pub async fn stop(&mut self) -> Result<()> {
        self.process.signal(Signal::SIGTERM)?;
        let status = self.process.exit(SOON).await?;
        ensure!(status.success(), "flotilla dev ended with {status}");
        Ok(())
    }
}
