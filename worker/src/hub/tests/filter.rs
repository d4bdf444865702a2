//! Tags filters: who gets what passes its own, and how many filters a channel takes.

use flotilla_shared::filter::TagsFilter;
use flotilla_shared::protocol::types::{FilterNode, Join as Joining};

use super::*;
use crate::hub::filters::NODES_MAX;

fn is(tag: &str, value: &str) -> FilterNode {
    FilterNode {
        key: tag.into(),
        cmp: "eq".into(),
        val: value.into(),
        ..FilterNode::default()
    }
}

/// Equal only to those with the same number of nodes and the same value.
fn any_of(nodes: usize, value: usize) -> FilterNode {
    FilterNode {
        op: "or".into(),
        nodes: vec![is("n", &value.to_string()); nodes - 1],
        ..FilterNode::default()
    }
}

fn wants(filter: &FilterNode) -> Subscribing {
    let filter = TagsFilter::new(filter).unwrap();
    Subscribing {
        delivery: Delivery {
            mode: Mode::filtered(filter),
            ..Delivery::default()
        },
        recover: None,
    }
}

/// Data and the value of the tag `n` are the same.
fn tagged(value: &str) -> Bytes {
    let publication = Publication {
        data: value.to_owned().into(),
        tags: [("n".to_owned(), value.to_owned())].into(),
        delta: true,
        ..Publication::default()
    };
    let push = Push {
        publication: Some(publication),
        ..Push::default()
    };
    push.encode_to_vec().into()
}

impl Bench {
    fn publish_tagged(&mut self, token: u64, offset: Option<u64>, values: &[&str]) -> Fanout {
        let mut fanout = Fanout::default();
        let mut scratch = BytesMut::new();
        for (value, at) in values.iter().zip(0..) {
            let stamp = offset.map(|offset| Stamp {
                position: position(1, offset + at),
                previous: offset + at - 1,
            });
            self.hub.receive(
                token,
                tagged(value),
                stamp,
                &mut scratch,
                &mut fanout,
                self.now,
            );
        }
        self.hub.flush(&mut fanout, self.now);
        fanout
    }

    fn enter_with(&mut self, id: u32, filter: &FilterNode) -> (Rc<Listener>, bool) {
        let member = Listener::new(id, Format::Protobuf);
        let join = self
            .hub
            .join(&channel("news"), &member, wants(filter), self.now);
        assert!(
            matches!(join, Join::Joined(_) | Join::Refused | Join::Waiting),
            "{join:?}"
        );
        (member, join != Join::Refused)
    }
}

fn data(publications: &[Publication]) -> Vec<&str> {
    let data = publications.iter();
    data.map(|publication| str::from_utf8(&publication.data).unwrap())
        .collect()
}

#[test]
fn everyone_gets_what_its_filter_lets_through_and_others_get_everything() {
    let mut bench = Bench::new();
    let all = Listener::new(1, Format::Json);
    let token = bench.open("news", &all);
    let (ones, _) = bench.enter_with(2, &is("n", "1"));
    let (again, _) = bench.enter_with(3, &is("n", "1"));
    let (twos, _) = bench.enter_with(4, &is("n", "2"));
    let json = Listener::new(5, Format::Json);
    bench
        .hub
        .join(&channel("news"), &json, wants(&is("n", "1")), bench.now);
    let fanout = bench.publish_tagged(token, None, &["1", "2", "3", "1"]);
    assert_eq!(fanout.delivered, 4 + 3 * 2 + 1);
    let expected: [(_, &[&str]); 5] = [
        (&all, &["1", "2", "3", "1"]),
        (&ones, &["1", "1"]),
        (&again, &["1", "1"]),
        (&json, &["1", "1"]),
        (&twos, &["2"]),
    ];
    for (listener, expected) in expected {
        let publications = listener.publications();
        assert_eq!(data(&publications), expected);
        assert!(
            publications.iter().all(|one| !one.delta),
            "no base is known"
        );
    }
    assert_eq!(
        ones.writes.borrow()[0].as_ptr(),
        again.writes.borrow()[0].as_ptr(),
        "who wants the same gets the same bytes"
    );
}

