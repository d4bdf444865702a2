//! A nats-server for one development fleet: found, started on a free port, and its URL read.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tokio::{process::Command, time};

use crate::member::NatsServer;

/// Where Debian puts it, which is not on an ordinary user's PATH.
const SYSTEM_DIRECTORY: &str = "/usr/sbin";
const PROGRAM: &str = "nats-server";

/// How long it may take until it listens.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// The nats-server to run: the one asked for, else from `path` (a `PATH`), else from `/usr/sbin`.
///
/// # Errors
/// When there is none.
pub(super) fn find(asked: Option<&Path>, path: Option<&OsStr>) -> Result<PathBuf> {
    if let Some(program) = asked {
        if !program.is_file() {
            bail!("--nats-server {}: no such file", program.display());
        }
        return Ok(program.to_owned());
    }
    path.map(env::split_paths)
        .into_iter()
        .flatten()
        .chain([PathBuf::from(SYSTEM_DIRECTORY)])
        .map(|directory| directory.join(PROGRAM))
        .find(|program| program.is_file())
        .context(
            "no nats-server on PATH or in /usr/sbin: install one (Debian and Ubuntu: apt install \
             nats-server), name it with --nats-server PATH, or use a running one with --nats URL",
        )
}

/// The command that runs `program` on a free loopback port, with its files in `directory`, for as
/// long as this process lives. It is out of reach of a terminal's Ctrl-C.
///
/// # Errors
/// When this program's own path is not known.
pub(super) fn command(program: &Path, directory: &Path) -> Result<Command> {
    let mut command = Command::new(env::current_exe().context("the path of this program")?);
    let arguments: [&OsStr; 9] = [
        "exec-with-parent".as_ref(),
        program.as_os_str(),
        "--addr=127.0.0.1".as_ref(),
        "--port=-1".as_ref(),
        "--ports_file_dir".as_ref(),
        directory.as_os_str(),
        "--jetstream".as_ref(),
        "--store_dir".as_ref(),
        directory.as_os_str(),
    ];
    command.args(arguments).process_group(0);
    Ok(command)
}

/// The file in which nats-server tells its ports.
#[derive(Debug, Deserialize)]
struct PortsFile {
    nats: Vec<String>,
}

/// The command that starts `program` at the same address again.
pub(super) fn same_again(program: &Path, directory: &Path, server: &NatsServer) -> String {
    let port = server.url.rsplit(':').next().unwrap_or_default();
    let (program, directory) = (program.display(), directory.display());
    format!("{program} --addr 127.0.0.1 --port {port} --jetstream --store_dir {directory}")
}

/// Waits until the server writes its ports into `directory`.
///
/// # Errors
/// When it takes too long.
pub(super) async fn listening(directory: &Path) -> Result<NatsServer> {
    let ports = async {
        let mut tick = time::interval(Duration::from_millis(20));
        loop {
            tick.tick().await;
            if let Some(server) = read_ports(directory) {
                return server;
            }
        }
    };
    time::timeout(START_TIMEOUT, ports)
        .await
        .context("nats-server does not come up: its log says why")
}

/// The ports file is called `nats-server_PID.ports`; while it is being written it does not parse.
fn read_ports(directory: &Path) -> Option<NatsServer> {
    fs::read_dir(directory).ok()?.find_map(|entry| {
        let entry = entry.ok()?;
        let name: OsString = entry.file_name();
        let pid = name
            .to_str()?
            .strip_suffix(".ports")?
            .rsplit_once('_')?
            .1
            .parse()
            .ok()?;
        let text = fs::read(entry.path()).ok()?;
        let ports: PortsFile = serde_json::from_slice(&text).ok()?;
        Some(NatsServer {
            url: ports.nats.into_iter().next()?,
            pid,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_the_path_is_found() {
        let scratch = tempfile::tempdir().expect("makes a directory");
        let program = scratch.path().join(PROGRAM);
        fs::write(&program, "").expect("writes");
        let path = env::join_paths([Path::new("/nonexistent"), scratch.path()]).expect("joins");
        assert_eq!(find(None, Some(&path)).expect("is found"), program);
    }

    #[test]
    fn a_server_that_was_asked_for_has_to_exist() {
        let error = find(Some(Path::new("/nonexistent/nats")), None).expect_err("is refused");
        assert!(error.to_string().contains("/nonexistent/nats"), "{error}");
    }

    #[test]
    fn the_url_and_process_are_read_from_the_ports_file() {
        let scratch = tempfile::tempdir().expect("makes a directory");
        assert_eq!(read_ports(scratch.path()), None);
        let file = scratch.path().join("nats-server_42.ports");
        fs::write(&file, r#"{"nats": ["nats://127.0"#).expect("writes");
        assert_eq!(read_ports(scratch.path()), None, "half written");
        fs::write(
            &file,
            r#"{"nats": ["nats://127.0.0.1:41000"], "monitoring": []}"#,
        )
        .expect("writes");
        let expected = NatsServer {
            url: "nats://127.0.0.1:41000".into(),
            pid: 42,
        };
        assert_eq!(read_ports(scratch.path()), Some(expected));
    }
}
