//! The command line that gateway and worker share.
//!
//! Owns the flags that say where settings come from, what is printed, and the exit codes. It does
//! not know any process' settings, and it ends before a port is bound.

use std::{ffi::OsString, fmt::Display, io::Write, path::PathBuf, process::ExitCode};

use clap::{Args, Command, FromArgMatches};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    load::load,
    problem::{ConfigErrors, Problems},
    source::Sources,
};
use crate::metrics;

/// The exit code for a configuration that is wrong: `EX_CONFIG` of BSD's sysexits.
pub const EXIT_CONFIG: u8 = 78;

/// The flags of every process.
#[derive(Debug, Clone, Default, Args)]
pub struct CommonFlags {
    /// Read settings from this TOML file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one setting, as in `--set log.level=debug`; may be repeated, wins over everything else
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
    /// Check the configuration and exit: 0 if it is right, 78 if not
    #[arg(long)]
    pub check_config: bool,
    /// Print the settings in effect and where each comes from, and exit
    #[arg(long)]
    pub print_config: bool,
}

/// What a process is called.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// The short name, as in `flotilla-<name>` and `FLOTILLA_<NAME>__…`.
    pub name: &'static str,
    /// One line on what it does.
    pub about: &'static str,
}

/// Runs a process from its command line to its end: reads the flags, loads the configuration,
/// obeys `--check-config`, `--print-config`, `--help` and `--version`, and else has `serve` do what
/// the process is for.
///
/// `args` starts with the program's name, as [`std::env::args_os`] does; `environment` is
/// [`std::env::vars_os`]. `resolve` is as for [`load`].
///
/// The exit code is 0 after a good end, or after something was printed as asked; 1 after an error
/// of `serve`, which is logged; [`EXIT_CONFIG`] when the configuration is wrong; 2 when the flags
/// are.
pub fn run<R, C, E>(
    program: &Program,
    args: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    resolve: impl FnOnce(&R, &mut Problems) -> Option<C>,
    serve: impl FnOnce(C) -> Result<(), E>,
) -> ExitCode
where
    R: Serialize + DeserializeOwned + Default,
    E: Display,
{
    let config = match decide(program, args, environment, resolve) {
        Ok(config) => config,
        Err(exit) => {
            // Nobody is left to tell if the other end of the pipe is gone.
            let _ = std::io::stdout().write_all(exit.stdout.as_bytes());
            let _ = std::io::stderr().write_all(exit.stderr.as_bytes());
            return ExitCode::from(exit.code);
        }
    };
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With all that led to it, if the error knows that.
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The end of a process that has nothing to run.
#[derive(Debug)]
struct Exit {
    code: u8,
    stdout: String,
    stderr: String,
}

fn decide<R, C>(
    program: &Program,
    args: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    resolve: impl FnOnce(&R, &mut Problems) -> Option<C>,
) -> Result<C, Exit>
where
    R: Serialize + DeserializeOwned + Default,
{
    let flags = flags(program, args)?;
    let sources = Sources {
        program: program.name,
        file: flags.config,
        environment: environment.into_iter().collect(),
        overrides: flags.set,
    };
    let loaded = load(&sources, resolve).map_err(|errors| wrong(&errors))?;
    if flags.print_config {
        return Err(done(loaded.print()));
    }
    if flags.check_config {
        return Err(done("the configuration is right\n".to_owned()));
    }
    Ok(loaded.config)
}

fn flags(program: &Program, args: impl IntoIterator<Item = OsString>) -> Result<CommonFlags, Exit> {
    let sources = format!(
        "Settings come from the defaults, the file, the environment and --set; what comes later in \
         this list wins. FLOTILLA_{}__LOG__LEVEL in the environment is log.level. Lists are written \
         as in TOML: [\"a\", \"b\"].",
        program.name.to_ascii_uppercase()
    );
    let name = format!("flotilla-{}", program.name);
    let command = Command::new(program.name)
        .bin_name(&name)
        .display_name(&name)
        .version(metrics::VERSION)
        .after_help(sources);
    // The flags bring a description of their own, which is not the program's.
    CommonFlags::augment_args(command)
        .about(program.about)
        .try_get_matches_from(args)
        .and_then(|matches| CommonFlags::from_arg_matches(&matches))
        .map_err(|error| {
            let code = u8::try_from(error.exit_code()).unwrap_or(u8::MAX);
            let text = error.to_string();
            match error.use_stderr() {
                true => Exit {
                    code,
                    stdout: String::new(),
                    stderr: text,
                },
                false => Exit {
                    code,
                    stdout: text,
                    stderr: String::new(),
                },
            }
        })
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_owned(), value.to_owned())),
        None => Err("expected KEY=VALUE".to_owned()),
    }
}

