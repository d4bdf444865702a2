//! Connections with TLS.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use flotilla_gateway::{Config, RawConfig};
use flotilla_shared::config::Problems;

use crate::common::{Client, Edge, PATH, configuration, soon};
use crate::worker::Worker;

/// A certificate for `localhost`, its key, and where they lie.
pub(crate) struct Pair {
    certificate: CertificateDer<'static>,
    directory: tempfile::TempDir,
}

impl Pair {
    pub(crate) fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("certificate.pem"), made.cert.pem()).unwrap();
        std::fs::write(
            directory.path().join("key.pem"),
            made.signing_key.serialize_pem(),
        )
        .unwrap();
        Self {
            certificate: made.cert.der().clone(),
            directory,
        }
    }

    pub(crate) fn put(&self, raw: &mut RawConfig) {
        raw.tls.listen = Some(([127, 0, 0, 1], 0).into());
        raw.tls.certificate_file = Some(self.directory.path().join("certificate.pem"));
        raw.tls.key_file = Some(self.directory.path().join("key.pem"));
    }

    pub(crate) async fn connect(&self, edge: &Edge) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let mut config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let stream = TcpStream::connect(edge.tls.unwrap()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        soon("the TLS handshake", connector.connect(name, stream))
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn a_client_connects_with_tls() {
    let (worker, pair) = (Worker::start().await, Pair::new());
    let mut raw = configuration(&[&worker]);
    pair.put(&mut raw);
    let edge = Edge::with(raw).await;
    let stream = pair.connect(&edge).await;
    // Over HTTP/2 a browser could not upgrade.
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let url = format!("wss://localhost{PATH}");
    let (mut client, _) = Box::pin(Client::upgrade(stream, &url, &[])).await.unwrap();
    client.echo("hello").await;
    client.echo(&"long ".repeat(100_000)).await;
    let series =
        "flotilla_gateway_connections{listener=\"tls\",tls=\"true\",transport=\"websocket\"}";
    edge.metric_becomes(series, |sum| sum == 1.0).await;
    client.send("vanish").await;
    assert_eq!(u16::from(client.closed().await.code), 1012);
}

#[test]
fn a_key_of_another_certificate_is_a_mistake_in_the_configuration() {
    let (pair, other) = (Pair::new(), Pair::new());
    let mut raw = RawConfig::default();
    pair.put(&mut raw);
    raw.tls.key_file = Some(other.directory.path().join("key.pem"));
    let mut problems = Problems::default();
    let config = Config::resolve(&raw, &mut problems);
    let told = problems.finish(config).unwrap_err().to_string();
    assert!(
        told.starts_with("tls: cannot serve the certificate "),
        "{told}"
    );
}
