//! What a configuration is refused for, and what is made of one that is not.

use std::time::Duration;

use flotilla_shared::broker::{BrokerKind, Brokers, Retention};
use flotilla_shared::config::Problems;
use flotilla_shared::secret::Secret;

use super::*;
use crate::namespace::{DeltaType, RecoveryMode};
use crate::policy::PersonalChannel;

/// A configuration whose broker has streams, changed.
fn raw(change: impl FnOnce(&mut RawConfig)) -> RawConfig {
    let mut raw = RawConfig::default();
    raw.broker.kind = BrokerKind::Memory;
    change(&mut raw);
    raw
}

/// The keys that are complained about, and what about them.
fn problems(change: impl FnOnce(&mut RawConfig)) -> Vec<(String, String)> {
    let mut problems = Problems::default();
    let config = Config::resolve(&raw(change), &mut problems);
    match problems.finish(config) {
        Ok(_) => Vec::new(),
        Err(errors) => errors
            .0
            .into_iter()
            .map(|error| (error.key, error.problem))
            .collect(),
    }
}

fn resolved(change: impl FnOnce(&mut RawConfig)) -> Config {
    let mut problems = Problems::default();
    let config = Config::resolve(&raw(change), &mut problems);
    problems.finish(config).unwrap()
}

/// What is made of channels without a namespace.
fn namespace(change: impl FnOnce(&mut RawConfig)) -> crate::namespace::NamespaceOptions {
    let config = resolved(change);
    let channel = flotilla_shared::channel::Channel::parse("lobby", 255).unwrap();
    config.namespaces.options(&channel).unwrap().clone()
}

fn with_history(options: &mut RawNamespaceOptions) {
    options.history_size = 100;
    options.history_ttl = Duration::from_secs(300);
}

/// Sets one option.
type Set = fn(&mut RawNamespaceOptions);

/// An option, what sets it, and what sets all that it needs.
const NEEDS: [(&str, Set, Set); 17] = [
    (
        "history_meta_ttl",
        |o| o.history_meta_ttl = Duration::from_secs(600),
        with_history,
    ),
    (
        "allow_positioning",
        |o| o.allow_positioning = true,
        with_history,
    ),
    (
        "force_positioning",
        |o| o.force_positioning = true,
        with_history,
    ),
    ("allow_recovery", |o| o.allow_recovery = true, with_history),
    ("force_recovery", |o| o.force_recovery = true, with_history),
    (
        "allow_history_for_client",
        |o| o.allow_history_for_client = true,
        with_history,
    ),
    (
        "allow_history_for_subscriber",
        |o| o.allow_history_for_subscriber = true,
        with_history,
    ),
    (
        "allow_history_for_anonymous",
        |o| o.allow_history_for_anonymous = true,
        with_history,
    ),
    (
        "allowed_delta_types",
        |o| o.allowed_delta_types = vec![DeltaType::Fossil],
        with_history,
    ),
    (
        "delta_publish",
        |o| o.delta_publish = true,
        |o| {
            o.allowed_delta_types = vec![DeltaType::Fossil];
            with_history(o);
        },
    ),
    (
        "auto_cache_recover",
        |o| o.auto_cache_recover = true,
        |o| {
            o.allow_recovery = true;
            o.force_recovery_mode = RecoveryMode::Cache;
            with_history(o);
        },
    ),
    (
        "force_recovery_mode",
        |o| o.force_recovery_mode = RecoveryMode::Cache,
        |o| {
            o.force_recovery = true;
            with_history(o);
        },
    ),
    (
        "force_push_join_leave",
        |o| o.force_push_join_leave = true,
        |o| o.join_leave = true,
    ),
    (
        "allow_presence_for_client",
        |o| o.allow_presence_for_client = true,
        |o| o.presence = true,
    ),
    (
        "allow_presence_for_subscriber",
        |o| o.allow_presence_for_subscriber = true,
        |o| {
            o.presence = true;
        },
    ),
    (
        "allow_presence_for_anonymous",
        |o| o.allow_presence_for_anonymous = true,
        |o| {
            o.presence = true;
        },
    ),
    (
        "history_size",
        |o| o.history_size = 100,
        |o| o.history_ttl = Duration::from_secs(300),
    ),
];

#[test]
fn an_option_is_refused_without_what_it_needs() {
    for (option, set, need) in NEEDS {
        let found = problems(|raw| set(&mut raw.channel.without_namespace));
        let key = match option {
            // What is missing is complained about, not what is there.
            "history_size" => "channel.without_namespace.history_ttl".to_owned(),
            option => format!("channel.without_namespace.{option}"),
        };
        assert!(
            found.iter().any(|(at, _)| *at == key),
            "{option}: {found:?}"
        );
        let found = problems(|raw| {
            set(&mut raw.channel.without_namespace);
            need(&mut raw.channel.without_namespace);
        });
        assert_eq!(found, [], "{option}");
    }
}

