//! What makes a client come back to the same worker.

use std::net::IpAddr;
use std::str::FromStr;

use flotilla_shared::http::RequestHead;

use crate::fields;

/// One place to take the sticky key from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StickyKey {
    /// The user of a verified token, unless it is anonymous.
    User,
    /// A cookie.
    Cookie(String),
    /// A header.
    Header(String),
    /// A query parameter.
    Query(String),
    /// The client's address.
    Address,
}

impl FromStr for StickyKey {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "user" => Ok(Self::User),
            None if text == "address" => Ok(Self::Address),
            Some((_, "")) => Err("has no name after the colon"),
            Some(("cookie", name)) => Ok(Self::Cookie(name.to_owned())),
            Some(("header", name)) => Ok(Self::Header(name.to_owned())),
            Some(("query", name)) => Ok(Self::Query(name.to_owned())),
            _ => Err("is none of user, cookie:NAME, header:NAME, query:NAME, address"),
        }
    }
}

/// The first key that is present, not empty, in the order of `rules`.
pub(crate) fn sticky_key(
    rules: &[StickyKey],
    head: &RequestHead,
    user: Option<&str>,
    address: Option<IpAddr>,
) -> Option<String> {
    rules
        .iter()
        .filter_map(|rule| match rule {
            StickyKey::User => user.map(str::to_owned),
            StickyKey::Cookie(name) => fields::cookie(head, name).map(str::to_owned),
            StickyKey::Header(name) => head.header(name).map(str::to_owned),
            StickyKey::Query(name) => fields::query_parameter(head, name).map(str::to_owned),
            StickyKey::Address => address.map(|address| address.to_string()),
        })
        .find(|key| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use flotilla_shared::http::parse_head;

    use super::*;

    #[test]
    fn rules_are_read_from_their_names() {
        let check = |text: &str, rule: StickyKey| assert_eq!(text.parse(), Ok(rule));
        check("user", StickyKey::User);
        check("address", StickyKey::Address);
        check("cookie:sid", StickyKey::Cookie("sid".to_owned()));
        check(
            "header:X-Session",
            StickyKey::Header("X-Session".to_owned()),
        );
        check("query:session", StickyKey::Query("session".to_owned()));
        for wrong in ["", "ip", "cookie", "cookie:", "user:x"] {
            assert!(wrong.parse::<StickyKey>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_first_key_that_is_present_wins() {
        let text = "GET /?s=query HTTP/1.1\r\nCookie: sid=; other=cookie\r\nX-S: header\r\n\r\n";
        let (head, _) = parse_head(text.as_bytes()).unwrap().unwrap();
        let address = Some(IpAddr::from([192, 0, 2, 1]));
        let key = |rules: &[&str], user| {
            let rules: Vec<StickyKey> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
            sticky_key(&rules, &head, user, address)
        };
        let all = ["user", "cookie:sid", "header:X-S", "query:s", "address"];
        assert_eq!(key(&all, Some("42")).as_deref(), Some("42"));
        assert_eq!(key(&all, Some("")).as_deref(), Some("header"));
        assert_eq!(key(&["cookie:other"], None).as_deref(), Some("cookie"));
        assert_eq!(
            key(&["cookie:none", "query:s"], None).as_deref(),
            Some("query")
        );
        assert_eq!(key(&["address"], None).as_deref(), Some("192.0.2.1"));
        assert_eq!(key(&["user"], None), None);
    }
}
