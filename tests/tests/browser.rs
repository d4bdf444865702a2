//! The demo page of `flotilla dev`, in a real browser, with real processes behind it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use flotilla_tests::nats;
use flotilla_tests::process::{Process, binary};
use nix::sys::signal::Signal;
use tokio::process::Command;

/// Longest time for the whole script; each of its waits has a shorter deadline.
const SCRIPT_MAX: Duration = Duration::from_secs(120);

/// Steps that the script reports.
const STEPS: usize = 12;

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

    script.completes(STEPS, SCRIPT_MAX).await?;

    fleet.signal(Signal::SIGTERM)?;
    fleet.exit(SCRIPT_MAX).await?;
    Ok(())
}
