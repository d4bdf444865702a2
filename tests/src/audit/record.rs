//! What one client was given and told, channel by channel, in the order in which it came.

use std::collections::BTreeMap;
use std::fmt;

use super::Message;

/// One publication, and the place in the channel's stream that came with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// Its offset.
    pub offset: u64,
    /// What it says.
    pub message: Message,
}

/// Something that a client saw of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A publication, live or recovered.
    Given(Given),
    /// It is subscribed, for the first time.
    Subscribed,
    /// It is subscribed again, and was told that it gets everything behind this offset.
    Recovered(u64),
    /// It is subscribed again, and was told that it has missed something behind this offset.
    NotRecovered(u64),
    /// It was told that the subscription has ended.
    Unsubscribed(u32),
    /// The connection ended, with this code and this reason.
    Disconnected(u16, String),
}

impl fmt::Display for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(Given { offset, message }) => write!(formatter, "{message} at {offset}"),
            Self::Subscribed => write!(formatter, "subscribed"),
            Self::Recovered(offset) => write!(formatter, "recovered from {offset}"),
            Self::NotRecovered(offset) => write!(formatter, "NOT recovered from {offset}"),
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

    /// Whether every channel was subscribed at least once.
    pub fn is_subscribed(&self) -> bool {
        let mut channels = self.channels.values();
        channels.all(|events| events.contains(&Event::Subscribed))
    }

    /// How many publications were given, in all channels together.
    pub fn given(&self) -> usize {
        self.count(|event| matches!(event, Event::Given(_)))
    }

    /// How many times a channel was recovered.
    pub fn recovered(&self) -> usize {
        self.count(|event| matches!(event, Event::Recovered(_)))
    }

    fn count(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        let events = self.channels.values().flatten();
        events.filter(|event| wanted(event)).count()
    }
}