#[test]
fn nobody_comes_or_goes_unseen_for_a_filter() {
    let mut bench = Bench::new();
    let token = bench.open("news", &Listener::new(1, Format::Json));
    let ann = Listener::new(2, Format::Json);
    let mut subscribing = wants(&is("n", "1"));
    subscribing.delivery.join_leave = true;
    bench
        .hub
        .join(&channel("news"), &ann, subscribing, bench.now);
    let push = Push {
        join: Some(Joining::default()),
        ..Push::default()
    };
    let mut fanout = Fanout::default();
    let payload = push.encode_to_vec().into();
    bench.hub.receive(
        token,
        payload,
        None,
        &mut BytesMut::new(),
        &mut fanout,
        bench.now,
    );
    bench.hub.flush(&mut fanout, bench.now);
    assert_eq!(fanout.delivered, 1);
    assert!(ann.text().contains("\"join\":{}"));
}

#[test]
fn what_was_missed_passes_the_filter_too_and_keeps_its_offsets() {
    let mut bench = Bench::new();
    let token = bench.ask("news", &Listener::new(1, Format::Json));
    let end = Some(history(1, 3));
    assert_eq!(bench.hub.opened(token, Ok(end), bench.now).joined.len(), 1);
    bench.publish_tagged(token, Some(4), &["1", "2", "1", "2"]);
    for (value, expected) in [("1", &[4, 6][..]), ("2", &[5, 7]), ("3", &[])] {
        let mut subscribing = wants(&is("n", value));
        subscribing.recover = Some(Recover {
            offset: 3,
            epoch: None,
            kind: RecoveryKind::Stream,
            limit: 100,
        });
        let member = Listener::new(2, Format::Json);
        let join = bench
            .hub
            .join(&channel("news"), &member, subscribing, bench.now);
        let Join::Joined(Joined {
            position: at,
            recovery: Some(Recovery::Recovered(publications)),
        }) = join
        else {
            panic!("{join:?}")
        };
        let offsets: Vec<_> = publications.iter().map(|one| one.offset).collect();
        assert_eq!((at, &offsets[..]), (Some(position(1, 7)), expected));
        assert!(
            publications
                .iter()
                .all(|one| one.data == value && !one.delta)
        );
        bench.hub.leave(&channel("news"), &member, bench.now);
    }
}

#[test]
fn a_channel_takes_so_many_filters_and_any_number_of_members_with_the_same_one() {
    let mut bench = Bench::new();
    let token = bench.ask("news", &Listener::new(0, Format::Json));
    let at_a_time = NODES_MAX / 128;
    let mut members = Vec::new();
    for number in 0..at_a_time {
        // Those who wait until the channel is open count as well.
        if number == at_a_time / 2 {
            let opened = bench.hub.opened(token, Ok(None), bench.now);
            assert_eq!(opened.joined.len(), 1 + number);
        }
        let (member, is_in) = bench.enter_with(100 + number as u32, &any_of(128, number));
        assert!(is_in, "{number}");
        members.push(member);
    }
    let (_, one_more) = bench.enter_with(1, &is("n", "1"));
    assert!(!one_more);
    assert_eq!(bench.hub.subscriptions(), at_a_time + 1);
    let (_, same_one) = bench.enter_with(2, &any_of(128, 5));
    assert!(same_one);
    // When nobody is left with a filter there is room for another.
    bench.hub.leave(&channel("news"), &members[7], bench.now);
    let (_, instead) = bench.enter_with(3, &is("n", "7"));
    assert!(instead);
    bench.publish_tagged(token, None, &["5", "7"]);
    assert_eq!(data(&members[5].publications()), ["5"]);
    assert!(members[7].publications().is_empty());
}
