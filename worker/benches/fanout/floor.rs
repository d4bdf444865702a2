//! The least that can be done: a process that writes a frame to each subscriber, one `write(2)`
//! each, for every message it is sent.
//!
//! The benchmark starts itself anew as this process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};

/// The argument that makes this process the floor. Sizes of a command and of the frame, and the
/// number of subscribers, follow.
const FLOOR: &str = "--floor";

/// A running floor, seen from outside; it is killed when dropped.
pub(crate) struct Floor {
    child: Child,
    /// Its publisher's connection.
    pub(crate) publisher: TcpStream,
    /// In the order in which it serves them.
    pub(crate) subscribers: Vec<TcpStream>,
}

impl Floor {
    /// Starts one, which sends `frame` for every `command_bytes` that it gets.
    pub(crate) fn start(command_bytes: usize, frame: &[u8], subscribers: usize) -> Result<Self> {
        let numbers = [command_bytes, frame.len(), subscribers];
        let mut child = Command::new(std::env::current_exe()?)
            .arg(FLOOR)
            .args(numbers.map(|number| number.to_string()))
            .stdout(Stdio::piped())
            .spawn()?;
        let mut address = String::new();
        let stdout = child.stdout.take().context("the floor's stdout")?;
        BufReader::new(stdout).read_line(&mut address)?;
        let connect = || TcpStream::connect(address.trim());
        let subscribers = (0..subscribers)
            .map(|_| connect())
            .collect::<Result<_, _>>()?;
        let mut publisher = connect()?;
        publisher.set_nodelay(true)?;
        publisher.write_all(frame)?;
        Ok(Self {
            child,
            publisher,
            subscribers,
        })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Is the floor, if this process was started as that.
pub(crate) fn run_if_child() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    (arguments.next()? == FLOOR).then(|| match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {error:#}");
            ExitCode::FAILURE
        }
    })
}

fn run(mut arguments: impl Iterator<Item = String>) -> Result<()> {
    let mut number = || -> Result<usize> { Ok(arguments.next().context("a number")?.parse()?) };
    let (command_bytes, frame_bytes, count) = (number()?, number()?, number()?);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    let mut subscribers = Vec::new();
    for _ in 0..count {
        let (subscriber, _) = listener.accept()?;
        subscriber.set_nodelay(true)?;
        subscriber.set_nonblocking(true)?;
        subscribers.push(subscriber);
    }
    let (mut publisher, _) = listener.accept()?;
    let mut frame = vec![0; frame_bytes];
    publisher.read_exact(&mut frame)?;

    let mut buffer = [0; 64 * 1024];
    let mut unanswered = 0;
    loop {
        match publisher.read(&mut buffer)? {
            0 => return Ok(()),
            read => unanswered += read,
        }
        while unanswered >= command_bytes {
            unanswered -= command_bytes;
            for subscriber in &mut subscribers {
                let written = subscriber.write(&frame)?;
                ensure!(written == frame_bytes, "a socket is full");
            }
        }
    }
}
