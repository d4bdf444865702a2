//! Promises about calls over TLS.

use std::sync::Arc;

use rcgen::CertifiedKey;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::*;

/// A server for one connection, which answers every request that comes over it. Gives its URL and its certificate.
async fn start() -> (String, CertifiedKey<rcgen::KeyPair>) {
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(certificate.signing_key.serialize_der()).unwrap();
    let server = ServerConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let Ok(mut socket) = TlsAcceptor::from(Arc::new(server)).accept(socket).await else {
            return;
        };
        let mut request = Vec::new();
        while !request.ends_with(b"}") {
            assert_ne!(socket.read_buf(&mut request).await.unwrap(), 0);
        }
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{\"result\":{}}";
        socket.write_all(answer).await.unwrap();
        socket.flush().await.unwrap();
    });
    (format!("https://localhost:{port}"), certificate)
}

#[tokio::test]
async fn a_back_end_that_the_system_does_not_trust_is_not_asked() {
    let (url, _) = start().await;
    let mut options = options(&url);
    options.tls = client_tls(true).unwrap();
    let asker = Asker::new(&options);
    assert_eq!(asker.rpc().await, Answer::Failed);
    assert_eq!(asker.counted("unreachable"), 1);
}

#[tokio::test]
async fn a_back_end_that_is_trusted_is_asked_over_tls() {
    let (url, certificate) = start().await;
    let mut options = options(&url);
    let mut roots = RootCertStore::empty();
    roots.add(certificate.cert.der().clone()).unwrap();
    options.tls = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let asker = Asker::new(&options);
    assert_eq!(asker.rpc().await, granted());
}
