//! What the hub promises, with members that write down what they get.

use std::cell::{Cell, RefCell};

use flotilla_shared::protocol::types::{Publication, Push};
use prost::Message as _;

use super::*;

#[derive(Debug)]
struct Listener {
    id: u32,
    format: Format,
    writes: RefCell<Vec<Bytes>>,
    refuses: Cell<bool>,
    is_inexpressible: Cell<bool>,
}

impl Listener {
    fn new(id: u32, format: Format) -> Rc<Self> {
        Rc::new(Self {
            id,
            format,
            writes: RefCell::default(),
            refuses: Cell::new(false),
            is_inexpressible: Cell::new(false),
        })
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

    fn format(&self) -> Format {
        self.format
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

fn payload(data: &'static [u8]) -> Bytes {
    let publication = Publication {
        data: data.into(),
        ..Default::default()
    };
    Push {
        publication: Some(publication),
        ..Default::default()
    }
    .encode_to_vec()
    .into()
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

    fn open(&mut self, name: &str, member: &Rc<Listener>) -> u64 {
        let Join::Open(token) = self.hub.join(&channel(name), member) else {
            panic!("{name} is open already");
        };
        assert_eq!(self.hub.opened(token, true, self.now).len(), 1);
        token
    }

    fn tick(&mut self, messages: &[(u64, &'static [u8])]) -> Fanout {
        let mut fanout = Fanout::default();
        let mut scratch = BytesMut::new();
        for (token, data) in messages {
            self.hub
                .receive(*token, payload(data), &mut scratch, &mut fanout);
        }
        self.hub.flush(&mut fanout);
        fanout
    }
}

#[test]
fn what_arrived_together_leaves_in_one_write_per_member() {
    let mut bench = Bench::new();
    let (ann, bob) = (
        Listener::new(1, Format::Json),
        Listener::new(2, Format::Json),
    );
    let token = bench.open("news", &ann);
    assert_eq!(bench.hub.join(&channel("news"), &bob), Join::Joined);
    let fanout = bench.tick(&[(token, b"1"), (token, b"2"), (token, b"3")]);
    assert_eq!(
        fanout,
        Fanout {
            delivered: 6,
            refused: 0,
            malformed: 0
        }
    );
    for listener in [ann, bob] {
        assert_eq!(listener.writes.borrow().len(), 1);
        let text = listener.text();
        let at = |data: &str| {
            text.find(&format!(
                r#"{{"push":{{"channel":"news","pub":{{"data":{data}}}}}}}"#
            ))
        };
        assert!(
            at("1").unwrap() < at("2").unwrap() && at("2").unwrap() < at("3").unwrap(),
            "{text}"
        );
    }
}

#[test]
fn members_of_both_formats_share_the_bytes_of_their_own() {
    let mut bench = Bench::new();
    let json = Listener::new(1, Format::Json);
    let (one, other) = (
        Listener::new(2, Format::Protobuf),
        Listener::new(3, Format::Protobuf),
    );
    let token = bench.open("news", &json);
    bench.hub.join(&channel("news"), &one);
    bench.hub.join(&channel("news"), &other);
    bench.tick(&[(token, b"{}")]);
    assert!(json.text().contains("\"data\":{}"));
    assert_eq!(
        one.writes.borrow()[0].as_ptr(),
        other.writes.borrow()[0].as_ptr(),
        "encoded once"
    );
    assert_eq!(one.writes.borrow()[0][0], 0x82, "a binary frame");
}

#[test]
fn a_payload_that_is_no_json_costs_the_json_member_its_connection_and_nobody_else() {
    let mut bench = Bench::new();
    let (json, protobuf) = (
        Listener::new(1, Format::Json),
        Listener::new(2, Format::Protobuf),
    );
    let token = bench.open("news", &json);
    bench.hub.join(&channel("news"), &protobuf);
    bench.tick(&[(token, b"\xff")]);
    assert!(json.is_inexpressible.get() && json.writes.borrow().is_empty());
    assert_eq!(protobuf.writes.borrow().len(), 1);
}

#[test]
fn joiners_wait_until_the_broker_has_confirmed() {
    let mut bench = Bench::new();
    let (ann, bob) = (
        Listener::new(1, Format::Json),
        Listener::new(2, Format::Json),
    );
    let Join::Open(token) = bench.hub.join(&channel("news"), &ann) else {
        panic!()
    };
    assert_eq!(bench.hub.join(&channel("news"), &bob), Join::Waiting);
    bench.tick(&[(token, b"1")]);
    assert!(
        ann.writes.borrow().is_empty(),
        "what comes before the barrier is not for joiners"
    );
    let joined: Vec<u32> = bench
        .hub
        .opened(token, true, bench.now)
        .iter()
        .map(|member| member.id)
        .collect();
    assert_eq!(joined, [1, 2]);
    bench.tick(&[(token, b"2")]);
    assert!(ann.text().contains("\"data\":2") && bob.text().contains("\"data\":2"));
}

#[test]
fn a_channel_that_could_not_be_opened_can_be_asked_for_again() {
    let mut bench = Bench::new();
    let ann = Listener::new(1, Format::Json);
    let Join::Open(token) = bench.hub.join(&channel("news"), &ann) else {
        panic!()
    };
    assert_eq!(bench.hub.opened(token, false, bench.now).len(), 1);
    assert_eq!((bench.hub.channels(), bench.hub.subscriptions()), (0, 0));
    let Join::Open(again) = bench.hub.join(&channel("news"), &ann) else {
        panic!()
    };
    assert_ne!(token, again);
}

#[test]
fn an_empty_channel_lingers_and_then_leaves_the_broker() {
    let mut bench = Bench::new();
    let ann = Listener::new(1, Format::Json);
    let token = bench.open("news", &ann);
    bench.hub.leave(&channel("news"), &ann, bench.now);
    assert!(bench.hub.sweep(bench.now + LINGER / 2).is_empty());
    assert_eq!(bench.hub.sweep(bench.now + LINGER), [token]);
    assert_eq!(bench.hub.channels(), 0);
}

#[test]
fn whoever_comes_back_in_time_finds_the_channel_live() {
    let mut bench = Bench::new();
    let ann = Listener::new(1, Format::Json);
    let token = bench.open("news", &ann);
    bench.hub.leave(&channel("news"), &ann, bench.now);
    assert_eq!(bench.hub.join(&channel("news"), &ann), Join::Joined);
    assert!(bench.hub.sweep(bench.now + 2 * LINGER).is_empty());
    assert_eq!(bench.tick(&[(token, b"1")]).delivered, 1);
}

#[test]
fn a_channel_whose_joiners_all_left_before_it_opened_lingers_too() {
    let mut bench = Bench::new();
    let ann = Listener::new(1, Format::Json);
    let Join::Open(token) = bench.hub.join(&channel("news"), &ann) else {
        panic!()
    };
    bench.hub.leave(&channel("news"), &ann, bench.now);
    assert!(bench.hub.opened(token, true, bench.now).is_empty());
    assert_eq!(bench.hub.sweep(bench.now + LINGER), [token]);
}

#[test]
fn a_late_message_of_an_earlier_life_finds_nobody() {
    let mut bench = Bench::new();
    let ann = Listener::new(1, Format::Json);
    let old = bench.open("news", &ann);
    bench.hub.leave(&channel("news"), &ann, bench.now);
    bench.hub.sweep(bench.now + LINGER);
    let new = bench.open("other", &ann);
    assert_eq!(old as u32, new as u32, "the slot is used again");
    assert_eq!(bench.tick(&[(old, b"1")]).delivered, 0);
    assert_eq!(bench.tick(&[(new, b"1")]).delivered, 1);
}

#[test]
fn what_is_no_publication_and_what_is_refused_is_counted() {
    let mut bench = Bench::new();
    let ann = Listener::new(1, Format::Json);
    let token = bench.open("news", &ann);
    let mut fanout = Fanout::default();
    bench.hub.receive(
        token,
        Bytes::from_static(b"\xff\xff\xff"),
        &mut BytesMut::new(),
        &mut fanout,
    );
    assert_eq!(fanout.malformed, 1);
    ann.refuses.set(true);
    assert_eq!(bench.tick(&[(token, b"1"), (token, b"2")]).refused, 2);
}

#[test]
fn a_busy_channel_is_written_out_before_its_buffer_grows_without_bound() {
    let mut bench = Bench::new();
    let ann = Listener::new(1, Format::Json);
    let token = bench.open("news", &ann);
    let big: &'static [u8] = Box::leak(
        format!("\"{}\"", "x".repeat(60_000))
            .into_bytes()
            .into_boxed_slice(),
    );
    let fanout = bench.tick(&[(token, big); 10]);
    assert_eq!(fanout.delivered, 10);
    assert!(
        ann.writes
            .borrow()
            .iter()
            .all(|frames| frames.len() < 200_000)
    );
}
