//! A client that does as little as a client can.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// Longer than anything takes that works.
const SOON: Duration = Duration::from_secs(20);

/// One WebSocket connection, over TCP or what lies on it.
pub(crate) struct Client<S = TcpStream> {
    pub(crate) socket: S,
}

impl Client {
    /// Connects by TCP, upgrades, and opens a session.
    pub(crate) fn connect(server: SocketAddr) -> Result<Self> {
        Self::open(connect(server)?)
    }
}

impl<S: Read + Write> Client<S> {
    /// Upgrades what is connected, and opens a session.
    pub(crate) fn open(socket: S) -> Result<Self> {
        let mut client = Self { socket };
        client.socket.write_all(
            b"GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
              Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
              Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.socket.read_exact(&mut byte)?;
            head.extend(byte);
        }
        let head = String::from_utf8_lossy(&head);
        ensure!(head.starts_with("HTTP/1.1 101 "), "not upgraded: {head}");
        client.call(r#"{"id":1,"connect":{}}"#)?;
        Ok(client)
    }

    /// Subscribes to a channel.
    pub(crate) fn subscribe(&mut self, channel: &str) -> Result<()> {
        self.call(&format!(
            r#"{{"id":2,"subscribe":{{"channel":"{channel}"}}}}"#
        ))?;
        Ok(())
    }

    /// Sends a command and takes the next frame for the answer.
    pub(crate) fn call(&mut self, command: &str) -> Result<Vec<u8>> {
        self.socket.write_all(&frame(command))?;
        let (_, answer) = self.receive()?;
        let text = String::from_utf8_lossy(&answer);
        ensure!(!text.contains(r#""error""#), "{text}");
        Ok(answer)
    }

    /// Waits for a frame; returns all its bytes, and its payload.
    pub(crate) fn receive(&mut self) -> Result<(Vec<u8>, Vec<u8>)> {
        let mut whole = vec![0; 2];
        self.socket.read_exact(&mut whole)?;
        let length = match whole.get(1) {
            Some(127) => self.extend(&mut whole, 8)?,
            Some(126) => self.extend(&mut whole, 2)?,
            Some(short) => usize::from(*short),
            None => bail!("no frame"),
        };
        let head = whole.len();
        self.extend(&mut whole, length)?;
        let payload = whole.get(head..).unwrap_or_default().to_vec();
        Ok((whole, payload))
    }

    /// Reads so many bytes more; returns them as a number.
    fn extend(&mut self, whole: &mut Vec<u8>, length: usize) -> Result<usize> {
        let start = whole.len();
        whole.resize(start + length, 0);
        let new = whole.get_mut(start..).unwrap_or_default();
        self.socket.read_exact(new).context("reading a frame")?;
        let last = new.iter().rev().take(8).rev();
        Ok(last.fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }
}

/// A socket that does not wait for ever.
pub(crate) fn connect(server: SocketAddr) -> Result<TcpStream> {
    let socket = TcpStream::connect(server)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(SOON))?;
    Ok(socket)
}

/// A text frame as clients send it: masked, here with zeros (RFC 6455 §5.3).
pub(crate) fn frame(payload: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..65536 => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload.as_bytes());
    frame
}
