//! The gateway's command line: the same for `flotilla-gateway` and for `flotilla gateway`.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context as _;
use flotilla_shared::config::{Program, cli};
use flotilla_shared::lifecycle::{Lifecycle, drain_on_signals};
use flotilla_shared::telemetry;

use crate::{Config, Gateway};

const PROGRAM: Program = Program {
    name: "gateway",
    about: "Takes WebSocket clients to the workers of the fleet",
};

/// Runs a gateway until it has been told to leave and has left. `args` begins with the program's
/// name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    cli::run(&PROGRAM, args, std::env::vars_os(), Config::resolve, serve)
}

fn serve(config: Config) -> anyhow::Result<()> {
    telemetry::init(&config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(async {
        let lifecycle = Lifecycle::new();
        drain_on_signals(&lifecycle, config.drain_timeout).context("signals cannot be handled")?;
        let gateway = Gateway::bind(config).await?;
        gateway.serve(lifecycle, None).await?;
        anyhow::Ok(())
    });
    // A lookup of a name that hangs must not keep the process.
    runtime.shutdown_background();
    result
}