fn done(stdout: String) -> Exit {
    Exit {
        code: 0,
        stdout,
        stderr: String::new(),
    }
}

fn wrong(errors: &ConfigErrors) -> Exit {
    Exit {
        code: EXIT_CONFIG,
        stdout: String::new(),
        stderr: errors.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Raw {
        size: u64,
    }

    const PROGRAM: Program = Program {
        name: "test",
        about: "Is tested.",
    };

    fn run(args: &[&str], environment: &[(&str, &str)]) -> Result<u64, Exit> {
        let args = ["flotilla-test"].iter().chain(args).map(OsString::from);
        let environment = environment
            .iter()
            .map(|(name, value)| (name.into(), value.into()));
        decide(&PROGRAM, args, environment, |raw: &Raw, problems| {
            if raw.size > 10 {
                problems.add("size", "is too large");
            }
            Some(raw.size)
        })
    }

    #[test]
    fn flags_win_over_the_environment() {
        assert_eq!(run(&[], &[]).expect("runs"), 0);
        assert_eq!(run(&[], &[("FLOTILLA_TEST__SIZE", "5")]).expect("runs"), 5);
        let both = run(&["--set", "size=6"], &[("FLOTILLA_TEST__SIZE", "5")]);
        assert_eq!(both.expect("runs"), 6);
    }

    #[test]
    fn a_wrong_configuration_ends_with_78_and_the_reason() {
        for args in [&[][..], &["--check-config"], &["--print-config"]] {
            let exit = run(args, &[("FLOTILLA_TEST__SIZE", "11")]).expect_err("is wrong");
            assert_eq!(exit.code, EXIT_CONFIG);
            let reason = "size: is too large (environment variable FLOTILLA_TEST__SIZE)\n";
            assert_eq!((exit.stderr.as_str(), exit.stdout.as_str()), (reason, ""));
        }
    }

    #[test]
    fn a_right_configuration_can_be_checked_and_printed() {
        let exit = run(&["--check-config"], &[]).expect_err("exits");
        assert_eq!((exit.code, exit.stderr.as_str()), (0, ""));
        let exit = run(&["--print-config", "--set", "size=3"], &[]).expect_err("exits");
        assert_eq!(
            (exit.code, exit.stdout.as_str()),
            (0, "size = 3 # flag --set size\n")
        );
    }

    #[test]
    fn a_missing_file_is_a_wrong_configuration() {
        let exit = run(&["--config", "/nonexistent/file"], &[]).expect_err("exits");
        assert_eq!(exit.code, EXIT_CONFIG);
        assert!(
            exit.stderr.starts_with("cannot read /nonexistent/file: "),
            "{}",
            exit.stderr
        );
    }

    #[test]
    fn help_and_version_go_to_the_output_and_mistakes_to_the_error() {
        let help = run(&["--help"], &[]).expect_err("exits");
        assert_eq!((help.code, help.stderr.as_str()), (0, ""));
        for part in [
            "Is tested.",
            "--config",
            "--set",
            "--check-config",
            "FLOTILLA_TEST__LOG__LEVEL",
        ] {
            assert!(
                help.stdout.contains(part),
                "{part} is missing in {}",
                help.stdout
            );
        }
        let version = run(&["--version"], &[]).expect_err("exits");
        assert_eq!(version.code, 0);
        assert!(
            version.stdout.starts_with("flotilla-test "),
            "{}",
            version.stdout
        );

        for wrong in [&["--bogus"][..], &["--set", "size"], &["stray"]] {
            let exit = run(wrong, &[]).expect_err("exits");
            assert_eq!((exit.code, exit.stdout.as_str()), (2, ""), "{wrong:?}");
            assert!(!exit.stderr.is_empty());
        }
    }
}
