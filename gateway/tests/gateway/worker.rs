//! A worker that sends back what it gets, by a WebSocket implementation that is not ours.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// What a worker does with connections.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Sends back what it gets. A text `close CODE` makes it close, `vanish` makes it end the
    /// connection without a word, `break` does so in the middle of a frame.
    Echo,
    /// Answers the handshake with these bytes and ends the connection.
    Answer(&'static str),
    /// Takes connections and never answers.
    Silent,
}

/// A running worker; stops when it is dropped.
pub(crate) struct Worker {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    task: JoinHandle<()>,
}

impl Worker {
    pub(crate) async fn start() -> Self {
        Self::that(Behaviour::Echo).await
    }

    pub(crate) async fn that(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self::on(listener, behaviour)
    }

    pub(crate) fn on(listener: TcpListener, behaviour: Behaviour) -> Self {
        let address = listener.local_addr().expect("an address");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(accept(listener, behaviour, requests.clone()));
        Self {
            address,
            requests,
            task,
        }
    }

    /// How many handshakes it has seen.
    pub(crate) fn count(&self) -> usize {
        self.requests.lock().expect("no panic").len()
    }

    /// The last handshake that it has seen.
    pub(crate) fn last_request(&self) -> Request {
        self.requests
            .lock()
            .expect("no panic")
            .last()
            .expect("a handshake")
            .clone()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, behaviour: Behaviour, requests: Arc<Mutex<Vec<Request>>>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        let requests = requests.clone();
        connections.spawn(async move {
            match behaviour {
                Behaviour::Echo => echo(stream, requests).await,
                Behaviour::Answer(answer) => {
                    // Health checks send nothing.
                    if stream.readable().await.is_ok()
                        && stream.peek(&mut [0]).await.ok() == Some(1)
                    {
                        requests.lock().expect("no panic").push(Request::default());
                        let _ = stream.write_all(answer.as_bytes()).await;
                    }
                }
                Behaviour::Silent => std::future::pending().await,
            }
        });
    }
}

#[allow(clippy::result_large_err, reason = "the signature is the library's")]
async fn echo(stream: TcpStream, requests: Arc<Mutex<Vec<Request>>>) {
    let note = |request: &Request, mut response: Response| {
        requests.lock().expect("no panic").push(request.clone());
        if let Some(offered) = request.headers().get("sec-websocket-protocol") {
            let first = offered
                .to_str()
                .expect("text")
                .split(", ")
                .next()
                .expect("one");
            let first = first.parse().expect("a value");
            response
                .headers_mut()
                .insert("sec-websocket-protocol", first);
        }
        Ok(response)
    };
    let Ok(mut socket) = accept_hdr_async(stream, note).await else {
        return;
    };
    while let Some(Ok(message)) = socket.next().await {
        match &message {
            Message::Text(text) if text.starts_with("close ") => {
                let code = text[6..].parse::<u16>().expect("a code");
                let frame = CloseFrame {
                    code: CloseCode::from(code),
                    reason: "told to".into(),
                };
                let _ = socket.close(Some(frame)).await;
            }
            Message::Text(text) if text.as_str() == "vanish" => return,
            Message::Text(text) if text.as_str() == "break" => {
                // A frame of 100 bytes, two of which come.
                let _ = socket.get_mut().write_all(&[0x82, 100, 1, 2]).await;
                return;
            }
            Message::Text(_) | Message::Binary(_) => drop(socket.send(message).await),
            _ => {}
        }
    }
}
