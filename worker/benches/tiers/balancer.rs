//! What else can stand before a worker: nginx and HAProxy, one process each, with no more in their configuration than
//! WebSockets need.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use flotilla_tests::port::Reserved;
use tempfile::TempDir;

use super::fleet::wait_until_taking;

/// Which one.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Nginx,
    HaProxy,
}

impl Kind {
    /// What the program is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::HaProxy => "haproxy",
        }
    }

    /// Its configuration: clients at `listen` get a connection to `worker` each, and nothing ends one that is silent.
    fn configuration(self, listen: &str, worker: SocketAddr) -> String {
        match self {
            Self::Nginx => format!(
                "daemon off;
                master_process off;
                pid nginx.pid;
                error_log stderr error;
                events {{ worker_connections 9000; }}
                http {{
                    access_log off;
                    client_body_temp_path body;
                    proxy_temp_path proxy;
                    server {{
                        listen {listen};
                        location / {{
                            proxy_pass http://{worker};
                            proxy_http_version 1.1;
                            proxy_set_header Upgrade $http_upgrade;
                            proxy_set_header Connection upgrade;
                            proxy_read_timeout 1h;
                        }}
                    }}
                }}
                "
            ),
            Self::HaProxy => format!(
                "global
                    nbthread 1
                    maxconn 9000
                defaults
                    mode http
                    timeout connect 5s
                    timeout client 1h
                    timeout server 1h
                    timeout tunnel 1h
                listen clients
                    bind {listen}
                    server worker {worker}\n"
            ),
        }
    }

    fn command(self, program: &Path, directory: &Path, configuration: &Path) -> Command {
        let mut command = Command::new(program);
        match self {
            Self::Nginx => command.arg("-p").arg(directory).arg("-c"),
            Self::HaProxy => command.args(["-db", "-f"]),
        };
        command.arg(configuration);
        command
    }
}

/// A running balancer; it is killed when dropped.
pub(crate) struct Balancer {
    child: Child,
    /// Where it takes clients.
    pub(crate) address: SocketAddr,
    _port: Reserved,
    _directory: TempDir,
}

impl Balancer {
    /// Starts one before this worker and waits until it takes clients. `None` where it is not installed.
    pub(crate) fn start(kind: Kind, worker: SocketAddr) -> Result<Option<Self>> {
        let Some(program) = installed(kind.name()) else {
            return Ok(None);
        };
        let port = Reserved::port()?;
        let directory = tempfile::tempdir()?;
        let configuration = directory.path().join("configuration");
        std::fs::write(&configuration, kind.configuration(&port.address(), worker))?;
        let child = kind
            .command(&program, directory.path(), &configuration)
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let balancer = Self {
            child,
            address: port.address().parse()?,
            _port: port,
            _directory: directory,
        };
        wait_until_taking(balancer.address).context(kind.name())?;
        Ok(Some(balancer))
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a program lies. Not every user has the directory of servers in `PATH`.
fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
}
