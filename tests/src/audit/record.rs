//! What one client was given and told, channel by channel, in the order in which it came.

use std::collections::BTreeMap;
use std::fmt;

use super::{Message, Position};

/// Something that a client saw of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A publication, live or recovered, with the offset that came with it.
    Given(u64, Message),
    /// It is subscribed for the first time, and gets everything behind this place.
    Subscribed(Position),
    /// It is subscribed again, and gets everything behind the place where it was.
    Recovered(Position),
    /// It is subscribed again, and was told that it has missed something: it gets everything behind this place.
    Missed(Position),
    /// It was told that this client has come (`true`) or gone.
    Announced(String, bool),
    /// It was told that the subscription has ended.
    Unsubscribed(u32),
    /// The connection ended, with this code and this reason.
    Disconnected(u16, String),
}

impl fmt::Display for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(offset, message) => write!(formatter, "{message} at {offset}"),
            Self::Subscribed(position) => write!(formatter, "subscribed at {position}"),
            Self::Recovered(position) => write!(formatter, "recovered from {position}"),
            Self::Missed(position) => write!(formatter, "told of a loss before {position}"),
            Self::Announced(client, true) => write!(formatter, "{client} has come"),
            Self::Announced(client, false) => write!(formatter, "{client} has gone"),
            Self::Unsubscribed(code) => write!(formatter, "unsubscribed {code}"),
            Self::Disconnected(code, reason) => {
                write!(formatter, "disconnected {code} {reason:?}")
            }
        }
    }
}

/// Everything that one client saw.
#[derive(Clone, Debug)]
pub struct Record {
    client: String,
    channels: BTreeMap<String, Vec<Event>>,
}

impl Record {
    /// The empty record of a client that wants these channels.
    pub fn new(client: &str, channels: &[String]) -> Self {
        let empty = |channel: &String| (channel.clone(), Vec::new());
        Self {
            client: client.to_owned(),
            channels: channels.iter().map(empty).collect(),
        }
    }

    /// The client's name.
    pub fn client(&self) -> &str {
        &self.client
    }

    /// Notes what happened in a channel.
    pub fn note(&mut self, channel: &str, event: Event) {
        self.channels
            .entry(channel.to_owned())
            .or_default()
            .push(event);
    }

    /// Notes the end of the connection, which all channels saw.
    pub fn note_disconnect(&mut self, code: u16, reason: &str) {
        for events in self.channels.values_mut() {
            events.push(Event::Disconnected(code, reason.to_owned()));
        }
    }

    /// Each channel and what happened in it.
    pub fn channels(&self) -> impl Iterator<Item = (&str, &[Event])> {
        let channels = self.channels.iter();
        channels.map(|(channel, events)| (channel.as_str(), events.as_slice()))
    }

    /// How often something like this was seen, over all channels.
    pub fn count(&self, like: impl Fn(&Event) -> bool) -> usize {
        let events = self.channels.values().flatten();
        events.filter(|event| like(event)).count()
    }

    /// Whether something like this was seen in every channel.
    pub fn everywhere(&self, like: impl Fn(&Event) -> bool) -> bool {
        let mut channels = self.channels.values();
        channels.all(|events| events.iter().any(&like))
    }
}