#[test]
fn every_mistake_of_every_namespace_is_told_at_once() {
    let found = problems(|raw| {
        raw.channel.history_meta_ttl = Duration::ZERO;
        raw.channel.without_namespace.history_ttl = Duration::from_secs(1);
        raw.channel.namespaces = ["news", "chat"]
            .map(|name| RawNamespace {
                name: name.to_owned(),
                force_recovery: true,
                delta_publish: true,
                force_push_join_leave: true,
                ..RawNamespace::default()
            })
            .into();
        raw.client.history_max_publication_limit = 0;
        raw.client.recovery_max_publication_limit = 0;
    });
    let mut keys: Vec<&str> = found.iter().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(
        keys,
        [
            "channel.history_meta_ttl",
            "channel.namespaces.0.delta_publish",
            "channel.namespaces.0.force_push_join_leave",
            "channel.namespaces.0.force_recovery",
            "channel.namespaces.1.delta_publish",
            "channel.namespaces.1.force_push_join_leave",
            "channel.namespaces.1.force_recovery",
            "channel.without_namespace.history_size",
            "client.history_max_publication_limit",
            "client.recovery_max_publication_limit",
        ]
    );
}

#[test]
fn the_broker_is_told_which_namespaces_have_a_history() {
    let config = resolved(|raw| {
        raw.broker.kind = BrokerKind::Nats;
        with_history(&mut raw.channel.without_namespace);
    });
    let Brokers::Nats(nats) = &config.brokers else {
        panic!("another broker");
    };
    let names = nats
        .history
        .namespaces
        .iter()
        .map(|(name, _)| name.as_str());
    assert_eq!(names.collect::<Vec<_>>(), [""]);
}

#[test]
fn numbering_that_ends_before_the_history_is_refused_where_it_was_written() {
    for (own, global, key) in [
        (60, 600, "channel.without_namespace.history_meta_ttl"),
        (0, 60, "channel.without_namespace.history_ttl"),
    ] {
        let found = problems(|raw| {
            raw.channel.history_meta_ttl = Duration::from_secs(global);
            with_history(&mut raw.channel.without_namespace);
            raw.channel.without_namespace.history_meta_ttl = Duration::from_secs(own);
        });
        let keys: Vec<&str> = found.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, [key]);
    }
}

#[test]
fn a_namespace_keeps_its_numbering_for_as_long_as_it_says_or_all_do() {
    let month = Duration::from_secs(720 * 60 * 60);
    for (own, meta_ttl) in [(0, month), (600, Duration::from_secs(600))] {
        let made = namespace(|raw| {
            with_history(&mut raw.channel.without_namespace);
            raw.channel.without_namespace.history_meta_ttl = Duration::from_secs(own);
        });
        let expected = Retention {
            size: 100,
            ttl: Duration::from_secs(300),
            meta_ttl,
        };
        assert_eq!(made.history, Some(expected));
    }
    assert_eq!(namespace(|_| {}).history, None);
}

#[test]
fn deltas_are_for_namespaces_that_allow_their_kind() {
    let made = namespace(|raw| {
        with_history(&mut raw.channel.without_namespace);
        raw.channel.without_namespace.allowed_delta_types = vec![DeltaType::Fossil];
    });
    assert!(made.allow_delta_fossil);
    assert!(!namespace(|_| {}).allow_delta_fossil);
}

#[test]
fn a_personal_channel_needs_a_namespace_that_exists() {
    const KEY: &str = "client.subscribe_to_user_personal_channel";
    let written = |enabled, namespace: &str| RawPersonalChannel {
        enabled,
        personal_channel_namespace: namespace.to_owned(),
        single_connection: true,
    };
    let named = RawNamespace {
        name: "own".to_owned(),
        ..RawNamespace::default()
    };
    let found = problems(|raw| {
        raw.client.subscribe_to_user_personal_channel = written(false, "own");
    });
    let keys: Vec<&str> = found.iter().map(|(key, _)| key.as_str()).collect();
    let namespace = format!("{KEY}.personal_channel_namespace");
    assert_eq!(keys, [namespace, format!("{KEY}.single_connection")]);

    let found = problems(|raw| {
        raw.client.subscribe_to_user_personal_channel = written(true, "");
        raw.client.user_connection_limit = 1;
    });
    let keys: Vec<&str> = found.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, [format!("{KEY}.single_connection")]);

    for namespace in ["", "own"] {
        let raw = raw(|raw| {
            raw.client.subscribe_to_user_personal_channel = written(true, namespace);
            raw.channel.namespaces = vec![named.clone()];
        });
        let mut problems = Problems::default();
        let config = Config::resolve(&raw, &mut problems);
        let config = problems.finish(config).unwrap();
        let expected = PersonalChannel {
            namespace: namespace.to_owned(),
            single_connection: true,
        };
        assert_eq!(config.client.personal_channel, Some(expected));
    }
}

