//! The worker's command line: the same for `flotilla-worker` and for `flotilla worker`.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context as _;
use flotilla_shared::config::{Program, cli};
use flotilla_shared::lifecycle::{Lifecycle, drain_on_signals};
use flotilla_shared::telemetry;

use crate::{Config, Worker};

const PROGRAM: Program = Program {
    name: "worker",
    about: "Serves WebSocket clients and joins them through the broker",
};

/// Runs a worker until it has been told to leave and has left. `args` begins with the program's name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    cli::run(&PROGRAM, args, std::env::vars_os(), Config::resolve, serve)
}

fn serve(config: Config) -> anyhow::Result<()> {
    telemetry::init(&config.log)?;
    // Shards have threads and runtimes of their own; this one carries the admin listener and the roster.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let result = runtime.block_on(async {
        let lifecycle = Lifecycle::new();
        drain_on_signals(&lifecycle, config.drain_timeout).context("signals cannot be handled")?;
        let brokers = config.brokers.clone();
        let worker = Worker::bind(config).await?;
        worker.serve(lifecycle, brokers).await?;
        Ok(())
    });
    // A lookup of a name that hangs must not keep the process.
    runtime.shutdown_background();
    result
}
