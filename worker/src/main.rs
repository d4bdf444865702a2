//! The binary `flotilla-worker`; see [`flotilla_worker::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    flotilla_worker::cli::run(std::env::args_os())
}
