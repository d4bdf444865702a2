//! Bytes on a TCP socket, for what no well-behaved client would send.

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::SOON;

/// Longest response head or frame a test expects.
const READ_MAX: usize = 1024 * 1024;

/// A WebSocket frame to send, correct or not (RFC 6455 §5.2).
#[derive(Clone, Debug)]
pub struct Frame {
    /// The FIN bit.
    pub fin: bool,
    /// The three reserved bits, as the low bits of this number.
    pub reserved: u8,
    /// 1 text, 2 binary, 0 continuation, 8 close, 9 ping, 10 pong.
    pub opcode: u8,
    /// Whether the payload is masked, as everything a client sends must be.
    pub masked: bool,
    /// The payload.
    pub payload: Vec<u8>,
    /// A payload length to claim instead of the real one, in the 64-bit form.
    pub claimed_length: Option<u64>,
}

impl Frame {
    /// A correct frame.
    pub fn new(opcode: u8, payload: impl Into<Vec<u8>>) -> Self {
        let payload = payload.into();
        Self {
            fin: true,
            reserved: 0,
            opcode,
            masked: true,
            payload,
            claimed_length: None,
        }
    }

    /// The frame as it goes over the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
        let mut bytes = vec![u8::from(self.fin) << 7 | self.reserved << 4 | self.opcode];
        let mask = u8::from(self.masked) << 7;
        match (self.claimed_length, self.payload.len()) {
            (None, length @ 0..=125) => bytes.push(mask | length as u8),
            (None, length @ 126..=0xffff) => {
                bytes.push(mask | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            (claimed, length) => {
                bytes.push(mask | 127);
                bytes.extend(claimed.unwrap_or(length as u64).to_be_bytes());
            }
        }
        if self.masked {
            bytes.extend(KEY);
            bytes.extend(
                self.payload
                    .iter()
                    .zip(KEY.iter().cycle())
                    .map(|(byte, key)| byte ^ key),
            );
        } else {
            bytes.extend(&self.payload);
        }
        bytes
    }
}

/// The end of a connection, seen from the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// A Close frame with this code and reason.
    Closed(u16, String),
    /// The connection ended without one.
    Dropped,
}

/// A TCP connection to a gateway or a worker.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Socket {
    /// Connects to `address` (`host:port`).
    ///
    /// # Errors
    /// When it is refused.
    pub async fn connect(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address)
            .await
            .context(address.to_owned())?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            read: Vec::new(),
        })
    }

    /// Connects and upgrades to a WebSocket; `headers` are whole lines, without their ends.
    ///
    /// # Errors
    /// When the answer is not 101.
    pub async fn websocket(address: &str, headers: &[&str]) -> Result<Self> {
        let mut socket = Self::connect(address).await?;
        let head = socket.request(&upgrade_head(address, headers)).await?;
        ensure!(head.starts_with("HTTP/1.1 101 "), "not upgraded: {head}");
        Ok(socket)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        Ok(timeout(SOON, self.stream.write_all(bytes.as_ref())).await??)
    }

    /// Sends a request head and returns the head of the response, with its status line.
    ///
    /// # Errors
    /// When the connection ends before a whole head has come.
    pub async fn request(&mut self, head: &str) -> Result<String> {
        self.send(head).await?;
        loop {
            if let Some(at) = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head = self.read.drain(..at + 4).collect();
                return Ok(String::from_utf8(head)?);
            }
            ensure!(
                self.more().await? > 0,
                "ended with {:?}",
                self.read.escape_ascii()
            );
        }
    }

    /// Sends a request head and returns the whole response, up to the end of the connection.
    ///
    /// # Errors
    /// When the connection stays open.
    pub async fn exchange(&mut self, head: &str) -> Result<String> {
        self.send(head).await?;
        while self.more().await? > 0 {}
        Ok(String::from_utf8(std::mem::take(&mut self.read))?)
    }

    /// Waits for the next frame: its opcode and payload; none if the connection has ended.
    ///
    /// # Errors
    /// When a server frame is masked or has reserved bits, or nothing comes in time.
    pub async fn frame(&mut self) -> Result<Option<Received>> {
        loop {
            if let Some((frame, length)) = parse_frame(&self.read)? {
                self.read.drain(..length);
                return Ok(Some(frame));
            }
            if self.more().await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Waits for the end, however it comes, ignoring what comes before it.
    ///
    /// # Errors
    /// When the connection is still open at the deadline.
    pub async fn end(&mut self) -> Result<End> {
        loop {
            match self.frame().await? {
                None => return Ok(End::Dropped),
                Some((8, payload)) => {
                    let (code, reason) = payload.split_first_chunk().context("an empty Close")?;
                    let reason = String::from_utf8(reason.to_vec())?;
                    return Ok(End::Closed(u16::from_be_bytes(*code), reason));
                }
                Some(_) => {}
            }
        }
    }

    /// Reads more; 0 when the connection has ended, be it by a reset.
    async fn more(&mut self) -> Result<usize> {
        ensure!(
            self.read.len() < READ_MAX,
            "more than a test expects to read"
        );
        match timeout(SOON, self.stream.read_buf(&mut self.read)).await {
            Err(_) => bail!(
                "nothing more came, and no end, after {:?}",
                self.read.escape_ascii()
            ),
            Ok(Ok(count)) => Ok(count),
            Ok(Err(_)) => Ok(0),
        }
    }
}

/// The head of a correct upgrade request, with `headers` (whole lines) added.
pub fn upgrade_head(host: &str, headers: &[&str]) -> String {
    let added: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    format!(
        "GET /connection/websocket HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{added}\r\n"
    )
}

/// Opcode and payload of a frame.
pub type Received = (u8, Vec<u8>);

/// A whole frame at the start of `bytes` and its length on the wire, if it is there.
fn parse_frame(bytes: &[u8]) -> Result<Option<(Received, usize)>> {
    let [first, second, rest @ ..] = bytes else {
        return Ok(None);
    };
    ensure!(
        first & 0x70 == 0 && second & 0x80 == 0,
        "not a server's frame: {first:x} {second:x}"
    );
    let (length, rest) = match (second, rest) {
        (126, [a, b, rest @ ..]) => (usize::from(u16::from_be_bytes([*a, *b])), rest),
        (127, rest) => match rest.split_first_chunk() {
            Some((length, rest)) => (usize::try_from(u64::from_be_bytes(*length))?, rest),
            None => return Ok(None),
        },
        (126, _) => return Ok(None),
        (length, rest) => (usize::from(*length), rest),
    };
    ensure!(length < READ_MAX, "a frame of {length} bytes");
    let Some(payload) = rest.get(..length) else {
        return Ok(None);
    };
    let head = bytes.len() - rest.len();
    Ok(Some(((first & 0x0f, payload.to_vec()), head + length)))
}
