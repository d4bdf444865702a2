//! The server under load: where it is, whether it may be loaded, and from which addresses.
//!
//! A load generator pointed at a stranger's server is an attack, so anything but this machine has
//! to be allowed explicitly.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, bail, ensure};
use tokio_tungstenite::tungstenite::http::Uri;

/// Connections for each source address. The kernel has about 28,000 ports for outgoing connections
/// from one address to one server, and some are held by connections just closed.
const CONNECTIONS_PER_SOURCE: u64 = 20_000;

/// Source addresses are 127.0.0.2 to 127.0.0.254.
const SOURCES_MAX: u64 = 253;

/// A server, resolved and allowed.
#[derive(Clone, Debug)]
pub struct Target {
    url: String,
    address: SocketAddr,
    /// How many source addresses connections are spread over; 0 leaves it to the kernel.
    sources: u64,
}

impl Target {
    /// Resolves a `ws://` URL, and sees that the server is on this machine or may be elsewhere.
    /// `connections` is how many will be open at the same time.
    ///
    /// # Errors
    /// When the URL is none, its host does not resolve, or the server is remote and that was not
    /// allowed.
    pub async fn resolve(url: &str, allow_remote: bool, connections: u64) -> Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("{url:?}"))?;
        match uri.scheme_str() {
            Some("ws") => {}
            Some("wss") => bail!("wss:// is not supported: connect behind the TLS termination"),
            _ => bail!("a ws:// URL is expected, not {url:?}"),
        }
        let host = uri.host().context("the URL has no host")?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let found = tokio::net::lookup_host((host, uri.port_u16().unwrap_or(80))).await;
        let mut found: Vec<_> = found
            .with_context(|| format!("resolving {host}"))?
            .collect();
        found.sort_by_key(SocketAddr::is_ipv6);
        let address = *found.first().context("the host has no address")?;
        let is_local = found.iter().all(|address| address.ip().is_loopback());
        ensure!(
            is_local || allow_remote,
            "{host} is not this machine; --allow-remote, if you may put load on it"
        );
        Ok(Self {
            url: url.to_owned(),
            address,
            sources: sources(address.ip(), connections),
        })
    }

    /// The URL as it was given.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The server's address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address that the connection with this number comes from; `None` leaves it to the kernel.
    pub fn source(&self, number: u64) -> Option<SocketAddr> {
        let host = 2 + u8::try_from(number.checked_rem(self.sources)?).ok()?;
        Some((Ipv4Addr::new(127, 0, 0, host), 0).into())
    }
}

/// Only an IPv4 loopback has more addresses than one.
fn sources(target: IpAddr, connections: u64) -> u64 {
    if target.is_ipv4() && target.is_loopback() {
        connections
            .div_ceil(CONNECTIONS_PER_SOURCE)
            .clamp(1, SOURCES_MAX)
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn resolve(url: &str, allow_remote: bool) -> Result<Target> {
        Target::resolve(url, allow_remote, 1).await
    }

    #[tokio::test]
    async fn a_remote_server_has_to_be_allowed() {
        let url = "ws://192.0.2.1:8000/connection/websocket";
        let refusal = resolve(url, false).await.unwrap_err();
        assert!(refusal.to_string().contains("--allow-remote"), "{refusal}");
        let allowed = resolve(url, true).await.unwrap();
        assert_eq!(allowed.source(0), None);
    }

    #[tokio::test]
    async fn this_machine_is_allowed_by_name_and_by_address() {
        for host in ["localhost", "127.0.0.1", "127.8.9.10", "[::1]"] {
            let url = format!("ws://{host}:8000/");
            let target = resolve(&url, false).await.unwrap();
            assert!(target.address().ip().is_loopback(), "{host}");
        }
    }

    #[tokio::test]
    async fn other_schemes_are_refused() {
        for url in ["wss://localhost/", "http://localhost/", "localhost", ""] {
            assert!(resolve(url, true).await.is_err(), "{url}");
        }
    }

    #[tokio::test]
    async fn more_connections_come_from_more_addresses() {
        let target = Target::resolve("ws://127.0.0.1:1/", false, 50_000).await;
        let target = target.unwrap();
        let sources = [0, 1, 2, 3].map(|number| target.source(number).unwrap().ip().to_string());
        assert_eq!(
            sources,
            ["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.2"]
        );
    }
}
