//! The Python SDK's own tests, as its source distribution brings them, against a fleet of the profile `tokens`.
//!
//! They are run unchanged but for the server's address, which they know by heart: each fleet here takes a free port.

use std::fs;
use std::io::{Write as _, stderr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flotilla_tests::dev::Dev;
use flotilla_tests::process::Process;
use tokio::process::Command;

/// Longest time for all of them; most of it they sleep.
const SUITE_MAX: Duration = Duration::from_secs(300);

/// So many tests it has. Fewer would mean that some were not found.
const TESTS: usize = 185;

/// Where the tests look for the server.
const ADDRESS: &str = "localhost:8000";

#[tokio::test]
async fn the_python_sdk_s_own_tests_pass_within_one_process() -> Result<()> {
    pass_against(Dev::start("tokens").await?).await
}

#[tokio::test]
async fn the_python_sdk_s_own_tests_pass_over_nats() -> Result<()> {
    pass_against(Dev::over_nats("tokens").await?).await
}

async fn pass_against(mut fleet: Dev) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let environment = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv");
    let suite = directory.path().join("suite");
    for folder in ["centrifuge", "tests"] {
        let from = environment.join("suite").join(folder);
        copy(&from, &suite.join(folder), &fleet.address()).context("run `tests/run setup`")?;
    }
    let mut command = Command::new(environment.join("bin/python"));
    // As the distribution's own Makefile does.
    command
        .args(["-m", "unittest", "discover", "-s", "tests"])
        .current_dir(&suite);
    let mut runner = Process::spawn("unittest", &mut command)?;
    let status = runner.exit(SUITE_MAX).await?;
    let starts =
        |start: &'static str| move |line: &str| line.starts_with(start).then(|| line.to_owned());
    let ran = runner.line("how many ran", starts("Ran ")).await?;
    let outcome = runner.line("how it went", |line| {
        ["OK", "FAILED"]
            .iter()
            .find_map(|start| starts(start)(line))
    });
    let outcome = outcome.await?;
    // Not `print!`, which nobody sees of a test that passed.
    writeln!(stderr(), "unittest: {ran}: {outcome}")?;
    ensure!(
        status.success() && outcome == "OK",
        "some failed or were left out: {outcome}"
    );
    ensure!(
        ran.split(' ').nth(1) == Some(&TESTS.to_string()),
        "{ran}, not {TESTS}"
    );

    fleet.stop().await
}

/// Copies a folder, with the server's address put in.
fn copy(from: &Path, to: &Path, address: &str) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy(&from, &to, address)?;
        } else if from.extension().is_some_and(|extension| extension == "py") {
            fs::write(to, fs::read_to_string(&from)?.replace(ADDRESS, address))?;
        } else {
            fs::copy(&from, &to)?;
        }
    }
    Ok(())
}
