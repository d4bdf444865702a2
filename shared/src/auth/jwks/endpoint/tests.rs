//! Promises about the request: what is fetched, and which answers are not taken.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, extract::State, response::IntoResponse, response::Response};
use rustls::{RootCertStore, ServerConfig, crypto::ring, pki_types::PrivateKeyDer};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::watch,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::auth::signer::RSA;

/// Long enough for whatever should happen.
const PATIENCE: Duration = Duration::from_secs(10);

/// A little HTTP server whose answer can be changed.
pub(in crate::auth::jwks) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    answer: Mutex<Box<dyn Fn() -> Response + Send>>,
    requests: AtomicUsize,
    is_held: watch::Sender<bool>,
}

/// Holds answers back until it is dropped.
pub(in crate::auth::jwks) struct Held<'a>(&'a Server);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.shared.is_held.send_replace(false);
    }
}

impl Server {
    pub(in crate::auth::jwks) async fn start() -> Self {
        let shared = Arc::new(Shared {
            answer: Mutex::new(Box::new(|| StatusCode::NOT_FOUND.into_response())),
            requests: AtomicUsize::new(0),
            is_held: watch::channel(false).0,
        });
        let answer = |State(shared): State<Arc<Shared>>| async move {
            shared.requests.fetch_add(1, Ordering::SeqCst);
            let _ = shared.is_held.subscribe().wait_for(|held| !held).await;
            let answer = shared.answer.lock().unwrap();
            answer()
        };
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async { axum::serve(listener, router).await });
        Self { address, shared }
    }

    pub(in crate::auth::jwks) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Answers 200 with this body.
    pub(in crate::auth::jwks) fn answers(&self, body: &str) {
        let body = body.to_owned();
        self.does(move || body.clone().into_response());
    }

    fn does(&self, answer: impl Fn() -> Response + Send + 'static) {
        *self.shared.answer.lock().unwrap() = Box::new(answer);
    }

    pub(in crate::auth::jwks) fn hold(&self) -> Held<'_> {
        self.shared.is_held.send_replace(true);
        Held(self)
    }

    pub(in crate::auth::jwks) fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    async fn fetched(&self) -> Result<Answer, FetchError> {
        fetched(&self.url("/jwks"), PATIENCE).await
    }
}

async fn fetched(url: &str, timeout: Duration) -> Result<Answer, FetchError> {
    let endpoint = Endpoint::new(url, false, timeout).expect("is a URL");
    endpoint.fetch().await
}

fn set_of_one() -> String {
    json!({ "keys": [RSA.jwk] }).to_string()
}

#[tokio::test]
async fn a_set_is_fetched_with_what_is_said_about_its_age() {
    let server = Server::start().await;
    for (cache_control, max_age) in [
        ("", None),
        ("no-cache", None),
        ("max-age=60", Some(60)),
        ("public, Max-Age=\"3600\", must-revalidate", Some(3600)),
        ("s-maxage=5, max-age=soon", None),
    ] {
        let body = set_of_one();
        server.does(move || ([(CACHE_CONTROL, cache_control)], body.clone()).into_response());
        let answer = server.fetched().await.expect("is taken");
        assert_eq!(answer.keys.len(), 1);
        assert_eq!(
            answer.max_age,
            max_age.map(Duration::from_secs),
            "{cache_control}"
        );
    }
}

#[tokio::test]
async fn keys_for_other_purposes_are_left_out() {
    let server = Server::start().await;
    let set = json!({ "issuer": "x", "keys": [
        RSA.jwk,
        { "kty": "oct", "k": "c2VjcmV0" },
        { "kty": "new" },
        RSA.jwk_with(&json!({ "use": "enc" })),
        17,
    ]});
    server.answers(&set.to_string());
    assert_eq!(server.fetched().await.expect("is taken").keys.len(), 1);
}

