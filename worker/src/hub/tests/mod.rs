//! What the hub promises, with members that write down what they get.

use std::cell::{Cell, RefCell};

use bytes::BytesMut;
use flotilla_shared::broker::{Epoch, HistoryPage, Retention, Stamp, StreamPosition};
use flotilla_shared::protocol::types::{Publication, Push};
use flotilla_shared::protocol::{Format, replies};
use prost::Message as _;

use super::*;

mod delta;
mod doubt;
mod fanout;
mod filter;
mod forgotten;
mod model;
mod recovery;
mod repair;
mod rolls;
mod room;

#[derive(Debug)]
struct Listener {
    id: u32,
    wire: Wire,
    writes: RefCell<Vec<Bytes>>,
    refuses: Cell<bool>,
    is_inexpressible: Cell<bool>,
}

impl Listener {
    fn new(id: u32, format: Format) -> Rc<Self> {
        Rc::new(Self {
            id,
            wire: Wire::WebSocket(format),
            writes: RefCell::default(),
            refuses: Cell::new(false),
            is_inexpressible: Cell::new(false),
        })
    }

    /// What was delivered so far, read as a client does.
    fn publications(&self) -> Vec<Publication> {
        let format = self.wire.format();
        let mut publications = Vec::new();
        for frames in self.writes.borrow().iter() {
            let mut rest = &frames[..];
            while !rest.is_empty() {
                let (length, header) = match rest[1] {
                    126 => (usize::from(u16::from_be_bytes([rest[2], rest[3]])), 4),
                    short => (usize::from(short), 2),
                };
                let message = &rest[header..header + length];
                rest = &rest[header + length..];
                let pushes = replies(format, message).map(|reply| reply.unwrap().push.unwrap());
                publications.extend(pushes.filter_map(|push| push.publication));
            }
        }
        publications
    }

    fn text(&self) -> String {
        let writes = self.writes.borrow();
        writes
            .iter()
            .map(|frames| String::from_utf8_lossy(frames))
            .collect()
    }
}

impl Member for Listener {
    fn id(&self) -> u32 {
        self.id
    }

    fn wire(&self) -> Wire {
        self.wire
    }

    fn deliver(&self, frames: &Bytes) -> bool {
        self.writes.borrow_mut().push(frames.clone());
        !self.refuses.get()
    }

    fn inexpressible(&self) {
        self.is_inexpressible.set(true);
    }
}

fn channel(name: &str) -> Channel {
    Channel::parse(name, 255).unwrap()
}

fn payload(data: &[u8]) -> Bytes {
    let publication = Publication {
        data: Bytes::copy_from_slice(data),
        ..Default::default()
    };
    Push {
        publication: Some(publication),
        ..Default::default()
    }
    .encode_to_vec()
    .into()
}

fn position(epoch: u64, offset: u64) -> StreamPosition {
    StreamPosition {
        offset,
        epoch: Epoch(epoch),
    }
}

/// In the first life.
fn stamp(previous: u64, offset: u64) -> Stamp {
    Stamp {
        position: position(1, offset),
        previous,
    }
}

/// A channel that keeps 1000 publications for a minute, and whose stream ends there.
fn history(epoch: u64, offset: u64) -> History {
    History {
        end: position(epoch, offset),
        retention: Retention {
            size: 1000,
            ttl: Duration::from_secs(60),
            meta_ttl: Duration::from_secs(3600),
        },
    }
}

/// A hub and the steps that a shard would take.
struct Bench {
    hub: Hub<Listener>,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self {
            hub: Hub::new(),
            now: Instant::now(),
        }
    }

    /// The first to join: the broker is asked for the channel.
    fn ask(&mut self, name: &str, member: &Rc<Listener>) -> u64 {
        let subscribing = Subscribing::default();
        let Join::Open(token) = self.hub.join(&channel(name), member, subscribing, self.now) else {
            panic!("{name} is open already");
        };
        token
    }

    /// Opens a channel without history.
    fn open(&mut self, name: &str, member: &Rc<Listener>) -> u64 {
        let token = self.ask(name, member);
        let opened = self.hub.opened(token, Ok(None), self.now);
        assert_eq!(opened.joined.len(), 1);
        token
    }

    /// Joins a channel that is open.
    fn join(&mut self, name: &str, member: &Rc<Listener>) {
        let subscribing = Subscribing::default();
        let join = self.hub.join(&channel(name), member, subscribing, self.now);
        assert!(matches!(join, Join::Joined(_)), "{join:?}");
    }

    fn tick(&mut self, messages: &[(u64, &[u8])]) -> Fanout {
        let mut fanout = Fanout::default();
        let mut scratch = BytesMut::new();
        for (token, data) in messages {
            self.hub.receive(
                *token,
                payload(data),
                None,
                &mut scratch,
                &mut fanout,
                self.now,
            );
        }
        self.hub.flush(&mut fanout, self.now);
        fanout
    }

    fn removed(&mut self, token: u64, stamp: Stamp) {
        let (mut fanout, mut scratch) = (Fanout::default(), BytesMut::new());
        let (hub, now) = (&mut self.hub, self.now);
        hub.history_removed(token, stamp, &mut scratch, &mut fanout, now);
        self.nothing_is_kept();
    }

    /// What became of gaps.
    fn gaps(&mut self) -> Vec<Gap> {
        self.hub
            .take_gaps()
            .into_iter()
            .map(|(_, gap)| gap)
            .collect()
    }

    /// What shows the gap that is being repaired.
    fn shown(&mut self, token: u64) -> Option<u64> {
        let (_, slot) = slot_of(&mut self.hub.slots, token)?;
        let first = slot.stream.as_ref()?.repair.as_ref()?.first()?;
        Some(first.position.offset)
    }

    /// Nothing of what is missing can be read any more.
    fn nothing_is_kept(&mut self) {
        let mut fanout = Fanout::default();
        for gap in self.hub.due_repairs() {
            let end = self.shown(gap.token).or(gap.query.since).unwrap();
            let page = Some(HistoryPage {
                publications: Vec::new(),
                end: position(1, end),
                is_complete: false,
            });
            let mut scratch = BytesMut::new();
            let GapQuery { token, ticket, .. } = gap;
            self.hub
                .repaired(token, ticket, page, &mut scratch, &mut fanout, self.now);
        }
        self.hub.flush(&mut fanout, self.now);
    }

    /// The same with [`Bench::receive`], where nothing of what is missing can be read any more.
    fn stream(&mut self, token: u64, offsets: &[(u64, u64)]) -> Fanout {
        let fanout = self.receive(token, offsets);
        self.nothing_is_kept();
        fanout
    }

    /// One tick of a stream of the epoch 1: a publication for each pair of the offset before it and its own.
    fn receive(&mut self, token: u64, offsets: &[(u64, u64)]) -> Fanout {
        let mut fanout = Fanout::default();
        let mut scratch = BytesMut::new();
        for (previous, offset) in offsets {
            let stamp = Stamp {
                position: position(1, *offset),
                previous: *previous,
            };
            let payload = payload(offset.to_string().as_bytes());
            self.hub.receive(
                token,
                payload,
                Some(stamp),
                &mut scratch,
                &mut fanout,
                self.now,
            );
        }
        self.hub.flush(&mut fanout, self.now);
        fanout
    }
}
