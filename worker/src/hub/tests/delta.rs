//! Deltas: whoever takes them can read all that it gets, and nobody else sees any.

use std::collections::HashMap;

use flotilla_shared::broker::{HistoryPage, StoredPublication};
use flotilla_shared::delta::fossil_delta;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Long enough for a delta to be the shorter one.
fn document(version: u32) -> Vec<u8> {
    format!(r#"{{"text":"a text that stays as it is","version":{version}}}"#).into_bytes()
}

fn published(data: &[u8], is_marked: bool) -> Bytes {
    let publication = Publication {
        data: Bytes::copy_from_slice(data),
        delta: is_marked,
        ..Publication::default()
    };
    let push = Push {
        publication: Some(publication),
        ..Push::default()
    };
    push.encode_to_vec().into()
}

fn takes_deltas(recover: Option<Recover>) -> Subscribing {
    Subscribing {
        delivery: Delivery {
            mode: Mode::Delta,
            ..Delivery::default()
        },
        recover,
    }
}

fn since(offset: u64) -> Recover {
    Recover {
        offset,
        epoch: None,
        kind: RecoveryKind::Stream,
        limit: 100,
    }
}

/// A client that has asked for deltas, or one that has not.
struct Reader {
    listener: Rc<Listener>,
    takes_deltas: bool,
    has: Option<Vec<u8>>,
}

impl Reader {
    fn new(id: u32, format: Format) -> Self {
        Self {
            listener: Listener::new(id, format),
            takes_deltas: true,
            has: None,
        }
    }

    /// Reads what has come since it did so last: these publications and no others. Returns which came as a delta.
    fn reads<T: AsRef<[u8]>>(&mut self, expected: &[T]) -> Vec<bool> {
        let publications = self.listener.publications();
        self.listener.writes.borrow_mut().clear();
        self.reads_all(&publications, expected)
    }

    fn reads_all<T: AsRef<[u8]>>(
        &mut self,
        publications: &[Publication],
        expected: &[T],
    ) -> Vec<bool> {
        assert_eq!(publications.len(), expected.len(), "{publications:?}");
        let pairs = publications.iter().zip(expected);
        pairs
            .map(|(publication, expected)| self.is_delta(publication, expected.as_ref()))
            .collect()
    }

    fn is_delta(&mut self, publication: &Publication, expected: &[u8]) -> bool {
        let is_string = self.takes_deltas && self.listener.wire.format().is_text();
        let data = if is_string {
            let text: String = serde_json::from_slice(&publication.data).unwrap();
            text.into_bytes()
        } else {
            publication.data.to_vec()
        };
        let before = self.has.replace(expected.to_vec());
        if publication.delta {
            assert!(self.takes_deltas);
            let base = before.expect("a delta against a publication that it has");
            assert_eq!(data, fossil_delta(&base, expected));
            assert!(data.len() < expected.len());
        } else {
            assert_eq!(data, expected);
        }
        publication.delta
    }
}

impl Bench {
    fn publish(&mut self, token: u64, payloads: &[Bytes]) -> Fanout {
        let mut fanout = Fanout::default();
        let mut scratch = BytesMut::new();
        for payload in payloads {
            self.hub.receive(
                token,
                payload.clone(),
                None,
                &mut scratch,
                &mut fanout,
                self.now,
            );
        }
        self.hub.flush(&mut fanout, self.now);
        fanout
    }

    /// Publications of a stream, each right behind the one before.
    fn append(&mut self, token: u64, offset: u64, data: &[u8]) {
        let stamp = Stamp {
            position: position(1, offset),
            previous: offset - 1,
        };
        let mut fanout = Fanout::default();
        let payload = published(data, true);
        self.hub.receive(
            token,
            payload,
            Some(stamp),
            &mut BytesMut::new(),
            &mut fanout,
            self.now,
        );
        self.hub.flush(&mut fanout, self.now);
    }

    fn enter(&mut self, reader: &Reader) {
        let subscribing = if reader.takes_deltas {
            takes_deltas(None)
        } else {
            Subscribing::default()
        };
        let join = self
            .hub
            .join(&channel("news"), &reader.listener, subscribing, self.now);
        assert!(matches!(join, Join::Joined(_)), "{join:?}");
    }

    /// A channel whose stream ends at 3 and that has been followed to 6, by somebody who takes everything whole.
    fn kept(&mut self, first: &Rc<Listener>) -> u64 {
        let token = self.ask("news", first);
        let opened = self.hub.opened(token, Ok(Some(history(1, 3))), self.now);
        assert_eq!(opened.joined.len(), 1);
        for offset in 4..=6 {
            self.append(token, offset, &document(offset as u32));
        }
        token
    }

    fn recovers(&mut self, reader: &mut Reader, recover: Recover, expected: &[u32]) -> Vec<bool> {
        let join = self.hub.join(
            &channel("news"),
            &reader.listener,
            takes_deltas(Some(recover)),
            self.now,
        );
        let Join::Joined(joined) = join else {
            panic!("{join:?}")
        };
        recovered(reader, joined, expected)
    }
}

fn recovered(reader: &mut Reader, joined: Joined, expected: &[u32]) -> Vec<bool> {
    let Some(Recovery::Recovered(publications)) = joined.recovery else {
        panic!("{joined:?}")
    };
    let expected: Vec<_> = expected.iter().copied().map(document).collect();
    reader.reads_all(&publications, &expected)
}

#[test]
fn the_first_publication_comes_whole_and_the_next_ones_as_deltas() {
    for format in [Format::Json, Format::Protobuf] {
        let mut bench = Bench::new();
        let mut ann = Reader::new(1, format);
        let token = bench.open("news", &Listener::new(9, Format::Json));
        bench.enter(&ann);
        let documents = [1, 2, 3].map(document);
        let payloads = documents
            .each_ref()
            .map(|document| published(document, true));
        bench.publish(token, &payloads);
        assert_eq!(ann.reads(&documents), [false, true, true]);
        bench.publish(token, &payloads[..1]);
        assert_eq!(ann.reads(&documents[..1]), [true]);
    }
}

#[test]
fn in_json_everything_that_comes_is_a_string_and_for_others_it_is_embedded() {
    let mut bench = Bench::new();
    let (plain, ann) = (Listener::new(1, Format::Json), Reader::new(2, Format::Json));
    let token = bench.open("news", &plain);
    bench.enter(&ann);
    bench.publish(token, &[published(b"{\n\"a\": \"b\"}", true)]);
    assert!(plain.text().contains(r#""data":{ "a": "b"}"#));
    let text = ann.listener.text();
    assert!(
        text.contains(r#""data":"{\n\"a\": \"b\"}""#) && !text.contains("\"delta\""),
        "{text}"
    );
}

#[test]
fn what_is_not_marked_or_not_shorter_comes_whole_and_the_chain_goes_on_from_it() {
    let mut bench = Bench::new();
    let mut ann = Reader::new(1, Format::Json);
    let token = bench.open("news", &Listener::new(9, Format::Protobuf));
    bench.enter(&ann);
    let documents = [document(1), document(2), document(3), b"4".into()];
    let payloads = [
        published(&documents[0], true),
        published(&documents[1], false),
        published(&documents[2], true),
        published(&documents[3], true),
    ];
    bench.publish(token, &payloads);
    assert_eq!(ann.reads(&documents), [false, false, true, false]);
}

#[test]
fn who_came_later_gets_the_same_bytes_as_soon_as_it_has_the_same_base() {
    let mut bench = Bench::new();
    let mut readers = [1, 2, 3].map(|id| Reader::new(id, Format::Protobuf));
    let token = bench.open("news", &Listener::new(9, Format::Protobuf));
    for (at, version) in (0..3).zip(1..) {
        bench.enter(&readers[at]);
        bench.publish(token, &[published(&document(version), true)]);
        let came = readers[..=at].iter_mut();
        let deltas: Vec<_> = came
            .flat_map(|own| own.reads(&[document(version)]))
            .collect();
        assert_eq!(deltas.iter().filter(|is_delta| !**is_delta).count(), 1);
        assert!(!deltas[at], "it has nothing yet");
    }
    bench.publish(token, &[published(&document(4), true)]);
    let written = |reader: &Reader| reader.listener.writes.borrow()[0].as_ptr();
    assert_eq!(written(&readers[0]), written(&readers[1]), "encoded once");
    assert_eq!(written(&readers[0]), written(&readers[2]), "encoded once");
    for reader in &mut readers {
        assert_eq!(reader.reads(&[document(4)]), [true]);
    }
}

#[test]
fn who_comes_back_after_everyone_has_left_is_not_given_a_delta() {
    let mut bench = Bench::new();
    let mut ann = Reader::new(1, Format::Json);
    let token = bench.open("news", &Listener::new(9, Format::Json));
    bench.enter(&ann);
    bench.publish(token, &[published(&document(1), true)]);
    ann.reads(&[document(1)]);
    bench.hub.leave(&channel("news"), &ann.listener, bench.now);
    bench.publish(token, &[published(&document(2), true)]);
    bench.enter(&ann);
    bench.publish(token, &[published(&document(3), true)]);
    assert_eq!(ann.reads(&[document(3)]), [false]);
}

#[test]
fn what_is_no_json_costs_those_who_read_json_their_connection_with_deltas_too() {
    let mut bench = Bench::new();
    let (json, mut protobuf) = (
        Reader::new(1, Format::Json),
        Reader::new(2, Format::Protobuf),
    );
    let token = bench.open("news", &Listener::new(9, Format::Protobuf));
    bench.enter(&json);
    bench.enter(&protobuf);
    let text = "no JSON, if UTF-8 all the same".as_bytes();
    bench.publish(token, &[published(text, true), published(text, true)]);
    assert!(json.listener.is_inexpressible.get() && json.listener.writes.borrow().is_empty());
    assert_eq!(protobuf.reads(&[text, text]), [false, true]);
}

#[test]
fn what_was_missed_is_a_chain_of_its_own_and_what_follows_continues_it() {
    for format in [Format::Json, Format::Protobuf] {
        let mut bench = Bench::new();
        let mut ann = Reader::new(1, format);
        let token = bench.kept(&Listener::new(9, Format::Json));
        let deltas = bench.recovers(&mut ann, since(3), &[4, 5, 6]);
        assert_eq!(deltas, [false, true, true]);
        bench.append(token, 7, &document(7));
        assert_eq!(ann.reads(&[document(7)]), [true]);
    }
}

#[test]
fn a_chain_that_was_read_from_the_broker_continues_too() {
    let mut bench = Bench::new();
    let mut ann = Reader::new(1, Format::Json);
    let token = bench.kept(&Listener::new(9, Format::Json));
    let join = bench.hub.join(
        &channel("news"),
        &ann.listener,
        takes_deltas(Some(since(1))),
        bench.now,
    );
    let Join::Fetch(fetch) = join else {
        panic!("{join:?}")
    };
    bench.append(token, 7, &document(7));
    let stored = |offset: u32| StoredPublication {
        offset: u64::from(offset),
        payload: published(&document(offset), true),
    };
    let page = HistoryPage {
        publications: (2..=6).map(stored).collect(),
        end: position(1, 6),
        is_complete: true,
    };
    let joined = bench.fetched(fetch, page);
    let deltas = recovered(&mut ann, joined, &[2, 3, 4, 5, 6, 7]);
    assert_eq!(deltas, [false, true, true, true, true, true]);
    bench.append(token, 8, &document(8));
    assert_eq!(ann.reads(&[document(8)]), [true]);
}

#[test]
fn who_missed_nothing_or_could_not_recover_begins_with_a_whole_one() {
    let mut bench = Bench::new();
    let token = bench.kept(&Listener::new(9, Format::Json));
    let (mut ann, bob) = (Reader::new(1, Format::Json), Reader::new(2, Format::Json));
    assert!(bench.recovers(&mut ann, since(6), &[]).is_empty());
    let other_life = Recover {
        epoch: Some(Epoch(2)),
        ..since(3)
    };
    let subscribing = takes_deltas(Some(other_life));
    let join = bench
        .hub
        .join(&channel("news"), &bob.listener, subscribing, bench.now);
    assert!(matches!(
        join,
        Join::Joined(Joined {
            recovery: Some(Recovery::Unrecoverable),
            ..
        })
    ));
    bench.append(token, 7, &document(7));
    for mut reader in [ann, bob] {
        assert_eq!(reader.reads(&[document(7)]), [false]);
    }
}

#[test]
fn a_publication_that_is_not_kept_takes_the_place_of_the_recovered_base() {
    let mut bench = Bench::new();
    let token = bench.kept(&Listener::new(9, Format::Json));
    let (mut ann, mut bob) = (Reader::new(1, Format::Json), Reader::new(2, Format::Json));
    bench.recovers(&mut ann, since(5), &[6]);
    bench.publish(token, &[published(&document(100), false)]);
    assert_eq!(ann.reads(&[document(100)]), [false]);
    bench.recovers(&mut bob, since(5), &[6]);
    bench.append(token, 7, &document(7));
    assert_eq!(ann.reads(&[document(7)]), [true]);
    assert_eq!(bob.reads(&[document(7)]), [false], "it never had the 100");
}

#[test]
fn without_deltas_what_was_missed_comes_whole_whatever_its_marks_say() {
    let mut bench = Bench::new();
    bench.kept(&Listener::new(9, Format::Json));
    let bob = Listener::new(2, Format::Json);
    let subscribing = Subscribing {
        recover: Some(since(4)),
        ..Subscribing::default()
    };
    let join = bench
        .hub
        .join(&channel("news"), &bob, subscribing, bench.now);
    let Join::Joined(joined) = join else {
        panic!("{join:?}")
    };
    let mut plain = Reader {
        takes_deltas: false,
        ..Reader::new(2, Format::Json)
    };
    assert_eq!(recovered(&mut plain, joined, &[5, 6]), [false, false]);
}

#[test]
fn a_gap_ends_the_chain_of_those_who_are_told_and_of_nobody_else() {
    let mut bench = Bench::new();
    let token = bench.kept(&Listener::new(9, Format::Json));
    let (mut ann, mut bob) = (Reader::new(1, Format::Json), Reader::new(2, Format::Json));
    bench.enter(&ann);
    let mut positioned = takes_deltas(None);
    positioned.delivery.positioned = true;
    bench.hub.join(
        &channel("news"),
        &bob.listener,
        positioned.clone(),
        bench.now,
    );
    bench.append(token, 7, &document(7));
    // 8 is lost.
    bench.append(token, 9, &document(9));
    bench.nothing_is_kept();
    assert_eq!(ann.reads(&[document(7), document(9)]), [false, true]);
    assert_eq!(bob.reads(&[document(7)]), [false]);
    let settled = bench.hub.take_settled();
    assert!(matches!(settled[..], [Settled::Insufficient(..)]));

    bench
        .hub
        .join(&channel("news"), &bob.listener, positioned, bench.now);
    bench.append(token, 10, &document(10));
    assert_eq!(ann.reads(&[document(10)]), [true]);
    assert_eq!(bob.reads(&[document(10)]), [false]);
}

#[derive(Clone, Debug)]
enum Step {
    Join {
        is_json: bool,
        takes_deltas: bool,
    },
    /// Of those who are in, the one at this place.
    Leave(prop::sample::Index),
    /// In one tick; each with its mark.
    Publish(Vec<(u32, bool)>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => any::<(bool, bool)>().prop_map(|(is_json, takes_deltas)| Step::Join { is_json, takes_deltas }),
        1 => any::<prop::sample::Index>().prop_map(Step::Leave),
        3 => vec((0_u32..5, prop::bool::weighted(0.8)), 1..4).prop_map(Step::Publish),
    ]
}

proptest! {
    /// Each checks that what comes as a delta is one against what it has.
    #[test]
    fn everyone_can_read_everything_whoever_comes_and_goes(steps in vec(step(), 1..40)) {
        let mut bench = Bench::new();
        let token = bench.open("news", &Listener::new(0, Format::Json));
        let mut readers: HashMap<u32, Reader> = HashMap::new();
        for (id, step) in (1..).zip(steps) {
            match step {
                Step::Join { is_json, takes_deltas } => {
                    let format = if is_json { Format::Json } else { Format::Protobuf };
                    let reader = Reader { takes_deltas, ..Reader::new(id, format) };
                    bench.enter(&reader);
                    readers.insert(id, reader);
                }
                Step::Leave(which) => {
                    let mut ids: Vec<_> = readers.keys().copied().collect();
                    ids.sort_unstable();
                    if !ids.is_empty() {
                        let reader = readers.remove(which.get(&ids)).unwrap();
                        bench.hub.leave(&channel("news"), &reader.listener, bench.now);
                    }
                }
                Step::Publish(published_ones) => {
                    let documents: Vec<_> = published_ones.iter().map(|(version, _)| document(*version)).collect();
                    let marks = published_ones.iter().map(|(_, is_marked)| *is_marked);
                    let payloads: Vec<_> = documents.iter().zip(marks.clone()).map(|(document, mark)| published(document, mark)).collect();
                    bench.publish(token, &payloads);
                    for reader in readers.values_mut() {
                        let had_one = reader.has.is_some();
                        let deltas = reader.reads(&documents);
                        // Nothing is whole without need.
                        let can_be = marks.clone().enumerate().map(|(at, mark)| mark && reader.takes_deltas && (had_one || at > 0));
                        prop_assert_eq!(deltas, can_be.collect::<Vec<_>>());
                    }
                }
            }
        }
    }
}
