//! What clients may do, made from what was written under `client`.

use flotilla_shared::auth::Verifier;
use flotilla_shared::config::Problems;

use super::rate_limits::rate_limits;
use super::{RawClient, RawConfig};
use crate::policy::{ClientOptions, PersonalChannel};

/// Makes sense of `raw.client`; notes everything that makes none.
pub(super) fn options(raw: &RawConfig, problems: &mut Problems) -> ClientOptions {
    let client = &raw.client;
    check(client, problems);
    ClientOptions {
        allow_anonymous_connect_without_token: client.allow_anonymous_connect_without_token,
        disallow_anonymous_connection_tokens: client.disallow_anonymous_connection_tokens,
        insecure: client.insecure,
        ping_interval: client.ping_interval,
        pong_timeout: client.pong_timeout,
        stale_close_delay: client.stale_close_delay,
        expired_close_delay: client.expired_close_delay,
        expired_sub_close_delay: client.expired_sub_close_delay,
        channel_limit: client.channel_limit,
        rate_limits: rate_limits(client, problems),
        history_max_publication_limit: client.history_max_publication_limit,
        recovery_max_publication_limit: client.recovery_max_publication_limit,
        personal_channel: personal_channel(raw, problems),
        expose_node: client.expose_node,
        unacknowledged: client.unacknowledged_publications,
    }
}

/// What verifies connection and subscription tokens.
pub(super) fn verifier(client: &RawClient, problems: &mut Problems) -> Verifier {
    let verifier = client.token.verifier("client.token", problems);
    match client.insecure_skip_token_signature_verify {
        true => verifier.taking_any_signature(),
        false => verifier,
    }
}

fn check(client: &RawClient, problems: &mut Problems) {
    if !client.ping_interval.is_zero() && client.pong_timeout >= client.ping_interval {
        problems.add(
            "client.pong_timeout",
            "has to be shorter than client.ping_interval",
        );
    }
    let durations = [
        ("pong_timeout", client.pong_timeout),
        ("head_timeout", client.head_timeout),
        ("stale_close_delay", client.stale_close_delay),
        ("write_timeout", client.write_timeout),
    ];
    for (name, _) in durations.iter().filter(|(_, duration)| duration.is_zero()) {
        problems.add(&format!("client.{name}"), "must not be zero");
    }
    let sizes = [
        ("channel_limit", client.channel_limit),
        ("queue_max_size", client.queue_max_size),
        ("message_size_limit", client.message_size_limit),
        (
            "history_max_publication_limit",
            client.history_max_publication_limit,
        ),
        (
            "recovery_max_publication_limit",
            client.recovery_max_publication_limit,
        ),
    ];
    for (name, _) in sizes.iter().filter(|(_, size)| *size == 0) {
        problems.add(&format!("client.{name}"), "must not be zero");
    }
}

fn personal_channel(raw: &RawConfig, problems: &mut Problems) -> Option<PersonalChannel> {
    const KEY: &str = "client.subscribe_to_user_personal_channel";
    let written = &raw.client.subscribe_to_user_personal_channel;
    let namespace = &written.personal_channel_namespace;
    let mut known = raw.channel.namespaces.iter().map(|known| &known.name);
    if !namespace.is_empty() && !known.any(|known| known == namespace) {
        problems.add(
            &format!("{KEY}.personal_channel_namespace"),
            "is not the name of one of channel.namespaces",
        );
    }
    if written.single_connection && !written.enabled {
        problems.add(
            &format!("{KEY}.single_connection"),
            format!("means nothing without {KEY}.enabled"),
        );
    }
    if written.single_connection && raw.client.user_connection_limit == 1 {
        problems.add(
            &format!("{KEY}.single_connection"),
            "needs client.user_connection_limit = 0, or 2: the new connection comes before the older one goes",
        );
    }
    written.enabled.then(|| PersonalChannel {
        namespace: namespace.clone(),
        single_connection: written.single_connection,
    })
}
