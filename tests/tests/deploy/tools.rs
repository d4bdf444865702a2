//! Running the tools that judge the files, and reading those files. The tools come from the tests'
//! virtual environment (`tests/requirements.txt`) or are installed on the machine.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// A path of the repository, from its root.
pub(crate) fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// The text of a file of the repository.
pub(crate) fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(file(path)).with_context(|| format!("reading {path}"))
}

/// A file of the repository that is written in YAML.
pub(crate) fn yaml(path: &str) -> Result<Value> {
    const CONVERT: &str =
        "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)";
    let input = std::fs::File::open(file(path)).with_context(|| format!("reading {path}"))?;
    let json = accepted(installed("python")?.args(["-c", CONVERT]).stdin(input))?;
    serde_json::from_str(&json).with_context(|| format!("{path} as JSON"))
}

/// A program of the tests' virtual environment, run from the root of the repository.
pub(crate) fn installed(name: &str) -> Result<Command> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(".venv/bin")
        .join(name);
    ensure!(
        program.is_file(),
        "{name} is not installed: run `tests/run setup`"
    );
    Ok(at_root(program))
}

/// A program run from the root of the repository.
pub(crate) fn at_root(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    command.current_dir(file(""));
    command
}

/// Runs a command that must end well, and returns what it wrote to its standard output.
pub(crate) fn accepted(command: &mut Command) -> Result<String> {
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .output()
        .with_context(|| format!("running {:?}", command.get_program()))?;
    let (stdout, stderr) = (
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr),
    );
    ensure!(
        status.success(),
        "{command:?} ended with {status}:\n{stdout}{stderr}"
    );
    Ok(stdout.into_owned())
}
