//! What of a client's request a worker gets: a request of our own, into which little is copied.
//!
//! The framing is ours entirely, so that no two parsers can disagree about what a client sent. What
//! tells the worker who the client is, is the passport and nothing else: headers that begin like it
//! are never copied.

use flotilla_shared::auth::passport::PASSPORT_HEADER;
use flotilla_shared::http::RequestHead;

use crate::fields;

/// Client headers that every worker gets.
const FORWARDED: [&str; 3] = ["Host", "Origin", "User-Agent"];

/// A client's request on its way to a worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forward<'a> {
    pub(crate) head: &'a RequestHead,
    /// Where the worker has what the client asks for.
    pub(crate) path: &'a str,
    /// More headers that workers get, as configured.
    pub(crate) headers: &'a [String],
    /// The query parameter that carries the token, which stays at the edge.
    pub(crate) token_parameter: Option<&'a str>,
    pub(crate) passport: Option<&'a str>,
}

impl Forward<'_> {
    /// The head of the request: with the header lines `own`, the client's headers of these `names`
    /// besides those that always are copied, and the passport.
    pub(super) fn request(&self, method: &str, own: &[(&str, &str)], names: &[&str]) -> String {
        let query = self
            .head
            .query
            .as_deref()
            .and_then(|query| match self.token_parameter {
                Some(name) => fields::without_parameter(query, name),
                None => Some(query.to_owned()),
            });
        let mut request = format!("{method} {}", self.path);
        if let Some(query) = query {
            request.push('?');
            request.push_str(&query);
        }
        request.push_str(" HTTP/1.1\r\n");
        let mut line = |name: &str, value: &str| {
            for part in [name, ": ", value, "\r\n"] {
                request.push_str(part);
            }
        };
        own.iter().for_each(|(name, value)| line(name, value));
        let always = FORWARDED.iter().chain(names).copied();
        let named = |name: &str| {
            let mut always = always.clone();
            always.any(|one| one.eq_ignore_ascii_case(name))
        };
        let configured = self.headers.iter().map(String::as_str);
        for name in always.clone().chain(configured.filter(|name| !named(name))) {
            self.head.all(name).for_each(|value| line(name, value));
        }
        if let Some(passport) = self.passport {
            line(PASSPORT_HEADER, passport);
        }
        request.push_str("\r\n");
        request
    }

    /// The same with a body, after which the connection is not used again.
    pub(super) fn request_with_body(&self, names: &[&str], body: &[u8]) -> Vec<u8> {
        let length = body.len().to_string();
        let mut own = vec![("Connection", "close")];
        if !body.is_empty() || self.head.method == "POST" {
            own.push(("Content-Length", length.as_str()));
        }
        let mut request = self.request(&self.head.method, &own, names).into_bytes();
        request.extend_from_slice(body);
        request
    }
}
