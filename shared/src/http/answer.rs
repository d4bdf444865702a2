//! Answers: short ones of a stated length, and the heads of those that go on.

use std::fmt::Write as _;

use super::head::RequestHead;

/// A header of an answer.
pub type Header = (&'static str, String);

/// What becomes of the connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// It takes another request.
    KeepAlive,
    /// It ends.
    Close,
}

impl Persistence {
    /// What the client that sent `head` asks for (RFC 9112 §9.3). HTTP/1.0 is not kept alive.
    pub fn wanted(head: &RequestHead) -> Self {
        let is_close = |option: &str| option.eq_ignore_ascii_case("close");
        if head.version_minor == 0 || head.list("Connection").any(is_close) {
            Self::Close
        } else {
            Self::KeepAlive
        }
    }

    fn option(self) -> &'static str {
        match self {
            Self::KeepAlive => "keep-alive",
            Self::Close => "close",
        }
    }
}

/// A complete answer with this body, whose type is among the `headers`. No cache keeps it.
pub fn short_answer(
    status: u16,
    headers: &[Header],
    body: &[u8],
    persistence: Persistence,
) -> Vec<u8> {
    let mut answer = short_head(status, headers, body.len(), persistence);
    answer.extend_from_slice(body);
    answer
}

/// The head of such an answer, whose body of this many bytes comes behind it.
pub fn short_head(
    status: u16,
    headers: &[Header],
    length: usize,
    persistence: Persistence,
) -> Vec<u8> {
    let mut answer = status_line(status);
    push(&mut answer, "Cache-Control", "no-store");
    // RFC 9110 §8.6: a 204 has no body, and does not say how long it is.
    if status != 204 {
        push(&mut answer, "Content-Length", &length.to_string());
    }
    push(&mut answer, "Connection", persistence.option());
    finish(answer, headers, b"")
}

/// The head of an answer of this type that goes on until the connection ends: there is neither a
/// length nor a coding. It asks whatever is in between to pass each piece on as it comes.
pub fn stream_head(content_type: &str, headers: &[Header]) -> Vec<u8> {
    let mut answer = status_line(200);
    push(&mut answer, "Content-Type", content_type);
    let uncached = "private, no-cache, no-store, must-revalidate, max-age=0";
    push(&mut answer, "Cache-Control", uncached);
    push(&mut answer, "Pragma", "no-cache");
    push(&mut answer, "X-Accel-Buffering", "no");
    push(&mut answer, "Connection", "close");
    finish(answer, headers, b"")
}

/// A complete answer that ends the connection: `message` as a line of plain text, and the given
/// extra headers. A 426 names the protocol to upgrade to (RFC 9110 §15.5.22).
pub fn refusal(status: u16, message: &str, extra: &[Header]) -> Vec<u8> {
    let mut answer = status_line(status);
    push(&mut answer, "Content-Type", "text/plain; charset=utf-8");
    push(
        &mut answer,
        "Content-Length",
        &(message.len() + 1).to_string(),
    );
    push(&mut answer, "Cache-Control", "no-store");
    if status == 426 {
        push(&mut answer, "Connection", "close, Upgrade");
        push(&mut answer, "Upgrade", "websocket");
    } else {
        push(&mut answer, "Connection", "close");
    }
    finish(answer, extra, format!("{message}\n").as_bytes())
}

fn status_line(status: u16) -> String {
    format!("HTTP/1.1 {status} {}\r\n", reason_phrase(status))
}

fn push(answer: &mut String, name: &str, value: &str) {
    // Writing to a string does not fail.
    let _ = write!(answer, "{name}: {value}\r\n");
}

fn finish(mut answer: String, headers: &[Header], body: &[u8]) -> Vec<u8> {
    for (name, value) in headers {
        push(&mut answer, name, value);
    }
    answer.push_str("\r\n");
    let mut answer = answer.into_bytes();
    answer.extend_from_slice(body);
    answer
}

/// RFC 9110 §15, as far as this fleet answers with it; clients read the number.
fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::super::head::parse_head;
    use super::*;

    #[test]
    fn a_refusal_states_the_length_of_its_body() {
        let answer = String::from_utf8(refusal(503, "later", &[("Retry-After", 3.to_string())]));
        let answer = answer.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "later\n");
        assert!(head.contains("\r\nContent-Length: 6\r\n"), "{head}");
        assert!(head.ends_with("\r\nRetry-After: 3"), "{head}");
    }

    #[test]
    fn a_short_answer_says_where_it_ends_and_what_comes_then() {
        let headers = [("Content-Type", "application/json".to_owned())];
        let answer = short_answer(200, &headers, b"{}", Persistence::KeepAlive);
        let expected = "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 2\r\n\
             Connection: keep-alive\r\nContent-Type: application/json\r\n\r\n{}";
        assert_eq!(String::from_utf8(answer).unwrap(), expected);
        let answer = short_answer(204, &[], b"", Persistence::Close);
        let expected =
            "HTTP/1.1 204 No Content\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n";
        assert_eq!(String::from_utf8(answer).unwrap(), expected);
    }

    #[test]
    fn a_stream_ends_with_its_connection_and_is_not_buffered() {
        let head = stream_head("text/event-stream", &[("Vary", "Origin".to_owned())]);
        let head = String::from_utf8(head).unwrap();
        let expected = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
             Cache-Control: private, no-cache, no-store, must-revalidate, max-age=0\r\n\
             Pragma: no-cache\r\nX-Accel-Buffering: no\r\nConnection: close\r\n\
             Vary: Origin\r\n\r\n";
        assert_eq!(head, expected);
    }

    #[test]
    fn a_connection_is_kept_alive_unless_the_client_says_otherwise() {
        let wanted = |text: &str| {
            let (head, _) = parse_head(text.as_bytes()).unwrap().unwrap();
            Persistence::wanted(&head)
        };
        assert_eq!(wanted("GET / HTTP/1.1\r\n\r\n"), Persistence::KeepAlive);
        assert_eq!(wanted("GET / HTTP/1.0\r\n\r\n"), Persistence::Close);
        let close = "GET / HTTP/1.1\r\nConnection: te, Close\r\n\r\n";
        assert_eq!(wanted(close), Persistence::Close);
    }
}
