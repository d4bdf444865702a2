//! One HTTP/1.x request head: bounded, owned, and read once.
//!
//! The limits are hard: a head is at most [`HEAD_MAX_BYTES`] long and has at most [`HEADERS_MAX`]
//! headers, whether it arrives in one read or byte by byte. What a header means is not decided
//! here; see [`crate::websocket::upgrade()`].

use thiserror::Error;

/// Longest request head that is read, in bytes, including the empty line that ends it.
pub const HEAD_MAX_BYTES: usize = 8192;

/// Most headers a request head may have.
pub const HEADERS_MAX: usize = 64;

/// A parsed request head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// The method as sent, for example `GET`.
    pub method: String,
    /// The path as sent, without the query; always begins with `/`. Not percent-decoded.
    pub path: String,
    /// What follows the first `?`, if there is one. Not percent-decoded.
    pub query: Option<String>,
    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub version_minor: u8,
    /// Headers in the order they came, names as sent. A value that is not UTF-8 has its offending
    /// bytes replaced by U+FFFD, which no header that matters to the handshake accepts.
    pub headers: Vec<(String, String)>,
}

impl RequestHead {
    /// The first header of this name, compared without regard to case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All headers of this name in order, compared without regard to case.
    pub fn all<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        let same = move |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
        self.headers
            .iter()
            .filter(same)
            .map(|(_, value)| value.as_str())
    }

    /// The only header of this name.
    ///
    /// # Errors
    /// When there are several: whoever reads the request next could go by another one.
    pub fn once(&self, name: &'static str) -> Result<Option<&str>, HeadError> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(HeadError::Repeated(name)),
            (value, None) => Ok(value),
        }
    }

    /// The host that is asked (RFC 9112 §3.2), as sent.
    ///
    /// # Errors
    /// When there is not exactly one, or it cannot be one.
    pub fn host(&self) -> Result<&str, HeadError> {
        let host = self.once("Host")?.unwrap_or_default();
        if host.is_empty() || !host.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(HeadError::Host);
        }
        Ok(host)
    }

    /// The elements of a comma-separated header, over all its lines, trimmed, empty ones left out
    /// (RFC 9110 §5.6.1).
    pub fn list<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.all(name)
            .flat_map(|value| value.split(','))
            .map(|element| element.trim_matches([' ', '\t']))
            .filter(|element| !element.is_empty())
    }
}

/// Why bytes are not a request head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeadError {
    /// Longer than [`HEAD_MAX_BYTES`].
    #[error("the request head is longer than {HEAD_MAX_BYTES} bytes")]
    TooLong,
    /// More than [`HEADERS_MAX`] headers.
    #[error("the request has more than {HEADERS_MAX} headers")]
    TooManyHeaders,
    /// Not `/path` (RFC 9112 §3.2.1): absolute, authority and asterisk forms make no sense here.
    #[error("the request target must be a path")]
    Target,
    /// A header that may come once came more often.
    #[error("header {0} must not be repeated")]
    Repeated(&'static str),
    /// No `Host`, or one that is no host.
    #[error("header Host must name a host")]
    Host,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    #[error("the HTTP version is not supported")]
    Version,
    /// Anything else that RFC 9112 does not allow.
    #[error("the request head is malformed")]
    Malformed,
}

impl HeadError {
    /// The HTTP status that answers it.
    pub fn status(self) -> u16 {
        match self {
            Self::TooLong | Self::TooManyHeaders => 431,
            Self::Version => 505,
            Self::Target | Self::Repeated(_) | Self::Host | Self::Malformed => 400,
        }
    }
}

impl From<httparse::Error> for HeadError {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::TooManyHeaders => Self::TooManyHeaders,
            httparse::Error::Version => Self::Version,
            _ => Self::Malformed,
        }
    }
}

