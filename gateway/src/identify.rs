//! Who the client is, as far as the edge can tell: from a token that came with the request.
//!
//! A token may be presented in four places. They are looked at in one fixed order, and the first
//! that has one decides: `Authorization`, a `bearer.` entry of `Sec-WebSocket-Protocol` (the only
//! header a browser's WebSocket can set), a cookie, a query parameter. A client without a token is
//! passed on, unless one is required; its worker then decides from what it says after the upgrade.

use flotilla_shared::auth::{ConnectionClaims, TokenError, Verifier};
use flotilla_shared::http::RequestHead;

use crate::error::Refusal;
use crate::fields;

/// What a subprotocol that carries a token begins with.
const BEARER_PROTOCOL: &str = "bearer.";

/// How clients are identified.
#[derive(Debug)]
pub(crate) struct Identity {
    /// Verifies tokens; without keys, tokens are not looked for.
    pub(crate) verifier: Verifier,
    /// Whether a client without a token is refused.
    pub(crate) is_required: bool,
    /// Look at the `Authorization` header.
    pub(crate) authorization: bool,
    /// Look for a `bearer.` entry in `Sec-WebSocket-Protocol`.
    pub(crate) subprotocol: bool,
    /// The cookie to look at.
    pub(crate) cookie_name: Option<String>,
    /// The query parameter to look at.
    pub(crate) query_parameter: Option<String>,
}

/// How a verification ended, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Valid,
    Expired,
    Invalid,
    /// The key is not there, and may be later.
    UnknownKey,
}

impl Verdict {
    pub(crate) const ALL: [Self; 4] = [Self::Valid, Self::Expired, Self::Invalid, Self::UnknownKey];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Expired => "expired",
            Self::Invalid => "invalid",
            Self::UnknownKey => "unknown_key",
        }
    }

    pub(crate) fn of(result: &Result<ConnectionClaims, TokenError>) -> Self {
        match result {
            Ok(_) => Self::Valid,
            Err(TokenError::Expired) => Self::Expired,
            Err(TokenError::UnknownKey) => Self::UnknownKey,
            Err(_) => Self::Invalid,
        }
    }
}

impl Identity {
    /// The claims of the token that the client presents, if it presents one. `now` is in seconds
    /// since the Unix epoch, `protocols` are the subprotocols that it offers; `count` is told how the
    /// verification ended.
    pub(crate) fn identify(
        &self,
        head: &RequestHead,
        protocols: &[String],
        now: u64,
        count: impl FnOnce(Verdict),
    ) -> Result<Option<ConnectionClaims>, Refusal> {
        let token = self
            .verifier
            .is_configured()
            .then(|| self.token(head, protocols))
            .flatten();
        match token {
            None if self.is_required => Err(Refusal::TokenMissing),
            None => Ok(None),
            Some(token) => {
                let result = self.verifier.verify_connection(token, now);
                count(Verdict::of(&result));
                Ok(Some(result?))
            }
        }
    }

    fn token<'a>(&self, head: &'a RequestHead, protocols: &'a [String]) -> Option<&'a str> {
        let authorization = || self.authorization.then(|| bearer(head)).flatten();
        let subprotocol = || {
            let mut offered = protocols.iter().filter(|_| self.subprotocol);
            offered.find_map(|protocol| protocol.strip_prefix(BEARER_PROTOCOL))
        };
        let cookie = || fields::cookie(head, self.cookie_name.as_deref()?);
        let query = || fields::query_parameter(head, self.query_parameter.as_deref()?);
        // An empty one is no token: a page that has none may well send its empty variable.
        let present = |token: &&str| !token.is_empty();
        authorization()
            .filter(present)
            .or_else(|| subprotocol().filter(present))
            .or_else(|| cookie().filter(present))
            .or_else(|| query().filter(present))
    }
}

/// Whether this subprotocol is a token and not for the worker.
pub(crate) fn is_bearer(protocol: &str) -> bool {
    protocol.starts_with(BEARER_PROTOCOL)
}

/// The token of an `Authorization` header with the Bearer scheme (RFC 6750 §2.1).
fn bearer(head: &RequestHead) -> Option<&str> {
    let (scheme, token) = head.header("Authorization")?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_matches(' '))
}

