//! The command line: its shape and its help texts. What the commands do lives elsewhere.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, builder::PossibleValuesParser};

use crate::profile;

/// The port that is taken when none is asked for and it is free.
pub(crate) const DEFAULT_PORT: u16 = 8000;

/// Runs a whole Flotilla fleet on this machine, for development.
#[derive(Debug, Parser)]
#[command(name = "flotilla", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) dev: DevArguments,
}

/// What can be asked for. Without a command it is `dev`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a gateway and workers on loopback until Ctrl-C (the default command)
    Dev(DevArguments),
    /// Print a token for a running development fleet, or for a secret of yours
    Token(TokenArguments),
    /// Run one worker: the same as the program flotilla-worker
    #[command(disable_help_flag = true)]
    Worker(ServiceArguments),
    /// Run one gateway: the same as the program flotilla-gateway
    #[command(disable_help_flag = true)]
    Gateway(ServiceArguments),
    /// Run a program and kill it when standard input ends
    #[command(hide = true, disable_help_flag = true)]
    ExecWithParent(ExecArguments),
}

/// `flotilla dev`
#[derive(Debug, Args)]
pub(crate) struct DevArguments {
    /// How many workers to run
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) workers: u16,
    /// Port of the gateway; 0 takes any free one. The demo page gets the next port if it is free
    /// [default: 8000 if it is free, else any]
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// Run real processes over NATS: the servers at URL, or a nats-server started for this fleet
    #[arg(long, value_name = "URL", num_args = 0..=1, default_missing_value = "")]
    pub(crate) nats: Option<String>,
    /// The nats-server to start (implies --nats) [default: from PATH or /usr/sbin]
    #[arg(long, value_name = "PATH")]
    pub(crate) nats_server: Option<PathBuf>,
    /// Which built-in configuration to use
    #[arg(long, value_name = "NAME", default_value = profile::DEFAULT, value_parser = PossibleValuesParser::new(profile::names()))]
    pub(crate) profile: String,
    /// How much of the log to show: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    pub(crate) log: tracing::Level,
}

/// Where messages travel between the processes of a development fleet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// Everything in one process, over memory.
    Embedded,
    /// Real processes, over NATS.
    Nats(NatsSource),
}

/// Which NATS server a fleet uses.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NatsSource {
    /// One that runs already, at this URL.
    Running(String),
    /// One that is started for this fleet: this program, or one to be found.
    Started(Option<PathBuf>),
}

impl DevArguments {
    /// What `--nats` and `--nats-server` ask for.
    ///
    /// # Errors
    /// When they contradict each other.
    pub(crate) fn transport(&self) -> anyhow::Result<Transport> {
        match (self.nats.as_deref(), &self.nats_server) {
            (None, None) => Ok(Transport::Embedded),
            (Some("") | None, program) => Ok(Transport::Nats(NatsSource::Started(program.clone()))),
            (Some(url), None) => Ok(Transport::Nats(NatsSource::Running(url.to_owned()))),
            (Some(_), Some(_)) => {
                anyhow::bail!(
                    "--nats URL uses running servers and --nats-server starts one: give one of them"
                )
            }
        }
    }
}

/// `flotilla token`
#[derive(Debug, Args)]
pub(crate) struct TokenArguments {
    /// The user the token is for
    #[arg(long)]
    pub(crate) user: String,
    /// Make a subscription token for this channel instead of a connection token
    #[arg(long)]
    pub(crate) channel: Option<String>,
    /// How long it is valid, such as 30s, 15m, 1h or 2days
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    pub(crate) ttl: Duration,
    /// Sign with this secret instead of a running fleet's
    #[arg(long, conflicts_with = "port")]
    pub(crate) secret: Option<String>,
    /// The fleet to sign for, by its gateway's port [default: the newest]
    #[arg(long)]
    pub(crate) port: Option<u16>,
}

/// `flotilla worker` and `flotilla gateway`
#[derive(Debug, Args)]
pub(crate) struct ServiceArguments {
    /// Exit when standard input ends; has to come first
    #[arg(long, hide = true)]
    pub(crate) exit_with_parent: bool,
    /// The arguments of the service
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) rest: Vec<OsString>,
}

/// `flotilla exec-with-parent`
#[derive(Debug, Args)]
pub(crate) struct ExecArguments {
    /// The program to run
    pub(crate) program: PathBuf,
    /// Its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) rest: Vec<OsString>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Arguments {
        Arguments::try_parse_from(line.split(' ')).expect(line)
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn flags_without_a_command_mean_dev() {
        let arguments = parse("flotilla --workers 5 --port 9000");
        assert!(arguments.command.is_none());
        assert_eq!((arguments.dev.workers, arguments.dev.port), (5, Some(9000)));
    }

    #[test]
    fn nats_flags_choose_the_transport() {
        let transport = |line: &str| parse(line).dev.transport().expect(line);
        assert_eq!(transport("flotilla"), Transport::Embedded);
        let check = |line: &str, expected: NatsSource| {
            assert_eq!(transport(line), Transport::Nats(expected), "{line}");
        };
        check("flotilla --nats", NatsSource::Started(None));
        check(
            "flotilla --nats nats://h:4222",
            NatsSource::Running("nats://h:4222".into()),
        );
        check(
            "flotilla --nats-server /x",
            NatsSource::Started(Some("/x".into())),
        );
        check(
            "flotilla --nats --nats-server /x",
            NatsSource::Started(Some("/x".into())),
        );
        let both = parse("flotilla --nats nats://h:4222 --nats-server /x");
        assert!(both.dev.transport().is_err());
    }

    #[test]
    fn a_service_gets_the_rest_of_the_line_untouched() {
        let line = "flotilla worker --exit-with-parent --config x.toml --help --set a=b";
        let Some(Command::Worker(service)) = parse(line).command else {
            panic!("{line}")
        };
        assert!(service.exit_with_parent);
        assert_eq!(
            service.rest,
            ["--config", "x.toml", "--help", "--set", "a=b"]
        );
        let Some(Command::Gateway(service)) = parse("flotilla gateway --help").command else {
            panic!("gateway")
        };
        assert!(!service.exit_with_parent);
        assert_eq!(service.rest, ["--help"]);
    }

    #[test]
    fn a_fleet_without_workers_is_refused() {
        assert!(Arguments::try_parse_from(["flotilla", "--workers", "0"]).is_err());
    }
}
