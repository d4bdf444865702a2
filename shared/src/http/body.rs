//! The body of a request: of a stated length, bounded before it is read.
//!
//! `Content-Length` is the only framing that is understood (RFC 9112 §6). Whatever two parsers
//! could read differently is refused: two lengths, a length next to a transfer coding, a length
//! that is anything but digits.

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::head::RequestHead;

/// What a client that asks first waits for (RFC 9110 §10.1.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Why a request's body is not read, or not to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BodyError {
    /// More than one `Content-Length`, or a list of them.
    #[error("header Content-Length must not be repeated")]
    Repeated,
    /// `Content-Length` is not a number, or one that nothing can have.
    #[error("header Content-Length is not a length")]
    Invalid,
    /// A length and a transfer coding, or a transfer coding in HTTP/1.0, which has none.
    #[error("header Transfer-Encoding must not be sent here")]
    Ambiguous,
    /// A transfer coding, where a length is asked for.
    #[error("header Content-Length is required: transfer codings are not accepted")]
    LengthRequired,
    /// Longer than allowed.
    #[error("the request body is too long")]
    TooLong,
    /// The connection ended before the body did.
    #[error("the request body is incomplete")]
    Incomplete,
}

impl BodyError {
    /// The HTTP status that answers it. The connection has to end with the answer, because nobody
    /// knows where the next request would begin.
    pub fn status(self) -> u16 {
        match self {
            Self::Repeated | Self::Invalid | Self::Ambiguous | Self::Incomplete => 400,
            Self::LengthRequired => 411,
            Self::TooLong => 413,
        }
    }
}

/// A body, and where it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// All of it.
    pub bytes: Vec<u8>,
    /// What was read behind it: the beginning of the next request, if there is to be one.
    pub rest: Vec<u8>,
}

/// How many bytes of body follow this head, at most `limit`. A request without `Content-Length` has
/// none.
pub fn body_length(head: &RequestHead, limit: usize) -> Result<usize, BodyError> {
    let mut lengths = head.all("Content-Length");
    let length = match (lengths.next(), lengths.next()) {
        (_, Some(_)) => return Err(BodyError::Repeated),
        (length, None) => length,
    };
    if head.header("Transfer-Encoding").is_some() {
        return Err(if length.is_some() || head.version_minor == 0 {
            BodyError::Ambiguous
        } else {
            BodyError::LengthRequired
        });
    }
    let Some(length) = length else {
        return Ok(0);
    };
    if length.contains(',') {
        return Err(BodyError::Repeated);
    }
    // A sign, or a space within, is what other parsers let pass.
    if !length.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BodyError::Invalid);
    }
    let length: u64 = length.parse().map_err(|_| BodyError::Invalid)?;
    match usize::try_from(length) {
        Ok(length) if length <= limit => Ok(length),
        _ => Err(BodyError::TooLong),
    }
}

/// Reads the body behind `head`, of at most `limit` bytes. `early` was read together with the head.
/// A client that waits to be told so is told to go on.
///
/// Memory grows with what arrives, not with what is announced. The caller bounds the time; when
/// this is dropped before it is ready, the connection is of no more use.
pub async fn read_body<S>(
    stream: &mut S,
    head: &RequestHead,
    early: Vec<u8>,
    limit: usize,
) -> Result<Body, BodyError>
where
    S: AsyncRead + AsyncWrite + Unpin + ?Sized,
{
    let length = body_length(head, limit)?;
    let mut bytes = early;
    if bytes.len() >= length {
        let rest = bytes.split_off(length);
        return Ok(Body { bytes, rest });
    }
    let incomplete = |_| BodyError::Incomplete;
    if bytes.is_empty() && awaits_continue(head) {
        stream.write_all(CONTINUE).await.map_err(incomplete)?;
        stream.flush().await.map_err(incomplete)?;
    }
    let missing = (length - bytes.len()) as u64;
    let mut body = stream.take(missing);
    body.read_to_end(&mut bytes).await.map_err(incomplete)?;
    if bytes.len() < length {
        return Err(BodyError::Incomplete);
    }
    let rest = Vec::new();
    Ok(Body { bytes, rest })
}