#[cfg(test)]
mod tests {
    use flotilla_shared::auth::jwt;
    use flotilla_shared::http::parse_head;
    use flotilla_shared::secret::Secret;
    use flotilla_shared::websocket::upgrade;
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn identity(is_required: bool, keys: &[Secret]) -> Identity {
        Identity {
            verifier: Verifier::new(keys, String::new(), String::new()),
            is_required,
            authorization: true,
            subprotocol: true,
            cookie_name: Some("token".to_owned()),
            query_parameter: Some("token".to_owned()),
        }
    }

    fn token(user: &str, expires: u64) -> String {
        jwt::sign(
            &json!({ "sub": user, "exp": expires }),
            &Secret::new("secret"),
        )
        .unwrap()
    }

    fn identify(identity: &Identity, query: &str, lines: &[String]) -> Result<Option<String>, u16> {
        let text = format!(
            "GET /{query} HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{}\r\n",
            lines
                .iter()
                .map(|line| format!("{line}\r\n"))
                .collect::<String>()
        );
        let (head, _) = parse_head(text.as_bytes()).unwrap().unwrap();
        let upgrade = upgrade(&head).unwrap();
        let claims = identity.identify(&head, &upgrade.protocols, NOW, |_| {});
        claims
            .map(|claims| claims.map(|claims| claims.user))
            .map_err(|refusal| {
                let response = refusal.response(&[]);
                std::str::from_utf8(&response[9..12])
                    .unwrap()
                    .parse()
                    .unwrap()
            })
    }

    #[test]
    fn the_first_token_in_the_fixed_order_decides() {
        let identity = identity(false, &[Secret::new("secret")]);
        let query = format!("?token={}", token("query", NOW + 9));
        let cookie = format!("Cookie: token={}", token("cookie", NOW + 9));
        let protocol = format!(
            "Sec-WebSocket-Protocol: a, bearer.{}",
            token("protocol", NOW + 9)
        );
        let header = format!("Authorization: bearer {}", token("header", NOW + 9));
        let check = |query: &str, lines: &[&String], user: &str| {
            let lines: Vec<String> = lines.iter().map(|line| (*line).clone()).collect();
            assert_eq!(
                identify(&identity, query, &lines),
                Ok(Some(user.to_owned()))
            );
        };
        check(&query, &[&cookie, &protocol, &header], "header");
        check(&query, &[&cookie, &protocol], "protocol");
        check(&query, &[&cookie], "cookie");
        check(&query, &[], "query");
        // A bad token is not saved by a good one further down.
        let bad = "Authorization: Bearer x".to_owned();
        assert_eq!(identify(&identity, "", &[cookie, bad]), Err(401));
    }

    #[test]
    fn ways_that_are_switched_off_are_not_looked_at() {
        let mut identity = identity(false, &[Secret::new("secret")]);
        (identity.authorization, identity.subprotocol) = (false, false);
        (identity.cookie_name, identity.query_parameter) = (None, None);
        let lines = [
            "Authorization: Bearer x".to_owned(),
            "Sec-WebSocket-Protocol: bearer.x".to_owned(),
            "Cookie: token=x".to_owned(),
        ];
        assert_eq!(identify(&identity, "?token=x", &lines), Ok(None));
    }

    #[test]
    fn a_client_without_a_token_passes_only_if_none_is_required() {
        let keys = [Secret::new("secret")];
        let empty = [
            "Cookie: token=".to_owned(),
            "Authorization: Basic eDp5".to_owned(),
        ];
        assert_eq!(identify(&identity(false, &keys), "", &empty), Ok(None));
        assert_eq!(identify(&identity(true, &keys), "", &empty), Err(401));
        // Without keys the edge does not look at tokens at all.
        let bearer = ["Authorization: Bearer x".to_owned()];
        assert_eq!(identify(&identity(false, &[]), "", &bearer), Ok(None));
    }

    #[test]
    fn expired_forged_and_unsigned_tokens_are_refused() {
        let identity = identity(false, &[Secret::new("secret")]);
        let bearer = |token: &str| [format!("Authorization: Bearer {token}")];
        assert_eq!(
            identify(&identity, "", &bearer(&token("42", NOW))),
            Err(401)
        );
        let forged = jwt::sign(&json!({ "sub": "42" }), &Secret::new("other")).unwrap();
        assert_eq!(identify(&identity, "", &bearer(&forged)), Err(401));
        // {"alg":"none"}.{"sub":"42"}
        assert_eq!(
            identify(
                &identity,
                "",
                &bearer("eyJhbGciOiJub25lIn0.eyJzdWIiOiI0MiJ9.")
            ),
            Err(401)
        );
    }
}
