//! A real Prometheus scrapes the compose fleet, run here as plain processes, and answers what the
//! dashboard asks.

use anyhow::{Context, Result, ensure};
use flotilla_tests::SOON;
use flotilla_tests::eventually::eventually;
use flotilla_tests::fleet::Fleet;
use flotilla_tests::process::Process;
use flotilla_tests::service::Service;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::dashboard::{Dashboard, Query};
use crate::running::{HELLO, WORKERS, chat, compose_fleet, connect, refused};
use crate::tools::yaml;

/// Panels whose rates are above zero while clients connect, publish and are refused.
const HAPPENING: [&str; 8] = [
    "Upgrades",
    "Upgrades by gateway",
    "Rejected upgrades",
    "Rejected upgrades by reason",
    "Publications",
    "Deliveries",
    "Deliveries by worker",
    "Broker messages",
];

#[tokio::test]
async fn prometheus_answers_every_query_of_the_dashboard() -> Result<()> {
    let fleet = compose_fleet().await?;
    let _clients = chat(&fleet).await?;
    let prometheus = Prometheus::scraping(&fleet).await?;
    let dashboard = Dashboard::read()?;

    let gateways = addresses(&fleet.gateways);
    let workers = addresses(&fleet.workers);
    for (name, query) in dashboard.variables()? {
        let Some(query) = query else { continue };
        let expected = if name == "gateway" {
            &gateways
        } else {
            &workers
        };
        assert_eq!(
            &prometheus.label_values(query).await?,
            expected,
            "choices of ${name}"
        );
    }

    // Everything, as the dashboard opens, and one process of each kind, as Grafana writes a choice.
    for (gateway, worker) in [(".*", ".*"), (&*gateways[0], &*workers[0])] {
        for Query { panel, expression } in dashboard.queries()? {
            let expression = expression
                .replace("$__rate_interval", "30s")
                .replace("$gateway", gateway)
                .replace("$worker", worker);
            let found = eventually(panel, SOON, async || prometheus.query(&expression).await);
            found
                .await
                .with_context(|| format!("{panel}: {expression}"))?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_dashboard_shows_what_happens() -> Result<()> {
    let fleet = compose_fleet().await?;
    let clients = chat(&fleet).await?;
    let prometheus = Prometheus::scraping(&fleet).await?;
    let shows = async |panel: &str, least: f64, most: f64| {
        eventually(panel, SOON, async || {
            let sum = prometheus.panel(panel).await?;
            ensure!((least..=most).contains(&sum), "it shows {sum}");
            Ok(())
        })
        .await
    };
    let connected = clients.len() as f64;
    shows("Connections", connected, connected).await?;
    shows("Connections by gateway", connected, connected).await?;
    shows("Connections by worker", connected, connected).await?;
    shows("Connections at the worker", connected, connected).await?;
    shows("Workers serving", WORKERS as f64, WORKERS as f64).await?;
    shows("Workers by state", WORKERS as f64, WORKERS as f64).await?;
    shows("Broker connections down", 0.0, 0.0).await?;
    shows("Channels and subscriptions", connected + 1.0, f64::INFINITY).await?;

    // A rate is above zero only while it happens.
    let mut clients = clients;
    eventually("rates of what happens", SOON, async || {
        refused(&fleet).await?;
        connect(&fleet, "passer-by").await?;
        let client = clients.first_mut().context("a client")?;
        client.publish("chat:deploy", HELLO).await?;
        for panel in HAPPENING {
            ensure!(
                prometheus.panel(panel).await? > 0.0,
                "{panel} shows nothing"
            );
        }
        Ok(())
    })
    .await
}

/// The admin listeners of services, in order: Prometheus' `instance`.
fn addresses(services: &[Service]) -> Vec<String> {
    let mut addresses: Vec<String> = services
        .iter()
        .map(|service| service.addresses().admin.clone())
        .collect();
    addresses.sort();
    addresses
}

/// A running Prometheus with data of its own.
struct Prometheus {
    _process: Process,
    address: String,
    _directory: TempDir,
}

impl Prometheus {
    /// Starts one with `deploy/prometheus/prometheus.yml`, except that the processes are listed
    /// (there is no DNS that knows them) and looked at every second.
    async fn scraping(fleet: &Fleet) -> Result<Self> {
        let mut config = yaml("deploy/prometheus/prometheus.yml")?;
        config["global"]["scrape_interval"] = json!("1s");
        let jobs = config["scrape_configs"]
            .as_array_mut()
            .context("scrape_configs")?;
        for (job, services) in jobs.iter_mut().zip([&fleet.gateways, &fleet.workers]) {
            let job = job.as_object_mut().context("a job")?;
            job.remove("dns_sd_configs").context("a job's discovery")?;
            job.insert(
                "static_configs".to_owned(),
                json!([{ "targets": addresses(services) }]),
            );
        }
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("prometheus.yml");
        std::fs::write(&file, config.to_string())?;
        let mut command = tokio::process::Command::new("prometheus");
        command
            .arg("--config.file")
            .arg(&file)
            .arg("--storage.tsdb.path")
            .arg(directory.path().join("data"));
        command.args([
            "--web.listen-address",
            "127.0.0.1:0",
            "--log.format",
            "json",
        ]);
        let mut process =
            Process::spawn("prometheus", &mut command).context("run `tests/run setup`")?;
        let address = process.line("where it listens", |line| {
            let line: Value = serde_json::from_str(line).ok()?;
            (line["msg"] == "Listening on").then(|| line["address"].as_str().map(str::to_owned))?
        });
        let address = address.await?;
        let prometheus = Self {
            _process: process,
            address,
            _directory: directory,
        };
        let up = fleet.gateways.len() + fleet.workers.len();
        eventually("every process is scraped", SOON, async || {
            let found = prometheus.query("sum(up)").await?;
            ensure!(found == [up as f64], "sum(up) is {found:?}");
            Ok(())
        })
        .await?;
        Ok(prometheus)
    }

    /// The values of all series that a query finds; an error when it finds none.
    async fn query(&self, expression: &str) -> Result<Vec<f64>> {
        let data = self.ask("query", &[("query", expression)]).await?;
        let series = data["result"].as_array().context("a vector")?;
        ensure!(!series.is_empty(), "no series");
        let value = |series: &Value| {
            series["value"][1]
                .as_str()
                .and_then(|text| text.parse().ok())
        };
        series
            .iter()
            .map(|series| value(series).with_context(|| series.to_string()))
            .collect()
    }

    /// The sum of what the queries of a panel find, for all processes.
    async fn panel(&self, title: &str) -> Result<f64> {
        let dashboard = Dashboard::read()?;
        let mut sum = 0.0;
        let mut found = 0;
        for Query { panel, expression } in dashboard.queries()? {
            if panel == title {
                let all = expression
                    .replace("$__rate_interval", "10s")
                    .replace("$gateway", ".*")
                    .replace("$worker", ".*");
                sum += self.query(&all).await?.iter().sum::<f64>();
                found += 1;
            }
        }
        ensure!(found > 0, "no panel {title}");
        Ok(sum)
    }

    /// What Grafana offers for `label_values(metric, label)`, sorted.
    async fn label_values(&self, query: &str) -> Result<Vec<String>> {
        let inner = query
            .strip_prefix("label_values(")
            .and_then(|rest| rest.strip_suffix(')'));
        let (metric, label) = inner
            .and_then(|inner| inner.split_once(", "))
            .with_context(|| query.to_owned())?;
        let data = self
            .ask(&format!("label/{label}/values"), &[("match[]", metric)])
            .await?;
        Ok(serde_json::from_value(data)?)
    }

    async fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value> {
        let url = format!("http://{}/api/v1/{path}", self.address);
        let mut answer: Value = reqwest::get(reqwest::Url::parse_with_params(&url, parameters)?)
            .await?
            .json()
            .await?;
        ensure!(
            answer["status"] == "success" && answer["warnings"].is_null(),
            "{answer}"
        );
        Ok(answer["data"].take())
    }
}
