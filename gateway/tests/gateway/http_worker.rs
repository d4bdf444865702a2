//! A worker that speaks HTTP: it begins streams that the test writes, and answers short requests.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use flotilla_shared::http::{RequestHead, parse_head};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::common::soon;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) head: RequestHead,
    pub(crate) body: Vec<u8>,
}

/// The head of a stream's answer.
pub(crate) const STREAM: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";

/// A running worker; stops when it is dropped.
pub(crate) struct HttpWorker {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    streams: mpsc::Receiver<TcpStream>,
    task: JoinHandle<()>,
}

impl HttpWorker {
    /// Short requests are answered with these bytes; nothing, if the worker is to keep silent.
    pub(crate) async fn answering(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (begun, streams) = mpsc::channel(16);
        let task = tokio::spawn(accept(listener, answer, seen.clone(), begun));
        Self {
            address,
            seen,
            streams,
            task,
        }
    }

    pub(crate) async fn start() -> Self {
        Self::answering("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await
    }

    /// The worker's end of the next stream, whose head has been sent.
    pub(crate) async fn stream(&mut self) -> TcpStream {
        soon("a stream", self.streams.recv()).await.expect("one")
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic").clone()
    }
}

impl Drop for HttpWorker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    answer: &'static str,
    seen: Arc<Mutex<Vec<Seen>>>,
    begun: mpsc::Sender<TcpStream>,
) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        let (seen, begun) = (seen.clone(), begun.clone());
        connections.spawn(async move {
            // Health checks send nothing.
            let Some(request) = read(&mut stream).await else {
                return;
            };
            let is_stream = request.head.path.starts_with("/connection/");
            seen.lock().expect("no panic").push(request);
            if is_stream {
                stream.write_all(STREAM.as_bytes()).await.expect("written");
                let _ = begun.send(stream).await;
            } else if answer.is_empty() {
                std::future::pending::<()>().await;
            } else {
                stream.write_all(answer.as_bytes()).await.expect("written");
                let _ = stream.shutdown().await;
            }
        });
    }
}

async fn read(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let (head, length) = loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        if let Some(parsed) = parse_head(&bytes).expect("a head") {
            break parsed;
        }
    };
    let stated = head.header("Content-Length").unwrap_or("0");
    let whole = length + stated.parse::<usize>().expect("a length");
    while bytes.len() < whole {
        assert_ne!(stream.read_buf(&mut bytes).await.expect("a body"), 0);
    }
    assert_eq!(bytes.len(), whole, "something came behind the request");
    let body = bytes.split_off(length);
    Some(Seen { head, body })
}
