//! Which web pages may connect.
//!
//! Browsers say with each handshake which page asks (`Origin`, RFC 6454) and send the user's cookies along whoever
//! asks; checking it is what keeps a foreign page from using them. Other clients seldom send the header, and one that
//! lies has no cookies to steal: without an `Origin` there is nothing to check.

use super::RequestHead;

/// Whether the page of this `origin` may ask `host` (both as sent): no page at all, a page of the very host that is
/// asked, or one that an entry of `allowed` names. An entry is `*`, an origin (`https://example.com`), or an origin whose host begins with
/// `*.` and stands for every subdomain (`https://*.example.com`).
pub fn origin_is_allowed(origin: Option<&str>, host: &str, allowed: &[String]) -> bool {
    let Some(origin) = origin else {
        return true;
    };
    let is_same = origin
        .split_once("://")
        .is_some_and(|(_, own)| own.eq_ignore_ascii_case(host));
    is_same || allowed.iter().any(|entry| matches(entry, origin))
}

/// Whether a script asks, as far as the browser says (`Sec-Fetch-Mode`, W3C Fetch Metadata), and not a link, an image or a
/// form. Those come with the user's cookies and without an `Origin`, whatever page they are on.
pub fn is_asked_by_script(head: &RequestHead) -> bool {
    !matches!(head.header("Sec-Fetch-Mode"), Some("navigate" | "no-cors"))
}

/// What is wrong with an entry of a list of origins, if anything.
pub fn origin_entry_problem(entry: &str) -> Option<&'static str> {
    if entry == "*" {
        return None;
    }
    match entry.split_once("://") {
        None => Some("an origin has a scheme, as in `https://example.com`"),
        Some((_, "")) => Some("an origin has a host"),
        Some((_, host)) if host.contains('/') => {
            Some("an origin has no path and no trailing slash")
        }
        Some((_, host)) if host.strip_prefix("*.").unwrap_or(host).contains('*') => Some(
            "`*` may stand alone, or for the subdomains of a host, as in `https://*.example.com`",
        ),
        Some(_) => None,
    }
}

fn matches(entry: &str, origin: &str) -> bool {
    if entry == "*" || entry.eq_ignore_ascii_case(origin) {
        return true;
    }
    let Some((scheme, parent)) = entry.split_once("://*.") else {
        return false;
    };
    let Some((asked_scheme, host)) = origin.split_once("://") else {
        return false;
    };
    let host = host.to_ascii_lowercase();
    let label = host.strip_suffix(&format!(".{}", parent.to_ascii_lowercase()));
    scheme.eq_ignore_ascii_case(asked_scheme) && label.is_some_and(|label| !label.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(origin: Option<&str>, entries: &[&str]) -> bool {
        let entries: Vec<String> = entries.iter().map(|entry| (*entry).to_owned()).collect();
        origin_is_allowed(origin, "chat.example.com:8000", &entries)
    }

    #[test]
    fn a_client_that_is_no_page_is_allowed() {
        assert!(allowed(None, &[]));
    }

    #[test]
    fn a_page_of_the_same_host_is_allowed_and_a_foreign_one_is_not() {
        assert!(allowed(Some("http://chat.example.com:8000"), &[]));
        assert!(!allowed(Some("http://chat.example.com"), &[]));
        assert!(!allowed(Some("https://evil.example"), &[]));
        assert!(!allowed(Some("null"), &[]));
    }

    #[test]
    fn entries_name_origins_or_all_subdomains_of_one() {
        assert!(allowed(
            Some("https://App.example.com"),
            &["https://app.example.com"]
        ));
        assert!(allowed(
            Some("https://a.b.example.org"),
            &["https://*.example.org"]
        ));
        assert!(!allowed(
            Some("https://example.org"),
            &["https://*.example.org"]
        ));
        assert!(!allowed(
            Some("https://evilexample.org"),
            &["https://*.example.org"]
        ));
        assert!(!allowed(
            Some("http://a.example.org"),
            &["https://*.example.org"]
        ));
        assert!(allowed(Some("https://anything.example"), &["*"]));
        assert!(allowed(Some("null"), &["*"]));
    }

    #[test]
    fn what_a_page_embeds_or_links_to_is_asked_by_no_script() {
        let asked = |mode: &str| {
            let text = format!("GET /sse HTTP/1.1\r\nHost: a\r\n{mode}\r\n");
            let (head, _) = crate::http::parse_head(text.as_bytes()).unwrap().unwrap();
            is_asked_by_script(&head)
        };
        assert!(!asked("Sec-Fetch-Mode: navigate\r\n"));
        assert!(!asked("sec-fetch-mode: no-cors\r\n"));
        for script in [
            "Sec-Fetch-Mode: cors\r\n",
            "Sec-Fetch-Mode: same-origin\r\n",
            "",
        ] {
            assert!(asked(script), "{script:?}");
        }
    }

    #[test]
    fn an_entry_that_can_never_match_is_a_mistake() {
        assert!(origin_entry_problem("example.com").is_some());
        assert!(origin_entry_problem("https://example.com/").is_some());
        assert!(origin_entry_problem("https://a.*.com").is_some());
        assert!(origin_entry_problem("https://*.example.com").is_none());
        assert!(origin_entry_problem("*").is_none());
    }
}
