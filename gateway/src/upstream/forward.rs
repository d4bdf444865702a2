//! What of a client's request a worker gets: a request of our own, into which little is copied.
//!
//! The framing is ours entirely, so that no two parsers can disagree about what a client sent. What
//! tells the worker who the client is, is the passport and nothing else: headers that begin like it
//! are never copied.

use flotilla_shared::auth::passport::PASSPORT_HEADER;
use flotilla_shared::http::RequestHead;
use flotilla_shared::link;
use flotilla_shared::websocket::Upgrade;

use crate::fields;
use crate::identify::is_bearer;

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
    /// Where the worker has what the client asks for, with what the client says behind it.
    fn target(&self) -> String {
        let query = self
            .head
            .query
            .as_deref()
            .and_then(|query| match self.token_parameter {
                Some(name) => fields::without_parameter(query, name),
                None => Some(query.to_owned()),
            });
        match query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.to_owned(),
        }
    }

    /// The client's headers of these `names` besides those that always are copied, and the passport.
    fn fields<'a>(&'a self, names: &[&'a str]) -> Vec<(&'a str, &'a str)> {
        let always = FORWARDED.iter().chain(names).copied();
        let named = |name: &str| {
            let mut always = always.clone();
            always.any(|one| one.eq_ignore_ascii_case(name))
        };
        let configured = self.headers.iter().map(String::as_str);
        let copied = always.clone().chain(configured.filter(|name| !named(name)));
        let copied = copied.flat_map(|name| self.head.all(name).map(move |value| (name, value)));
        let passport = self.passport.map(|passport| (PASSPORT_HEADER, passport));
        copied.chain(passport).collect()
    }

    /// The head of the request: with the header lines `own`, and those of the client that workers get.
    pub(super) fn request(&self, method: &str, own: &[(&str, &str)], names: &[&str]) -> String {
        let mut request = format!("{method} {} HTTP/1.1\r\n", self.target());
        for (name, value) in own.iter().chain(&self.fields(names)) {
            for part in [name, ": ", value, "\r\n"] {
                request.push_str(part);
            }
        }
        request.push_str("\r\n");
        request
    }

    /// The same as it is told over a link. Of the subprotocols, the worker gets those without a token.
    pub(crate) fn session(&self, upgrade: &Upgrade) -> link::Open {
        let fields = self.fields(&[]).into_iter();
        let headers = fields.map(|(name, value)| link::Header {
            name: name.to_ascii_lowercase(),
            value: value.to_owned(),
        });
        let offered = upgrade.protocols.iter();
        link::Open {
            path: self.target(),
            headers: headers.collect(),
            protocols: offered.filter(|one| !is_bearer(one)).cloned().collect(),
            ..link::Open::default()
        }
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
