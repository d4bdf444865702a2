//! Channel names: what a valid one is and how to read it.
//!
//! Owns the type that the rest of the fleet passes around instead of a string. Knows neither the options of
//! a namespace (the worker's configuration) nor how a broker spells a name (each adapter's business).

use std::fmt;
use std::sync::Arc;

/// A checked channel name: not empty, valid UTF-8, no longer than the limit it was parsed with.
///
/// Cloning copies a pointer. Names are compared byte for byte: no case folding, no Unicode normalisation.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Channel(Arc<str>);

/// Why a string is no channel name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// The name is the empty string.
    #[error("the channel name is empty")]
    Empty,
    /// The name is longer than the configured limit.
    #[error("the channel name has more than {max_bytes} bytes")]
    TooLong {
        /// The limit in force, in bytes.
        max_bytes: usize,
    },
}

/// Separates the namespace from the rest of a channel name.
const NAMESPACE_BOUNDARY: char = ':';

/// Marks a channel that may be joined only with a subscription token.
const PRIVATE_PREFIX: char = '$';

impl Channel {
    /// Checks a name that came from outside against `max_bytes` and takes a copy of it.
    ///
    /// # Errors
    /// [`ChannelError`] if the name is empty or too long. Any other string is a name.
    pub fn parse(name: &str, max_bytes: usize) -> Result<Self, ChannelError> {
        if name.is_empty() {
            return Err(ChannelError::Empty);
        }
        if name.len() > max_bytes {
            return Err(ChannelError::TooLong { max_bytes });
        }
        Ok(Self(name.into()))
    }

    /// The name as the client wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the first `:`, without a leading `$`; empty if the name has no `:`.
    ///
    /// The result need not be the name of a configured namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        let name = self.0.strip_prefix(PRIVATE_PREFIX).unwrap_or(&self.0);
        name.split_once(NAMESPACE_BOUNDARY)
            .map_or("", |(namespace, _)| namespace)
    }

    /// Whether the name starts with `$`: such a channel wants a subscription token.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.0.starts_with(PRIVATE_PREFIX)
    }
}

/// Whether `name` may name a namespace in the configuration: at least two of `a-z A-Z 0-9 - _`.
#[must_use]
pub fn is_namespace_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    name.len() >= 2 && name.bytes().all(allowed)
}

impl AsRef<str> for Channel {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> Channel {
        Channel::parse(name, 255).unwrap()
    }

    #[test]
    fn the_namespace_is_what_stands_before_the_first_colon() {
        let expected = [
            ("news", ""),
            ("chat:42", "chat"),
            ("chat:42:7", "chat"),
            ("$chat:42", "chat"),
            ("$chat", ""),
            ("$$chat:42", "$chat"),
            (":42", ""),
            ("chat:", "chat"),
            ("räume:1", "räume"),
        ];
        for (name, namespace) in expected {
            assert_eq!(channel(name).namespace(), namespace, "{name}");
        }
    }

    #[test]
    fn only_a_leading_dollar_makes_a_channel_private() {
        assert!(channel("$chat:42").is_private());
        assert!(!channel("chat:$42").is_private());
    }

    #[test]
    fn the_limit_counts_bytes_and_not_characters() {
        assert_eq!(Channel::parse("é", 2).unwrap().as_str(), "é");
        assert_eq!(
            Channel::parse("é", 1),
            Err(ChannelError::TooLong { max_bytes: 1 })
        );
        assert_eq!(Channel::parse("", 255), Err(ChannelError::Empty));
    }

    #[test]
    fn namespace_names_are_short_plain_words() {
        for good in ["ab", "live-chat", "room_2", "--"] {
            assert!(is_namespace_name(good), "{good}");
        }
        for bad in ["", "a", "chat:", "räume", "a b", "$chat"] {
            assert!(!is_namespace_name(bad), "{bad}");
        }
    }
}
