//! One child process: started with its output kept, signalled, awaited, and killed when dropped.
//!
//! Knows nothing of workers, gateways or NATS.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::SOON;
use crate::eventually::eventually;

/// Lines of output kept per process; older ones are dropped.
const LINES_MAX: usize = 2_000;

/// How long a killed process may take to end before it is left to itself.
const KILL_MAX: Duration = Duration::from_secs(2);

/// A binary of this workspace, from the build that this test belongs to.
///
/// # Errors
/// When it was not built: `cargo test -p flotilla-tests` alone does not build the binaries of
/// other packages.
pub fn binary(name: &str) -> Result<PathBuf> {
    // .../target/debug/deps/promises-0123: the binaries lie beside `deps`.
    let test = std::env::current_exe().context("where this test lies")?;
    let profile = test.ancestors().nth(2).context("the build's directory")?;
    let path = profile.join(name);
    ensure!(
        path.is_file(),
        "{} is missing; build it first: cargo build --workspace --bins (tests/run does)",
        path.display()
    );
    Ok(path)
}

/// A running child process and what it has printed.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: Output,
}

impl Process {
    /// Starts `program`. Its standard output and error are kept, line by line.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(
        name: &str,
        program: &Path,
        args: impl IntoIterator<Item = impl Into<OsString>>,
    ) -> Result<Self> {
        Self::spawn(
            name,
            Command::new(program).args(args.into_iter().map(Into::into)),
        )
    }

    /// Starts a command that was prepared by the caller, for an environment of its own.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(name: &str, command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {name}: {:?}", command.as_std().get_program()))?;
        let output = Output::default();
        if let Some(stream) = child.stdout.take() {
            tokio::spawn(output.clone().collect(stream));
        }
        if let Some(stream) = child.stderr.take() {
            tokio::spawn(output.clone().collect(stream));
        }
        Ok(Self {
            name: name.to_owned(),
            child,
            output,
        })
    }

    /// What this process is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id; an error once it was seen to end.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn id(&self) -> Result<u32> {
        self.child
            .id()
            .with_context(|| format!("{} has ended", self.name))
    }

    /// The standard input of the process, once.
    ///
    /// # Errors
    /// When it was taken before.
    pub fn take_stdin(&mut self) -> Result<tokio::process::ChildStdin> {
        self.child
            .stdin
            .take()
            .with_context(|| format!("standard input of {}", self.name))
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.id()?).context("a process id")?;
        signal::kill(Pid::from_raw(pid), signal)
            .with_context(|| format!("{signal} to {}", self.name))
    }

    /// Kills the process at once (SIGKILL) and waits for its end.
    ///
    /// # Errors
    /// When it had ended before.
    pub async fn kill(&mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.exit(SOON).await.map(|_| ())
    }

    /// Waits for the end of the process.
    ///
    /// # Errors
    /// When it is still running after `deadline`.
    pub async fn exit(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let name = &self.name;
        timeout(deadline, self.child.wait())
            .await
            .with_context(|| format!("{name} is still running after {deadline:?}"))?
            .with_context(|| format!("waiting for {name}"))
    }

    /// Waits for the end of a script that prints a line `ok: ...` for each step it has done.
    ///
    /// # Errors
    /// When it is still running after `deadline`, fails, or has not done exactly `steps` steps.
    pub async fn completes(&mut self, steps: usize, deadline: Duration) -> Result<()> {
        let status = self.exit(deadline).await?;
        let output = self.output();
        let done = output
            .lines()
            .filter(|line| line.starts_with("ok: "))
            .count();
        ensure!(
            status.success() && done == steps,
            "{} ended with {status} and {done} of {steps} steps:\n{output}",
            self.name
        );
        Ok(())
    }

    /// Whether the process has not ended yet.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Everything printed so far (the newest lines, if there were very many).
    pub fn output(&self) -> String {
        self.output
            .with(|lines| lines.iter().map(|line| format!("{line}\n")).collect())
    }

    /// Waits until `find` returns something for one of the lines printed.
    ///
    /// # Errors
    /// When the process ends, or the usual deadline passes, without such a line.
    pub async fn line<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> Result<T> {
        let what = format!("{what}, printed by {}", self.name);
        let found = eventually(&what, SOON, async || {
            // The state is looked at first: what an ended process printed is then complete.
            let ended = self.child.try_wait()?.filter(|_| self.output.is_complete());
            match (
                self.output
                    .with(|lines| lines.iter().find_map(|line| find(line))),
                ended,
            ) {
                (Some(found), _) => Ok(Ok(found)),
                (None, Some(status)) => Ok(Err(status)),
                (None, None) => bail!("no such line yet"),
            }
        });
        match found.await? {
            Ok(found) => Ok(found),
            Err(status) => {
                bail!(
                    "{} ended ({status}) without {what}:\n{}",
                    self.name,
                    self.output()
                )
            }
        }
    }
}

impl Drop for Process {
    /// Kills it and waits for its end, and prints the output: the test harness captures that, and
    /// shows it when the test failed.
    fn drop(&mut self) {
        let _ = self.child.start_kill();
        let deadline = Instant::now() + KILL_MAX;
        // Blocks the runtime, which has nothing left to do, for the moment that a kill takes.
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::yield_now();
        }
        println!("---- {} ----\n{}", self.name, self.output());
    }
}

/// The lines a process has printed so far, shared with the tasks that read them.
#[derive(Clone, Debug, Default)]
struct Output(Arc<Mutex<VecDeque<String>>>);

impl Output {
    async fn collect(self, stream: impl AsyncRead + Unpin) {
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() == LINES_MAX {
                kept.pop_front();
            }
            kept.push_back(line);
        }
    }

    fn with<T>(&self, look: impl FnOnce(&VecDeque<String>) -> T) -> T {
        look(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether both streams were read to their end.
    fn is_complete(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}
