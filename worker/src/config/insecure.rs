//! Options that take protection away, for development.
//!
//! Owns which options these are, where they are tolerated, and what is said about them at the start.

use std::net::SocketAddr;

use flotilla_shared::config::Problems;

use super::RawConfig;

const FORCE: &str = "allow_insecure_on_public_address";

/// An option that is set and takes protection away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InsecureOption {
    /// As in the configuration.
    pub(crate) key: &'static str,
    /// What whoever reaches the worker can do because of it.
    pub(crate) effect: &'static str,
}

/// The insecure options that are set. Notes those that somebody else than this machine would profit from, unless that
/// is forced.
pub(super) fn check(raw: &RawConfig, problems: &mut Problems) -> Vec<InsecureOption> {
    let clients = Some(("listen", raw.listen));
    let api = raw.http_api.listen.map(|at| ("http_api.listen", at));
    let api_or_clients = clients.filter(|_| raw.http_api.on_client_listener);
    let known = [
        (
            raw.client.insecure,
            [clients, None],
            InsecureOption {
                key: "client.insecure",
                effect: "anyone may connect, and read and write every channel",
            },
        ),
        (
            raw.client.insecure_skip_token_signature_verify,
            [clients, None],
            InsecureOption {
                key: "client.insecure_skip_token_signature_verify",
                effect: "anyone may be any user, with a token that they wrote themselves",
            },
        ),
        (
            raw.http_api.insecure,
            [api, api_or_clients],
            InsecureOption {
                key: "http_api.insecure",
                effect: "anyone may call the server API",
            },
        ),
        (
            raw.http_api.on_client_listener,
            [clients, None],
            InsecureOption {
                key: "http_api.on_client_listener",
                effect: "clients can reach the server API, and its key is all that stops them",
            },
        ),
        (
            raw.websocket_echo,
            [clients, None],
            InsecureOption {
                key: "websocket_echo",
                effect: "nobody is served: anyone gets back what they send, and is asked for nothing",
            },
        ),
    ];
    let set = known.into_iter().filter(|(is_set, ..)| *is_set);
    set.map(|(_, listeners, option)| {
        if !raw.allow_insecure_on_public_address {
            let public = listeners.into_iter().flatten().find(is_public);
            if let Some((listener, _)) = public {
                let problem = format!(
                    "is for development, and `{listener}` is no loopback address: {}; {FORCE} = true allows it",
                    option.effect
                );
                problems.add(option.key, problem);
            }
        }
        option
    })
    .collect()
}

fn is_public((_, address): &(&str, SocketAddr)) -> bool {
    !address.ip().to_canonical().is_loopback()
}
