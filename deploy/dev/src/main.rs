//! The one-command development fleet: a gateway and workers on loopback, a demo page, and tokens.
//!
//! `dev` runs one fleet, either in this process (`embedded`) or as child processes over NATS
//! (`processes`), from a built-in `profile` and what only a launcher knows (`settings`). The
//! services themselves are the libraries of the gateway and the worker; this crate has no part in
//! the data path, and production does not use it.

mod args;
mod ask;
mod banner;
mod demo;
mod dev;
mod embedded;
mod member;
mod orders;
mod parent;
mod ports;
mod processes;
mod profile;
mod ready;
mod settings;
mod state;
mod token;

use std::{env, ffi::OsString, process::ExitCode};

use anyhow::Result;
use args::{Arguments, Command, ServiceArguments};
use clap::Parser;
use tokio::runtime;

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("flotilla: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    let roots = || state::roots(|name| env::var_os(name));
    match arguments.command.unwrap_or(Command::Dev(arguments.dev)) {
        Command::Dev(arguments) => {
            let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(dev::run(&arguments, &roots()))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Token(arguments) => {
            println!("{}", token::for_command(&arguments, &roots())?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Worker(arguments) => Ok(flotilla_worker::cli::run(service("worker", arguments))),
        Command::Gateway(arguments) => {
            Ok(flotilla_gateway::cli::run(service("gateway", arguments)))
        }
        Command::ExecWithParent(arguments) => {
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(parent::exec(&arguments.program, &arguments.rest))
        }
    }
}

/// The command line of a service, which begins with its name.
fn service(name: &str, arguments: ServiceArguments) -> impl Iterator<Item = OsString> {
    if arguments.exit_with_parent {
        parent::exit_when_gone();
    }
    [name.into()].into_iter().chain(arguments.rest)
}
