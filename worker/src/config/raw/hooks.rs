//! Hooks as they are written: what the user's back end is asked, and how.

use std::collections::BTreeMap;
use std::time::Duration;

use flotilla_shared::config::duration;
use flotilla_shared::secret::Secret;
use serde::{Deserialize, Serialize};

/// How long a back end has by default.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Declares the options of a hook, with a switch and without. A macro, because unknown keys are refused and that excludes
/// flattening one struct into the other.
macro_rules! hook_options {
    ($( $(#[$attribute:meta])* $option:ident: $kind:ty, )*) => {
        /// A hook that namespaces switch on.
        #[derive(Clone, Debug, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct RawChannelHook { $( $(#[$attribute])* pub $option: $kind, )* }

        /// A hook with a switch of its own.
        #[derive(Clone, Debug, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct RawHook {
            /// The back end is asked.
            pub enabled: bool,
            $( $(#[$attribute])* pub $option: $kind, )*
        }

        impl Default for RawHook {
            fn default() -> Self {
                let RawChannelHook { $( $option, )* } = RawChannelHook::default();
                Self { enabled: false, $( $option, )* }
            }
        }

        impl RawHook {
            pub(in crate::config) fn options(&self) -> RawChannelHook {
                RawChannelHook { $( $option: self.$option.clone(), )* }
            }
        }
    };
}

hook_options! {
    /// Where the back end is asked: an `http` or `https` URL, which gets a POST. Redirects are not followed.
    endpoint: String,
    /// Time for the whole answer. Without one the client gets a temporary error.
    #[serde(with = "duration")]
    timeout: Duration,
    /// Headers of the client's request that are passed on, and those that the client's connect command emulates. Behind a
    /// gateway there are those in the gateway's `forward_headers`.
    http_headers: Vec<String>,
    /// What only calls over HTTP have.
    http: RawHookHttp,
    /// Payloads are in base64, in `b64data` and `b64info`: for payloads that are no JSON.
    binary_encoding: bool,
    /// Questions say in `meta` what the connect hook's answer or the connection token said there.
    include_connection_meta: bool,
}

impl Default for RawChannelHook {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            timeout: TIMEOUT,
            http_headers: Vec::new(),
            http: RawHookHttp::default(),
            binary_encoding: false,
            include_connection_meta: false,
        }
    }
}

/// Options named `*.proxy.*.http.*`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawHookHttp {
    /// Headers of every call, for the back end to know its worker by.
    pub static_headers: BTreeMap<String, Secret>,
}

/// Options named `client.proxy.*`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawClientProxy {
    /// Says who a client is that comes with neither a token nor a passport that says it.
    pub connect: RawHook,
    /// Says whether a connection that expires may go on, unless its client refreshes it with a token.
    pub refresh: RawHook,
}

/// Options named `rpc.*`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawRpc {
    /// Answers what clients call. Without it calls are not available.
    pub proxy: RawHook,
}

/// Options named `channel.proxy.*`; each hook is switched on by namespaces.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawChannelProxy {
    /// For `subscribe_proxy_enabled`.
    pub subscribe: RawChannelHook,
    /// For `publish_proxy_enabled`. A publisher's next command waits for the answer, so that its order is kept.
    pub publish: RawChannelHook,
    /// For `sub_refresh_proxy_enabled`.
    pub sub_refresh: RawChannelHook,
}

/// Options named `hooks.*`: bounds that all hooks have.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawHooks {
    /// Most calls of one hook at a time. More wait, as far as their time limit goes.
    pub in_flight_max: usize,
    /// Most calls of one hook that wait. For more than that clients get a temporary error at once.
    pub waiting_max: usize,
    /// Longest time that a connection or a subscription outlives its expiry while its refresh hook does not answer, which
    /// is asked again about every ten seconds.
    #[serde(with = "duration")]
    pub refresh_unanswered_max: Duration,
}

impl Default for RawHooks {
    fn default() -> Self {
        Self {
            in_flight_max: 256,
            waiting_max: 4096,
            refresh_unanswered_max: Duration::from_secs(300),
        }
    }
}