fn awaits_continue(head: &RequestHead) -> bool {
    let is_continue = |one: &str| one.eq_ignore_ascii_case("100-continue");
    head.version_minor > 0 && head.list("Expect").any(is_continue)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::duplex;

    use super::super::head::parse_head;
    use super::*;

    const LIMIT: usize = 64;

    fn head(version: &str, lines: &[&str]) -> RequestHead {
        let text = format!("POST / HTTP/{version}\r\n{}\r\n\r\n", lines.join("\r\n"));
        parse_head(text.as_bytes()).unwrap().unwrap().0
    }

    #[test]
    fn a_length_is_a_number_up_to_the_limit() {
        let check = |lines: &[&str], length| {
            assert_eq!(body_length(&head("1.1", lines), LIMIT), Ok(length));
        };
        check(&["Host: x"], 0);
        check(&["Content-Length: 0"], 0);
        check(&["content-length:64"], 64);
        check(&["Content-Length: 007"], 7);
        let long = head("1.1", &["Content-Length: 65"]);
        assert_eq!(body_length(&long, LIMIT), Err(BodyError::TooLong));
    }

    /// Each of these has smuggled a request past some pair of parsers.
    #[test]
    fn a_length_that_can_be_read_in_two_ways_is_refused() {
        use BodyError::{Ambiguous, Invalid, LengthRequired, Repeated};
        let refused = |version, lines: &[&str], error: BodyError, status| {
            assert_eq!(
                body_length(&head(version, lines), LIMIT),
                Err(error),
                "{lines:?}"
            );
            assert_eq!(error.status(), status);
        };
        let chunked = "Transfer-Encoding: chunked";
        refused(
            "1.1",
            &["Content-Length: 5", "Content-Length: 5"],
            Repeated,
            400,
        );
        refused(
            "1.1",
            &["Content-Length: 5", "Content-Length: 6"],
            Repeated,
            400,
        );
        refused("1.1", &["Content-Length: 5, 5"], Repeated, 400);
        refused("1.1", &["Content-Length: 5", chunked], Ambiguous, 400);
        refused("1.1", &[chunked, "Content-Length: 5"], Ambiguous, 400);
        refused(
            "1.1",
            &["Content-Length: 5", "Transfer-Encoding: x"],
            Ambiguous,
            400,
        );
        refused("1.0", &[chunked], Ambiguous, 400);
        refused("1.1", &[chunked], LengthRequired, 411);
        refused("1.1", &["Transfer-Encoding: identity"], LengthRequired, 411);
        refused("1.1", &["transfer-encoding: xchunked"], LengthRequired, 411);
        for odd in [
            "+5",
            "-5",
            "5 5",
            "0x5",
            "5;",
            "",
            "5.0",
            "٥",
            "99999999999999999999",
        ] {
            let line = format!("Content-Length: {odd}");
            refused("1.1", &[&line], Invalid, 400);
        }
    }

    #[test]
    fn a_length_beyond_all_memory_is_too_long() {
        let line = format!("Content-Length: {}", u64::MAX);
        let head = head("1.1", &[&line]);
        assert_eq!(body_length(&head, LIMIT), Err(BodyError::TooLong));
    }

    async fn read(lines: &[&str], early: &[u8], later: &[u8]) -> Result<Body, BodyError> {
        let (mut ours, mut theirs) = duplex(1024);
        theirs.write_all(later).await.unwrap();
        theirs.shutdown().await.unwrap();
        read_body(&mut ours, &head("1.1", lines), early.to_vec(), LIMIT).await
    }

    #[tokio::test]
    async fn a_body_ends_where_its_length_says() {
        let lines = ["Content-Length: 5"];
        let body = |bytes: &[u8], rest: &[u8]| {
            let (bytes, rest) = (bytes.to_vec(), rest.to_vec());
            Ok(Body { bytes, rest })
        };
        let next = b"GET / HTTP/1.1\r\n\r\n";
        let together = [&b"hello"[..], next].concat();
        assert_eq!(read(&lines, &together, b"").await, body(b"hello", next));
        assert_eq!(read(&lines, b"hello", b"").await, body(b"hello", b""));
        // What is still on its way stays there.
        assert_eq!(read(&lines, b"hel", b"lo, you").await, body(b"hello", b""));
        assert_eq!(read(&lines, b"", b"hello, you").await, body(b"hello", b""));
        assert_eq!(read(&[], next, b"").await, body(b"", next));
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_incomplete() {
        let lines = ["Content-Length: 5"];
        let result = read(&lines, b"he", b"l").await;
        assert_eq!(result, Err(BodyError::Incomplete));
    }

    #[tokio::test]
    async fn a_body_that_is_too_long_is_not_read() {
        let (mut ours, mut theirs) = duplex(1024);
        let long = head("1.1", &["Content-Length: 65", "Expect: 100-continue"]);
        let result = read_body(&mut ours, &long, Vec::new(), LIMIT).await;
        assert_eq!(result, Err(BodyError::TooLong));
        drop(ours);
        let mut told = Vec::new();
        theirs.read_to_end(&mut told).await.unwrap();
        assert_eq!(told, b"");
    }

    #[tokio::test]
    async fn a_client_that_asks_first_is_told_to_go_on() {
        let (mut ours, mut theirs) = duplex(1024);
        let head = head("1.1", &["Content-Length: 5", "Expect: 100-Continue"]);
        let client = async {
            let mut told = [0; CONTINUE.len()];
            theirs.read_exact(&mut told).await.unwrap();
            assert_eq!(told, CONTINUE);
            theirs.write_all(b"hello").await.unwrap();
        };
        let (body, ()) = tokio::join!(read_body(&mut ours, &head, Vec::new(), LIMIT), client);
        assert_eq!(body.unwrap().bytes, b"hello");
    }

    proptest! {
        #[test]
        fn only_digits_are_ever_a_length(value in "[ -~]{0,24}") {
            let text = format!("POST / HTTP/1.1\r\nContent-Length: {value}\r\n\r\n");
            if let Ok(Some((head, _))) = parse_head(text.as_bytes())
                && let Ok(length) = body_length(&head, usize::MAX)
            {
                let digits = value.trim_matches([' ', '\t']);
                prop_assert!(digits.bytes().all(|byte| byte.is_ascii_digit()));
                prop_assert_eq!(digits.parse::<usize>().ok(), Some(length));
            }
        }
    }
}
