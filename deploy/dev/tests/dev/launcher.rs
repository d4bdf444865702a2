//! A `flotilla` process under test, with a runtime directory of its own, and what its banner tells.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Output,
};

use anyhow::{Context, Result, ensure};
use flotilla_tests::{
    SOON,
    client::{Client, Dial},
    eventually::eventually,
    process::Process,
};
use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::process::Command;

/// The last line of the banner.
const END_OF_BANNER: &str = "Ctrl-C ends everything.";

/// Most clients that are opened until two of them sit on different workers.
const SPREAD_TRIES: usize = 20;

/// A development fleet that is up.
pub(crate) struct Launcher {
    process: Process,
    runtime: PathBuf,
}

/// A runtime directory for fleets of one test.
pub(crate) fn runtime() -> Result<TempDir> {
    Ok(tempfile::tempdir()?)
}

/// The command `flotilla`, for a user whose runtime directory is `runtime`.
fn command(runtime: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flotilla"));
    command.args(arguments).env("XDG_RUNTIME_DIR", runtime);
    command
}

/// Runs `flotilla` until it ends by itself.
pub(crate) async fn output(runtime: &Path, arguments: &[&str]) -> Result<Output> {
    let output = command(runtime, arguments).kill_on_drop(true).output();
    Ok(tokio::time::timeout(SOON, output).await??)
}

/// What `flotilla token` prints.
pub(crate) async fn token(runtime: &Path, arguments: &[&str]) -> Result<String> {
    let output = output(runtime, &[&["token"], arguments].concat()).await?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

impl Launcher {
    /// Starts `flotilla` with these arguments and waits for its banner.
    pub(crate) async fn start(runtime: &Path, arguments: &[&str]) -> Result<Self> {
        let mut process = Process::spawn("flotilla", &mut command(runtime, arguments))?;
        process
            .line("the banner", |line| (line == END_OF_BANNER).then_some(()))
            .await?;
        Ok(Self {
            process,
            runtime: runtime.to_owned(),
        })
    }

    /// What stands behind `label` in the banner.
    fn told(&self, label: &str) -> Result<String> {
        let output = self.process.output();
        let told = output
            .lines()
            .find_map(|line| line.trim().strip_prefix(label));
        Ok(told
            .with_context(|| format!("{label} in:\n{output}"))?
            .trim()
            .to_owned())
    }

    /// Where clients connect.
    pub(crate) fn url(&self) -> Result<String> {
        self.told("WebSocket")
    }

    /// The gateway's port.
    pub(crate) fn port(&self) -> Result<String> {
        let url = self.url()?;
        let authority = url.split('/').nth(2).context("the authority of the URL")?;
        Ok(authority.rsplit(':').next().unwrap_or_default().to_owned())
    }

    /// The demo page's origin.
    pub(crate) fn demo_origin(&self) -> Result<String> {
        let told = self.told("Demo page")?;
        Ok(told.split("/ ").next().unwrap_or_default().to_owned())
    }

    /// The connection token in the lines that are to be pasted.
    pub(crate) fn token(&self) -> Result<String> {
        let line = self.told(r#"{"id":1,"connect":{"token":""#)?;
        Ok(line.split('"').next().unwrap_or_default().to_owned())
    }

    /// Publishes as a back end, with the key and to the address of the line that is to be pasted.
    pub(crate) async fn publish(&self, channel: &str, data: &str) -> Result<String> {
        let line = self.told("curl -H 'X-API-Key: ")?;
        let (key, rest) = line.split_once("' ").context("an address behind the key")?;
        let url = rest.split(' ').next().unwrap_or_default();
        let body = format!(r#"{{"channel":"{channel}","data":{data}}}"#);
        let request = reqwest::Client::new().post(url).header("X-API-Key", key);
        Ok(request.body(body).send().await?.text().await?)
    }

    /// A member's process and its metrics' address.
    pub(crate) fn member(&self, name: &str) -> Result<(Option<i32>, SocketAddr)> {
        let told = self.told(name)?;
        let mut words = told.split_whitespace();
        let pid = match words.next_back() {
            Some(_) if words.next() == Some("process") => {
                words.next().map(str::parse).transpose()?
            }
            _ => None,
        };
        let address = told
            .split("http://")
            .nth(1)
            .and_then(|rest| rest.split('/').next());
        Ok((pid, address.context("an address")?.parse()?))
    }

    /// Waits until a line that the launcher prints contains `text`, and returns it.
    pub(crate) async fn prints(&mut self, text: &str) -> Result<String> {
        let find = |line: &str| line.contains(text).then(|| line.to_owned());
        self.process.line(text, find).await
    }

    /// A client with this token.
    pub(crate) async fn client(&self, token: &str) -> Result<Client> {
        Dial::to(self.url()?).connect(token).await
    }

    /// Two clients that sit on different workers.
    pub(crate) async fn two_clients(&self, token: &str) -> Result<(Client, Client)> {
        let first = self.client(token).await?;
        let mut others = Vec::new();
        for _ in 0..SPREAD_TRIES {
            let other = self.client(token).await?;
            if other.node() != first.node() {
                return Ok((first, other));
            }
            others.push(other);
        }
        anyhow::bail!("everybody is on {}", first.node())
    }

    /// Sends the launcher, and nobody else, a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Waits for the launcher's end, which has to be a success.
    pub(crate) async fn ends_well(&mut self) -> Result<()> {
        let status = self.process.exit(SOON).await?;
        ensure!(status.success(), "{status}");
        Ok(())
    }

    /// Kills the launcher, and nobody else.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        self.process.kill().await
    }

    /// Waits until no process that was started by this fleet, directly or not, is left.
    pub(crate) async fn leaves_no_process(&self) -> Result<()> {
        eventually("no process is left", SOON, async || {
            let left = processes_of(&self.runtime)?;
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })
        .await
    }
}

/// The command lines of the processes whose runtime directory is this one. They are told by their
/// environment, which each inherits; a process that has ended and is not yet waited for has none.
pub(crate) fn processes_of(runtime: &Path) -> Result<Vec<String>> {
    let variable = format!("XDG_RUNTIME_DIR={}", runtime.display());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("this needs Linux")? {
        let path = entry?.path();
        // Whoever ends meanwhile, or belongs to somebody else, is not one of ours.
        let Ok(environment) = fs::read(path.join("environ")) else {
            continue;
        };
        if environment
            .split(|byte| *byte == 0)
            .any(|entry| entry == variable.as_bytes())
        {
            let command = fs::read(path.join("cmdline")).unwrap_or_default();
            found.push(String::from_utf8_lossy(&command).replace('\0', " "));
        }
    }
    Ok(found)
}
