//! Clients with TLS, and the certificate that they trust.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use flotilla_tests::port::Reserved;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

use super::support::client::{Client, connect};

/// What a client with TLS talks over.
pub(crate) type Stream = StreamOwned<ClientConnection, std::net::TcpStream>;

/// A place for a gateway's listener with TLS.
pub(crate) struct Tls {
    certificate: CertificateDer<'static>,
    directory: TempDir,
    port: Reserved,
}

impl Tls {
    /// A certificate for `localhost`, and a port.
    pub(crate) fn new() -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let directory = tempfile::tempdir()?;
        let write = |name, text| std::fs::write(directory.path().join(name), text);
        write("certificate.pem", made.cert.pem())?;
        write("key.pem", made.signing_key.serialize_pem())?;
        Ok(Self {
            certificate: made.cert.der().clone(),
            directory,
            port: Reserved::port()?,
        })
    }

    /// What a gateway is told to listen there.
    pub(crate) fn settings(&self) -> [String; 3] {
        let directory = self.directory.path().display();
        [
            format!("tls.listen={}", self.port.address()),
            format!("tls.certificate_file={directory}/certificate.pem"),
            format!("tls.key_file={directory}/key.pem"),
        ]
    }

    /// Connects so many clients.
    pub(crate) fn connect(&self, count: usize) -> Result<Vec<Client<Stream>>> {
        let address: SocketAddr = self.port.address().parse()?;
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let config = Arc::new(config);
        (0..count)
            .map(|_| {
                let name = ServerName::try_from("localhost")?;
                let connection = ClientConnection::new(config.clone(), name)?;
                Client::open(StreamOwned::new(connection, connect(address)?))
            })
            .collect()
    }
}
