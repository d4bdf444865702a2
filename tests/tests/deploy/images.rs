//! The images: their Dockerfile, what is sent to the builder, and what they hold besides the binary.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use flotilla_tests::fleet::Fleet;
use flotilla_tests::process::binary;
use toml::Table;

use crate::tools::{accepted, at_root, file, installed, read};

const DOCKERFILE: &str = "deploy/docker/Dockerfile";

#[test]
fn the_dockerfile_has_no_finding() -> Result<()> {
    let findings =
        accepted(installed("hadolint")?.args(["--failure-threshold", "style", DOCKERFILE]))?;
    assert_eq!(findings, "");
    Ok(())
}

#[test]
fn the_build_context_holds_the_whole_workspace() -> Result<()> {
    let context = tempfile::tempdir()?;
    for path in context_paths()? {
        copy(&file(&path), &context.path().join(&path))?;
    }
    // Reads every manifest and looks for every target of every member.
    let mut cargo = at_root("cargo");
    cargo.args([
        "metadata",
        "--format-version",
        "1",
        "--no-deps",
        "--offline",
        "--locked",
    ]);
    accepted(cargo.current_dir(context.path()))?;
    Ok(())
}

#[test]
fn all_that_the_images_copy_is_in_the_build_context() -> Result<()> {
    let context = context_paths()?;
    let dockerfile = read(DOCKERFILE)?;
    let copies = dockerfile
        .lines()
        .filter(|line| line.starts_with("COPY ") && !line.contains("--from"));
    let sources: Vec<&str> = copies
        .filter_map(|line| line.split(' ').skip(1).find(|word| !word.starts_with("--")))
        .collect();
    ensure!(
        sources.len() >= 4,
        "the sources and three files: {sources:?}"
    );
    for source in sources {
        let sent = source == "."
            || context
                .iter()
                .any(|path| Path::new(source).starts_with(path));
        ensure!(
            sent && file(source).exists(),
            "{source} is not sent to the builder"
        );
    }
    Ok(())
}

#[test]
fn the_services_accept_the_configuration_in_their_images() -> Result<()> {
    for service in ["gateway", "worker"] {
        accepted(in_its_image(service)?.arg("--check-config"))?;
    }
    Ok(())
}

#[test]
fn the_environment_overrides_the_configuration_in_the_images() -> Result<()> {
    for service in ["gateway", "worker"] {
        let variable = format!("FLOTILLA_{}__BROKER__NATS__SERVERS", service.to_uppercase());
        let mut printing = in_its_image(service)?;
        printing
            .arg("--print-config")
            .env(variable, r#"["nats://elsewhere:4222"]"#);
        let effective: Table = accepted(&mut printing)?.parse()?;
        let servers = &effective["broker"]["nats"]["servers"];
        assert_eq!(
            servers.to_string(),
            r#"["nats://elsewhere:4222"]"#,
            "{service}"
        );
    }
    Ok(())
}

/// A service with the configuration that its image holds.
fn in_its_image(service: &str) -> Result<Command> {
    let config = file(&format!("deploy/docker/{service}.toml"));
    let mut command = at_root(binary(&format!("flotilla-{service}"))?);
    command.arg("--config").arg(config);
    Ok(command)
}

#[tokio::test]
async fn the_health_check_tells_a_ready_process_from_a_missing_one() -> Result<()> {
    let mut fleet = Fleet::builder().start().await?;
    let check = |port: &str, path: &str| {
        at_root("deploy/docker/flotilla-health")
            .args([port, path])
            .status()
    };
    for service in fleet.gateways.iter_mut().chain(&mut fleet.workers) {
        let port = service
            .addresses()
            .admin
            .rsplit(':')
            .next()
            .context("a port")?
            .to_owned();
        ensure!(check(&port, "/readyz")?.success() && check(&port, "/livez")?.success());
        ensure!(
            !check(&port, "/nothing-here")?.success(),
            "a 404 is not healthy"
        );
        service.process().kill().await?;
        ensure!(
            !check(&port, "/livez")?.success(),
            "{} is dead",
            service.id()
        );
    }
    Ok(())
}

/// What Dockerfile.dockerignore lets through. It leaves out everything and names plain paths.
fn context_paths() -> Result<Vec<String>> {
    let text = read(&format!("{DOCKERFILE}.dockerignore"))?;
    let mut lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    ensure!(
        lines.next() == Some("*"),
        "nothing is sent but what is named"
    );
    lines
        .map(|line| {
            line.strip_prefix('!')
                .map(str::to_owned)
                .with_context(|| format!("not a plain path: {line}"))
        })
        .collect()
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let failed = || format!("copying {}", from.display());
    if from.is_dir() {
        for entry in from.read_dir().with_context(failed)? {
            let name = entry?.file_name();
            copy(&from.join(&name), &to.join(&name))?;
        }
        return Ok(());
    }
    std::fs::create_dir_all(to.parent().with_context(failed)?)?;
    std::fs::copy(from, to).with_context(failed)?;
    Ok(())
}
