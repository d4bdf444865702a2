use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::keys::KEYS_MAX;
use super::*;
use crate::broker::{IDEMPOTENCY_WINDOW, StoredPublication};

const PLENTY: usize = 64 * 1024 * 1024;

const SECOND: Duration = Duration::from_secs(1);

const RETENTION: Retention = Retention {
    size: 4,
    ttl: Duration::from_secs(10),
    meta_ttl: Duration::from_secs(30),
};

fn channel(name: &str) -> Channel {
    Channel::parse(name, 255).unwrap()
}

fn plain(payload: impl Into<bytes::Bytes>) -> Append {
    Append {
        payload: payload.into(),
        ..Append::default()
    }
}

fn keyed(key: impl Into<String>) -> Append {
    Append {
        idempotency_key: key.into(),
        ..Append::default()
    }
}

fn versioned(version: u64, epoch: &str) -> Append {
    Append {
        version,
        version_epoch: epoch.to_owned(),
        ..Append::default()
    }
}

/// A store and a clock that stands still until it is moved.
struct Bench {
    streams: Streams,
    now: Instant,
}

impl Bench {
    fn new(bytes_max: usize) -> Self {
        Self {
            streams: Streams::new(bytes_max),
            now: Instant::now(),
        }
    }

    fn append(&mut self, name: &str, append: &Append) -> Appended {
        let stored = self
            .streams
            .append(&channel(name), RETENTION, append, self.now);
        stored.appended
    }

    fn append_many(&mut self, name: &str, count: usize) {
        for _ in 0..count {
            self.append(name, &plain("p"));
        }
    }

    fn read(&mut self, name: &str, query: HistoryQuery) -> HistoryPage {
        self.streams
            .read(&channel(name), RETENTION, query, self.now)
    }

    fn since(&mut self, name: &str, since: u64) -> (Vec<u64>, bool) {
        let query = HistoryQuery {
            limit: usize::MAX,
            since: Some(since),
            reverse: false,
        };
        let page = self.read(name, query);
        let offsets = page.publications.iter().map(|stored| stored.offset);
        (offsets.collect(), page.is_complete)
    }

    fn end(&mut self, name: &str) -> StreamPosition {
        self.read(name, HistoryQuery::default()).end
    }
}

#[test]
fn nothing_is_complete_when_something_in_between_was_dropped_by_size() {
    let mut bench = Bench::new(PLENTY);
    bench.append_many("a", 4);
    assert_eq!(bench.since("a", 0), (vec![1, 2, 3, 4], true));
    bench.append_many("a", 2);
    assert_eq!(bench.since("a", 0), (vec![3, 4, 5, 6], false));
    assert_eq!(bench.since("a", 1), (vec![3, 4, 5, 6], false));
    assert_eq!(bench.since("a", 2), (vec![3, 4, 5, 6], true));
    assert_eq!(bench.since("a", 5), (vec![6], true));
    assert_eq!(bench.since("a", 6), (vec![], true));
    assert_eq!(bench.since("a", 7), (vec![], false));
    assert_eq!(bench.since("a", u64::MAX), (vec![], false));
}

#[test]
fn nothing_is_complete_when_something_in_between_has_expired() {
    let mut bench = Bench::new(PLENTY);
    bench.append_many("a", 1);
    bench.now += 6 * SECOND;
    bench.append_many("a", 1);
    bench.now += 4 * SECOND;
    assert_eq!(bench.since("a", 0), (vec![2], false));
    assert_eq!(bench.since("a", 1), (vec![2], true));
    bench.now += 6 * SECOND;
    assert_eq!(bench.since("a", 1), (vec![], false));
    assert_eq!(bench.since("a", 2), (vec![], true));
}

#[test]
fn the_numbering_is_forgotten_some_time_after_the_last_publication() {
    let mut bench = Bench::new(PLENTY);
    bench.append_many("a", 2);
    let end = bench.end("a");
    bench.now += RETENTION.meta_ttl - Duration::from_millis(1);
    assert_eq!(bench.end("a"), end);
    bench.append_many("a", 1);
    assert_eq!(bench.end("a").epoch, end.epoch);
    bench.now += RETENTION.meta_ttl;
    let fresh = bench.end("a");
    assert_eq!(fresh.offset, 0);
    assert_ne!(fresh.epoch, end.epoch);
    bench.append_many("a", 1);
    assert_eq!(bench.end("a"), StreamPosition { offset: 1, ..fresh });
}

#[test]
fn a_forgotten_stream_does_not_take_the_others_along() {
    let mut bench = Bench::new(PLENTY);
    let untouched = bench.end("untouched");
    bench.append_many("a", 1);
    bench.now += RETENTION.meta_ttl;
    bench.end("a");
    assert_eq!(bench.end("untouched"), untouched);
}

