//! What whoever is not let in is told, and how a socket is left.

use std::time::Duration;

use flotilla_shared::http::{BodyError, HeadError, Header, refusal};
use flotilla_shared::websocket::UpgradeError;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::metrics::Rejected;

/// How long a refused client is told to wait, in seconds.
const RETRY_AFTER_SECONDS: &str = "1";

/// How long a client may take to read its answer and to end its side.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// A refusal.
#[derive(Debug)]
pub(super) struct Answer {
    /// What it is counted as.
    pub(super) reason: Rejected,
    status: u16,
    message: String,
    headers: Vec<Header>,
}

impl Answer {
    pub(super) fn new(reason: Rejected, status: u16, message: &str) -> Self {
        Self {
            reason,
            status,
            message: message.to_owned(),
            headers: Vec::new(),
        }
    }

    pub(super) fn bad_request(message: &str) -> Self {
        Self::new(Rejected::BadRequest, 400, message)
    }

    pub(super) fn not_found() -> Self {
        Self::new(Rejected::NotFound, 404, "there is nothing at this path")
    }

    pub(super) fn method_not_allowed(methods: &'static str) -> Self {
        Self::new(Rejected::BadRequest, 405, "the method is not allowed here")
            .with("Allow", methods)
    }

    /// Another worker may do better, or this one later.
    pub(super) fn unavailable(reason: Rejected, message: &str) -> Self {
        Self::new(reason, 503, message).with("Retry-After", RETRY_AFTER_SECONDS)
    }

    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Lets the page that asks read it.
    pub(super) fn readable(mut self, cors: &[Header]) -> Self {
        self.headers.extend_from_slice(cors);
        self
    }

    pub(super) fn status(&self) -> u16 {
        self.status
    }

    /// Whether another worker may do better.
    pub(super) fn is_temporary(&self) -> bool {
        self.status == 503
    }

    /// As it is sent.
    pub(super) fn response(&self) -> Vec<u8> {
        refusal(self.status, &self.message, &self.headers)
    }
}

impl From<HeadError> for Answer {
    fn from(error: HeadError) -> Self {
        Self::new(Rejected::BadRequest, error.status(), &error.to_string())
    }
}

impl From<BodyError> for Answer {
    fn from(error: BodyError) -> Self {
        Self::new(Rejected::BadRequest, error.status(), &error.to_string())
    }
}

impl From<UpgradeError> for Answer {
    fn from(error: UpgradeError) -> Self {
        let answer = Self::new(Rejected::BadRequest, error.status(), &error.to_string());
        answer.readable(&error.headers())
    }
}

/// Sends a whole answer and ends the connection. What the client still sends is read and thrown away for a while: a
/// socket that is closed with unread input is reset, and the reset would overtake the answer.
pub(super) async fn dismiss(socket: &mut TcpStream, response: &[u8]) {
    let exchange = async {
        socket.write_all(response).await?;
        socket.shutdown().await?;
        let mut discarded = [0; 512];
        while socket.read(&mut discarded).await? > 0 {}
        std::io::Result::Ok(())
    };
    // The client may be gone already, or never go.
    let _ = tokio::time::timeout(FAREWELL_TIMEOUT, exchange).await;
}
