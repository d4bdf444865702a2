//! The compose fleet: what Compose itself makes of the file, and what the services make of their
//! configuration in it.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flotilla_tests::process::binary;
use serde_json::{Map, Value};
use toml::Table;

use crate::tools::{accepted, at_root, file, installed, read};

const COMPOSE: &str = "deploy/compose/compose.yaml";

/// The file as Compose resolves it: variables, anchors and paths replaced.
fn resolved() -> Result<Value> {
    let mut compose = installed("docker-compose")?;
    for variable in [
        "FLOTILLA_SECRETS",
        "FLOTILLA_BIND",
        "FLOTILLA_PORT",
        "FLOTILLA_VERSION",
    ] {
        compose.env_remove(variable);
    }
    let json = accepted(compose.args(["--file", COMPOSE, "config", "--format", "json"]))?;
    Ok(serde_json::from_str(&json)?)
}

pub(crate) fn services() -> Result<Map<String, Value>> {
    resolved()?["services"]
        .as_object()
        .cloned()
        .context("services")
}

/// The elements of a list in a service's definition; none if the list is absent.
fn list<'a>(service: &'a Value, key: &str) -> &'a [Value] {
    service[key]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    value[key]
        .as_str()
        .with_context(|| format!("no {key} in {value}"))
}

#[test]
fn compose_runs_the_whole_fleet() -> Result<()> {
    let services = services()?;
    let names: Vec<&str> = services.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["gateway", "grafana", "nats", "prometheus", "worker"]
    );
    assert_eq!(services["worker"]["scale"], 3);
    Ok(())
}

#[test]
fn every_service_says_whether_it_is_healthy_and_comes_back_after_a_crash() -> Result<()> {
    for (name, service) in services()? {
        ensure!(
            !list(&service["healthcheck"], "test").is_empty(),
            "{name} has no health check"
        );
        assert_eq!(service["restart"], "unless-stopped", "{name}");
        assert_eq!(service["cap_drop"], serde_json::json!(["ALL"]), "{name}");
    }
    Ok(())
}

#[test]
fn a_service_starts_only_after_one_that_tells_its_health() -> Result<()> {
    let services = services()?;
    let mut waits = 0;
    for (name, service) in &services {
        for (other, condition) in service["depends_on"].as_object().into_iter().flatten() {
            ensure!(services.contains_key(other), "{name} depends on {other}");
            assert_eq!(
                condition["condition"], "service_healthy",
                "{name} depends on {other}"
            );
            waits += 1;
        }
    }
    ensure!(waits > 0, "nothing waits for NATS");
    Ok(())
}

#[test]
fn every_file_that_is_mounted_or_built_from_exists() -> Result<()> {
    let compose = resolved()?;
    let mut paths = Vec::new();
    for service in compose["services"]
        .as_object()
        .context("services")?
        .values()
    {
        let binds = list(service, "volumes")
            .iter()
            .filter(|volume| volume["type"] == "bind");
        paths.extend(
            binds
                .map(|bind| text(bind, "source").map(Path::new))
                .collect::<Result<Vec<_>>>()?,
        );
    }
    for secret in compose["secrets"].as_object().context("secrets")?.values() {
        paths.push(Path::new(text(secret, "file")?));
    }
    ensure!(
        paths.len() >= 9,
        "two services, Prometheus, Grafana, four secrets: {paths:?}"
    );
    for path in paths {
        ensure!(path.exists(), "{} is missing", path.display());
    }
    for service in ["gateway", "worker"] {
        let build = &compose["services"][service]["build"];
        let dockerfile = Path::new(text(build, "context")?).join(text(build, "dockerfile")?);
        let stage = format!(" AS {}\n", text(build, "target")?);
        ensure!(
            std::fs::read_to_string(dockerfile)?.contains(&stage),
            "no stage{stage}"
        );
    }
    Ok(())
}

#[test]
fn ports_are_open_to_this_machine_only_unless_asked_for_more() -> Result<()> {
    let mut published = 0;
    for (name, service) in services()? {
        for port in list(&service, "ports") {
            let address: IpAddr = text(port, "host_ip")?.parse()?;
            ensure!(address.is_loopback(), "{name} is open on {address}");
            published += 1;
        }
    }
    assert_eq!(published, 3, "gateway, Prometheus, Grafana");
    Ok(())
}

#[test]
fn no_secret_stands_in_the_file_or_in_an_environment_variable() -> Result<()> {
    let compose = resolved()?;
    let everything = compose.to_string();
    for secret in compose["secrets"].as_object().context("secrets")?.values() {
        let value = std::fs::read_to_string(text(secret, "file")?)?;
        let value = value.trim();
        ensure!(
            value.to_lowercase().contains("development-only"),
            "a default must be loud: {value}"
        );
        ensure!(!everything.contains(value), "a secret stands in {COMPOSE}");
    }
    Ok(())
}

/// The configuration of a service of ours in the compose fleet, with its secrets where they lie on
/// this machine instead of in a container.
pub(crate) fn configuration(service: &str) -> Result<Table> {
    let secrets = file("deploy/compose/secrets-development");
    let text = read(&format!("deploy/compose/{service}.toml"))?;
    Ok(text
        .replace("/run/secrets", &secrets.display().to_string())
        .parse()?)
}

/// The effective configuration of a service in the compose fleet, as its binary prints it.
fn effective(service: &str) -> Result<Table> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("config.toml");
    std::fs::write(&path, configuration(service)?.to_string())?;
    let program = binary(&format!("flotilla-{service}"))?;
    accepted(
        at_root(&program)
            .arg("--config")
            .arg(&path)
            .arg("--check-config"),
    )?;
    Ok(accepted(
        at_root(&program)
            .arg("--config")
            .arg(&path)
            .arg("--print-config"),
    )?
    .parse()?)
}

#[test]
fn the_services_accept_their_configuration() -> Result<()> {
    for service in ["gateway", "worker"] {
        effective(service)?;
    }
    Ok(())
}

#[test]
fn a_container_has_more_time_to_stop_than_a_drain_takes() -> Result<()> {
    let services = services()?;
    for service in ["gateway", "worker"] {
        let grace = seconds(text(&services[service], "stop_grace_period")?)?;
        let effective = effective(service)?;
        let drain = effective["drain"]["timeout"]
            .as_str()
            .context("drain.timeout")?;
        ensure!(
            grace > seconds(drain)?,
            "{service}: {grace:?} to stop, {drain} to drain"
        );
    }
    Ok(())
}

/// Reads `45s` or `1m30s`.
fn seconds(text: &str) -> Result<Duration> {
    let mut total = 0;
    for part in text.split_inclusive(['m', 's']) {
        let (number, unit) = part.split_at(part.len() - 1);
        let number: u64 = number
            .trim()
            .parse()
            .with_context(|| format!("no duration: {text}"))?;
        total += if unit == "m" { 60 * number } else { number };
    }
    Ok(Duration::from_secs(total))
}
