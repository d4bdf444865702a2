//! The command line: flags, and a run from them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use flotilla_shared::protocol::Format;
use flotilla_shared::secret::Secret;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::watch;

use crate::client::Dialer;
use crate::pacer::Rate;
use crate::report::Report;
use crate::scenario::{ChannelName, Stop, connect, echo};
use crate::target::Target;
use crate::token::Tokens;

/// Files this process needs besides one socket for each client.
const FILES_BESIDES: u64 = 64;

/// Puts load on a server of the Centrifuge protocol, and reports what it saw
///
/// Exits with 0 if every client came up, stayed, and got what it had to get; with 1 if not.
#[derive(Debug, Parser)]
#[command(name = "flotilla-loadtest", version)]
struct Flags {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Args)]
struct Common {
    /// The server's WebSocket endpoint
    #[arg(
        long,
        default_value = "ws://127.0.0.1:8000/connection/websocket",
        global = true
    )]
    url: String,
    /// Allow a server that is not this machine
    #[arg(long, global = true)]
    allow_remote: bool,
    /// What to speak
    #[arg(long, value_enum, default_value_t = Encoding::Json, global = true)]
    encoding: Encoding,
    /// The connection token of all clients
    #[arg(long, value_name = "JWT", value_parser = secret, global = true, conflicts_with = "token_secret")]
    token: Option<Secret>,
    /// Sign a token for each client with this HMAC secret; clients are the users load-0, load-1, …
    #[arg(long, value_name = "SECRET", value_parser = secret, global = true)]
    token_secret: Option<Secret>,
    /// How long a connection may take to come up, until the last answer
    #[arg(long, value_parser = humantime::parse_duration, default_value = "10s", global = true)]
    timeout: Duration,
    /// Threads of the load generator
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=64), default_value_t = 1, global = true)]
    threads: u16,
    /// Also write the report to this file, as JSON
    #[arg(long, value_name = "FILE", global = true)]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Encoding {
    Json,
    Protobuf,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// Bring up many connections at a pace, and hold them
    Connect {
        /// How many
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000), default_value_t = 100)]
        connections: u64,
        /// How many to begin each second
        #[arg(long, default_value = "100")]
        rate: Rate,
        /// Subscribe each to this channel; {i} stands for the connection's number
        #[arg(long)]
        channel: Option<ChannelName>,
        /// How long to hold them after the last came up
        #[arg(long, value_parser = humantime::parse_duration, default_value = "5s")]
        hold: Duration,
    },
    /// Publish into own channels at a steady rate, and wait for it to come back
    Echo {
        /// How many clients
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100_000), default_value_t = 50)]
        clients: u64,
        /// How many clients to begin each second
        #[arg(long, default_value = "100")]
        connect_rate: Rate,
        /// The channel of each client, whose number stands for {i} [default: one that no other run
        /// uses]
        #[arg(long)]
        channel: Option<ChannelName>,
        /// Messages a second, for each client
        #[arg(long, default_value = "10")]
        rate: Rate,
        /// How long to publish
        #[arg(long, value_parser = humantime::parse_duration, default_value = "10s")]
        duration: Duration,
        /// How long to wait afterwards for what is still on its way
        #[arg(long, value_parser = humantime::parse_duration, default_value = "5s")]
        drain: Duration,
        /// Size of a message's payload, in bytes
        #[arg(long, value_parser = clap::value_parser!(u32).range(40..=1_048_576), default_value_t = 128)]
        payload: u32,
    },
}

