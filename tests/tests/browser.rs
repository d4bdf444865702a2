//! The demo page of `flotilla dev`, in a real browser, with real processes behind it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use flotilla_tests::nats;
use flotilla_tests::process::{Process, binary};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Longest time for the whole script; each of its waits has a shorter deadline.
const SCRIPT_MAX: Duration = Duration::from_secs(120);

/// Steps that the script reports.
const STEPS: usize = 8;

#[tokio::test]
async fn the_demo_page_works_across_workers_and_on_a_phone() -> Result<()> {
    let state = tempfile::tempdir()?;
    let mut command = Command::new(binary("flotilla")?);
    command
        .args(["dev", "--port", "0", "--nats-server"])
        .arg(nats::find_server()?)
        .env("XDG_RUNTIME_DIR", state.path())
        .env("XDG_STATE_HOME", state.path());
    let mut fleet = Process::spawn("flotilla dev", &mut command)?;
    let page = |line: &str| {
        line.split(' ')
            .find(|word| word.starts_with("http://"))
            .map(String::from)
    };
    let page = fleet.line("the demo page", |line| {
        page(line.trim().strip_prefix("Demo page")?)
    });
    let page = page.await?;

    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("node");
    command
        .arg(root.join("browser/demo.mjs"))
        .env("DEMO_URL", page);
    let mut script = Process::spawn("demo.mjs", &mut command).context("run `tests/run setup`")?;
    let mut input = script.take_stdin()?;
    let asked = script.line("which worker to kill", |line| {
        line.strip_prefix("kill ").map(String::from)
    });
    let worker = asked.await?;
    kill(&fleet.output(), &worker)?;
    input.write_all(b"killed\n").await?;

    script.completes(STEPS, SCRIPT_MAX).await?;

    fleet.signal(Signal::SIGTERM)?;
    fleet.exit(SCRIPT_MAX).await?;
    Ok(())
}

/// Kills the worker of this name, whose process the banner tells.
fn kill(banner: &str, worker: &str) -> Result<()> {
    let told = banner.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| *word != worker);
        words.find(|word| *word == "process")?;
        words.next()?.parse().ok()
    });
    let process = told.with_context(|| format!("the process of {worker} in:\n{banner}"))?;
    Ok(signal::kill(Pid::from_raw(process), Signal::SIGKILL)?)
}
