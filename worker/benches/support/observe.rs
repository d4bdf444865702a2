//! Waiting for something to come about, and what processes count.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// How long anything may take that works.
const SOON: Duration = Duration::from_secs(60);

/// What a process counts under this name, all labels together.
pub(crate) fn metric(admin: SocketAddr, name: &str) -> Result<f64> {
    let mut stream = TcpStream::connect(admin)?;
    stream.set_read_timeout(Some(SOON))?;
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let values = answer.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = rest.rsplit(' ').next()?;
        (rest.starts_with([' ', '{'])).then(|| value.parse::<f64>())
    });
    let values = values.collect::<Result<Vec<_>, _>>()?;
    ensure!(!values.is_empty(), "nothing is counted as {name}");
    Ok(values.iter().sum())
}

/// Looks every few milliseconds until there is something.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "not after {SOON:?}: {what}");
        pause(Duration::from_millis(2));
    }
}

/// Lets time pass.
#[allow(clippy::disallowed_methods, reason = "this process has no runtime")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}
