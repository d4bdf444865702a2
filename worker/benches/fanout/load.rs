//! The clients' side of a measurement: publishes, collects, and reads off the CPU time it cost.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::measure::cpu_nanoseconds;

/// Longer than anything takes that works.
const SOON: Duration = Duration::from_secs(20);

/// Messages that the publisher puts into one segment.
pub(crate) const BURST: usize = 16;
/// Segments that are on their way at a time.
pub(crate) const IN_FLIGHT: usize = 4;

/// The clients of one server under load. None of their sockets waits.
pub(crate) struct Load {
    /// The processes that the server consists of.
    processes: Vec<u32>,
    publisher: TcpStream,
    /// In the order in which the server serves them.
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
        processes: Vec<u32>,
        publisher: TcpStream,
        subscribers: Vec<TcpStream>,
        commands: &[Vec<u8>],
        frame_bytes: usize,
    ) -> Result<Self> {
        for socket in subscribers.iter().chain([&publisher]) {
            socket.set_nonblocking(true)?;
        }
        Ok(Self {
            processes,
            publisher,
            subscribers,
            commands: commands.concat(),
            messages: commands.len(),
            frame_bytes,
        })
    }

    /// Publishes `segments` of `burst` times the messages each, `in_flight` segments at a time. Returns the
    /// CPU time of all the server's processes for each delivery, in nanoseconds.
    pub(crate) fn run(&mut self, segments: usize, burst: usize, in_flight: usize) -> Result<f64> {
        let segment = self.commands.repeat(burst);
        let before = self.cpu_nanoseconds()?;
        let mut sent = 0;
        for received in 0..segments {
            while sent < segments.min(received + in_flight) {
                self.publisher.write_all(&segment)?;
                sent += 1;
            }
            self.collect(burst * self.frame_bytes)?;
        }
        let used = self.cpu_nanoseconds()? - before;
        Ok(used as f64 / (segments * burst * self.messages * self.subscribers.len()) as f64)
    }

    fn cpu_nanoseconds(&self) -> Result<u64> {
        self.processes.iter().copied().map(cpu_nanoseconds).sum()
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
