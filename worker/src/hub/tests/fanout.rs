//! Who gets what happens in a channel, and how.

use flotilla_shared::protocol::types::Push;
use prost::Message as _;

use super::*;

#[test]
fn what_arrived_together_leaves_in_one_write_per_member() {
    let mut bench = Bench::new();
    let (ann, bob) = (
        Listener::new(1, Format::Json),
        Listener::new(2, Format::Json),
    );
    let token = bench.open("news", &ann);
    bench.join("news", &bob);
    let fanout = bench.tick(&[(token, b"1"), (token, b"2"), (token, b"3")]);
    assert_eq!(
        fanout,
        Fanout {
            delivered: 6,
            ..Fanout::default()
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
    bench.join("news", &one);
    bench.join("news", &other);
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
    bench.join("news", &protobuf);
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
    let token = bench.ask("news", &ann);
    let waits = bench
        .hub
        .join(&channel("news"), &bob, Subscribing::default(), bench.now);
    assert_eq!(waits, Join::Waiting);
    bench.tick(&[(token, b"1")]);
    assert!(
        ann.writes.borrow().is_empty(),
        "what comes before the barrier is not for joiners"
    );
    let joined: Vec<u32> = bench
        .hub
        .opened(token, Ok(None), bench.now)
        .joined
        .iter()
        .map(|(member, _)| member.id)
        .collect();
    assert_eq!(joined, [1, 2]);
    bench.tick(&[(token, b"2")]);
    assert!(ann.text().contains("\"data\":2") && bob.text().contains("\"data\":2"));
}

#[test]
fn a_channel_that_could_not_be_opened_can_be_asked_for_again() {
    let mut bench = Bench::new();
    let ann = Listener::new(1, Format::Json);
    let token = bench.ask("news", &ann);
    assert_eq!(bench.hub.opened(token, Err(()), bench.now).refused.len(), 1);
    assert_eq!((bench.hub.channels(), bench.hub.subscriptions()), (0, 0));
    let again = bench.ask("news", &ann);
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
    bench.join("news", &ann);
    assert!(bench.hub.sweep(bench.now + 2 * LINGER).is_empty());
    assert_eq!(bench.tick(&[(token, b"1")]).delivered, 1);
}

#[test]
fn a_channel_whose_joiners_all_left_before_it_opened_lingers_too() {
    let mut bench = Bench::new();
    let ann = Listener::new(1, Format::Json);
    let token = bench.ask("news", &ann);
    bench.hub.leave(&channel("news"), &ann, bench.now);
    assert!(
        bench
            .hub
            .opened(token, Ok(None), bench.now)
            .joined
            .is_empty()
    );
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
fn what_is_no_publication_and_what_is_refused_is_counted_by_channel() {
    let mut bench = Bench::new();
    let ann = Listener::new(1, Format::Json);
    let token = bench.open("news", &ann);
    let mut fanout = Fanout::default();
    bench.hub.receive(
        token,
        Bytes::from_static(b"\xff\xff\xff"),
        None,
        &mut BytesMut::new(),
        &mut fanout,
        bench.now,
    );
    let news = channel("news");
    assert_eq!(fanout.malformed, std::slice::from_ref(&news));
    ann.refuses.set(true);
    let fanout = bench.tick(&[(token, b"1"), (token, b"2")]);
    assert_eq!(fanout.refused, [(news, 2)]);
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

#[test]
fn only_those_who_asked_are_told_who_comes_and_goes() {
    let mut bench = Bench::new();
    let (ann, bob) = (
        Listener::new(1, Format::Json),
        Listener::new(2, Format::Json),
    );
    let token = bench.open("news", &ann);
    let delivery = Delivery {
        join_leave: true,
        ..Delivery::default()
    };
    let subscribing = Subscribing {
        delivery,
        recover: None,
    };
    bench
        .hub
        .join(&channel("news"), &bob, subscribing, bench.now);
    let push = Push {
        join: Some(Default::default()),
        ..Push::default()
    };
    let mut fanout = Fanout::default();
    let recipients = bench.hub.receive(
        token,
        push.encode_to_vec().into(),
        None,
        &mut BytesMut::new(),
        &mut fanout,
        bench.now,
    );
    bench.hub.flush(&mut fanout, bench.now);
    assert_eq!((recipients, fanout.delivered), (1, 1));
    assert!(ann.writes.borrow().is_empty() && bob.text().contains("\"join\":{}"));
    assert_eq!(bench.tick(&[(token, b"1")]).delivered, 2);
}
