//! The clients' side of a measurement: publishes, collects, and reads off the CPU time it cost.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::measure::cpu_nanoseconds;

/// Longer than anything takes that works.
const SOON: Duration = Duration::from_secs(20);

/// The clients of one process under load. None of their sockets waits.
pub(crate) struct Load {
    pid: u32,
    publisher: TcpStream,
    /// In the order in which the process serves them.
    subscribers: Vec<TcpStream>,
    /// What publishes the messages that are sent together at least, and how many they are.
    commands: Vec<u8>,
    messages: usize,
    /// What each subscriber gets of them.
    frame_bytes: usize,
}

impl Load {
    /// `commands` publish a message each, of which all together come to `frame_bytes`.
    pub(crate) fn new(
        pid: u32,
        publisher: TcpStream,
        subscribers: Vec<TcpStream>,
        commands: &[Vec<u8>],
        frame_bytes: usize,
    ) -> Result<Self> {
        for socket in subscribers.iter().chain([&publisher]) {
            socket.set_nonblocking(true)?;
        }
        Ok(Self {
            pid,
            publisher,
            subscribers,
            commands: commands.concat(),
            messages: commands.len(),
            frame_bytes,
        })
    }

    /// Publishes `segments` of `burst` times the messages each, `in_flight` segments at a time. Returns the
    /// process' CPU time for each delivery, in nanoseconds.
    pub(crate) fn run(&mut self, segments: usize, burst: usize, in_flight: usize) -> Result<f64> {
        let segment = self.commands.repeat(burst);
        let before = cpu_nanoseconds(self.pid)?;
        let mut sent = 0;
        for received in 0..segments {
            while sent < segments.min(received + in_flight) {
                self.publisher.write_all(&segment)?;
                sent += 1;
            }
            self.collect(burst * self.frame_bytes)?;
        }
        let used = cpu_nanoseconds(self.pid)? - before;
        Ok(used as f64 / (segments * burst * self.messages * self.subscribers.len()) as f64)
    }

    /// Waits until each subscriber has so many bytes more. The last to be served comes first: when
    /// it has them, so have all, and no write ever wakes a reader.
    fn collect(&mut self, bytes: usize) -> Result<()> {
        let mut buffer = [0; 64 * 1024];
        for subscriber in self.subscribers.iter_mut().rev() {
            spin(subscriber, bytes, &mut buffer)?;
        }
        // The publisher's answers are of no interest, but must not pile up.
        loop {
            match self.publisher.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Reads exactly so many bytes from a socket that does not wait, by asking again and again. Nobody
/// sleeps in it, so the sender is not charged for waking anybody.
fn spin(socket: &mut TcpStream, mut count: usize, buffer: &mut [u8]) -> Result<()> {
    let begun = Instant::now();
    while count > 0 {
        let wanted = count.min(buffer.len());
        match socket.read(buffer.get_mut(..wanted).unwrap_or_default()) {
            Ok(0) => bail!("the connection was closed"),
            Ok(read) => count -= read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                ensure!(begun.elapsed() < SOON, "{count} bytes are missing");
                std::thread::yield_now();
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