#[test]
fn forgotten_streams_are_told_apart_even_when_there_are_very_many() {
    let mut bench = Bench::new(PLENTY);
    let untouched = bench.end("untouched");
    bench.append_many("first", 1);
    let first = bench.end("first");
    for number in 0..=FORGOTTEN_MAX {
        bench.append_many(&number.to_string(), 1);
        bench.now += RETENTION.meta_ttl;
    }
    assert!(bench.streams.forgotten.len() <= FORGOTTEN_MAX);
    assert_ne!(bench.end("first").epoch, first.epoch);
    assert_ne!(bench.end("untouched").epoch, untouched.epoch);
}

#[test]
fn what_has_expired_is_freed_although_nobody_asks_for_it() {
    let mut bench = Bench::new(PLENTY);
    for number in 0..100 {
        let payload = vec![0; 1000];
        bench.append(&number.to_string(), &plain(payload));
    }
    bench.now += RETENTION.ttl;
    for _ in 0..100 / SWEPT_PER_CALL {
        bench.end("other");
    }
    assert!(bench.streams.bytes < 100 * 1000, "{}", bench.streams.bytes);
    bench.now += RETENTION.meta_ttl;
    for _ in 0..100 / SWEPT_PER_CALL {
        bench.end("other");
    }
    assert_eq!(bench.streams.bytes, 0);
    assert!(bench.streams.due.is_empty() && bench.streams.streams.is_empty());
}

#[test]
fn reading_a_channel_without_a_stream_costs_no_memory() {
    let mut bench = Bench::new(PLENTY);
    for number in 0..1000 {
        bench.end(&number.to_string());
    }
    assert_eq!(bench.streams.bytes, 0);
}

#[test]
fn a_key_gives_the_first_result_until_its_time_is_over() {
    let mut bench = Bench::new(PLENTY);
    let first = bench.append("a", &keyed("k"));
    bench.now += IDEMPOTENCY_WINDOW - Duration::from_millis(1);
    let again = bench.append("a", &keyed("k"));
    assert_eq!(again, Appended::Repeated(first.position()));
    assert!(matches!(
        bench.append("b", &keyed("k")),
        Appended::Published(_)
    ));
    bench.now += Duration::from_millis(1);
    assert!(matches!(
        bench.append("a", &keyed("k")),
        Appended::Published(_)
    ));
}

#[test]
fn the_oldest_key_makes_room() {
    let mut bench = Bench::new(PLENTY);
    for number in 0..=KEYS_MAX {
        bench.append("a", &keyed(number.to_string()));
    }
    let second = bench.append("a", &keyed("1"));
    assert!(matches!(second, Appended::Repeated(position) if position.offset == 2));
    assert!(matches!(
        bench.append("a", &keyed("0")),
        Appended::Published(_)
    ));
}

#[test]
fn only_newer_versions_of_one_epoch_are_taken() {
    let mut bench = Bench::new(PLENTY);
    let mut check = |version, epoch, taken| {
        let appended = bench.append("a", &versioned(version, epoch));
        let published = matches!(appended, Appended::Published(_));
        assert_eq!(published, taken, "{version} {epoch:?}: {appended:?}");
    };
    check(5, "x", true);
    check(5, "x", false);
    check(4, "x", false);
    check(0, "", true);
    check(6, "x", true);
    check(1, "y", true);
    check(1, "y", false);
    check(2, "y", true);
}

#[test]
fn an_outdated_version_leaves_its_key_free() {
    let mut bench = Bench::new(PLENTY);
    bench.append("a", &versioned(2, ""));
    let both = |version| Append {
        version,
        ..keyed("k")
    };
    assert!(matches!(
        bench.append("a", &both(1)),
        Appended::Outdated(position) if position.offset == 1
    ));
    assert!(matches!(
        bench.append("a", &both(3)),
        Appended::Published(_)
    ));
    assert!(matches!(
        bench.append("a", &both(3)),
        Appended::Repeated(position) if position.offset == 2
    ));
}

/// One step of a random history.
#[derive(Debug, Clone)]
enum Step {
    Append(usize, Append),
    Read(usize, HistoryQuery),
    Clear(usize),
    Wait(Duration),
}

const CHANNELS: [&str; 3] = ["a", "b", "c"];