/// Changes a configuration.
type Change = fn(&mut RawConfig);

/// The options that take protection away, and what else makes each of them mean something.
const INSECURE: [(&str, Change); 5] = [
    ("client.insecure", |raw| raw.client.insecure = true),
    ("client.insecure_skip_token_signature_verify", |raw| {
        raw.client.insecure_skip_token_signature_verify = true;
    }),
    ("http_api.insecure", |raw| {
        raw.http_api.insecure = true;
        raw.http_api.listen = Some(raw.listen);
    }),
    ("http_api.on_client_listener", |raw| {
        raw.http_api.on_client_listener = true;
        raw.http_api.key = Some(Secret::new("key"));
    }),
    ("websocket_echo", |raw| raw.websocket_echo = true),
];

#[test]
fn what_is_insecure_is_refused_where_others_can_reach_it_unless_it_is_forced() {
    for (option, set) in INSECURE {
        for (address, is_public) in [
            ("127.0.0.1:8001", false),
            ("127.1.2.3:8001", false),
            ("[::1]:8001", false),
            ("[::ffff:127.0.0.1]:8001", false),
            ("0.0.0.0:8001", true),
            ("[::]:8001", true),
            ("192.0.2.1:8001", true),
        ] {
            let found = problems(|raw| {
                raw.listen = address.parse().unwrap();
                set(raw);
            });
            let keys: Vec<&str> = found.iter().map(|(key, _)| key.as_str()).collect();
            let expected: &[&str] = if is_public { &[option] } else { &[] };
            assert_eq!(keys, expected, "{address}");

            let found = problems(|raw| {
                raw.listen = address.parse().unwrap();
                raw.allow_insecure_on_public_address = true;
                set(raw);
            });
            assert_eq!(found, [], "{option} {address}");
        }
    }
}

#[test]
fn all_that_is_insecure_is_told_at_once() {
    let found = problems(|raw| {
        raw.listen = "0.0.0.0:8001".parse().unwrap();
        raw.client.insecure = true;
        raw.client.insecure_skip_token_signature_verify = true;
        raw.http_api.insecure = true;
        raw.http_api.on_client_listener = true;
        raw.websocket_echo = true;
    });
    let keys: Vec<&str> = found.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, INSECURE.map(|(option, _)| option));
    assert!(found[0].1.contains("`listen`"), "{found:?}");
}

#[test]
fn what_is_insecure_is_known_at_the_start() {
    for (option, set) in INSECURE {
        let mut problems = Problems::default();
        let config = Config::resolve(&raw(set), &mut problems);
        let config = problems.finish(config).unwrap();
        let keys: Vec<&str> = config.insecure.iter().map(|option| option.key).collect();
        assert_eq!(keys, [option]);
    }
}

#[test]
fn an_api_that_is_reached_has_a_key_or_says_that_it_needs_none() {
    let address = Some("127.0.0.1:0".parse().unwrap());
    let api = |change: fn(&mut RawHttpApi)| {
        let found = problems(|raw| {
            raw.http_api.listen = address;
            change(&mut raw.http_api);
        });
        found.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert_eq!(api(|_| {}), ["http_api.key"]);
    assert_eq!(api(|api| api.key = Some(Secret::new("key"))), [""; 0]);
    assert_eq!(api(|api| api.insecure = true), [""; 0]);
    assert_eq!(
        api(|api| {
            api.insecure = true;
            api.key = Some(Secret::new("key"));
        }),
        ["http_api.insecure"]
    );
    for change in [(|api| api.insecure = true) as fn(&mut RawHttpApi), |api| {
        api.key = Some(Secret::new("key"))
    }] {
        let found = problems(|raw| change(&mut raw.http_api));
        let keys: Vec<&str> = found.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["http_api.listen"]);
    }
}

#[test]
fn hooks_are_not_passed_the_cookies_of_foreign_pages() {
    let told = |origin: &str| {
        problems(|raw| {
            let hook = &mut raw.client.proxy.connect;
            hook.enabled = true;
            hook.endpoint = "http://127.0.0.1:9/connect".to_owned();
            hook.http_headers = vec!["Cookie".to_owned()];
            raw.allowed_origins = vec![origin.to_owned()];
        })
    };
    let refused = told("*");
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0].0, "allowed_origins");
    assert!(told("https://example.com").is_empty());
}
