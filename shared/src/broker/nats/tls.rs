//! Whom a NATS server has to be to be trusted, and the certificate that we show it.
//!
//! Owns the files' names and the check at the start. The library reads the files again for every connection, so new
//! ones take effect without a restart.

use std::error::Error;
use std::path::{Path, PathBuf};

use async_nats::{ConnectError, ConnectOptions};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// The files of a TLS connection, all in PEM.
#[derive(Debug, Clone, Default)]
pub struct NatsTls {
    /// Who vouches for servers, instead of whom the system trusts.
    pub ca_file: Option<PathBuf>,
    /// Our certificate chain and its private key.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("cannot read {}: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error("{} holds no certificate", .0.display())]
    Empty(PathBuf),
    #[error("{} and {} do not fit: {reason}", certificate.display(), key.display())]
    Pair {
        certificate: PathBuf,
        key: PathBuf,
        reason: String,
    },
}

impl FileError {
    fn unreadable(path: &Path, reason: &impl ToString) -> Self {
        Self::Unreadable {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}

impl NatsTls {
    /// Whether anything is asked for that only TLS can give.
    pub(super) fn is_wanted(&self) -> bool {
        self.ca_file.is_some() || self.certificate.is_some()
    }

    /// Options for connections that use these files. With `required`, nothing is said to a server before it has proved
    /// itself; also not to one of which another server told, whose address never asks for TLS.
    pub(super) fn apply(&self, options: ConnectOptions, required: bool) -> ConnectOptions {
        // The library wants a provider of the process. Refused if there is one already, which is as good.
        let _ = ring::default_provider().install_default();
        let mut options = options.require_tls(required);
        if let Some(file) = &self.ca_file {
            options = options.add_root_certificates(file.clone());
        }
        if let Some((certificate, key)) = &self.certificate {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        options
    }
}

/// Whether `path` holds certificates that can vouch for others.
pub(crate) fn check_ca(path: &Path) -> Result<(), FileError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_chain(path)? {
        let added = roots.add(certificate);
        added.map_err(|error| FileError::unreadable(path, &error))?;
    }
    Ok(())
}

/// Whether the certificate and the key belong together.
pub(crate) fn check_pair(certificate: &Path, key: &Path) -> Result<(), FileError> {
    let chain = read_chain(certificate)?;
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|error| FileError::unreadable(key, &error))?;
    let config = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .with_root_certificates(RootCertStore::empty())
                .with_client_auth_cert(chain, private)
        });
    config.map(drop).map_err(|error| FileError::Pair {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        reason: error.to_string(),
    })
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let unreadable = |error| FileError::unreadable(path, &error);
    let chain = CertificateDer::pem_file_iter(path).map_err(unreadable)?;
    let chain: Vec<_> = chain.collect::<Result<_, _>>().map_err(unreadable)?;
    if chain.is_empty() {
        return Err(FileError::Empty(path.to_owned()));
    }
    Ok(chain)
}

/// Why no TLS connection was made, if that is why there is none. It lies deep in the library's error.
pub(super) fn tls_failure(error: &ConnectError) -> Option<&rustls::Error> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let inner = error.downcast_ref::<std::io::Error>();
        source = match inner.and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a certificate and a key, returns their files.
    fn pair(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let (certificate, key) = (
            folder.join(format!("{name}.pem")),
            folder.join(format!("{name}.key")),
        );
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        (certificate, key)
    }

    #[test]
    fn files_that_cannot_be_used_are_found_before_a_server_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = pair(folder.path(), "one");
        let (other, _) = pair(folder.path(), "other");
        let missing = folder.path().join("missing.pem");
        check_ca(&certificate).unwrap();
        check_pair(&certificate, &key).unwrap();

        for bad in [&missing, &key] {
            let error = check_ca(bad).unwrap_err().to_string();
            assert!(error.contains(&bad.display().to_string()), "{error}");
            check_pair(bad, &key).unwrap_err();
        }
        for (certificate, key) in [
            (&other, &key),
            (&certificate, &missing),
            (&certificate, &certificate),
        ] {
            check_pair(certificate, key).unwrap_err();
        }
    }
}
