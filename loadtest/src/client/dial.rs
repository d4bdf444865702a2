//! From nothing to a connection that is connected and subscribed, and how long each part took.

use std::time::Duration;

use flotilla_shared::protocol::Format;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::{Client, Failure, Step};
use crate::target::Target;
use crate::token::Tokens;

/// Read by every read anew, so small; a frame that is larger still fits.
const READ_BUFFER_BYTES: usize = 4096;

/// Makes connections to one server.
#[derive(Clone, Debug)]
pub struct Dialer {
    /// The server.
    pub target: Target,
    /// The encoding to speak.
    pub format: Format,
    /// What to connect with.
    pub tokens: Tokens,
    /// How long tokens have to last.
    pub run: Duration,
    /// How long a connection may take until the last answer.
    pub timeout: Duration,
}

/// When the answers came.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    /// The answer to `connect`.
    pub connected: Instant,
    /// The answer to `subscribe`; the same if nothing was subscribed.
    pub subscribed: Instant,
}

impl Dialer {
    /// Opens the connection with this number, connects, and subscribes if there is a channel.
    ///
    /// # Errors
    /// When it is refused, breaks, or takes too long.
    pub async fn open(
        &self,
        number: u64,
        channel: Option<&str>,
    ) -> Result<(Client, Opened), Failure> {
        let deadline = Instant::now() + self.timeout;
        let stream = within(deadline, Step::Tcp, self.tcp(number)).await?;
        let socket = within(deadline, Step::Upgrade, self.upgrade(stream)).await?;
        let mut client = Client::new(socket, self.format);
        let token = self
            .tokens
            .of(number, self.run)
            .map_err(|_| Failure::Local("signing a token failed"))?;
        within(deadline, Step::Connect, client.connect(token)).await?;
        let connected = Instant::now();
        if let Some(channel) = channel {
            within(deadline, Step::Subscribe, client.subscribe(channel)).await?;
        }
        let subscribed = Instant::now();
        Ok((
            client,
            Opened {
                connected,
                subscribed,
            },
        ))
    }

    async fn tcp(&self, number: u64) -> Result<TcpStream, Failure> {
        let address = self.target.address();
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()
        } else {
            TcpSocket::new_v6()
        }
        .map_err(Failure::Io)?;
        if let Some(source) = self.target.source(number) {
            socket.bind(source).map_err(Failure::Io)?;
        }
        let stream = socket.connect(address).await.map_err(Failure::Io)?;
        stream.set_nodelay(true).map_err(Failure::Io)?;
        Ok(stream)
    }

    async fn upgrade(&self, stream: TcpStream) -> Result<WebSocketStream<TcpStream>, Failure> {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0);
        let upgrade = client_async_with_config(self.request()?, stream, Some(config));
        let (socket, _) = upgrade.await?;
        Ok(socket)
    }

    /// JSON is what servers speak when asked for nothing; only Protobuf is a subprotocol.
    fn request(&self) -> Result<Request, Failure> {
        let mut request = self.target.url().into_client_request()?;
        if self.format == Format::Protobuf {
            request.headers_mut().insert(
                SEC_WEBSOCKET_PROTOCOL,
                HeaderValue::from_static(Format::Protobuf.subprotocol()),
            );
        }
        Ok(request)
    }
}

async fn within<T>(
    deadline: Instant,
    step: Step,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match timeout_at(deadline, work).await {
        Ok(done) => done,
        Err(_) => Err(Failure::Timeout(step)),
    }
}
