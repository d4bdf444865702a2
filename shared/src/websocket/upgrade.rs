//! The opening handshake, server side (RFC 6455 §4.2), checked strictly.
//!
//! Strict because two parsers in a row that disagree about a request are how requests are
//! smuggled: a body on an upgrade, two lengths, two hosts or an unexpected `Upgrade` token are
//! refused, each with an answer that names the header.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use thiserror::Error;

use crate::http::{Header, RequestHead, refusal};

/// RFC 6455 §1.3.
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a valid opening handshake asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// `Sec-WebSocket-Key`, which decodes to 16 bytes.
    pub key: String,
    /// The offered subprotocols in the client's order; empty if the header is absent or empty.
    pub protocols: Vec<String>,
    /// `Origin`, which browsers always send and other clients seldom do.
    pub origin: Option<String>,
    /// `Host`, as sent.
    pub host: String,
}

/// Why a request is not a valid opening handshake.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UpgradeError {
    /// The method is not `GET`.
    #[error("a WebSocket handshake is a GET request")]
    Method,
    /// An ordinary HTTP request: HTTP/1.0, or no `Upgrade` header.
    #[error("this is a WebSocket endpoint: an upgrade to websocket is required")]
    NotAnUpgrade,
    /// `Sec-WebSocket-Version` is not 13.
    #[error("Sec-WebSocket-Version must be 13")]
    Version,
    /// A required header is absent.
    #[error("header {0} is missing")]
    Missing(&'static str),
    /// A header that may come once came more often.
    #[error("header {0} must not be repeated")]
    Repeated(&'static str),
    /// A header has a value that this handshake does not allow.
    #[error("header {0} {1}")]
    Invalid(&'static str, &'static str),
}

impl UpgradeError {
    /// The HTTP status that answers it.
    pub fn status(&self) -> u16 {
        match self {
            Self::Method => 405,
            Self::NotAnUpgrade | Self::Version => 426,
            Self::Missing(_) | Self::Repeated(_) | Self::Invalid(..) => 400,
        }
    }

    /// What the answer says besides.
    pub fn headers(&self) -> Vec<Header> {
        match self {
            Self::Method => vec![("Allow", "GET".to_owned())],
            Self::Version => vec![("Sec-WebSocket-Version", "13".to_owned())],
            _ => Vec::new(),
        }
    }

    /// The complete HTTP answer.
    pub fn response(&self) -> Vec<u8> {
        refusal(self.status(), &self.to_string(), &self.headers())
    }
}

/// Checks that `head` is a WebSocket handshake (RFC 6455 §4.2.1) without a body.
pub fn upgrade(head: &RequestHead) -> Result<Upgrade, UpgradeError> {
    use UpgradeError::{Invalid, Method, Missing, NotAnUpgrade, Repeated, Version};
    if head.method != "GET" {
        return Err(Method);
    }
    if head.version_minor == 0 || head.header("Upgrade").is_none() {
        return Err(NotAnUpgrade);
    }
    let once = |name: &'static str| {
        let mut values = head.all(name);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(Repeated(name)),
            (value, None) => Ok(value),
        }
    };
    if !once("Upgrade")?.is_some_and(|value| value.eq_ignore_ascii_case("websocket")) {
        return Err(Invalid("Upgrade", "must be websocket"));
    }
    let named = |option: &str| option.eq_ignore_ascii_case("upgrade");
    if !head.list("Connection").any(named) {
        return Err(Invalid("Connection", "must name upgrade"));
    }
    if once("Transfer-Encoding")?.is_some() {
        return Err(Invalid(
            "Transfer-Encoding",
            "is not allowed on a handshake",
        ));
    }
    if once("Content-Length")?.is_some_and(|value| value != "0") {
        return Err(Invalid("Content-Length", "must be 0 on a handshake"));
    }
    let host = once("Host")?.ok_or(Missing("Host"))?;
    if host.is_empty() || !host.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Invalid("Host", "is not a host name"));
    }
    if once("Sec-WebSocket-Version")? != Some("13") {
        return Err(Version);
    }
    let key = once("Sec-WebSocket-Key")?.ok_or(Missing("Sec-WebSocket-Key"))?;
    if !STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16) {
        return Err(Invalid("Sec-WebSocket-Key", "must be 16 bytes in base64"));
    }
    let protocols: Vec<String> = head
        .list("Sec-WebSocket-Protocol")
        .map(str::to_owned)
        .collect();
    if !protocols.iter().all(|protocol| is_token(protocol)) {
        return Err(Invalid(
            "Sec-WebSocket-Protocol",
            "must be a list of tokens",
        ));
    }
    Ok(Upgrade {
        key: key.to_owned(),
        protocols,
        origin: once("Origin")?.map(str::to_owned),
        host: host.to_owned(),
    })
}

/// RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

/// `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key` (RFC 6455 §4.2.2).
pub fn accept_key(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(ACCEPT_GUID);
    STANDARD.encode(hash.finalize())
}

