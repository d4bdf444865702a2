//! What the processes' own requests to other servers have in common.
//!
//! Owns: which URLs may be asked, and the TLS settings. Does not know what is asked, nor how often.

use http::{Uri, uri::Scheme};
use hyper_rustls::ConfigBuilderExt;
use rustls::{ClientConfig, RootCertStore, crypto::ring};

/// Why a URL is not asked.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    /// Something else, or not complete.
    #[error("is not a URL such as https://example.com/path")]
    Url,
    /// `https://user:password@example.com`.
    #[error("contains a user or a password, which would not be sent")]
    Credentials,
}

/// Why there are no TLS settings.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The system trusts nobody.
    #[error("needs root certificates, of which this system has none: {0}")]
    Roots(std::io::Error),
    /// The library refuses its own defaults.
    #[error("cannot be used with TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// An absolute `http` or `https` URL with a host and without credentials.
///
/// # Errors
/// When it is something else.
pub fn parse_url(url: &str) -> Result<Uri, UrlError> {
    let uri: Uri = url.parse().map_err(|_| UrlError::Url)?;
    let known = [Scheme::HTTPS, Scheme::HTTP];
    let has_host = uri.host().is_some_and(|host| !host.is_empty());
    let has_scheme = uri.scheme().is_some_and(|scheme| known.contains(scheme));
    if !has_host || !has_scheme {
        return Err(UrlError::Url);
    }
    let authority = uri.authority().map_or("", |whole| whole.as_str());
    if authority.contains('@') {
        return Err(UrlError::Credentials);
    }
    Ok(uri)
}

/// Whether requests to the URL are encrypted.
pub fn is_https(uri: &Uri) -> bool {
    uri.scheme() == Some(&Scheme::HTTPS)
}

/// TLS settings that trust whom the system trusts; nobody, when `needs_roots` says that none of the URLs is `https`, so
/// that a system without certificates is no obstacle.
///
/// # Errors
/// When roots are needed and there are none.
pub fn client_tls(needs_roots: bool) -> Result<ClientConfig, TlsError> {
    let tls = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()?;
    let tls = if needs_roots {
        tls.with_native_roots().map_err(TlsError::Roots)?
    } else {
        tls.with_root_certificates(RootCertStore::empty())
    };
    Ok(tls.with_no_client_auth())
}
