//! Dying with the parent, however it dies.
//!
//! The launcher holds the write end of each child's standard input and never writes. When the
//! launcher is gone, even by `kill -9`, the kernel closes the pipe and the child reads its end. This
//! needs no `unsafe` and works on every Unix. Programs of others cannot watch a pipe, so they run
//! under `flotilla exec-with-parent`, which does it for them.

use std::{
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{self, ExitCode, Stdio},
    thread,
};

use anyhow::{Context, Result};
use tokio::{
    process::Command,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

/// From now on this process exits at once when standard input ends.
pub(crate) fn exit_when_gone() {
    at_end_of_input(|| process::exit(0));
}

/// Runs a program until it ends. When standard input ends, or at a signal, it is killed.
///
/// # Errors
/// When the program cannot be started.
pub(crate) async fn exec(program: &Path, arguments: &[OsString]) -> Result<ExitCode> {
    let (gone, parent_gone) = oneshot::channel();
    at_end_of_input(|| {
        // An error means that the program has ended by itself.
        let _ = gone.send(());
    });
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| program.display().to_string())?;
    tokio::select! {
        status = child.wait() => {
            let status = status?;
            // As shells tell of a signal.
            let code = status.code().or(status.signal().map(|signal| 128 + signal));
            let code = code.and_then(|code| u8::try_from(code).ok());
            return Ok(code.map_or(ExitCode::FAILURE, ExitCode::from));
        }
        _ = parent_gone => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    child.kill().await?;
    Ok(ExitCode::SUCCESS)
}

fn at_end_of_input(action: impl FnOnce() + Send + 'static) {
    // A thread of its own, because it must not depend on a runtime that may be busy or shutting down.
    thread::spawn(|| {
        // An error means as much as the end: there is nobody to read from.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        action();
    });
}
