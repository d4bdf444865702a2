//! The TLS listener.

use std::net::SocketAddr;
use std::path::PathBuf;

use flotilla_shared::config::Problems;

use super::RawTls;
use crate::tls;

/// A TLS listener.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// The certificate chain, in PEM.
    pub certificate_file: PathBuf,
    /// Its private key, in PEM.
    pub key_file: PathBuf,
}

/// Makes sense of `raw`, and of the files that it names; notes everything that makes none.
pub(super) fn resolve(raw: &RawTls, problems: &mut Problems) -> Option<TlsConfig> {
    match (raw.listen, &raw.certificate_file, &raw.key_file) {
        (None, None, None) => None,
        (Some(listen), Some(certificate_file), Some(key_file)) => {
            let config = TlsConfig {
                listen,
                certificate_file: certificate_file.clone(),
                key_file: key_file.clone(),
            };
            problems.check("tls", tls::settings(&config))?;
            Some(config)
        }
        _ => {
            problems.add("tls", "listen, certificate_file and key_file go together");
            None
        }
    }
}
