//! How the server API is reached, made from what was written under `http_api`.

use std::sync::Arc;

use flotilla_shared::config::Problems;
use flotilla_shared::secret::Secret;

use super::RawHttpApi;
use crate::api::{ApiKeys, ApiOptions};

/// Makes sense of `raw`; notes everything that makes none. `None` when no API is wanted, or something is wrong with it.
pub(super) fn options(raw: &RawHttpApi, problems: &mut Problems) -> Option<ApiOptions> {
    if raw.body_size_limit == 0 {
        problems.add("http_api.body_size_limit", "must not be zero");
    }
    let is_reached = raw.listen.is_some() || raw.on_client_listener;
    let keys = keys(raw, is_reached, problems)?;
    Some(ApiOptions {
        listen: raw.listen,
        on_client_listener: raw.on_client_listener,
        keys: Arc::new(keys),
        body_max_bytes: raw.body_size_limit,
    })
}

/// Who may call an API that `is_reached` somewhere; `None` if nobody may.
fn keys(raw: &RawHttpApi, is_reached: bool, problems: &mut Problems) -> Option<ApiKeys> {
    let current = Secret::resolve(
        "http_api.key",
        raw.key.as_ref(),
        raw.key_file.as_deref(),
        problems,
    );
    let previous = Secret::resolve(
        "http_api.previous_key",
        raw.previous_key.as_ref(),
        raw.previous_key_file.as_deref(),
        problems,
    );
    let has_key = current.is_some() || previous.is_some();
    match current {
        _ if !is_reached && (has_key || raw.insecure) => {
            let problem = "is needed for the API whose key is set, or which needs none";
            problems.add("http_api.listen", problem);
            None
        }
        _ if !is_reached => None,
        _ if raw.insecure && has_key => {
            let problem = "means that no key is asked for, and yet there is one";
            problems.add("http_api.insecure", problem);
            None
        }
        _ if raw.insecure => Some(ApiKeys::not_asked_for()),
        Some(current) => Some(ApiKeys::new(current, previous)),
        None => {
            problems.add(
                "http_api.key",
                "is needed: whoever reaches the API may publish",
            );
            None
        }
    }
}
