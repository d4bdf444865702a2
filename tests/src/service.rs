//! One worker or gateway process: its configuration, its addresses, stopping and starting it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use toml::{Table, Value};

use crate::SOON;
use crate::eventually::eventually;
use crate::port::Reserved;
use crate::process::{Process, binary};
use crate::scrape::Scrape;

/// An address to listen on, of which only the host matters.
pub const ANY_PORT: &str = "127.0.0.1:0";

/// The configuration of a process, as its TOML file will say it.
#[derive(Clone, Debug, Default)]
pub struct Settings(Table);

impl Settings {
    /// Sets a value by its dotted key: `client.token.audience`.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        let mut table = &mut self.0;
        let mut parts = key.split('.').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                table.insert(part.to_owned(), value.into());
                return;
            }
            let entry = table.entry(part).or_insert_with(|| Table::new().into());
            if !entry.is_table() {
                *entry = Table::new().into();
            }
            let Value::Table(inner) = entry else { return };
            table = inner;
        }
    }

    /// Puts a port of its own wherever any port will do, and returns what reserves them.
    fn reserve(&mut self) -> Result<Vec<Reserved>> {
        let mut ports = Vec::new();
        let mut tables = vec![&mut self.0];
        while let Some(table) = tables.pop() {
            for (_, value) in table.iter_mut() {
                match value {
                    Value::Table(inner) => tables.push(inner),
                    Value::String(address) if address == ANY_PORT => {
                        let port = Reserved::port()?;
                        *address = port.address();
                        ports.push(port);
                    }
                    _ => {}
                }
            }
        }
        Ok(ports)
    }

    /// The configuration file.
    pub fn to_toml(&self) -> String {
        self.0.to_string()
    }
}

/// Where a process listens, each as `host:port`; read from what it logs once it does.
#[derive(Clone, Debug, Deserialize)]
pub struct Addresses {
    /// WebSocket (and plain HTTP) clients.
    pub websocket: String,
    /// WebSocket clients with TLS.
    pub tls: Option<String>,
    /// Metrics and health.
    pub admin: String,
    /// The server API, where there is one.
    pub api: Option<String>,
}

/// A running `flotilla-worker` or `flotilla-gateway`.
#[derive(Debug)]
pub struct Service {
    id: String,
    binary: PathBuf,
    config: PathBuf,
    process: Process,
    addresses: Addresses,
    /// So that it comes back where it was.
    _ports: Vec<Reserved>,
}

impl Service {
    /// Writes the settings to a file in `directory`, starts `program` with it, and waits until it
    /// listens. Where they say [`ANY_PORT`] it gets one that it keeps.
    ///
    /// # Errors
    /// When the program is not built, or ends, or does not listen in time.
    pub async fn start(
        program: &str,
        id: &str,
        settings: &Settings,
        directory: &Path,
    ) -> Result<Self> {
        let mut settings = settings.clone();
        let ports = settings.reserve()?;
        let config = directory.join(format!("{id}.toml"));
        std::fs::write(&config, settings.to_toml())?;
        let binary = binary(program)?;
        let (process, addresses) = run(id, &binary, &config).await?;
        Ok(Self {
            id: id.to_owned(),
            binary,
            config,
            process,
            addresses,
            _ports: ports,
        })
    }

    /// The name it has in the fleet.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The process itself.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Where WebSocket clients connect, straight to this process.
    pub fn url(&self) -> String {
        format!("ws://{}/connection/websocket", self.addresses.websocket)
    }

    /// Starts it again with the same configuration, after its end.
    ///
    /// # Errors
    /// When it is still running, and as for [`Service::start`].
    pub async fn restart(&mut self) -> Result<()> {
        ensure!(!self.process.is_running(), "{} is still running", self.id);
        (self.process, self.addresses) = run(&self.id, &self.binary, &self.config).await?;
        Ok(())
    }

    /// Its metrics now.
    ///
    /// # Errors
    /// As for [`Scrape::of`].
    pub async fn scrape(&self) -> Result<Scrape> {
        Scrape::of(&self.addresses.admin).await
    }

    /// Waits until the sum of a metric's series with these labels is `value`.
    ///
    /// # Errors
    /// When it is not in time.
    pub async fn metric_becomes(&self, name: &str, labels: &[&str], value: f64) -> Result<()> {
        let what = format!("{name} {labels:?} of {} is {value}", self.id);
        eventually(&what, SOON, async || {
            let now = self.scrape().await?.sum(name, labels)?;
            ensure!(now == value, "it is {now}");
            Ok(())
        })
        .await
    }

    /// The status that the admin listener answers for `path` (`/readyz`).
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn health(&self, path: &str) -> Result<u16> {
        let response = reqwest::get(format!("http://{}{path}", self.addresses.admin)).await?;
        Ok(response.status().as_u16())
    }

    /// What `/readyz` says.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn readiness(&self) -> Result<String> {
        let url = format!("http://{}/readyz", self.addresses.admin);
        Ok(reqwest::get(url).await?.text().await?)
    }

    /// Waits until `/readyz` answers 200.
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn ready(&self) -> Result<()> {
        eventually(&format!("{} is ready", self.id), SOON, async || match self
            .health("/readyz")
            .await?
        {
            200 => Ok(()),
            status => bail!("/readyz answers {status}"),
        })
        .await
    }
}

/// The log line in which a process says where it listens.
#[derive(Deserialize)]
struct Listening {
    message: String,
    #[serde(flatten)]
    addresses: Addresses,
}

async fn run(id: &str, binary: &Path, config: &Path) -> Result<(Process, Addresses)> {
    let mut process = Process::start(id, binary, [Path::new("--config"), config])?;
    let addresses = process.line("where it listens", |line| {
        let listening: Listening = serde_json::from_str(line).ok()?;
        (listening.message == "listening").then_some(listening.addresses)
    });
    let addresses = addresses.await.context("starting")?;
    Ok((process, addresses))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotted_keys_become_tables() {
        let mut settings = Settings::default();
        settings.set("a.b.c", 1);
        settings.set("a.b.d", "x");
        settings.set("e", true);
        let read: Table = settings.to_toml().parse().unwrap();
        assert_eq!(
            read,
            "e = true\na = { b = { c = 1, d = \"x\" } }"
                .parse()
                .unwrap()
        );
    }
}
