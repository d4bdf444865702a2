//! A configuration that is not understood is refused, whole, before anything happens.

use std::net::TcpListener;
use std::process::Output;

use anyhow::{Context, Result};
use flotilla_tests::process::binary;
use tokio::process::Command;

const EXIT_CONFIG: i32 = 78;
const SERVICES: [&str; 2] = ["worker", "gateway"];

/// A configuration file that both services understand, with more added.
struct File(tempfile::NamedTempFile);

impl File {
    fn new(text: &str) -> Result<Self> {
        let file = tempfile::Builder::new().suffix(".toml").tempfile()?;
        std::fs::write(file.path(), text)?;
        Ok(Self(file))
    }

    fn name(&self) -> String {
        self.0.path().display().to_string()
    }
}

/// Runs a service, which must end by itself.
async fn run(service: &str, args: &[&str], environment: &[(&str, &str)]) -> Result<Output> {
    let mut command = Command::new(binary(&format!("flotilla-{service}"))?);
    command
        .args(args)
        .envs(environment.iter().copied())
        .kill_on_drop(true);
    let output = tokio::time::timeout(flotilla_tests::SOON, command.output()).await;
    Ok(output.with_context(|| format!("{service} {args:?} did not end"))??)
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn an_unknown_key_is_refused_with_its_name_and_place() -> Result<()> {
    let file = File::new("listen = \"127.0.0.1:0\"\n[drain]\ntimeuot = \"5s\"\n")?;
    for service in SERVICES {
        let output = run(service, &["--config", &file.name()], &[]).await?;
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(EXIT_CONFIG), "{service}: {text}");
        assert!(
            text.contains("drain.timeuot") && text.contains(&file.name()),
            "{service}: {text}"
        );

        let variable = format!("FLOTILLA_{}__DRAIN__TIMEUOT", service.to_uppercase());
        let output = run(service, &[], &[(&variable, "5s")]).await?;
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(EXIT_CONFIG), "{service}: {text}");
        assert!(text.contains(&variable), "{service}: {text}");

        let output = run(service, &["--set", "drain.timeuot=5s"], &[]).await?;
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(EXIT_CONFIG), "{service}: {text}");
        assert!(text.contains("drain.timeuot"), "{service}: {text}");
    }
    Ok(())
}

#[tokio::test]
async fn every_problem_is_told_at_once() -> Result<()> {
    let bad = "listen = \"nowhere\"\nadmin_listen = \"127.0.0.1:x\"\n[drain]\ntimeout = \"soon\"\n";
    let file = File::new(bad)?;
    for service in SERVICES {
        let output = run(service, &["--config", &file.name(), "--check-config"], &[]).await?;
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(EXIT_CONFIG), "{service}: {text}");
        for key in ["listen", "admin_listen", "drain.timeout"] {
            let told = text.lines().any(|line| line.trim_start().starts_with(key));
            assert!(told, "{service} does not tell {key}: {text}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_bad_configuration_is_refused_before_any_port_is_bound() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let good = format!("listen = \"{address}\"\nadmin_listen = \"127.0.0.1:0\"\n");
    let bad = format!("{good}no_such_key = 1\n");
    for service in SERVICES {
        let output = run(service, &["--config", &File::new(&bad)?.name()], &[]).await?;
        assert_eq!(
            output.status.code(),
            Some(EXIT_CONFIG),
            "{service}: {}",
            stderr(&output)
        );
        // With nothing else to complain about, it does try the port, which is taken.
        let output = run(service, &["--config", &File::new(&good)?.name()], &[]).await?;
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{service}: {text}");
        assert!(text.contains(&address), "{service}: {text}");
    }
    Ok(())
}

#[tokio::test]
async fn checking_a_good_configuration_starts_nothing() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let file = File::new(&format!("listen = \"{}\"\n", taken.local_addr()?))?;
    for service in SERVICES {
        let output = run(service, &["--config", &file.name(), "--check-config"], &[]).await?;
        assert_eq!(
            output.status.code(),
            Some(0),
            "{service}: {}",
            stderr(&output)
        );
    }
    Ok(())
}

#[tokio::test]
async fn the_printed_configuration_tells_origins_keeps_secrets_and_can_be_used() -> Result<()> {
    const SECRET: &str = "do not tell anybody, whoever asks for it";
    let file = File::new("[drain]\ntimeout = \"47s\"\n")?;
    for service in SERVICES {
        let variable = format!("FLOTILLA_{}__PASSPORT__SECRET_KEY", service.to_uppercase());
        let args = [
            "--config",
            &file.name(),
            "--set",
            "log.level=warn",
            "--print-config",
        ];
        let output = run(service, &args, &[(&variable, SECRET)]).await?;
        let text = String::from_utf8(output.stdout.clone())?;
        assert_eq!(
            output.status.code(),
            Some(0),
            "{service}: {}",
            stderr(&output)
        );
        assert!(
            !text.contains(SECRET) && text.contains("<redacted>"),
            "{service}: {text}"
        );
        for origin in [file.name().as_str(), variable.as_str()] {
            assert!(
                text.contains(origin),
                "{service}: {origin} is not told: {text}"
            );
        }
        let printed: toml::Table = text.parse().with_context(|| text.clone())?;
        assert_eq!(printed["drain"]["timeout"].as_str(), Some("47s"));
        assert_eq!(printed["log"]["level"].as_str(), Some("warn"));
    }
    Ok(())
}

#[tokio::test]
async fn later_layers_win() -> Result<()> {
    let file = File::new("[drain]\ntimeout = \"41s\"\n")?;
    for service in SERVICES {
        let variable = format!("FLOTILLA_{}__DRAIN__TIMEOUT", service.to_uppercase());
        let timeout = async |args: &[&str], environment: &[(&str, &str)]| {
            let output = run(service, args, environment).await?;
            let printed: toml::Table = String::from_utf8(output.stdout)?.parse()?;
            anyhow::Ok(printed["drain"]["timeout"].to_string())
        };
        let (name, environment) = (file.name(), [(variable.as_str(), "42s")]);
        let args = [
            "--print-config",
            "--config",
            &name,
            "--set",
            "drain.timeout=43s",
        ];
        assert_eq!(timeout(&args[..3], &[]).await?, "\"41s\"", "{service}");
        assert_eq!(
            timeout(&args[..3], &environment).await?,
            "\"42s\"",
            "{service}"
        );
        assert_eq!(timeout(&args, &environment).await?, "\"43s\"", "{service}");
    }
    Ok(())
}