/// The 101 answer that accepts the handshake with this key and selects `protocol`, which must be
/// one of those offered.
pub fn switching_protocols(key: &str, protocol: Option<&str>) -> Vec<u8> {
    let mut answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\n\
         Upgrade: websocket\r\n\
         Connection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n",
        accept_key(key)
    );
    if let Some(protocol) = protocol {
        answer.push_str("Sec-WebSocket-Protocol: ");
        answer.push_str(protocol);
        answer.push_str("\r\n");
    }
    answer.push_str("\r\n");
    answer.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::parse_head;

    /// A valid handshake; `change` may replace a header's line (the line of the same name), and
    /// adds it where there is none.
    fn check(changes: &[&str]) -> Result<Upgrade, UpgradeError> {
        let mut lines = vec![
            "Host: example.com",
            "Connection: keep-alive, Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ];
        for change in changes {
            let name = change.split(':').next().unwrap();
            lines.retain(|line| !line.starts_with(&format!("{name}:")));
        }
        lines.extend(changes.iter().filter(|change| !change.ends_with(':')));
        request(&format!("GET / HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n")))
    }

    fn request(text: &str) -> Result<Upgrade, UpgradeError> {
        upgrade(&parse_head(text.as_bytes()).unwrap().unwrap().0)
    }

    #[test]
    fn a_valid_handshake_is_accepted() {
        let upgrade = check(&[
            "Origin: https://example.com",
            "Sec-WebSocket-Protocol: a, b.c",
            "Content-Length: 0",
        ])
        .unwrap();
        assert_eq!(upgrade.key, "dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(upgrade.protocols, ["a", "b.c"]);
        assert_eq!(upgrade.origin.as_deref(), Some("https://example.com"));
        assert_eq!(upgrade.host, "example.com");
    }

    #[test]
    fn the_accept_key_is_that_of_the_rfc() {
        // RFC 6455 §1.3.
        let accept = accept_key("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn an_empty_protocol_header_counts_as_absent() {
        for line in ["Sec-WebSocket-Protocol: ,", "Sec-WebSocket-Protocol: \t, "] {
            assert_eq!(check(&[line]).unwrap().protocols, Vec::<String>::new());
        }
    }

    #[test]
    fn each_bad_handshake_is_refused_by_name() {
        let refused = |changes: &[&str], status: u16, named: &str| {
            let error = check(changes).unwrap_err();
            assert_eq!(error.status(), status, "{changes:?}: {error}");
            assert!(error.to_string().contains(named), "{changes:?}: {error}");
            let answer = String::from_utf8(error.response()).unwrap();
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{answer}"
            );
            assert!(answer.contains("\r\nConnection: close"), "{answer}");
        };
        refused(&["Host:"], 400, "Host");
        refused(&["Host: a", "Host: a"], 400, "Host");
        refused(&["Host: a b"], 400, "Host");
        refused(&["Upgrade:"], 426, "websocket");
        refused(&["Upgrade: h2c"], 400, "Upgrade");
        refused(&["Upgrade: h2c, websocket"], 400, "Upgrade");
        refused(
            &["Upgrade: websocket", "Upgrade: websocket"],
            400,
            "Upgrade",
        );
        refused(&["Connection: keep-alive"], 400, "Connection");
        refused(&["Connection:"], 400, "Connection");
        refused(&["Sec-WebSocket-Version: 8"], 426, "Sec-WebSocket-Version");
        refused(&["Sec-WebSocket-Version:"], 426, "Sec-WebSocket-Version");
        refused(&["Sec-WebSocket-Key:"], 400, "Sec-WebSocket-Key");
        refused(&["Sec-WebSocket-Key: c2hvcnQ="], 400, "Sec-WebSocket-Key");
        refused(
            &[
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            ],
            400,
            "Sec-WebSocket-Key",
        );
        refused(&["Origin: a", "Origin: b"], 400, "Origin");
        refused(
            &["Sec-WebSocket-Protocol: a b"],
            400,
            "Sec-WebSocket-Protocol",
        );
        refused(&["Content-Length: 5"], 400, "Content-Length");
        refused(
            &["Content-Length: 0", "Content-Length: 0"],
            400,
            "Content-Length",
        );
        refused(&["Transfer-Encoding: chunked"], 400, "Transfer-Encoding");
        refused(
            &["Content-Length: 0", "Transfer-Encoding: chunked"],
            400,
            "Transfer-Encoding",
        );
    }

    #[test]
    fn other_methods_and_versions_are_answered_as_http() {
        let post = request("POST / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap_err();
        let answer = String::from_utf8(post.response()).unwrap();
        assert!(answer.contains("405 Method Not Allowed"), "{answer}");
        assert!(answer.contains("\r\nAllow: GET\r\n"), "{answer}");
        let old = request("GET / HTTP/1.0\r\nUpgrade: websocket\r\n\r\n").unwrap_err();
        let answer = String::from_utf8(old.response()).unwrap();
        assert!(answer.contains("426 Upgrade Required"), "{answer}");
        assert!(answer.contains("\r\nUpgrade: websocket\r\n"), "{answer}");
        let version = String::from_utf8(UpgradeError::Version.response()).unwrap();
        assert!(
            version.contains("\r\nSec-WebSocket-Version: 13\r\n"),
            "{version}"
        );
    }

    #[test]
    fn switching_protocols_selects_what_it_is_given() {
        let answer = switching_protocols("dGhlIHNhbXBsZSBub25jZQ==", Some("chat"));
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert!(
            answer.ends_with("\r\nSec-WebSocket-Protocol: chat\r\n\r\n"),
            "{answer}"
        );
    }
}
