//! What the tests share: a gateway in this process, and clients.

use std::net::SocketAddr;
use std::time::Duration;

use flotilla_gateway::{Config, Gateway, RawConfig};
use flotilla_shared::auth::{Passport, PassportKeys};
use flotilla_shared::broker::Brokers;
use flotilla_shared::config::Problems;
use flotilla_shared::lifecycle::Lifecycle;
use flotilla_shared::secret::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;

use crate::worker::Worker;

pub(crate) const TOKEN_SECRET: &str = "the secret of the application";
pub(crate) const PASSPORT_SECRET: &str = "the secret between gateway and workers";
pub(crate) const PATH: &str = "/connection/websocket";
/// Longer than anything here should take.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// The result of a future that must be ready within [`LIMIT`].
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LIMIT, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited too long: {what}"),
    }
}

/// A gateway in this process.
pub(crate) struct Edge {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<SocketAddr>,
    pub(crate) admin: SocketAddr,
    pub(crate) lifecycle: Lifecycle,
    served: JoinHandle<()>,
}

/// The configuration of tests, in front of these workers.
pub(crate) fn configuration(workers: &[&Worker]) -> RawConfig {
    let mut raw = RawConfig::default();
    raw.listen.set_port(0);
    raw.admin_listen.set_port(0);
    raw.pool.workers = workers
        .iter()
        .map(|worker| worker.address.to_string())
        .collect();
    raw.pool.health_check.interval = Duration::from_millis(50);
    raw.identity.token.hmac_secret_key = Some(Secret::new(TOKEN_SECRET));
    raw.passport.secret_key = Some(Secret::new(PASSPORT_SECRET));
    raw.drain.lame_duck = Duration::ZERO;
    raw
}

impl Edge {
    /// A gateway in front of these workers.
    pub(crate) async fn start(workers: &[&Worker]) -> Self {
        Self::with(configuration(workers)).await
    }

    /// A gateway with this configuration, which has taken in the workers of its list.
    pub(crate) async fn with(raw: RawConfig) -> Self {
        Self::over(raw, None).await
    }

    /// The same, with a roster.
    pub(crate) async fn over(raw: RawConfig, brokers: Option<Brokers>) -> Self {
        let mut problems = Problems::default();
        let config = Config::resolve(&raw, &mut problems);
        let config = problems
            .finish(config)
            .expect("the configuration makes sense");
        let gateway = Gateway::bind(config)
            .await
            .expect("free ports can be bound");
        let lifecycle = Lifecycle::new();
        let (address, tls, admin) = (
            gateway.local_addr(),
            gateway.tls_addr(),
            gateway.admin_addr(),
        );
        let served = gateway.serve(lifecycle.clone(), brokers);
        let served = tokio::spawn(async move { served.await.expect("no part crashes") });
        let edge = Self {
            address,
            tls,
            admin,
            lifecycle,
            served,
        };
        edge.metric_becomes("flotilla_gateway_workers", |sum| {
            sum == raw.pool.workers.len() as f64
        })
        .await;
        edge
    }

    /// A connection on the default path, as any client that is no browser makes it.
    pub(crate) async fn connect(&self) -> Client {
        self.connect_with("", &[]).await.expect("is upgraded").0
    }

