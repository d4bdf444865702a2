//! How topics are spelled as NATS subjects.
//!
//! One subject per topic below one prefix, so that `<prefix>.>` is the only permission a process needs, and two fleets
//! can share a server. A channel name may be any text, a subject may not: it is a list of tokens between dots, `*`
//! and `>` are wild cards, and white space ends it. So a name becomes exactly one token, and two names never the same.

use async_nats::Subject;

use crate::broker::{BrokerError, Topic};

/// Longest subject that is built. The server's own limit is that of a protocol line, 4096 bytes by default.
pub(super) const SUBJECT_MAX_BYTES: usize = 1024;

/// Builds subjects below one prefix.
#[derive(Debug, Clone)]
pub(super) struct Subjects {
    prefix: String,
}

/// Whether `prefix` can stand before all subjects of a fleet: tokens of `a-z A-Z 0-9 - _`, joined by dots, at most 64
/// bytes.
#[must_use]
pub fn is_subject_prefix(prefix: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_token = |token: &str| !token.is_empty() && token.bytes().all(allowed);
    prefix.len() <= 64 && prefix.split('.').all(is_token)
}

impl Subjects {
    pub(super) fn new(prefix: &str) -> Result<Self, BrokerError> {
        if is_subject_prefix(prefix) {
            Ok(Self {
                prefix: prefix.to_owned(),
            })
        } else {
            Err(BrokerError::Refused(
                "the subject prefix is not made of plain tokens".to_owned(),
            ))
        }
    }

    /// The subject of a topic. A name of 1 to 300 bytes always has one.
    pub(super) fn topic(&self, topic: &Topic) -> Result<Subject, BrokerError> {
        let (kind, name) = match topic {
            Topic::Roster => return Ok(format!("{}.roster", self.prefix).into()),
            Topic::Channel(channel) => (".ch.", channel.as_str()),
            Topic::Worker(id) => (".worker.", id.as_str()),
        };
        if name.is_empty() {
            return Err(BrokerError::Refused("the name is empty".to_owned()));
        }
        let mut subject = String::with_capacity(self.prefix.len() + kind.len() + name.len());
        subject.push_str(&self.prefix);
        subject.push_str(kind);
        push_token(name, &mut subject);
        if subject.len() > SUBJECT_MAX_BYTES {
            return Err(BrokerError::Refused("the name is too long".to_owned()));
        }
        Ok(subject.into())
    }

    /// What the subjects begin with on which answers to requests arrive.
    pub(super) fn inboxes(&self) -> String {
        format!("{}.inbox", self.prefix)
    }

    /// The subject on which the connection `id` talks to itself. `id` must be a plain token.
    pub(super) fn barrier(&self, id: &str) -> Subject {
        format!("{}.barrier.{id}", self.prefix).into()
    }
}

/// Appends `name` as one token: printable ASCII stands for itself, everything that means something to NATS, and `%`, is
/// written as `%` and two hexadecimal digits per byte.
pub(super) fn push_token(name: &str, token: &mut String) {
    for byte in name.bytes() {
        if byte.is_ascii_graphic() && !matches!(byte, b'.' | b'*' | b'>' | b'%') {
            token.push(char::from(byte));
        } else {
            token.push('%');
            token.push(hex_digit(byte >> 4));
            token.push(hex_digit(byte & 0xf));
        }
    }
}

fn hex_digit(nibble: u8) -> char {
    char::from(if nibble < 10 {
        b'0' + nibble
    } else {
        b'A' + nibble - 10
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::channel::Channel;

    fn spell(topic: &Topic) -> String {
        let subjects = Subjects::new("flotilla").unwrap();
        subjects.topic(topic).unwrap().into_string()
    }

    fn subject(channel: &str) -> String {
        let channel = Channel::parse(channel, usize::MAX).unwrap();
        spell(&Topic::Channel(channel))
    }

    fn inbox(worker: &str) -> String {
        spell(&Topic::Worker(worker.to_owned()))
    }

    /// Undoes the encoding: only what has an inverse is injective.
    fn decode(token: &str) -> String {
        let mut bytes = Vec::new();
        let mut rest = token.as_bytes().iter();
        while let Some(&byte) = rest.next() {
            if byte == b'%' {
                let digits = [*rest.next().unwrap(), *rest.next().unwrap()];
                let digits = std::str::from_utf8(&digits).unwrap();
                bytes.push(u8::from_str_radix(digits, 16).unwrap());
            } else {
                bytes.push(byte);
            }
        }
        String::from_utf8(bytes).unwrap()
    }

    fn is_one_token(token: &str) -> bool {
        !token.is_empty()
            && token.bytes().all(|byte| byte.is_ascii_graphic())
            && !token.contains(['.', '*', '>'])
    }

    proptest! {
        #[test]
        fn every_name_becomes_one_token_that_leads_back_to_it(name in "(?s).{1,75}") {
            let subjects = [("flotilla.ch.", subject(&name)), ("flotilla.worker.", inbox(&name))];
            for (beginning, subject) in subjects {
                let token = subject.strip_prefix(beginning).unwrap();
                prop_assert!(is_one_token(token));
                prop_assert!(Subject::from(subject.as_str()).is_valid());
                prop_assert_eq!(decode(token), name.clone());
            }
        }

        #[test]
        fn names_that_look_like_encodings_stay_apart(
            one in "[.*>% 25EA]{1,6}",
            other in "[.*>% 25EA]{1,6}",
        ) {
            prop_assert_eq!(subject(&one) == subject(&other), one == other);
            prop_assert_eq!(inbox(&one) == inbox(&other), one == other);
        }
    }

    #[test]
    fn ordinary_names_stay_readable() {
        assert_eq!(
            subject("$chat:room-42#7,8"),
            "flotilla.ch.$chat:room-42#7,8"
        );
        assert_eq!(inbox("worker-1"), "flotilla.worker.worker-1");
        assert_eq!(
            subject("a.b *>%é\n"),
            "flotilla.ch.a%2Eb%20%2A%3E%25%C3%A9%0A"
        );
    }

    #[test]
    fn a_name_at_the_default_limit_always_fits_and_an_endless_or_empty_one_is_refused() {
        let subjects = Subjects::new(&"p".repeat(64)).unwrap();
        let topic = |bytes| Topic::Channel(Channel::parse(&".".repeat(bytes), 4096).unwrap());
        assert!(subjects.topic(&topic(300)).is_ok());
        for bad in [topic(1024), Topic::Worker(String::new())] {
            let refused = subjects.topic(&bad);
            assert!(matches!(refused, Err(BrokerError::Refused(_))), "{bad:?}");
        }
    }

    #[test]
    fn a_prefix_cannot_reach_outside_its_own_tree() {
        for good in ["flotilla", "eu-1.flotilla", "a"] {
            assert!(is_subject_prefix(good), "{good}");
        }
        for bad in [
            "",
            ".",
            "a.",
            "a..b",
            "a.*",
            ">",
            "a b",
            "é",
            &"a".repeat(65),
        ] {
            assert!(!is_subject_prefix(bad), "{bad}");
        }
    }
}
