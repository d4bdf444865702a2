//! Hooks, made from what was written under `client.proxy`, `rpc.proxy`, `channel.proxy` and `hooks`.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use flotilla_shared::config::Problems;
use flotilla_shared::outbound::{client_tls, is_https, parse_url};
use flotilla_shared::secret::Secret;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{RawChannel, RawChannelHook, RawConfig, RawNamespaceOptions};
use crate::hooks::{Endpoint, Hook, HookOptions, header_problem};

/// No client waits for longer.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// The hooks that can be asked; `None` when something is wrong with one of them.
pub(super) fn options(raw: &RawConfig, problems: &mut Problems) -> Option<HookOptions> {
    let client = &raw.client.proxy;
    let channel = &raw.channel.proxy;
    let mut endpoints = HashMap::new();
    for (hook, key, options) in [
        (Hook::Connect, "client.proxy.connect", &client.connect),
        (Hook::Refresh, "client.proxy.refresh", &client.refresh),
        (Hook::Rpc, "rpc.proxy", &raw.rpc.proxy),
    ] {
        if options.enabled && options.endpoint.is_empty() {
            problems.add(&format!("{key}.endpoint"), "is needed for what is enabled");
        }
        // Also one that is switched off is read: it is to be right when it is switched on.
        let endpoint = endpoint(key, &options.options(), problems);
        endpoints.extend(endpoint.filter(|_| options.enabled).map(|it| (hook, it)));
    }
    for (hook, key, options) in [
        (
            Hook::Subscribe,
            "channel.proxy.subscribe",
            &channel.subscribe,
        ),
        (Hook::Publish, "channel.proxy.publish", &channel.publish),
        (
            Hook::SubRefresh,
            "channel.proxy.sub_refresh",
            &channel.sub_refresh,
        ),
    ] {
        let endpoint = endpoint(key, options, problems);
        endpoints.extend(endpoint.map(|it| (hook, it)));
    }
    check_namespaces(&raw.channel, problems);
    if raw.hooks.in_flight_max == 0 {
        problems.add("hooks.in_flight_max", "must not be zero");
    }
    let passes_cookies = endpoints
        .values()
        .any(|endpoint: &Endpoint| endpoint.forwarded.contains(&http::header::COOKIE));
    if passes_cookies && raw.allowed_origins.iter().any(|entry| entry == "*") {
        problems.add(
            "allowed_origins",
            "must name the origins when a hook is passed cookies: browsers send a user's cookies along for any page",
        );
    }
    let needs_roots = endpoints.values().any(|endpoint| is_https(&endpoint.uri));
    let tls = problems.check("hooks", client_tls(needs_roots))?;
    Some(HookOptions {
        endpoints,
        in_flight_max: raw.hooks.in_flight_max,
        waiting_max: raw.hooks.waiting_max,
        refresh_unanswered_max: raw.hooks.refresh_unanswered_max,
        tls,
    })
}

/// What namespaces switch on has to be somewhere.
fn check_namespaces(raw: &RawChannel, problems: &mut Problems) {
    let mut check = |key: &str, options: &RawNamespaceOptions| {
        let proxy = &raw.proxy;
        for (is_on, name, hook) in [
            (
                options.subscribe_proxy_enabled,
                "subscribe",
                &proxy.subscribe,
            ),
            (options.publish_proxy_enabled, "publish", &proxy.publish),
            (
                options.sub_refresh_proxy_enabled,
                "sub_refresh",
                &proxy.sub_refresh,
            ),
        ] {
            if is_on && hook.endpoint.is_empty() {
                problems.add(
                    &format!("{key}.{name}_proxy_enabled"),
                    format!("needs channel.proxy.{name}.endpoint"),
                );
            }
        }
    };
    check("channel.without_namespace", &raw.without_namespace);
    for (at, namespace) in raw.namespaces.iter().enumerate() {
        check(&format!("channel.namespaces.{at}"), &namespace.options());
    }
}

/// `None` without one, or when something is wrong with it.
fn endpoint(key: &str, raw: &RawChannelHook, problems: &mut Problems) -> Option<Endpoint> {
    if raw.timeout.is_zero() {
        problems.add(&format!("{key}.timeout"), "must not be zero");
    } else if raw.timeout > TIMEOUT_MAX {
        problems.add(
            &format!("{key}.timeout"),
            "must not be longer than a minute",
        );
    }
    let fixed = fixed_headers(key, &raw.http.static_headers, problems);
    let mut forwarded = Vec::new();
    for (at, name) in raw.http_headers.iter().enumerate() {
        let key = format!("{key}.http_headers.{at}");
        let Some(name) = header_name(&key, name, problems) else {
            continue;
        };
        if fixed.contains_key(&name) {
            problems.add(&key, "is in http.static_headers, too");
        }
        forwarded.push(name);
    }
    if raw.endpoint.is_empty() {
        return None;
    }
    let uri = problems.check(&format!("{key}.endpoint"), parse_url(&raw.endpoint))?;
    Some(Endpoint {
        uri,
        timeout: raw.timeout,
        forwarded,
        fixed,
        is_binary: raw.binary_encoding,
        includes_meta: raw.include_connection_meta,
    })
}

