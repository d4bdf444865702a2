//! Channel names and the NATS subjects they become: two names, separated by a zero.
#![no_main]

// Private to the broker's adapter, and tried here as it is.
#[allow(dead_code)]
#[path = "../../../shared/src/broker/nats/subject.rs"]
mod subject;

use flotilla_shared::broker::{self, Topic};
use flotilla_shared::channel::Channel;
use libfuzzer_sys::fuzz_target;
use subject::Subjects;

/// Longest name, in bytes.
const NAME_MAX_BYTES: usize = 255;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (one, other) = text.split_once('\0').unwrap_or((text, "other"));
    let one = Channel::parse(one, NAME_MAX_BYTES);
    let other = Channel::parse(other, NAME_MAX_BYTES);
    if let (Ok(one), Ok(other)) = (one, other) {
        let is_same = subject(&one) == subject(&other);
        assert_eq!(is_same, one == other, "{one:?} and {other:?}");
    }
});

/// The subject of a channel: one token below the prefix, whatever its name is.
fn subject(channel: &Channel) -> String {
    assert!(channel.as_str().contains(channel.namespace()));
    let subjects = Subjects::new("fuzz").expect("a prefix");
    let topic = Topic::Channel(channel.clone());
    let subject = subjects
        .topic(&topic)
        .expect("every name has a subject")
        .to_string();
    let token = subject.strip_prefix("fuzz.ch.").expect("below the prefix");
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b".*>".contains(&byte);
    assert!(
        !token.is_empty() && token.bytes().all(is_plain),
        "{subject}"
    );
    subject
}
