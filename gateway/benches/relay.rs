//! What a relayed connection costs the gateway: memory while it is idle, before and after it has
//! carried a message, and CPU time for each message.
//!
//! The gateway is a child process with nothing else in it, so that its memory and its CPU time are
//! the gateway's; clients and worker are in this one. Memory is what only that process has resident
//! (`Private_*` of `smaps_rollup`), less what it had before the connections, divided by their
//! number. The kernel's socket buffers are not in it. Run with
//! `cargo bench -p flotilla-gateway --bench relay`; as a test it only checks that it works.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use flotilla_gateway::{Config, Gateway, RawConfig};
use flotilla_shared::config::Problems;
use flotilla_shared::lifecycle::Lifecycle;
use flotilla_shared::websocket::switching_protocols;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Set in the child process: the worker's address.
const WORKER: &str = "FLOTILLA_BENCH_WORKER";
/// Connections that are there before anything is measured, so that one-time costs are not counted.
const WARM_UP: usize = 16;
const MESSAGE_BYTES: usize = 16 * 1024;
const SMALL_BYTES: usize = 64;

fn main() -> Result<()> {
    if let Ok(worker) = std::env::var(WORKER) {
        return gateway(&worker);
    }
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let (connections, rounds) = if is_bench { (2000, 200) } else { (20, 2) };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let mut child = Measured::start(listener.local_addr()?)?;
    runtime.spawn(worker(listener));

    let mut clients = runtime.block_on(connect(child.gateway, WARM_UP))?;
    let before = child.private_bytes()?;
    clients.extend(runtime.block_on(connect(child.gateway, connections))?);
    let each = |bytes: u64| bytes.saturating_sub(before) / connections as u64;
    println!("{connections} connections through one gateway, without TLS");
    println!(
        "idle:              {:>6} bytes per connection",
        each(child.private_bytes()?)
    );
    runtime.block_on(echo(&mut clients, MESSAGE_BYTES))?;
    println!(
        "after 16 KiB echo: {:>6} bytes per connection",
        each(child.private_bytes()?)
    );

    let busy = &mut clients[..64.min(connections)];
    let start = child.cpu_micros()?;
    for _ in 0..rounds {
        runtime.block_on(echo(busy, SMALL_BYTES))?;
    }
    let messages = (rounds * busy.len()) as u64;
    let micros = (child.cpu_micros()? - start) as f64 / messages as f64;
    println!(
        "64-byte echo:      {micros:>6.1} µs of CPU, both ways, {} connections",
        busy.len()
    );
    Ok(())
}

/// The gateway process. Answers each line with its private memory in bytes and its CPU time in
/// microseconds, and ends with its input.
fn gateway(worker: &str) -> Result<()> {
    let mut raw = RawConfig::default();
    raw.listen.set_port(0);
    raw.admin_listen.set_port(0);
    raw.pool.workers = vec![worker.to_owned()];
    let mut problems = Problems::default();
    let config = Config::resolve(&raw, &mut problems);
    let config = problems.finish(config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let gateway = runtime.block_on(Gateway::bind(config))?;
    println!("{}", gateway.local_addr());
    runtime.spawn(gateway.serve(Lifecycle::new(), None));
    for line in std::io::stdin().lines() {
        line?;
        println!("{} {}", private_bytes()?, cpu_micros()?);
    }
    Ok(())
}

fn private_bytes() -> Result<u64> {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup")?;
    let kilobytes = rollup
        .lines()
        .filter(|line| line.starts_with("Private_"))
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    Ok(kilobytes.sum::<u64>() * 1024)
}

fn cpu_micros() -> Result<i64> {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike;
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    Ok((usage.user_time() + usage.system_time()).num_microseconds())
}

/// The gateway process, seen from here.
struct Measured {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    gateway: SocketAddr,
}

impl Measured {
    fn start(worker: SocketAddr) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .env(WORKER, worker.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().context("stdin is piped")?;
        let mut output = BufReader::new(child.stdout.take().context("stdout is piped")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        let gateway = line.trim().parse().context("the gateway's address")?;
        Ok(Self {
            child,
            input,
            output,
            gateway,
        })
    }

    fn ask(&mut self) -> Result<(u64, i64)> {
        self.input.write_all(b"?\n")?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let (bytes, micros) = line.trim().split_once(' ').context("two numbers")?;
        Ok((bytes.parse()?, micros.parse()?))
    }

    fn private_bytes(&mut self) -> Result<u64> {
        Ok(self.ask()?.0)
    }

    fn cpu_micros(&mut self) -> Result<i64> {
        Ok(self.ask()?.1)
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Agrees to every handshake and sends back what comes. Masked frames are not unmasked: the relay
/// does not look into them, and it keeps the worker out of the way.
async fn worker(listener: TcpListener) -> Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let head = read_head(&mut stream).await?;
            let key = head
                .lines()
                .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
            stream
                .write_all(&switching_protocols(key.context("a key")?, None))
                .await?;
            let (mut from, mut to) = stream.split();
            tokio::io::copy_buf(&mut tokio::io::BufReader::new(&mut from), &mut to).await?;
            anyhow::Ok(())
        });
    }
}

async fn connect(gateway: SocketAddr, count: usize) -> Result<Vec<TcpStream>> {
    let mut clients = Vec::new();
    while clients.len() < count {
        let mut stream = TcpStream::connect(gateway).await?;
        stream.set_nodelay(true)?;
        let request = "GET /connection/websocket HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\n\
                       Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(request.as_bytes()).await?;
        let head = read_head(&mut stream).await?;
        if head.starts_with("HTTP/1.1 503 ") && clients.is_empty() {
            // The gateway has not taken in its worker yet.
            continue;
        }
        ensure!(head.starts_with("HTTP/1.1 101 "), "{head}");
        clients.push(stream);
    }
    Ok(clients)
}

/// Every client sends a message of this size and gets it back.
async fn echo(clients: &mut [TcpStream], size: usize) -> Result<()> {
    let length = u16::try_from(size)?.to_be_bytes();
    let header = [0x82, 0xfe, length[0], length[1], 0, 0, 0, 0];
    let frame = [&header[..], &vec![7; size]].concat();
    let mut back = vec![0; frame.len()];
    for client in &mut *clients {
        client.write_all(&frame).await?;
    }
    for client in clients {
        client.read_exact(&mut back).await?;
        ensure!(back == frame, "a message has changed");
    }
    Ok(())
}

async fn read_head(stream: &mut TcpStream) -> Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8(head)?)
}
