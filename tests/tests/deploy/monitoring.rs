//! Prometheus' and Grafana's configuration: they find each other, the services and the dashboard.

use anyhow::{Context, Result, ensure};

use crate::compose::{configuration, services};
use crate::tools::{accepted, at_root, file, installed, yaml};

const YAML_FILES: [&str; 5] = [
    ".github/workflows",
    "deploy/compose/compose.yaml",
    "deploy/grafana/provisioning/dashboards/flotilla.yml",
    "deploy/grafana/provisioning/datasources/prometheus.yml",
    "deploy/prometheus/prometheus.yml",
];
const YAML_STYLE: &str =
    "{extends: default, rules: {line-length: {max: 120}, document-start: disable}}";

#[test]
fn the_yaml_files_have_no_finding() -> Result<()> {
    let findings = accepted(
        installed("yamllint")?
            .args(["--strict", "-d", YAML_STYLE])
            .args(YAML_FILES),
    )?;
    assert_eq!(findings, "");
    Ok(())
}

#[test]
fn prometheus_accepts_its_configuration() -> Result<()> {
    accepted(at_root("promtool").args(["check", "config", "deploy/prometheus/prometheus.yml"]))?;
    Ok(())
}

#[test]
fn prometheus_scrapes_the_admin_listeners_of_the_compose_fleet() -> Result<()> {
    let prometheus = yaml("deploy/prometheus/prometheus.yml")?;
    let jobs = prometheus["scrape_configs"]
        .as_array()
        .context("scrape_configs")?;
    assert_eq!(jobs.len(), 2);
    for (job, service) in jobs.iter().zip(["gateway", "worker"]) {
        assert_eq!(job["job_name"], format!("flotilla-{service}"));
        let discovery = &job["dns_sd_configs"][0];
        assert_eq!(discovery["names"], serde_json::json!([service]));
        let admin = configuration(service)?;
        let admin = admin["admin_listen"].as_str().context("admin_listen")?;
        ensure!(
            admin.ends_with(&format!(":{}", discovery["port"])),
            "{service} answers on {admin}"
        );
    }
    Ok(())
}

#[test]
fn grafana_finds_prometheus_and_the_dashboard() -> Result<()> {
    let services = services()?;
    let datasources = yaml("deploy/grafana/provisioning/datasources/prometheus.yml")?;
    let datasource = &datasources["datasources"][0];
    assert_eq!(datasource["type"], "prometheus");
    assert_eq!(datasource["url"], "http://prometheus:9090");
    ensure!(
        datasource["uid"].is_null(),
        "the dashboard names its data source by a variable"
    );
    let prometheus = yaml("deploy/prometheus/prometheus.yml")?;
    assert_eq!(
        datasource["jsonData"]["timeInterval"],
        prometheus["global"]["scrape_interval"]
    );

    let providers = yaml("deploy/grafana/provisioning/dashboards/flotilla.yml")?;
    let folder = providers["providers"][0]["options"]["path"]
        .as_str()
        .context("path")?;
    let mounts = services["grafana"]["volumes"]
        .as_array()
        .context("volumes")?;
    let source = mounts
        .iter()
        .find(|mount| mount["target"] == folder)
        .context("the dashboards' mount")?;
    assert_eq!(
        std::fs::canonicalize(source["source"].as_str().context("source")?)?,
        std::fs::canonicalize(file("deploy/grafana/dashboards"))?,
    );
    let home =
        services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].as_str();
    assert_eq!(home, Some(format!("{folder}/fleet.json").as_str()));
    Ok(())
}