/// Runs what the arguments say. They begin with the program's name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let flags = match Flags::try_parse_from(args) {
        Ok(flags) => flags,
        Err(error) => {
            // Nobody is left to tell if the terminal is gone.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match start(flags) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("flotilla-loadtest: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether all went as it should.
fn start(flags: Flags) -> Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(flags.common.threads.into())
        .enable_all()
        .build()?;
    let json = flags.common.json.clone();
    let report = runtime.block_on(load(flags))?;
    println!("{report}");
    if let Some(path) = json {
        let report = serde_json::to_string_pretty(&report)?;
        std::fs::write(&path, report + "\n")
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(report.is_clean())
}

async fn load(flags: Flags) -> Result<Report> {
    let stop = stop_on_interrupt();
    let (connections, run) = flags.scenario.size();
    allow_files(connections + FILES_BESIDES)?;
    let dialer = Arc::new(flags.common.dialer(connections, run).await?);
    Ok(match flags.scenario {
        Scenario::Connect {
            connections,
            rate,
            channel,
            hold,
        } => {
            let plan = connect::Plan {
                connections,
                rate,
                channel,
                hold,
            };
            Report::Connect(connect::run(plan, dialer, stop).await?)
        }
        Scenario::Echo {
            clients,
            connect_rate,
            channel,
            rate,
            duration,
            drain,
            payload,
        } => {
            let channel = channel.unwrap_or_else(own_channels);
            ensure!(channel.is_own(), "--channel has to contain {{i}}");
            let plan = echo::Plan {
                clients,
                connect_rate,
                channel,
                rate,
                duration,
                drain,
                payload_bytes: payload as usize,
            };
            Report::Echo(echo::run(plan, dialer, stop).await?)
        }
    })
}

impl Common {
    async fn dialer(&self, connections: u64, run: Duration) -> Result<Dialer> {
        let tokens = match (&self.token, &self.token_secret) {
            (Some(token), _) => Tokens::Fixed(token.clone()),
            (None, Some(secret)) => Tokens::Signed(secret.clone()),
            (None, None) => Tokens::None,
        };
        Ok(Dialer {
            target: Target::resolve(&self.url, self.allow_remote, connections).await?,
            format: match self.encoding {
                Encoding::Json => Format::Json,
                Encoding::Protobuf => Format::Protobuf,
            },
            tokens,
            run,
            timeout: self.timeout,
        })
    }
}

impl Scenario {
    /// How many connections are open at a time, and about how long the run takes.
    fn size(&self) -> (u64, Duration) {
        let (clients, rate, rest) = match self {
            Self::Connect {
                connections,
                rate,
                hold,
                ..
            } => (*connections, rate, *hold),
            Self::Echo {
                clients,
                connect_rate,
                duration,
                drain,
                ..
            } => (*clients, connect_rate, *duration + *drain),
        };
        (
            clients,
            Duration::from_secs_f64(clients as f64 / rate.get()) + rest,
        )
    }
}

fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}

fn own_channels() -> ChannelName {
    ChannelName::new(format!("loadtest-{}-{{i}}", std::process::id()))
}

/// Raises the limit of open files as far as it goes.
fn allow_files(wanted: u64) -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    ensure!(
        wanted <= hard,
        "{wanted} open files are needed and {hard} are allowed: raise `ulimit -n`"
    );
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(())
}

fn stop_on_interrupt() -> Stop {
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            let _ = stop.send(true);
        }
        // Keeps the sender: without it there would be nothing to wait for.
        stop.closed().await;
    });
    Stop::new(stopped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        use clap::CommandFactory as _;
        Flags::command().debug_assert();
    }

    #[test]
    fn secrets_do_not_show() {
        let args = ["loadtest", "echo", "--token-secret", "open sesame"];
        let flags = Flags::try_parse_from(args).unwrap();
        assert!(!format!("{flags:?}").contains("sesame"));
    }

    #[test]
    fn a_run_says_how_many_connections_it_needs_and_for_how_long() {
        let args = [
            "loadtest",
            "connect",
            "--connections",
            "500",
            "--rate",
            "50",
            "--hold",
            "5s",
        ];
        let flags = Flags::try_parse_from(args).unwrap();
        assert_eq!(flags.scenario.size(), (500, Duration::from_secs(15)));
    }
}
