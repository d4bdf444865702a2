//! TLS for the listener: the one place that knows which back end Pingora was built with.

use std::fmt;
use std::path::Path;

use pingora::listeners::tls::TlsSettings;
use pingora::protocols::ALPN;

use crate::config::TlsConfig;

#[cfg(all(feature = "tls-rustls", feature = "tls-boringssl"))]
compile_error!("tls-rustls and tls-boringssl exclude each other: use --no-default-features");
#[cfg(not(any(feature = "tls-rustls", feature = "tls-boringssl")))]
compile_error!("a TLS back end is needed: tls-rustls or tls-boringssl");

/// Why a certificate cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve the certificate {certificate} with the key {key}: {reason}")]
pub struct TlsError {
    certificate: String,
    key: String,
    reason: String,
}

/// Reads certificate and key, and checks that they fit. HTTP/1.1 is all that is offered to clients
/// (RFC 7301): a browser whose connection were HTTP/2 could not upgrade it.
pub(crate) fn settings(config: &TlsConfig) -> Result<TlsSettings, TlsError> {
    let (certificate, key) = (text(&config.certificate_file), text(&config.key_file));
    let failed = |reason: &dyn fmt::Display| TlsError {
        certificate: certificate.clone(),
        key: key.clone(),
        reason: reason.to_string(),
    };
    check_pair(&certificate, &key).map_err(|error| failed(&error))?;
    let mut settings =
        TlsSettings::intermediate(&certificate, &key).map_err(|error| failed(&error))?;
    settings.set_alpn(ALPN::H1);
    Ok(settings)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// With rustls, Pingora reads the files only when the listener starts, and panics if they are not
/// right.
#[cfg(feature = "tls-rustls")]
fn check_pair(certificate: &str, key: &str) -> Result<(), String> {
    use pingora::tls::{ServerConfig, install_default_crypto_provider, load_certs_and_key_files};

    install_default_crypto_provider();
    let loaded = load_certs_and_key_files(certificate, key).map_err(|error| error.to_string())?;
    let (chain, key) = loaded.ok_or("a certificate or a private key is missing")?;
    ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| error.to_string())?;
    Ok(())
}

/// BoringSSL checks the pair when the settings are made.
#[cfg(feature = "tls-boringssl")]
fn check_pair(_certificate: &str, _key: &str) -> Result<(), String> {
    Ok(())
}
