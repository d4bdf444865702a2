//! One child process: started, its log passed on, its end reported. What it runs is the caller's.

use std::{
    io::{self, Write},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{ChildStdin, Command},
    sync::oneshot,
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tracing::Level;

use crate::member::Listening;

use super::log_line;

/// How long a child may take until it listens.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A child that was started. It ends soon after this is dropped.
#[derive(Debug)]
pub(super) struct Child {
    name: String,
    pid: Pid,
    listening: Option<oneshot::Receiver<Listening>>,
    /// It was told to end, and will.
    leaving: bool,
    /// Its end of input is the parent's death (`parent`).
    _lifeline: ChildStdin,
}

/// How a child ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// The child's name.
    pub(super) name: String,
    /// Its exit code, or the signal that killed it.
    pub(super) status: ExitStatus,
}

/// The ends of all children, as they come.
pub(super) type Ends = JoinSet<Result<Ended>>;

impl Child {
    /// Starts `command` as a child called `name` that passes on what it logs at `level` or louder.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub(super) fn start(
        name: &str,
        mut command: Command,
        level: Level,
        ends: &mut Ends,
    ) -> Result<Self> {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let missing = || format!("{name} was started without its pipes");
        let pid = process.id().with_context(missing)?;
        let lifeline = process.stdin.take().with_context(missing)?;
        let log = process.stderr.take().with_context(missing)?;
        let (told, listening) = oneshot::channel();
        let relay = tokio::spawn(relay(name.to_owned(), log, level, told));
        ends.spawn(end(name.to_owned(), process, relay));
        let pid = Pid::from_raw(i32::try_from(pid)?);
        Ok(Self {
            name: name.to_owned(),
            pid,
            listening: Some(listening),
            leaving: false,
            _lifeline: lifeline,
        })
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub(super) fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Waits until it logs that it listens, and where; to be asked once.
    ///
    /// # Errors
    /// When it ends before, or takes too long.
    pub(super) async fn listening(&mut self) -> Result<Listening> {
        let listening = self.listening.take().context("asked before")?;
        timeout(START_TIMEOUT, listening)
            .await
            .with_context(|| format!("{} does not come up", self.name))?
            .with_context(|| format!("{} ended before it came up: its log says why", self.name))
    }

    /// Asks it to drain and end. One that has ended already does not mind.
    pub(super) fn terminate(&mut self) {
        self.end_by(Signal::SIGTERM);
    }

    /// Ends it at once. One that has ended already does not mind.
    pub(super) fn kill(&mut self) {
        self.end_by(Signal::SIGKILL);
    }

    /// Whether it was told to end.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving
    }

    fn end_by(&mut self, signal: Signal) {
        self.leaving = true;
        let _ = kill(self.pid, signal);
    }
}

async fn end(
    name: String,
    mut process: tokio::process::Child,
    relay: JoinHandle<()>,
) -> Result<Ended> {
    let status = process
        .wait()
        .await
        .with_context(|| format!("cannot wait for {name}"))?;
    // Its last words come before the news of its end.
    let _ = timeout(Duration::from_secs(1), relay).await;
    Ok(Ended { name, status })
}

async fn relay(
    name: String,
    log: impl AsyncRead + Unpin,
    level: Level,
    told: oneshot::Sender<Listening>,
) {
    let mut told = Some(told);
    let mut lines = BufReader::new(log).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let line = log_line::parse(&line);
        if line.level <= level {
            // Nobody is left to tell if the terminal is gone.
            let _ = writeln!(io::stderr(), "{name:<9} | {}", line.text);
        }
        if let Some(listening) = line.listening
            && let Some(told) = told.take()
        {
            // An error means that nobody waits any more.
            let _ = told.send(listening);
        }
    }
}