/// Parses the request head at the start of `bytes`.
///
/// Answers the head and how many bytes it took; what follows belongs to whatever comes next on the
/// connection. `None` means that the head is not complete yet: read more and call again.
pub fn parse_head(bytes: &[u8]) -> Result<Option<(RequestHead, usize)>, HeadError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    // The limit holds no matter how the bytes were cut into reads.
    let window = &bytes[..bytes.len().min(HEAD_MAX_BYTES)];
    let length = match request.parse(window)? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial if bytes.len() >= HEAD_MAX_BYTES => {
            return Err(HeadError::TooLong);
        }
        httparse::Status::Partial => return Ok(None),
    };
    let (Some(method), Some(target), Some(version_minor)) =
        (request.method, request.path, request.version)
    else {
        return Err(HeadError::Malformed);
    };
    if !target.starts_with('/') {
        return Err(HeadError::Target);
    }
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (target, None),
    };
    let headers = request
        .headers
        .iter()
        .map(|header| {
            let value = String::from_utf8_lossy(header.value).into_owned();
            (header.name.to_owned(), value)
        })
        .collect();
    let head = RequestHead {
        method: method.to_owned(),
        path: path.to_owned(),
        query,
        version_minor,
        headers,
    };
    Ok(Some((head, length)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: &str = "GET /a/b?c=d?e HTTP/1.1\r\nHost: x\r\nList: a, b\r\nlist: ,c\r\n\r\n";

    #[test]
    fn a_head_is_split_from_what_follows_it() {
        let bytes = format!("{PLAIN}rest");
        let (head, length) = parse_head(bytes.as_bytes()).unwrap().unwrap();
        assert_eq!(&bytes[length..], "rest");
        assert_eq!((head.method.as_str(), head.path.as_str()), ("GET", "/a/b"));
        assert_eq!(head.query.as_deref(), Some("c=d?e"));
        assert_eq!(head.version_minor, 1);
        assert_eq!(head.header("HOST"), Some("x"));
        assert_eq!(head.list("list").collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn every_prefix_of_a_head_asks_for_more() {
        for end in 0..PLAIN.len() {
            assert_eq!(parse_head(&PLAIN.as_bytes()[..end]), Ok(None), "at {end}");
        }
    }

    #[test]
    fn the_limits_hold_in_one_read_and_in_many() {
        let long = format!(
            "GET / HTTP/1.1\r\nX: {}\r\n\r\n",
            "a".repeat(HEAD_MAX_BYTES)
        );
        assert_eq!(parse_head(long.as_bytes()), Err(HeadError::TooLong));
        assert_eq!(
            parse_head(&long.as_bytes()[..HEAD_MAX_BYTES]),
            Err(HeadError::TooLong)
        );
        assert_eq!(parse_head(&long.as_bytes()[..HEAD_MAX_BYTES - 1]), Ok(None));
        let many = format!(
            "GET / HTTP/1.1\r\n{}\r\n",
            "x: y\r\n".repeat(HEADERS_MAX + 1)
        );
        assert_eq!(parse_head(many.as_bytes()), Err(HeadError::TooManyHeaders));
    }

    #[test]
    fn odd_heads_are_refused_with_their_status() {
        let check = |bytes: &str, status| {
            let error = parse_head(bytes.as_bytes()).unwrap_err();
            assert_eq!(error.status(), status, "{bytes:?}: {error}");
        };
        check("GET http://x/ HTTP/1.1\r\n\r\n", 400);
        check("OPTIONS * HTTP/1.1\r\n\r\n", 400);
        check("CONNECT x:443 HTTP/1.1\r\n\r\n", 400);
        check("GET / HTTP/2.0\r\n\r\n", 505);
        check("GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400);
        check("GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", 400);
        check("GET / HTTP/1.1\r\nA: b\0\r\n\r\n", 400);
        check("\x16\x03\x01\x02\0\x01", 400);
    }

    #[test]
    fn a_host_is_named_once() {
        let host = |lines: &str| {
            let text = format!("GET / HTTP/1.1\r\n{lines}\r\n");
            let (head, _) = parse_head(text.as_bytes()).unwrap().unwrap();
            head.host().map(str::to_owned)
        };
        assert_eq!(host("host: a:1\r\n").as_deref(), Ok("a:1"));
        assert_eq!(
            host("Host: a\r\nhost: a\r\n"),
            Err(HeadError::Repeated("Host"))
        );
        for odd in ["", "Host: \r\n", "Host: a b\r\n", "Host: caf\u{e9}\r\n"] {
            assert_eq!(host(odd), Err(HeadError::Host), "{odd:?}");
        }
    }

    #[test]
    fn a_value_that_is_not_utf8_does_not_refuse_the_request() {
        let bytes = b"GET / HTTP/1.1\r\nUser-Agent: caf\xe9\r\n\r\n";
        let (head, _) = parse_head(bytes).unwrap().unwrap();
        assert_eq!(head.header("user-agent"), Some("caf\u{fffd}"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse_head(&bytes);
        }
    }
}