    /// A connection with this query and these headers; the HTTP status if it is not upgraded.
    pub(crate) async fn connect_with(
        &self,
        query: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<(Client, Response), u16> {
        let stream = TcpStream::connect(self.address)
            .await
            .expect("the gateway listens");
        Client::upgrade(
            stream,
            &format!("ws://{}{PATH}{query}", self.address),
            headers,
        )
        .await
    }

    /// The whole answer to these bytes, which are sent at once.
    pub(crate) async fn exchange(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = TcpStream::connect(self.address)
            .await
            .expect("the gateway listens");
        stream
            .write_all(bytes.as_ref())
            .await
            .expect("can be written");
        let mut answer = Vec::new();
        soon("an answer", stream.read_to_end(&mut answer))
            .await
            .expect("can be read");
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// The answer of the admin listener.
    pub(crate) async fn admin(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.admin)
            .await
            .expect("the admin listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
        stream
            .write_all(request.as_bytes())
            .await
            .expect("can be written");
        let mut answer = String::new();
        soon("an answer", stream.read_to_string(&mut answer))
            .await
            .expect("can be read");
        answer
    }

    /// The sum over all series that begin with `series`.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let text = self.admin("/metrics").await;
        let values = text
            .lines()
            .filter(|line| line.starts_with(series))
            .map(|line| {
                let (_, value) = line.rsplit_once(' ').expect("a sample has a value");
                value.parse::<f64>().expect("a value is a number")
            });
        values.sum()
    }

    /// Waits until the sum over all series that begin with `series` is as wanted.
    pub(crate) async fn metric_becomes(&self, series: &str, is_wanted: impl Fn(f64) -> bool) {
        soon(series, async {
            while !is_wanted(self.metric(series).await) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Waits until the gateway has come to its end.
    pub(crate) async fn ended(self) {
        soon("the end of the gateway", self.served)
            .await
            .expect("it does not panic");
    }
}

/// A WebSocket client.
pub(crate) struct Client<S = TcpStream>(pub(crate) WebSocketStream<S>);

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Client<S> {
    /// The opening handshake on a stream; the HTTP status if it is refused.
    pub(crate) async fn upgrade(
        stream: S,
        url: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<(Self, Response), u16> {
        use tokio_tungstenite::tungstenite::Error;
        let mut request = url.into_client_request().expect("a URL");
        for (name, value) in headers {
            request
                .headers_mut()
                .insert(*name, value.parse().expect("a value"));
        }
        match soon(
            "the upgrade",
            tokio_tungstenite::client_async(request, stream),
        )
        .await
        {
            Ok((stream, response)) => Ok((Self(stream), response)),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("neither upgraded nor refused: {error}"),
        }
    }

    pub(crate) async fn send(&mut self, text: &str) {
        use futures_util::SinkExt;
        soon("sending", self.0.send(Message::text(text)))
            .await
            .expect("can be sent");
    }

    /// The next text message.
    pub(crate) async fn receive(&mut self) -> String {
        match self.next().await {
            Some(Message::Text(text)) => text.to_string(),
            other => panic!("not a text: {other:?}"),
        }
    }

    /// The Close frame that comes next.
    pub(crate) async fn closed(&mut self) -> CloseFrame {
        match self.next().await {
            Some(Message::Close(Some(frame))) => frame,
            other => panic!("not a Close frame: {other:?}"),
        }
    }

    /// A message; `None` once the connection has ended.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        use futures_util::StreamExt;
        soon("a message", self.0.next()).await.and_then(Result::ok)
    }

    /// Sends a message and gets it back.
    pub(crate) async fn echo(&mut self, text: &str) {
        self.send(text).await;
        assert_eq!(self.receive().await, text);
    }
}

/// The passport that a worker got, verified.
pub(crate) fn passport(header: &str) -> Passport {
    let keys = PassportKeys::new(Secret::new(PASSPORT_SECRET), None).expect("a key");
    keys.verify(header, now()).expect("a passport")
}

/// A token of the application for this user.
pub(crate) fn token(user: &str, expires_in: i64) -> String {
    let claims = serde_json::json!({ "sub": user, "exp": now() as i64 + expires_in });
    flotilla_shared::auth::jwt::sign(&claims, &Secret::new(TOKEN_SECRET)).expect("a token")
}

fn now() -> u64 {
    use std::time::{SystemTime, UNIX_EPOCH};
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a time")
        .as_secs()
}

/// The head of a handshake with these additional lines.
pub(crate) fn handshake(lines: &str) -> String {
    format!(
        "GET {PATH} HTTP/1.1\r\nHost: gateway\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
    )
}
