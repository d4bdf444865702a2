//! The binary `flotilla-gateway`; see [`flotilla_gateway::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    flotilla_gateway::cli::run(std::env::args_os())
}
