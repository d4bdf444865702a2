//! Which answers the pages of other origins may read (the Fetch standard, "HTTP extensions").
//!
//! Whether a page may ask at all is decided before, by [`super::origin`]: the browser enforces what
//! is said here, and only towards its own page.

use super::answer::{Header, Persistence, short_answer};
use super::head::RequestHead;

/// How long a browser may remember what it was told about a path, in seconds.
const PREFLIGHT_MAX_AGE_SECONDS: u32 = 300;

/// What a page may send in any case: client libraries set nothing else by themselves.
const DEFAULT_HEADERS: &str = "content-type";

/// What an answer to a page of this origin says, which is allowed to ask: that the page may read
/// it, although cookies were sent along. Nothing, if no page asks.
pub fn cors_headers(origin: Option<&str>) -> Vec<Header> {
    let Some(origin) = origin else {
        return Vec::new();
    };
    vec![
        ("Access-Control-Allow-Origin", origin.to_owned()),
        ("Access-Control-Allow-Credentials", "true".to_owned()),
        ("Vary", "Origin".to_owned()),
    ]
}

/// The answer to an `OPTIONS` request, by which a browser asks for its page whether it may send a
/// request with one of `methods` (a list as in `Allow`). The page's origin is allowed to ask.
pub fn preflight(head: &RequestHead, methods: &str, persistence: Persistence) -> Vec<u8> {
    let origin = head.header("Origin");
    let mut headers = cors_headers(origin);
    headers.push(("Allow", methods.to_owned()));
    if origin.is_some() {
        // Applications add headers of their own; which of them reach anybody is decided elsewhere.
        let asked = head.header("Access-Control-Request-Headers");
        let named = asked.filter(|names| names.bytes().all(is_in_list_of_names));
        let allowed = named.unwrap_or(DEFAULT_HEADERS).to_owned();
        headers.push(("Access-Control-Allow-Methods", methods.to_owned()));
        headers.push(("Access-Control-Allow-Headers", allowed));
        let age = PREFLIGHT_MAX_AGE_SECONDS.to_string();
        headers.push(("Access-Control-Max-Age", age));
    }
    short_answer(204, &headers, b"", persistence)
}

fn is_in_list_of_names(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b',' | b' ')
}

#[cfg(test)]
mod tests {
    use super::super::head::parse_head;
    use super::*;

    fn answer(lines: &[&str]) -> String {
        let text = format!("OPTIONS / HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n"));
        let (head, _) = parse_head(text.as_bytes()).unwrap().unwrap();
        let answer = preflight(&head, "POST, OPTIONS", Persistence::KeepAlive);
        String::from_utf8(answer).unwrap()
    }

    #[test]
    fn an_allowed_page_may_read_the_answer_and_no_cache_mixes_pages_up() {
        let headers = cors_headers(Some("https://example.com"));
        let expected = [
            ("Access-Control-Allow-Origin", "https://example.com"),
            ("Access-Control-Allow-Credentials", "true"),
            ("Vary", "Origin"),
        ];
        let told: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        assert_eq!(told, expected);
        assert!(cors_headers(None).is_empty());
    }

    #[test]
    fn a_browser_is_told_what_its_page_may_send() {
        let told = answer(&[
            "Origin: https://example.com",
            "Access-Control-Request-Method: POST",
            "Access-Control-Request-Headers: content-type,x-tenant",
        ]);
        assert!(told.starts_with("HTTP/1.1 204 "), "{told}");
        for line in [
            "Access-Control-Allow-Origin: https://example.com",
            "Access-Control-Allow-Methods: POST, OPTIONS",
            "Access-Control-Allow-Headers: content-type,x-tenant",
            "Access-Control-Max-Age: 300",
            "Connection: keep-alive",
        ] {
            assert!(told.contains(&format!("\r\n{line}\r\n")), "{line}: {told}");
        }
    }

    #[test]
    fn what_is_no_list_of_names_is_not_repeated() {
        for odd in ["null\"", "a;b", "caf\u{e9}"] {
            let asked = format!("Access-Control-Request-Headers: {odd}");
            let told = answer(&["Origin: https://example.com", &asked]);
            let line = "\r\nAccess-Control-Allow-Headers: content-type\r\n";
            assert!(told.contains(line), "{told}");
        }
    }

    #[test]
    fn who_is_no_page_is_told_the_methods_only() {
        let told = answer(&["Host: x"]);
        assert!(told.contains("\r\nAllow: POST, OPTIONS\r\n"), "{told}");
        assert!(!told.contains("Access-Control"), "{told}");
    }
}
