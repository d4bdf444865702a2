//! Where a key set is fetched from.
//!
//! Owns the request and its bounds: which URLs are safe enough, how long an answer may take and how
//! large it may be. Whoever can change the answer on the way can sign tokens, so it has to be
//! `https`, and redirects are not followed.

use std::{error::Error, net::IpAddr, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, Request, StatusCode, Uri,
    header::{ACCEPT, CACHE_CONTROL, HeaderValue, USER_AGENT},
};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::ClientConfig;

use crate::outbound::{TlsError, UrlError, client_tls, is_https, parse_url};

use super::{Answer, DocumentError, document};

/// Largest answer, in bytes. Sets have a few keys of a few hundred bytes, some with certificates.
const ANSWER_MAX_BYTES: usize = 256 * 1024;

const AGENT: &str = concat!("flotilla/", env!("CARGO_PKG_VERSION"));

/// Why a URL is not fetched from.
#[derive(Debug, thiserror::Error)]
pub(in crate::auth) enum EndpointError {
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error("is not https: whoever can change the answer on the way could forge tokens")]
    Plain,
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Why there is no good answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("no answer in time")]
    Timeout,
    #[error("no answer: {}", causes(.0))]
    Request(#[from] hyper_util::client::legacy::Error),
    #[error("the answer's status is {0}, not 200")]
    Status(StatusCode),
    #[error("the answer is longer than {ANSWER_MAX_BYTES} bytes")]
    TooLarge,
    #[error("the answer broke off: {0}")]
    Body(Box<dyn Error + Send + Sync>),
    #[error("the answer is of no use: {0}")]
    Document(#[from] DocumentError),
}

/// See the module's documentation.
#[derive(Debug)]
pub(in crate::auth) struct Endpoint {
    uri: Uri,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    timeout: Duration,
}

impl Endpoint {
    /// Makes a client for the URL. `timeout` is for the whole answer.
    pub(in crate::auth) fn new(
        url: &str,
        allow_http: bool,
        timeout: Duration,
    ) -> Result<Self, EndpointError> {
        let uri = checked(url, allow_http)?;
        let tls = client_tls(is_https(&uri))?;
        Ok(Self::with(uri, tls, timeout))
    }

    fn with(uri: Uri, tls: ClientConfig, timeout: Duration) -> Self {
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls);
        let connector = if is_https(&uri) {
            connector.https_only()
        } else {
            connector.https_or_http()
        };
        // Between two fetches no server would keep a connection.
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector.enable_http1().build());
        Self {
            uri,
            client,
            timeout,
        }
    }

    /// One request.
    pub(super) async fn fetch(&self) -> Result<Answer, FetchError> {
        tokio::time::timeout(self.timeout, self.answer())
            .await
            .unwrap_or(Err(FetchError::Timeout))
    }

    async fn answer(&self) -> Result<Answer, FetchError> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        let accept = "application/jwk-set+json, application/json";
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let response = self.client.request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let max_age = max_age(response.headers());
        let body = Limited::new(response.into_body(), ANSWER_MAX_BYTES);
        let body = body.collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                FetchError::TooLarge
            } else {
                FetchError::Body(error)
            }
        })?;
        Ok(Answer {
            keys: document::keys(&body.to_bytes())?,
            max_age,
        })
    }
}

/// The URL, if keys may be fetched from it.
fn checked(url: &str, allow_http: bool) -> Result<Uri, EndpointError> {
    let uri = parse_url(url)?;
    let host = uri.host().unwrap_or_default();
    if is_https(&uri) || allow_http || is_loopback(host) {
        Ok(uri)
    } else {
        Err(EndpointError::Plain)
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// For how long the answer is good (RFC 9111 §5.2.2.1).
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(CACHE_CONTROL).into_iter();
    let directives = values.filter_map(|value| value.to_str().ok());
    let mut directives = directives.flat_map(|value| value.split(','));
    directives.find_map(|directive| {
        let (name, seconds) = directive.trim().split_once('=')?;
        let seconds = seconds.trim_matches('"').parse().ok()?;
        name.eq_ignore_ascii_case("max-age")
            .then_some(Duration::from_secs(seconds))
    })
}

/// The error and what is behind it, in one line: by itself it only says in which phase it came up.
fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
pub(super) mod tests;
