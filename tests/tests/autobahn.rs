//! The WebSocket conformance suite Autobahn, against workers that echo: directly, and through the gateway.
//!
//! The sections about limits of performance (9) and about compression (12 and 13), which is not offered, are left out.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flotilla_tests::fleet::{Builder, Fleet};
use flotilla_tests::process::Process;
use serde::Deserialize;
use serde_json::json;
use tokio::process::Command;

/// What is run.
const SECTIONS: [&str; 8] = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"];

/// Cases in these sections.
const CASES: usize = 247;

/// Text that is not UTF-8 is refused at the end of its frame, and not at the first wrong byte, which the suite would
/// prefer and RFC 6455 leaves open (§8.1).
const NOT_STRICT: [&str; 2] = ["6.4.3", "6.4.4"];

/// Longest time for all cases; they take seconds.
const SUITE_MAX: Duration = Duration::from_secs(300);

/// How a case went.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    /// The exchange of messages.
    behavior: String,
    /// The end of the connection.
    behavior_close: String,
}

impl Outcome {
    fn is_fine(&self, case: &str) -> bool {
        let behaves = match &*self.behavior {
            "NON-STRICT" => NOT_STRICT.contains(&case),
            behavior => is_fine(behavior),
        };
        behaves && is_fine(&self.behavior_close)
    }
}

/// What is informational tells of a choice that the standard leaves open.
fn is_fine(behavior: &str) -> bool {
    matches!(behavior, "OK" | "INFORMATIONAL")
}

#[tokio::test]
async fn a_worker_conforms_to_the_websocket_standard() -> Result<()> {
    let fleet = echoing().gateways(0).start().await?;
    conforms("worker", &fleet.workers[0].url()).await
}

#[tokio::test]
async fn a_worker_conforms_to_the_websocket_standard_through_the_gateway() -> Result<()> {
    let fleet = echoing().start().await?;
    conforms("gateway", &fleet.url()).await
}

/// With the limits that real clients have.
fn echoing() -> Builder {
    Fleet::builder().worker("websocket_echo", true)
}

/// Runs the suite. Its report stays in the build's directory, for a person to read.
async fn conforms(agent: &str, url: &str) -> Result<()> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("autobahn-{agent}"));
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let plan = json!({
        "outdir": folder,
        "servers": [{ "agent": agent, "url": url }],
        "cases": SECTIONS,
        "exclude-cases": [],
        "exclude-agent-cases": {},
    });
    let plan_file = folder.join("plan.json");
    fs::write(&plan_file, plan.to_string())?;
    run(&plan_file).await?;

    let report = fs::read(folder.join("index.json")).context("the suite's report")?;
    let mut report: BTreeMap<String, BTreeMap<String, Outcome>> = serde_json::from_slice(&report)?;
    let outcomes = report.remove(agent).context("the agent's report")?;
    let mut failures = String::new();
    for (case, outcome) in &outcomes {
        if !outcome.is_fine(case) {
            writeln!(failures, "{case}: {outcome:?}")?;
        }
    }
    // Also when the test passes, which the harness would not show.
    writeln!(
        io::stderr(),
        "{agent}: {} cases of Autobahn",
        outcomes.len()
    )?;
    ensure!(
        failures.is_empty(),
        "see {}:\n{failures}",
        folder.join("index.html").display()
    );
    ensure!(
        outcomes.len() == CASES,
        "{} of {CASES} cases were run",
        outcomes.len()
    );
    Ok(())
}

async fn run(plan: &Path) -> Result<()> {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join(".autobahn");
    let mut command = Command::new(installed.join("bin/wstest"));
    command
        .args(["--mode", "fuzzingclient", "--spec"])
        .arg(plan)
        .env("PYTHONUSERBASE", &installed)
        .env("PYTHONWARNINGS", "ignore");
    let mut suite = Process::spawn("wstest", &mut command)
        .context("run `tests/run autobahn` once, which installs it")?;
    let status = suite.exit(SUITE_MAX).await?;
    ensure!(status.success(), "the suite failed:\n{}", suite.output());
    Ok(())
}
