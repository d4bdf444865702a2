//! The binary `flotilla-loadtest`; see [`flotilla_loadtest::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    flotilla_loadtest::cli::run(std::env::args_os())
}