fn fixed_headers(key: &str, raw: &BTreeMap<String, Secret>, problems: &mut Problems) -> HeaderMap {
    let mut fixed = HeaderMap::new();
    for (name, value) in raw {
        let key = format!("{key}.http.static_headers.{name}");
        let name = header_name(&key, name, problems);
        let value = Secret::resolve(&key, Some(value), None, problems)
            .and_then(|value| problems.check(&key, HeaderValue::try_from(value.expose())));
        if let (Some(name), Some(mut value)) = (name, value) {
            value.set_sensitive(true);
            fixed.insert(name, value);
        }
    }
    fixed
}

fn header_name(key: &str, name: &str, problems: &mut Problems) -> Option<HeaderName> {
    let name = problems.check(key, HeaderName::try_from(name))?;
    match header_problem(&name) {
        Some(problem) => {
            problems.add(key, problem);
            None
        }
        None => Some(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, RawNamespace};

    fn problems(change: impl FnOnce(&mut RawConfig)) -> Vec<String> {
        let mut raw = RawConfig::default();
        change(&mut raw);
        let mut problems = Problems::default();
        let config = Config::resolve(&raw, &mut problems);
        match problems.finish(config) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.to_string().lines().map(str::to_owned).collect(),
        }
    }

    #[test]
    fn every_mistake_about_hooks_is_told_at_once() {
        let told = problems(|raw| {
            raw.client.proxy.connect.enabled = true;
            raw.client.proxy.connect.timeout = Duration::from_secs(61);
            raw.client.proxy.refresh.endpoint = "ftp://example.com/".to_owned();
            raw.rpc.proxy.endpoint = "http://user:word@example.com/".to_owned();
            raw.rpc.proxy.timeout = Duration::ZERO;
            raw.rpc.proxy.http_headers = ["Cookie", "Host", "a b", "X-Flotilla-Passport", "X-Key"]
                .map(str::to_owned)
                .into();
            let fixed = &mut raw.rpc.proxy.http.static_headers;
            fixed.insert("x-key".to_owned(), Secret::new("1"));
            let fixed = &mut raw.channel.proxy.publish.http.static_headers;
            fixed.insert("authorization".to_owned(), Secret::new("one\ntwo"));
            fixed.insert("x-empty".to_owned(), Secret::new(""));
            fixed.insert("content-type".to_owned(), Secret::new("text/plain"));
            raw.channel.without_namespace.publish_proxy_enabled = true;
            raw.channel.namespaces = vec![RawNamespace {
                name: "chat".to_owned(),
                subscribe_proxy_enabled: true,
                ..RawNamespace::default()
            }];
            raw.hooks.in_flight_max = 0;
        });
        let fixed = "channel.proxy.publish.http.static_headers";
        for (key, problem) in [
            ("client.proxy.connect.endpoint", "is needed"),
            ("client.proxy.connect.timeout", "must not be longer"),
            ("client.proxy.refresh.endpoint", "is not a URL"),
            ("rpc.proxy.endpoint", "contains a user"),
            ("rpc.proxy.timeout", "must not be zero"),
            ("rpc.proxy.http_headers.1", "is set by"),
            ("rpc.proxy.http_headers.2", "invalid"),
            ("rpc.proxy.http_headers.3", "is between"),
            ("rpc.proxy.http_headers.4", "is in http.static_headers"),
            (&format!("{fixed}.authorization"), "failed"),
            (&format!("{fixed}.x-empty"), "the secret is empty"),
            (&format!("{fixed}.content-type"), "is set by"),
            (
                "channel.without_namespace.publish_proxy_enabled",
                "needs channel.proxy.publish.endpoint",
            ),
            (
                "channel.namespaces.0.subscribe_proxy_enabled",
                "needs channel.proxy.subscribe.endpoint",
            ),
            ("hooks.in_flight_max", "must not be zero"),
        ] {
            let expected = format!("{key}: {problem}");
            assert!(
                told.iter().any(|line| line.starts_with(&expected)),
                "{expected}: {told:#?}"
            );
        }
        assert_eq!(told.len(), 15, "{told:#?}");
    }

    #[test]
    fn a_hook_needs_no_more_than_its_endpoint() {
        let told = problems(|raw| {
            raw.client.proxy.connect.enabled = true;
            raw.client.proxy.connect.endpoint = "http://back-end:3000/connect?x=1".to_owned();
            raw.channel.without_namespace.publish_proxy_enabled = true;
            raw.channel.proxy.publish.endpoint = "https://[::1]/publish".to_owned();
        });
        assert_eq!(told, Vec::<String>::new());
    }

    #[test]
    fn who_is_asked_about_is_somebody() {
        let lets_anyone_in = |change: fn(&mut RawConfig)| {
            let mut raw = RawConfig::default();
            raw.client.proxy.connect.endpoint = "http://back-end/connect".to_owned();
            change(&mut raw);
            Config::resolve(&raw, &mut Problems::default())
                .unwrap()
                .lets_anyone_in()
        };
        assert!(!lets_anyone_in(|_| {}));
        assert!(lets_anyone_in(|raw| raw.client.proxy.connect.enabled = true));
    }
}
