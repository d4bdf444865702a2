//! Reads single values out of a request head: a cookie, a query parameter.
//!
//! Names and values are compared and passed on as they were sent; nothing is decoded, because
//! nothing that is looked for here (tokens, ids) needs it.

use flotilla_shared::http::RequestHead;

/// The value of the first cookie of this name (RFC 6265 §5.4), without quotes around it.
pub(crate) fn cookie<'a>(head: &'a RequestHead, name: &str) -> Option<&'a str> {
    head.all("Cookie")
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim_matches([' ', '\t']).split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.trim_matches('"'))
}

/// The value of the first query parameter of this name.
pub(crate) fn query_parameter<'a>(head: &'a RequestHead, name: &str) -> Option<&'a str> {
    let query = head.query.as_deref()?;
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

/// The query without any parameter of this name; `None` if nothing is left.
pub(crate) fn without_parameter(query: &str, name: &str) -> Option<String> {
    let kept: Vec<&str> = query
        .split('&')
        .filter(|pair| pair.split_once('=').map_or(*pair, |(key, _)| key) != name)
        .collect();
    (!kept.is_empty()).then(|| kept.join("&"))
}

#[cfg(test)]
mod tests {
    use flotilla_shared::http::parse_head;

    use super::*;

    fn head(text: &str) -> RequestHead {
        parse_head(text.as_bytes()).unwrap().unwrap().0
    }

    #[test]
    fn cookies_are_found_in_any_line() {
        let head = head("GET / HTTP/1.1\r\nCookie: a=1; bb=x=y\r\nCookie: c=\"q\"; a=2; d\r\n\r\n");
        assert_eq!(cookie(&head, "a"), Some("1"));
        assert_eq!(cookie(&head, "bb"), Some("x=y"));
        assert_eq!(cookie(&head, "c"), Some("q"));
        assert_eq!(cookie(&head, "d"), None);
        assert_eq!(cookie(&head, "b"), None);
    }

    #[test]
    fn query_parameters_are_found_and_removed() {
        let head = head("GET /?a=1&token=x.y&b&token=z HTTP/1.1\r\n\r\n");
        let query = head.query.as_deref().unwrap();
        assert_eq!(query_parameter(&head, "token"), Some("x.y"));
        assert_eq!(query_parameter(&head, "b"), None);
        assert_eq!(without_parameter(query, "token").as_deref(), Some("a=1&b"));
        assert_eq!(without_parameter("token=1", "token"), None);
        assert_eq!(without_parameter("token", "token"), None);
    }
}