#[tokio::test]
async fn garbage_is_not_taken() {
    let server = Server::start().await;
    let crowd = vec![RSA.jwk.clone(); 65];
    for (body, error) in [
        (String::new(), DocumentError::Malformed),
        ("<html>".to_owned(), DocumentError::Malformed),
        ("{\"keys\":".to_owned(), DocumentError::Malformed),
        ("{\"keys\":{}}".to_owned(), DocumentError::Malformed),
        ("{\"keys\":[1,2]}".to_owned(), DocumentError::Empty),
        ("{\"keys\":[]}".to_owned(), DocumentError::Empty),
        (json!({ "keys": crowd }).to_string(), DocumentError::TooMany),
    ] {
        server.answers(&body);
        let refused = server.fetched().await.expect_err("is garbage");
        assert!(
            matches!(refused, FetchError::Document(found) if found == error),
            "{body}: {refused}"
        );
    }
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_not_read_to_its_end() {
    let server = Server::start().await;
    let mut body = set_of_one();
    body.push_str(&" ".repeat(ANSWER_MAX_BYTES - body.len()));
    server.answers(&body);
    assert!(server.fetched().await.is_ok());
    server.answers(&format!("{body} "));
    assert!(matches!(server.fetched().await, Err(FetchError::TooLarge)));

    // One that does not say its length, and has no end.
    let url = raw(|mut socket| async move {
        let _ = socket.read(&mut [0; 1024]).await;
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        socket.write_all(head.as_bytes()).await.ok();
        let chunk = format!("400\r\n{}\r\n", " ".repeat(0x400));
        while socket.write_all(chunk.as_bytes()).await.is_ok() {}
    });
    let refused = fetched(&url.await, PATIENCE).await;
    assert!(matches!(refused, Err(FetchError::TooLarge)), "{refused:?}");
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_given_up() {
    for head in ["", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"] {
        let url = raw(move |mut socket| async move {
            let _ = socket.read(&mut [0; 1024]).await;
            socket.write_all(head.as_bytes()).await.ok();
            // Waits for the client to go.
            while socket.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
        });
        let refused = fetched(&url.await, Duration::from_millis(50)).await;
        assert!(matches!(refused, Err(FetchError::Timeout)), "{refused:?}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_taken() {
    let url = raw(|mut socket| async move {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"keys\":[]}";
        let _ = socket.read(&mut [0; 1024]).await;
        socket.write_all(head.as_bytes()).await.ok();
    });
    let refused = fetched(&url.await, PATIENCE).await;
    assert!(matches!(refused, Err(FetchError::Body(_))), "{refused:?}");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let target = Server::start().await;
    target.answers(&set_of_one());
    let server = Server::start().await;
    let location = target.url("/jwks");
    server.does(move || (StatusCode::FOUND, [("location", location.clone())]).into_response());
    let refused = server.fetched().await.expect_err("is a redirect");
    assert_eq!(
        refused.to_string(),
        "the answer's status is 302 Found, not 200"
    );
    assert_eq!(target.requests(), 0);
}

#[tokio::test]
async fn a_failed_request_tells_the_cause() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", unused.local_addr().unwrap());
    drop(unused);
    let refused = fetched(&url, PATIENCE).await.expect_err("nobody is there");
    assert!(refused.to_string().contains("refused"), "{refused}");
}

#[tokio::test]
async fn over_tls_the_server_has_to_be_who_it_says() {
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = issued.cert.der().clone();
    let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
    let server = ServerConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let url = raw(move |socket| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut socket) = acceptor.accept(socket).await else {
                return;
            };
            let _ = socket.read(&mut [0; 1024]).await;
            let body = set_of_one();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = socket.write_all((head + &body).as_bytes()).await;
            let _ = socket.shutdown().await;
        }
    });
    let uri: Uri = url
        .await
        .replace("http://127.0.0.1", "https://localhost")
        .parse()
        .unwrap();
    let client = |roots: RootCertStore| {
        let tls = ClientConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Endpoint::with(uri.clone(), tls, PATIENCE)
    };
    let stranger = client(RootCertStore::empty()).fetch().await;
    let refused = stranger.expect_err("nobody vouches for it").to_string();
    assert!(refused.contains("certificate"), "{refused}");

    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    assert_eq!(client(roots).fetch().await.expect("is taken").keys.len(), 1);
}

/// The URL of a server that does what it is told with every connection.
async fn raw<F, Serving>(serve: F) -> String
where
    F: Fn(tokio::net::TcpStream) -> Serving + Send + 'static,
    Serving: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket));
        }
    });
    format!("http://{address}/jwks")
}
