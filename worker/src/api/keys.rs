//! Who may call the server API.
//!
//! Owns: the keys, and where a request presents one. Keys are compared in constant time, so that an answer's time says
//! nothing about them.

use axum::http::HeaderMap;
use flotilla_shared::secret::Secret;
use subtle::ConstantTimeEq as _;

/// The keys that are accepted: the current one, and the one before it while keys are changed. `None`: everybody is.
#[derive(Debug)]
pub(crate) struct ApiKeys(Option<Vec<Secret>>);

impl ApiKeys {
    pub(crate) fn new(current: Secret, previous: Option<Secret>) -> Self {
        let keys = [Some(current), previous];
        Self(Some(keys.into_iter().flatten().collect()))
    }

    /// Anyone may call.
    pub(crate) fn not_asked_for() -> Self {
        Self(None)
    }

    /// Whether the request may be answered: it presents a key: in `X-API-Key`, as `Authorization: apikey KEY`, or in the query parameter
    /// `api_key`. The first place that has one decides.
    pub(super) fn admit(&self, headers: &HeaderMap, query: Option<&str>) -> bool {
        let Some(keys) = &self.0 else {
            return true;
        };
        let header = |name: &str| headers.get(name)?.to_str().ok();
        let authorization = || {
            let (scheme, key) = header("authorization")?.split_once(' ')?;
            scheme.eq_ignore_ascii_case("apikey").then(|| key.trim())
        };
        let parameter = || {
            query?
                .split('&')
                .find_map(|pair| pair.strip_prefix("api_key="))
        };
        let presented = header("x-api-key")
            .or_else(authorization)
            .or_else(parameter);
        presented.is_some_and(|key| is_one_of(keys, key))
    }
}

fn is_one_of(keys: &[Secret], presented: &str) -> bool {
    let matches = keys
        .iter()
        .map(|key| key.expose().as_bytes().ct_eq(presented.as_bytes()));
    // Every key is looked at, whichever matches.
    matches
        .fold(subtle::Choice::from(0), |known, matches| known | matches)
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(header: Option<(&'static str, &str)>, query: Option<&str>) -> bool {
        let keys = ApiKeys::new(Secret::new("new"), Some(Secret::new("old")));
        let mut headers = HeaderMap::new();
        if let Some((name, value)) = header {
            headers.insert(name, value.parse().unwrap());
        }
        keys.admit(&headers, query)
    }

    #[test]
    fn a_key_is_found_in_each_of_its_places() {
        assert!(admits(Some(("x-api-key", "new")), None));
        assert!(admits(Some(("authorization", "apikey new")), None));
        assert!(admits(Some(("authorization", "ApiKey  new")), None));
        assert!(admits(None, Some("a=b&api_key=new")));
    }

    #[test]
    fn the_key_before_it_is_accepted_while_keys_are_changed() {
        assert!(admits(Some(("x-api-key", "old")), None));
    }

    #[test]
    fn where_no_key_is_asked_for_anyone_is_admitted() {
        assert!(ApiKeys::not_asked_for().admit(&HeaderMap::new(), None));
    }

    #[test]
    fn nothing_else_opens_the_door() {
        assert!(!admits(None, None));
        assert!(!admits(Some(("x-api-key", "")), None));
        assert!(!admits(Some(("x-api-key", "newer")), None));
        assert!(!admits(Some(("authorization", "Bearer new")), None));
        assert!(!admits(None, Some("key=new")));
        assert!(
            !admits(Some(("x-api-key", "wrong")), Some("api_key=new")),
            "the first place decides"
        );
    }
}
