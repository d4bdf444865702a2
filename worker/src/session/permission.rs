//! What a client may do in a channel by its namespace's options alone: without a token, and without asking the
//! application.

use flotilla_shared::auth::SubscriptionClaims;
use flotilla_shared::channel::Channel;
use flotilla_shared::protocol::codes::ErrorCode;

use super::Session;
use crate::namespace::NamespaceOptions;

/// Who may do something: the three options `allow_*_for_client`, `_subscriber` and `_anonymous`.
pub(super) struct Allowed {
    pub(super) client: bool,
    pub(super) subscriber: bool,
    pub(super) anonymous: bool,
}

/// How a client that is not refused gets what it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// At once.
    Granted,
    /// The back end decides.
    ForTheBackEnd,
}

impl Session {
    /// Whether the client is among those who may do something in `channel`.
    pub(super) fn is_among(&self, allowed: &Allowed, channel: &Channel) -> bool {
        let is_meant = allowed.client || allowed.subscriber && self.active(channel).is_some();
        self.policy.client.insecure || is_meant && (!self.user.is_empty() || allowed.anonymous)
    }

    /// Whether the client may subscribe without a token.
    pub(super) fn may_subscribe_by_itself(
        &self,
        channel: &Channel,
        options: &NamespaceOptions,
    ) -> Result<Access, ErrorCode> {
        if channel.is_private() {
            return Err(ErrorCode::PermissionDenied);
        }
        if let Some(users) = users_of(channel, options.allow_user_limited_channels) {
            let is_listed =
                !self.user.is_empty() && users.split(',').any(|user| *user == *self.user);
            return is_listed
                .then_some(Access::Granted)
                .ok_or(ErrorCode::PermissionDenied);
        }
        if options.subscribe_proxy_enabled {
            return Ok(Access::ForTheBackEnd);
        }
        let allowed = Allowed {
            client: options.allow_subscribe_for_client,
            subscriber: false,
            anonymous: options.allow_subscribe_for_anonymous,
        };
        self.is_among(&allowed, channel)
            .then_some(Access::Granted)
            .ok_or(ErrorCode::PermissionDenied)
    }

    /// Whether a subscription token was made for this client and this channel.
    pub(super) fn is_for_us(&self, claims: &SubscriptionClaims, channel: &Channel) -> bool {
        claims.channel == channel.as_str()
            && claims.user == *self.user
            && claims
                .client
                .as_ref()
                .is_none_or(|client| *client == self.client.to_string())
    }
}

/// The users whom a channel's name admits, if it is limited to some: `dialog#12,56`. A name that begins with `#` is one
/// user's personal channel, whether or not the namespace has user-limited channels.
fn users_of(channel: &Channel, allow_user_limited_channels: bool) -> Option<&str> {
    let name = channel.as_str();
    let rest = name.split_once(':').map_or(name, |(_, rest)| rest);
    match rest.split_once('#')? {
        ("", users) => Some(users),
        (_, users) if allow_user_limited_channels => Some(users),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_which_users_it_admits() {
        let users = |name: &str, allow| {
            users_of(&Channel::parse(name, 255).unwrap(), allow).map(str::to_owned)
        };
        assert_eq!(users("dialog#12,56", true).as_deref(), Some("12,56"));
        assert_eq!(users("chat:dialog#12", true).as_deref(), Some("12"));
        assert_eq!(users("c#sharp", false), None);
        assert_eq!(users("news", true), None);
        for allow in [true, false] {
            assert_eq!(users("#12", allow).as_deref(), Some("12"));
            assert_eq!(users("personal:#12", allow).as_deref(), Some("12"));
            assert_eq!(users("#", allow).as_deref(), Some(""));
        }
    }
}
