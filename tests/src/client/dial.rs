//! Opening a connection: the URL, the encoding, headers of the upgrade request, TLS.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use flotilla_shared::protocol::Format;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpSocket;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::{Request, Response};
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::{self};

use super::Client;
use crate::SOON;

/// A byte stream under a WebSocket: TCP, or TLS over it.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// How to open a connection.
#[derive(Clone, Debug)]
pub struct Dial {
    url: String,
    format: Format,
    headers: Vec<(String, String)>,
    protocols: Vec<String>,
    receive_buffer_bytes: Option<u32>,
    root: Option<CertificateDer<'static>>,
}

impl Dial {
    /// A connection to a `ws://` or `wss://` URL, in JSON.
    pub fn to(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            format: Format::Json,
            headers: Vec::new(),
            protocols: Vec::new(),
            receive_buffer_bytes: None,
            root: None,
        }
    }

    /// Speaks this encoding. Protobuf is asked for by subprotocol, JSON by saying nothing, as
    /// the SDKs do.
    #[must_use]
    pub fn format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// Adds a header to the upgrade request.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Offers one more subprotocol.
    #[must_use]
    pub fn protocol(mut self, name: &str) -> Self {
        self.protocols.push(name.to_owned());
        self
    }

    /// Adds a parameter to the query; the value is used as it is.
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        let separator = if self.url.contains('?') { '&' } else { '?' };
        self.url = format!("{}{separator}{name}={value}", self.url);
        self
    }

    /// Has the kernel keep little for a client that does not read.
    #[must_use]
    pub fn small_receive_buffer(mut self) -> Self {
        self.receive_buffer_bytes = Some(4096);
        self
    }

    /// Trusts this certificate, for a `wss://` URL.
    #[must_use]
    pub fn trusting(mut self, root: CertificateDer<'static>) -> Self {
        self.root = Some(root);
        self
    }

    /// Opens the connection.
    ///
    /// # Errors
    /// When it is refused, by TCP, TLS or HTTP.
    pub async fn open(&self) -> Result<Client> {
        let (socket, response) = match self.handshake().await? {
            Ok(opened) => opened,
            Err(response) => bail!("refused: {} {:?}", response.status(), body(&response)),
        };
        let chosen = response.headers().get(SEC_WEBSOCKET_PROTOCOL);
        let protobuf = Format::Protobuf.subprotocol();
        ensure!(
            self.format.is_text() || chosen.is_some_and(|name| name == protobuf),
            "{protobuf} was not chosen: {chosen:?}"
        );
        Ok(Client::new(socket, self.format))
    }

    /// Opens the connection and connects with a token, or with "" for none.
    ///
    /// # Errors
    /// As for [`Dial::open`] and [`Client::connect`].
    pub async fn connect(&self, token: &str) -> Result<Client> {
        let mut client = self.open().await?;
        client.connect(token).await?;
        Ok(client)
    }

    /// Expects the upgrade to be refused, and returns the HTTP status and the body.
    ///
    /// # Errors
    /// When it is not.
    pub async fn refused(&self) -> Result<(u16, String)> {
        match self.handshake().await? {
            Ok(_) => bail!("the upgrade was not refused"),
            Err(response) => Ok((response.status().as_u16(), body(&response))),
        }
    }

    /// Upgrades; the inner error is an HTTP response that is not 101.
    async fn handshake(&self) -> Result<Result<Opened, Box<Refusal>>> {
        let stream = timeout(SOON, self.stream()).await.context("TCP or TLS")??;
        match timeout(SOON, client_async(self.request()?, stream))
            .await
            .context("the upgrade")?
        {
            Ok(opened) => Ok(Ok(opened)),
            Err(tungstenite::Error::Http(response)) => Ok(Err(response)),
            Err(error) => Err(error).context("the upgrade"),
        }
    }

    fn request(&self) -> Result<Request> {
        let mut request = self.url.as_str().into_client_request()?;
        let mut protocols = self.protocols.clone();
        if !self.format.is_text() {
            protocols.insert(0, Format::Protobuf.subprotocol().to_owned());
        }
        let headers = request.headers_mut();
        if !protocols.is_empty() {
            headers.insert(
                SEC_WEBSOCKET_PROTOCOL,
                HeaderValue::from_str(&protocols.join(", "))?,
            );
        }
        for (name, value) in &self.headers {
            headers.append(HeaderName::try_from(name)?, HeaderValue::from_str(value)?);
        }
        Ok(request)
    }

    async fn stream(&self) -> Result<Box<dyn Stream>> {
        let request = self.request()?;
        let authority = request.uri().authority().context("an address")?;
        let socket = TcpSocket::new_v4()?;
        if let Some(size) = self.receive_buffer_bytes {
            socket.set_recv_buffer_size(size)?;
        }
        let address = tokio::net::lookup_host(authority.as_str()).await?;
        let address = address.into_iter().find(|address| address.is_ipv4());
        let stream = socket.connect(address.context("an IPv4 address")?).await?;
        stream.set_nodelay(true)?;
        let Some(root) = &self.root else {
            return Ok(Box::new(stream));
        };
        let mut roots = RootCertStore::empty();
        roots.add(root.clone())?;
        let config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(authority.host().to_owned())?;
        Ok(Box::new(
            TlsConnector::from(Arc::new(config))
                .connect(name, stream)
                .await?,
        ))
    }
}

type Opened = (
    tokio_tungstenite::WebSocketStream<Box<dyn Stream>>,
    Response,
);
type Refusal = tungstenite::http::Response<Option<Vec<u8>>>;

fn body(response: &Refusal) -> String {
    String::from_utf8_lossy(response.body().as_deref().unwrap_or_default()).into_owned()
}