fn appends() -> impl Strategy<Value = Append> {
    let key = prop_oneof![3 => Just(""), 1 => Just("k"), 1 => Just("l")];
    let version = prop_oneof![3 => Just(0), 1 => 1..4_u64];
    let epoch = prop_oneof![Just(""), Just("x")];
    (vec(any::<u8>(), 0..40), key, version, epoch).prop_map(|(payload, key, version, epoch)| {
        Append {
            payload: payload.into(),
            idempotency_key: key.to_owned(),
            version,
            version_epoch: epoch.to_owned(),
        }
    })
}

fn queries() -> impl Strategy<Value = HistoryQuery> {
    let limit = prop_oneof![Just(usize::MAX), 0..5_usize];
    let since = prop_oneof![
        1 => Just(None),
        8 => (0..15_u64).prop_map(Some),
        1 => Just(Some(u64::MAX)),
    ];
    (limit, since, any::<bool>()).prop_map(|(limit, since, reverse)| HistoryQuery {
        limit,
        since,
        reverse,
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let channel = || 0..CHANNELS.len();
    let wait = prop_oneof![8 => 1..12_u64, 2 => 25..35_u64, 1 => 295..305_u64];
    let step = prop_oneof![
        6 => (channel(), appends()).prop_map(|(channel, append)| Step::Append(channel, append)),
        5 => (channel(), queries()).prop_map(|(channel, query)| Step::Read(channel, query)),
        1 => channel().prop_map(Step::Clear),
        3 => wait.prop_map(|seconds| Step::Wait(Duration::from_secs(seconds))),
    ];
    vec(step, 1..120)
}

/// What one stream has to do, written down plainly: it remembers everything, and works out what can be seen of it.
#[derive(Default)]
struct Model {
    /// Every publication, and every removal, since the numbering began.
    all: Vec<(Instant, Option<bytes::Bytes>)>,
    keys: Vec<(String, Instant, u64)>,
    version: Option<(u64, String)>,
    /// Whether the numbering has begun, and in which epoch: what the store said first has to stay.
    epoch: Option<Epoch>,
    /// The epochs before.
    past: Vec<Epoch>,
}

impl Model {
    /// Begins anew if everything's time is over.
    fn at(&mut self, now: Instant) {
        let over = |time: Instant, ttl: Duration| now >= time + ttl;
        let keys_over = self.keys.iter().all(|key| over(key.1, IDEMPOTENCY_WINDOW));
        let last = self.all.last().map(|last| last.0);
        if keys_over && last.is_some_and(|last| over(last, RETENTION.meta_ttl)) {
            let mut past = std::mem::take(&mut self.past);
            past.extend(self.epoch);
            *self = Self {
                past,
                ..Self::default()
            };
        }
    }

    fn end(&self) -> u64 {
        self.all.len() as u64
    }

    /// The offset of the last removal.
    fn removal(&self) -> usize {
        let removal = self.all.iter().rposition(|(_, payload)| payload.is_none());
        removal.map_or(0, |at| at + 1)
    }

    /// The offset before the oldest that can be seen.
    fn before(&self, now: Instant) -> usize {
        let expired = |(came, _): &&(Instant, _)| now >= *came + RETENTION.ttl;
        let published = self.all.iter().skip(self.removal());
        let expired = published.take_while(expired).count();
        let size = RETENTION.size as usize;
        (self.removal() + expired).max(self.all.len().saturating_sub(size))
    }

    fn clear(&mut self, now: Instant, stamp: Option<Stamp>) {
        self.at(now);
        let previous = self.end();
        if self.removal() as u64 == previous {
            assert_eq!(stamp, None);
            return;
        }
        self.all.push((now, None));
        let stamp = stamp.unwrap();
        assert_eq!(stamp.previous, previous);
        self.check_end(stamp.position, previous + 1);
    }

    /// The epoch is the one that was seen before, or one that never was.
    fn check_end(&mut self, end: StreamPosition, offset: u64) {
        assert_eq!(end.offset, offset);
        assert_eq!(end.epoch, *self.epoch.get_or_insert(end.epoch));
        assert!(!self.past.contains(&end.epoch), "an epoch came back");
    }

    fn append(&mut self, append: &Append, now: Instant, appended: Appended) {
        self.at(now);
        let known = self.keys.iter().rev().find(|(key, came, _)| {
            *key == append.idempotency_key && now < *came + IDEMPOTENCY_WINDOW
        });
        let outdated = self.version.as_ref().is_some_and(|(version, epoch)| {
            (1..=*version).contains(&append.version) && *epoch == append.version_epoch
        });
        let offset = match (known, outdated) {
            (Some(&(_, _, offset)), _) => {
                assert!(matches!(appended, Appended::Repeated(_)), "{appended:?}");
                offset
            }
            (None, true) => {
                assert!(matches!(appended, Appended::Outdated(_)), "{appended:?}");
                self.end()
            }
            (None, false) => {
                assert!(matches!(appended, Appended::Published(_)), "{appended:?}");
                self.all.push((now, Some(append.payload.clone())));
                if !append.idempotency_key.is_empty() {
                    self.keys
                        .push((append.idempotency_key.clone(), now, self.end()));
                }
                if append.version > 0 {
                    self.version = Some((append.version, append.version_epoch.clone()));
                }
                self.end()
            }
        };
        self.check_end(appended.position(), offset);
    }

    fn read(&mut self, query: HistoryQuery, now: Instant, page: &HistoryPage) {
        self.at(now);
        self.check_end(page.end, self.end());
        let before = self.before(now);
        let mut wanted: Vec<StoredPublication> = Vec::new();
        for (offset, (_, payload)) in (1..).zip(&self.all).skip(before) {
            let in_question = match query.since {
                None => true,
                Some(since) if query.reverse => offset < since,
                Some(since) => offset > since,
            };
            if let (true, Some(payload)) = (in_question, payload.clone()) {
                wanted.push(StoredPublication { offset, payload });
            }
        }
        if query.reverse {
            wanted.reverse();
        }
        wanted.truncate(query.limit);
        assert_eq!(page.publications, wanted);
        let complete = match query.since {
            Some(since) if !query.reverse && since <= self.end() => {
                let behind = self.all.iter().skip(since as usize);
                wanted.len() == behind.filter(|(_, payload)| payload.is_some()).count()
            }
            _ => false,
        };
        assert_eq!(page.is_complete, complete, "{query:?}");
    }
}

proptest! {
    #[test]
    fn a_store_with_room_does_what_the_model_says(steps in steps()) {
        let mut bench = Bench::new(PLENTY);
        let mut models = CHANNELS.map(|_| Model::default());
        for step in steps {
            match step {
                Step::Append(index, append) => {
                    let appended = bench.append(CHANNELS[index], &append);
                    models[index].append(&append, bench.now, appended);
                }
                Step::Read(index, query) => {
                    let page = bench.read(CHANNELS[index], query);
                    models[index].read(query, bench.now, &page);
                }
                Step::Clear(index) => {
                    let stamp = bench.streams.clear(&channel(CHANNELS[index]), bench.now);
                    models[index].clear(bench.now, stamp);
                }
                Step::Wait(time) => bench.now += time,
            }
        }
    }

    /// Whatever was dropped to make room: the bound holds, and an answer that is called complete is.
    #[test]
    fn a_store_without_room_stays_within_it_and_never_lies(
        steps in steps(),
        bytes_max in 0..4000_usize,
    ) {
        let mut bench = Bench::new(bytes_max);
        // All that was ever published, and all removals, by the epoch and the channel.
        let mut all: HashMap<(usize, Epoch), Vec<Option<bytes::Bytes>>> = HashMap::new();
        for step in steps {
            match step {
                Step::Append(index, append) => {
                    if let Appended::Published(position) = bench.append(CHANNELS[index], &append) {
                        let published = all.entry((index, position.epoch)).or_default();
                        published.push(Some(append.payload));
                        prop_assert_eq!(position.offset, published.len() as u64);
                    }
                }
                Step::Read(index, query) => {
                    let page = bench.read(CHANNELS[index], query);
                    let published = all.entry((index, page.end.epoch)).or_default();
                    prop_assert_eq!(page.end.offset, published.len() as u64);
                    for stored in &page.publications {
                        let offset = usize::try_from(stored.offset).unwrap();
                        prop_assert_eq!(Some(&stored.payload), published[offset - 1].as_ref());
                    }
                    if page.is_complete {
                        let since = usize::try_from(query.since.unwrap()).unwrap();
                        let missed = published.iter().skip(since).flatten();
                        prop_assert_eq!(page.publications.len(), missed.count());
                    }
                }
                Step::Clear(index) => {
                    let stamp = bench.streams.clear(&channel(CHANNELS[index]), bench.now);
                    if let Some(Stamp { position, .. }) = stamp {
                        let published = all.entry((index, position.epoch)).or_default();
                        published.push(None);
                        prop_assert_eq!(position.offset, published.len() as u64);
                    }
                }
                Step::Wait(time) => bench.now += time,
            }
            prop_assert!(bench.streams.bytes <= bytes_max);
            let streams = &bench.streams.streams;
            let used: usize = streams.iter().map(|(name, stream)| cost(name, stream)).sum();
            prop_assert_eq!(bench.streams.bytes, used);
            prop_assert_eq!(bench.streams.due.len(), streams.len());
        }
    }
}
